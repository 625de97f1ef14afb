//! The outline of a response on the wire, walked before it is decoded.
//!
//! `kafka-protocol` reserves memory for whatever length an array claims, so a hostile length would abort the process;
//! a body whose outline fits its bytes cannot make it reserve more than the bytes justify.

use std::fmt;

/// Known tags are few; a struct with more than this many tagged fields is not a message of ours.
const MOST_TAGS: u32 = 64;

/// One field of a struct in wire order, present in versions `since..=until`.
pub(super) struct Field {
    since: i16,
    until: i16,
    kind: Kind,
}

impl Field {
    /// How the field is laid out.
    #[cfg(test)]
    pub(super) fn kind(&self) -> &Kind {
        &self.kind
    }

    /// Whether a version has the field.
    pub(super) fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// How a field is laid out.
pub(super) enum Kind {
    /// So many bytes: integers, booleans, ids.
    Fixed(usize),
    /// A string, nullable or not.
    Text,
    /// A byte string, nullable or not.
    Blob,
    /// An array of values of so many bytes.
    FixedArray(usize),
    /// An array of strings.
    TextArray,
    /// One struct.
    Struct(&'static [Field]),
    /// An array of structs.
    Structs(&'static [Field]),
    /// A tagged field (flexible versions only) that the decoder knows: it reads through it instead of skipping it.
    Tagged(u32, &'static Tagged),
}

/// Content of a known tagged field.
pub(super) enum Tagged {
    /// So many bytes.
    Fixed(usize),
    /// One struct.
    Struct(&'static [Field]),
    /// An array of structs.
    Structs(&'static [Field]),
}

/// A field that every version has.
pub(super) const fn field(kind: Kind) -> Field {
    since(0, kind)
}

/// A field that `version` and all later ones have.
pub(super) const fn since(version: i16, kind: Kind) -> Field {
    Field { since: version, until: i16::MAX, kind }
}

/// A field of the versions `first..=last`.
pub(super) const fn between(first: i16, last: i16, kind: Kind) -> Field {
    Field { since: first, until: last, kind }
}

/// Why a body does not fit its outline.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misshapen(&'static str);

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Walks `body` along `fields`; returns how many bytes are left behind them.
pub(super) fn walk(fields: &[Field], version: i16, flexible: bool, body: &[u8]) -> Result<usize, Misshapen> {
    let mut walker = Walker { rest: body, version, flexible };
    walker.fields(fields)?;
    Ok(walker.rest.len())
}

/// Walks a section of tagged fields none of which is known (that of a response header); returns the bytes behind it.
pub(super) fn behind_tags(section: &[u8]) -> Result<usize, Misshapen> {
    let mut walker = Walker { rest: section, version: 0, flexible: true };
    walker.tags(&[])?;
    Ok(walker.rest.len())
}

struct Walker<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
}

impl Walker<'_> {
    fn fields(&mut self, fields: &[Field]) -> Result<(), Misshapen> {
        let version = self.version;
        for field in fields.iter().filter(|f| f.is_in(version)) {
            match field.kind {
                Kind::Fixed(bytes) => self.skip(bytes)?,
                Kind::Text => self.text()?,
                Kind::Blob => {
                    let length = self.length(4)?.unwrap_or(0);
                    self.skip(length)?;
                }
                Kind::FixedArray(bytes) => {
                    let count = self.length(4)?.unwrap_or(0);
                    self.skip(count.checked_mul(bytes).ok_or(Misshapen("an array longer than the frame"))?)?;
                }
                Kind::TextArray => {
                    for _ in 0..self.count()? {
                        self.text()?;
                    }
                }
                Kind::Struct(inner) => self.fields(inner)?,
                Kind::Structs(inner) => self.structs(inner)?,
                Kind::Tagged(..) => {}
            }
        }
        if self.flexible { self.tags(fields) } else { Ok(()) }
    }

    fn structs(&mut self, fields: &[Field]) -> Result<(), Misshapen> {
        for _ in 0..self.count()? {
            self.fields(fields)?;
        }
        Ok(())
    }

    /// The tagged fields at the end of a struct of a flexible version.
    fn tags(&mut self, fields: &[Field]) -> Result<(), Misshapen> {
        let count = self.varint()?;
        if count > MOST_TAGS {
            return Err(Misshapen("more tagged fields than any message has"));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            let size = self.varint()? as usize;
            let before = self.rest.len();
            let known = fields.iter().find_map(|f| match f.kind {
                Kind::Tagged(number, content) if number == tag => Some((f.is_in(self.version), content)),
                _ => None,
            });
            match known {
                None => self.skip(size)?,
                Some((false, _)) => return Err(Misshapen("a tagged field of a later version")),
                Some((true, Tagged::Fixed(bytes))) => self.skip(*bytes)?,
                Some((true, Tagged::Struct(inner))) => self.fields(inner)?,
                Some((true, Tagged::Structs(inner))) => self.structs(inner)?,
            }
            if before - self.rest.len() != size {
                return Err(Misshapen("a tagged field that is not as long as it says"));
            }
        }
        Ok(())
    }

    fn text(&mut self) -> Result<(), Misshapen> {
        let length = self.length(2)?.unwrap_or(0);
        self.skip(length)
    }

    /// Number of elements of an array; each has at least a byte, so more than the bytes left is a lie.
    fn count(&mut self) -> Result<usize, Misshapen> {
        let count = self.length(4)?.unwrap_or(0);
        if count > self.rest.len() { Err(Misshapen("an array longer than the frame")) } else { Ok(count) }
    }

    /// A length: in flexible versions a varint one above it with 0 for null, else a big-endian integer of `width` bytes
    /// with −1 for null.
    fn length(&mut self, width: usize) -> Result<Option<usize>, Misshapen> {
        if self.flexible {
            return Ok(self.varint()?.checked_sub(1).map(|n| n as usize));
        }
        let (head, rest) = self.rest.split_at_checked(width).ok_or(Misshapen("a frame that ends too early"))?;
        self.rest = rest;
        let length = match *head {
            [a, b] => i64::from(i16::from_be_bytes([a, b])),
            [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
            _ => unreachable!("lengths are two or four bytes wide"),
        };
        match length {
            -1 => Ok(None),
            _ => usize::try_from(length).map(Some).map_err(|_| Misshapen("a negative length")),
        }
    }

    fn varint(&mut self) -> Result<u32, Misshapen> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Misshapen("a frame that ends too early"))?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).map_err(|_| Misshapen("a length beyond 32 bits"));
            }
        }
        Err(Misshapen("a length that does not end"))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Misshapen> {
        self.rest = self.rest.get(bytes..).ok_or(Misshapen("a frame that ends too early"))?;
        Ok(())
    }
}
