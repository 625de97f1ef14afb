//! Messages of magic 0 and 1: what brokers before 0.11 stored and newer ones still serve.

use bytes::Bytes;

use crate::batch::codec::{decompress, decompress_lz4_of_magic_0};
use crate::batch::header::{Attributes, LENGTH_PREFIX, MAGIC_AT, total_bytes};
use crate::batch::repack::Survivors;
use crate::batch::varint::Cursor;
use crate::batch::{Codec, Flaw, Malformed, Record};
use crate::model::{EncodedBatch, LeaderEpoch, Offset, OffsetRange};

/// Plain messages are taken together up to about this many bytes, since each alone would become a batch.
const SET_BYTES: usize = 256 << 10;

/// One compressed message with messages inside, or a few plain ones in a row.
#[derive(Debug, Clone)]
pub struct LegacySet {
    bytes: Bytes,
    first: Offset,
    last: Offset,
    codec: Codec,
}

impl LegacySet {
    /// Takes the set at the front of `section`, where at least one whole message lies.
    pub(super) fn take(section: &Bytes) -> Result<LegacySet, Malformed> {
        let (first, mut end) = Message::peek(section)?;
        let mut set = LegacySet { bytes: Bytes::new(), first: first.offset, last: first.offset, codec: first.codec };
        while set.codec == Codec::None && end < SET_BYTES {
            // What cannot go on this set is looked at, and complained about, as the front of the next piece.
            match Message::peek(&section[end..]) {
                Ok((next, bytes)) if next.codec == Codec::None && next.offset > set.last => {
                    set.last = next.offset;
                    end += bytes;
                }
                _ => break,
            }
        }
        set.bytes = section.slice(..end);
        Ok(set)
    }

    /// An offset not below any record of the set's first message: the offsets inside a compressed message show only when
    /// it is opened, its own offset is that of its last one.
    pub(super) fn known_from(&self) -> Offset {
        self.first
    }

    /// Bytes as stored.
    pub fn stored_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// First offset behind the set.
    pub fn next_offset(&self) -> Offset {
        self.last + 1
    }

    /// Opens the set: checks checksums, decompresses within the bounds of [`records`](crate::batch::records), gives
    /// inner messages their absolute offsets. Magic-0 messages have no time (−1); there are no headers.
    pub fn records(&self) -> Result<Vec<Record>, Malformed> {
        let read = || {
            let mut cursor = Cursor::new(&self.bytes);
            let mut records = Vec::new();
            while cursor.left() > 0 {
                let message = Message::read(&mut cursor, records.len())?;
                match message.codec()? {
                    Codec::None => records.push(message.record(&self.bytes)),
                    codec => message.open(codec, &mut records)?,
                }
            }
            Ok(records)
        };
        read().map_err(|flaw: Flaw| flaw.at(self.first.0))
    }
}

/// The set's records within `keep` as one magic-2 batch with the same codec; `None` when none lies there.
pub fn repack_legacy(set: &LegacySet, keep: OffsetRange) -> Result<Option<EncodedBatch>, Malformed> {
    let mut survivors = Survivors::new(set.codec);
    for record in set.records()? {
        if keep.contains(record.offset) {
            survivors.push_record(record);
        }
    }
    Ok(survivors.finish(LeaderEpoch::UNKNOWN))
}

/// Where a message lies and how it is compressed, seen without reading its payload.
struct Outline {
    offset: Offset,
    codec: Codec,
}

/// One message, bounds and checksum checked.
struct Message<'a> {
    offset: i64,
    magic: i8,
    attributes: i8,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

/// Offset, length, CRC, magic, attributes, key length, value length; magic 1 adds a timestamp.
const SMALLEST: usize = LENGTH_PREFIX + 4 + 1 + 1 + 4 + 4;

impl<'a> Message<'a> {
    /// Looks at the front of `section`; also answers the whole message's bytes.
    fn peek(section: &[u8]) -> Result<(Outline, usize), Malformed> {
        let Some(front) = section.first_chunk::<SMALLEST>() else {
            return Err(Flaw::Short { present: section.len(), needed: SMALLEST }.nowhere());
        };
        let mut cursor = Cursor::new(front);
        let (Some(offset), Some(length)) = (cursor.i64(), cursor.i32()) else {
            unreachable!("the smallest message has an offset and a length")
        };
        let outline = || {
            let bytes = total_bytes(length, SMALLEST)?;
            if offset < 0 || offset == i64::MAX {
                return Err(Flaw::Field { field: "offset", value: offset });
            }
            if !matches!(front[MAGIC_AT], 0 | 1) {
                return Err(Flaw::Magic(front[MAGIC_AT] as i8));
            }
            if bytes > section.len() {
                return Err(Flaw::Short { present: section.len(), needed: bytes });
            }
            let codec = Codec::from_bits(i16::from(front[MAGIC_AT + 1]) & Attributes::CODEC)?;
            Ok((Outline { offset: Offset(offset), codec }, bytes))
        };
        outline().map_err(|flaw| flaw.at(offset))
    }

