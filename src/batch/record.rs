//! Records within an opened batch.

use std::borrow::Cow;
use std::hash::Hasher;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

use crate::batch::codec::decompress;
use crate::batch::crc;
use crate::batch::header::{HEADER_BYTES, Header};
use crate::batch::varint::{Cursor, put, put_nullable};
use crate::batch::{Codec, Flaw, Malformed, RawBatch};
use crate::model::Offset;

/// One record, every byte as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the log it was read from.
    pub offset: Offset,
    /// Its time in milliseconds since 1970 (−1 = none): the producer's, or the append time where the topic keeps that.
    pub timestamp_ms: i64,
    /// Key; `None` is null, which is not empty.
    pub key: Option<Bytes>,
    /// Value; `None` is null (a tombstone), which is not empty.
    pub value: Option<Bytes>,
    /// Headers as encoded, their count included ([`encode_headers`]); never empty, without headers it is one zero byte.
    pub headers: Bytes,
    /// The record's attribute byte, which no client uses so far.
    pub attributes: i8,
}

impl Record {
    /// A record without headers.
    pub fn new(offset: Offset, timestamp_ms: i64, key: Option<Bytes>, value: Option<Bytes>) -> Record {
        Record { offset, timestamp_ms, key, value, headers: Bytes::from_static(&NO_HEADERS), attributes: 0 }
    }

    /// Its time as every plane can carry it: 0 counts as [`STANDS_FOR_ZERO_MS`].
    pub fn carried_timestamp_ms(&self) -> i64 {
        if self.timestamp_ms == 0 { STANDS_FOR_ZERO_MS } else { self.timestamp_ms }
    }
}

/// A header count of zero.
const NO_HEADERS: [u8; 1] = [0];

/// Encodes header pairs in order, names as raw bytes, `None` values as null.
pub fn encode_headers(pairs: &[(&[u8], Option<&[u8]>)]) -> Bytes {
    let mut bytes = Vec::new();
    put(&mut bytes, pairs.len() as i64);
    for (name, value) in pairs {
        put_nullable(&mut bytes, Some(name));
        put_nullable(&mut bytes, *value);
    }
    bytes.into()
}

/// The header pairs of a [`Record::headers`] in order: names as raw bytes, `None` values as null. Ends where the bytes are
/// not such an encoding, which those of an opened batch are.
pub fn header_pairs(encoded: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    let mut cursor = Cursor::new(encoded);
    let count = cursor.varint().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    (0..count).map_while(move |_| Some((cursor.nullable()??, cursor.nullable()?)))
}

/// Opens a batch: checks its checksum, decompresses it within bounds (64 MiB and 16,384 times its size, at most 1 GiB) and
/// reads exactly the records its header counts. Keys, values and headers share the opened bytes.
///
/// Offsets of records must ascend within the batch's. A control batch yields its control records ([`marker`] reads
/// them); a batch emptied by compaction yields none.
///
/// [`marker`]: fn@crate::batch::marker
pub fn records(batch: &RawBatch) -> Result<Vec<Record>, Malformed> {
    read(batch).map_err(|flaw| flaw.at(batch.header.base_offset))
}

fn read(batch: &RawBatch) -> Result<Vec<Record>, Flaw> {
    let section = match open(batch)? {
        Cow::Borrowed(section) => batch.bytes.slice_ref(section),
        Cow::Owned(section) => Bytes::from(section),
    };
    // The count is the header's word; seven bytes are the smallest record.
    let mut records = Vec::with_capacity((batch.header.count as usize).min(section.len() / 7));
    for record in Frames::new(&batch.header, &section).with_bodies() {
        let (frame, body) = record?;
        records.push(Record {
            offset: Offset(batch.header.base_offset + i64::from(frame.offset_delta)),
            timestamp_ms: frame.timestamp_ms,
            key: body.key.map(|key| section.slice_ref(key)),
            value: body.value.map(|value| section.slice_ref(value)),
            headers: section.slice_ref(body.headers),
            attributes: frame.attributes,
        });
    }
    Ok(records)
}

/// The uncompressed records section of a batch whose checksum holds: what is re-encoded afterwards gets a new checksum,
/// so this is the last moment at which damage shows.
pub(super) fn open(batch: &RawBatch) -> Result<Cow<'_, [u8]>, Flaw> {
    let computed = crc::computed(&batch.bytes);
    if computed != batch.header.crc {
        return Err(Flaw::Checksum { stored: batch.header.crc, computed });
    }
    let section = &batch.bytes[HEADER_BYTES..];
    Ok(match batch.header.attributes.codec_or_flaw()? {
        // An emptied batch has no section, not the compressed form of an empty one.
        _ if batch.header.count == 0 => Cow::Borrowed(&[]),
        Codec::None => Cow::Borrowed(section),
        codec => Cow::Owned(decompress(codec, section)?),
    })
}

