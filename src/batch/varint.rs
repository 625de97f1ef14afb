//! A bounded reading position in bytes, and Kafka's zig-zag variable-length integers.

/// Reads from a slice and never beyond it; `None` from any method means that the bytes end or are no such thing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A `varlong`: at most ten bytes; bits beyond the 64th are refused.
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    /// A `varint`: a varlong that fits 32 bits.
    pub(super) fn varint(&mut self) -> Option<i32> {
        self.varlong()?.try_into().ok()
    }

    /// Bytes behind a varint length; any negative length is null, as for the Java clients.
    pub(super) fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.varint()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Some(None),
        }
    }
}

/// Appends a zig-zag variable-length integer (a varint is written the same way).
pub(super) fn put(into: &mut Vec<u8>, value: i64) {
    let mut bits = (value << 1 ^ value >> 63) as u64;
    while bits >= 0x80 {
        into.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    into.push(bits as u8);
}

/// Appends bytes behind their length, −1 for null.
pub(super) fn put_nullable(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put(into, bytes.len() as i64);
            into.extend_from_slice(bytes);
        }
        None => put(into, -1),
    }
}

/// Most bytes that [`put`] appends.
pub(super) const LONGEST: usize = 10;

/// How many bytes [`put`] appends.
pub(super) fn size(value: i64) -> usize {
    let bits = (value << 1 ^ value >> 63) as u64;
    (64 - (bits | 1).leading_zeros() as usize).div_ceil(7)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read(value: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), size(value));
            let mut cursor = Cursor::new(&bytes);
            prop_assert_eq!(cursor.varlong(), Some(value));
            prop_assert_eq!(cursor.left(), 0);
            prop_assert_eq!(Cursor::new(&bytes).varint().map(i64::from), i32::try_from(value).ok().map(i64::from));
            prop_assert_eq!(Cursor::new(&bytes[..bytes.len() - 1]).varlong(), None);
        }
    }

    #[test]
    fn the_edges_take_the_bytes_the_protocol_says() {
        for (value, bytes) in [(0, 1), (-1, 1), (63, 1), (-64, 1), (64, 2), (-65, 2), (i64::MAX, 10), (i64::MIN, 10)] {
            assert_eq!(size(value), bytes, "{value}");
        }
        assert_eq!(Cursor::new(&[0xff; 11]).varlong(), None);
    }
}