    /// Reads the message under the cursor; `index` counts it for errors.
    fn read(cursor: &mut Cursor<'a>, index: usize) -> Result<Message<'a>, Flaw> {
        let cut = |what| Flaw::Record { index, what };
        let offset = cursor.i64().ok_or_else(|| cut("its offset is cut"))?;
        let length = cursor.i32().and_then(|length| usize::try_from(length).ok());
        let bytes = length.and_then(|length| cursor.take(length)).ok_or_else(|| cut("it runs past its end"))?;
        let mut cursor = Cursor::new(bytes);
        let stored = cursor.i32().ok_or_else(|| cut("its checksum is cut"))? as u32;
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[cursor.position()..]);
        if crc.sum() != stored {
            return Err(Flaw::Checksum { stored, computed: crc.sum() });
        }
        let magic = cursor.u8().ok_or_else(|| cut("its magic is cut"))? as i8;
        let attributes = cursor.u8().ok_or_else(|| cut("its attributes are cut"))? as i8;
        let timestamp_ms = match magic {
            0 => -1,
            1 => cursor.i64().ok_or_else(|| cut("its timestamp is cut"))?,
            _ => return Err(Flaw::Magic(magic)),
        };
        let mut nullable = || match usize::try_from(cursor.i32()?) {
            Ok(length) => cursor.take(length).map(Some),
            Err(_) => Some(None),
        };
        let key = nullable().ok_or_else(|| cut("its key runs past its end"))?;
        let value = nullable().ok_or_else(|| cut("its value runs past its end"))?;
        match cursor.left() {
            0 => Ok(Message { offset, magic, attributes, timestamp_ms, key, value }),
            _ => Err(cut("bytes are left behind its value")),
        }
    }

    fn codec(&self) -> Result<Codec, Flaw> {
        Codec::from_bits(i16::from(self.attributes) & Attributes::CODEC)
    }

    /// The message as a record whose bytes are shared with `whole`, in which it lies.
    fn record(&self, whole: &Bytes) -> Record {
        let shared = |part: Option<&[u8]>| part.map(|bytes| whole.slice_ref(bytes));
        Record::new(Offset(self.offset), self.timestamp_ms, shared(self.key), shared(self.value))
    }

    /// Appends the messages inside a compressed one.
    ///
    /// Since magic 1 (KIP-31) their offsets count from an unnamed base, and the outer offset is the last one's. Where the
    /// outer message carries the broker's append time (KIP-32) it stands for theirs.
    fn open(&self, codec: Codec, records: &mut Vec<Record>) -> Result<(), Flaw> {
        let broken = |what| Flaw::Record { index: 0, what };
        let section = self.value.ok_or_else(|| broken("it is compressed but has no value"))?;
        let section = Bytes::from(match (codec, self.magic) {
            (Codec::Lz4, 0) => decompress_lz4_of_magic_0(section)?,
            _ => decompress(codec, section)?,
        });
        let mut cursor = Cursor::new(&section);
        let begin = records.len();
        while cursor.left() > 0 {
            let inner = Message::read(&mut cursor, records.len() - begin)?;
            if inner.magic != self.magic || inner.codec()? != Codec::None {
                return Err(broken("a message inside it is of another format or compressed again"));
            }
            let mut record = inner.record(&section);
            if self.magic == 1 && i16::from(self.attributes) & Attributes::APPEND_TIME != 0 {
                record.timestamp_ms = self.timestamp_ms;
            }
            records.push(record);
        }
        let inside = &mut records[begin..];
        let last = inside.last().ok_or_else(|| broken("it is compressed but has nothing inside"))?.offset.0;
        if self.magic == 1 {
            let base = self.offset.checked_sub(last).ok_or_else(|| broken("an offset inside it is out of range"))?;
            for record in inside.iter_mut() {
                let absolute = record.offset.0.checked_add(base);
                record.offset = Offset(absolute.ok_or_else(|| broken("an offset inside it is out of range"))?);
            }
        }
        let ascending = inside.windows(2).all(|pair| pair[0].offset < pair[1].offset);
        let within = inside.first().is_some_and(|first| first.offset >= Offset(0))
            && inside.last().is_some_and(|last| last.offset <= Offset(self.offset));
        match ascending && within {
            true => Ok(()),
            false => Err(broken("offsets inside it do not ascend up to its own")),
        }
    }
}