/// A record where it lies in an uncompressed section, its body unread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) attributes: i8,
    pub(super) timestamp_ms: i64,
    pub(super) offset_delta: i32,
    /// Key, value and headers with their lengths: what is moved as it is when a record gets other deltas.
    pub(super) body: &'a [u8],
}

/// A record's body, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [u8],
}

impl<'a> Body<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let mut cursor = Cursor::new(bytes);
        let key = cursor.nullable().ok_or("its key runs past its end")?;
        let value = cursor.nullable().ok_or("its value runs past its end")?;
        let headers = &bytes[cursor.position()..];
        let count = cursor.varint().ok_or("its header count is cut or broken")?;
        for _ in 0..usize::try_from(count).map_err(|_| "its header count is negative")? {
            cursor.nullable().flatten().ok_or("a header name runs past its end or is null")?;
            cursor.nullable().ok_or("a header value runs past its end")?;
        }
        match cursor.left() {
            0 => Ok(Self { key, value, headers }),
            _ => Err("bytes are left behind its last header"),
        }
    }
}

/// Iterates the records of an uncompressed section without reading their bodies; ends after the first flaw.
pub(super) struct Frames<'a> {
    header: &'a Header,
    cursor: Cursor<'a>,
    index: usize,
    next_delta: i64,
    done: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn new(header: &'a Header, section: &'a [u8]) -> Self {
        Self { header, cursor: Cursor::new(section), index: 0, next_delta: 0, done: false }
    }

    /// The same with the bodies read.
    pub(super) fn with_bodies(self) -> impl Iterator<Item = Result<(Frame<'a>, Body<'a>), Flaw>> {
        let mut failed = false;
        self.enumerate().map_while(move |(index, frame)| {
            let read = |frame: Frame<'a>| match Body::read(frame.body) {
                Ok(body) => Ok((frame, body)),
                Err(what) => Err(Flaw::Record { index, what }),
            };
            let both = (!failed).then(|| frame.and_then(read))?;
            failed = both.is_err();
            Some(both)
        })
    }

    fn frame(&mut self) -> Result<Frame<'a>, &'static str> {
        let length = self.cursor.varint().ok_or("its length is cut or broken")?;
        let length = usize::try_from(length).map_err(|_| "its length is negative")?;
        let bytes = self.cursor.take(length).ok_or("it runs past the end of the batch")?;
        let mut cursor = Cursor::new(bytes);
        let attributes = cursor.u8().ok_or("it has no attributes")? as i8;
        let timestamp_delta = cursor.varlong().ok_or("its timestamp is cut or broken")?;
        let offset_delta = cursor.varint().ok_or("its offset is cut or broken")?;
        if i64::from(offset_delta) < self.next_delta || offset_delta > self.header.last_offset_delta {
            return Err("its offset does not ascend within the batch");
        }
        self.next_delta = i64::from(offset_delta) + 1;
        let timestamp_ms = match self.header.attributes.is_append_time() {
            true => self.header.max_timestamp,
            // Java wraps when it takes the difference, so wrapping gives the producer's time back.
            false => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Ok(Frame { attributes, timestamp_ms, offset_delta, body: &bytes[cursor.position()..] })
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        if self.index == self.header.count as usize {
            self.done = true;
            return (self.cursor.left() > 0).then(|| Err(Flaw::Trailing(self.cursor.left())));
        }
        let frame = self.frame().map_err(|what| Flaw::Record { index: self.index, what });
        self.index += 1;
        self.done = frame.is_err();
        Some(frame)
    }
}

/// Keys of [`content_hash`]. The ledger keeps hashes: changing them, or what is hashed, orphans every anchor.
const HASH_KEYS: (u64, u64) = (0x7477_696e_6c6f_6721, 0x616e_6368_6f72_2e31);

/// The timestamp, in milliseconds, with which the records plane writes 0, which librdkafka would make the present time.
pub const STANDS_FOR_ZERO_MS: i64 = 1;

/// A hash of what a record says: time, key, value and headers byte for byte, null unlike empty; not where it lies. The
/// timestamp 0 counts as [`STANDS_FOR_ZERO_MS`], so that a record is known again whichever plane wrote it.
/// The same on every machine and in every version. Not against forgers: the keys are public.
pub fn content_hash(record: &Record) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(HASH_KEYS.0, HASH_KEYS.1);
    hasher.write(&record.carried_timestamp_ms().to_le_bytes());
    for part in [record.key.as_ref(), record.value.as_ref(), Some(&record.headers)] {
        hasher.write(&part.map_or(-1, |bytes| bytes.len() as i64).to_le_bytes());
        hasher.write(part.map_or(&[], |bytes| bytes));
    }
    hasher.finish()
}
