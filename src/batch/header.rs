//! The 61 bytes in front of a magic-2 batch (KIP-98).

use crate::batch::{Codec, Flaw, Malformed};
use crate::model::Offset;

/// Bytes of a batch header; the records section begins here.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts: base offset and the length field itself.
pub(super) const LENGTH_PREFIX: usize = 12;
/// Where the checksum begins to cover; it ends with the batch.
pub(super) const CRC_FROM: usize = 21;
/// Where the magic byte lies, in every format.
pub(super) const MAGIC_AT: usize = 16;

/// The parsed header of a stored batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record, counting those that compaction removed; at least 0.
    pub base_offset: i64,
    /// Bytes of the whole batch, header included; at least [`HEADER_BYTES`].
    pub total_bytes: usize,
    /// Leader epoch under which it was appended; −1 in batches older than epochs. Not covered by the checksum.
    pub leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    /// CRC32C over everything from the attributes to the end.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Last offset minus base offset, counting what compaction removed; at least 0.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from, milliseconds; the delete horizon where that attribute is set.
    pub base_timestamp: i64,
    /// Largest record timestamp, or the append time, milliseconds.
    pub max_timestamp: i64,
    /// Producer id, −1 for none.
    pub producer_id: i64,
    /// Producer epoch, −1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, −1 for none.
    pub base_sequence: i32,
    /// How many records are there; 0 when compaction removed all and kept the batch for its producer's state.
    pub count: i32,
}

impl Header {
    /// Reads the header at the front of `bytes`, which may be only the header. Fields that no broker writes are errors:
    /// length below the header's, negative offset, delta or count, more records than offsets, offsets beyond `i64`.
    pub fn parse(bytes: &[u8]) -> Result<Header, Malformed> {
        let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(Flaw::Short { present: bytes.len(), needed: HEADER_BYTES }.nowhere());
        };
        let base_offset = i64::from_be_bytes(field(bytes, 0));
        let length = i32::from_be_bytes(field(bytes, 8));
        let header = Header {
            base_offset,
            total_bytes: total_bytes(length, HEADER_BYTES).map_err(|flaw| flaw.at(base_offset))?,
            leader_epoch: i32::from_be_bytes(field(bytes, 12)),
            magic: i8::from_be_bytes(field(bytes, MAGIC_AT)),
            crc: u32::from_be_bytes(field(bytes, 17)),
            attributes: Attributes(i16::from_be_bytes(field(bytes, 21))),
            last_offset_delta: i32::from_be_bytes(field(bytes, 23)),
            base_timestamp: i64::from_be_bytes(field(bytes, 27)),
            max_timestamp: i64::from_be_bytes(field(bytes, 35)),
            producer_id: i64::from_be_bytes(field(bytes, 43)),
            producer_epoch: i16::from_be_bytes(field(bytes, 51)),
            base_sequence: i32::from_be_bytes(field(bytes, 53)),
            count: i32::from_be_bytes(field(bytes, 57)),
        };
        header.check().map_err(|flaw| flaw.at(base_offset))?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Flaw> {
        let impossible = |field, value| Err(Flaw::Field { field, value });
        if self.magic != 2 {
            return Err(Flaw::Magic(self.magic));
        }
        if self.base_offset < 0 || self.base_offset.checked_add(i64::from(i32::MAX) + 1).is_none() {
            return impossible("baseOffset", self.base_offset);
        }
        if self.last_offset_delta < 0 {
            return impossible("lastOffsetDelta", self.last_offset_delta.into());
        }
        if self.count < 0 || i64::from(self.count) > i64::from(self.last_offset_delta) + 1 {
            return impossible("recordsCount", self.count.into());
        }
        Ok(())
    }

    /// Offset of the last record, whether or not compaction removed it.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset + i64::from(self.last_offset_delta))
    }

    /// First offset behind the batch.
    pub fn next_offset(&self) -> Offset {
        self.last_offset() + 1
    }

    /// Whether every offset of the batch still has its record, as a broker demands of a produced batch.
    pub fn is_dense(&self) -> bool {
        self.count > 0 && i64::from(self.count) == i64::from(self.last_offset_delta) + 1
    }
}

/// Length field → bytes of the whole batch or message, at least `least`.
pub(super) fn total_bytes(length: i32, least: usize) -> Result<usize, Flaw> {
    match usize::try_from(length) {
        Ok(counted) if counted + LENGTH_PREFIX >= least => Ok(counted + LENGTH_PREFIX),
        _ => Err(Flaw::Field { field: "batchLength", value: length.into() }),
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    *bytes[at..].first_chunk().expect("every field lies within the header")
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const CODEC: i16 = 0b111;
    pub(super) const APPEND_TIME: i16 = 1 << 3;
    pub(super) const TRANSACTIONAL: i16 = 1 << 4;
    pub(super) const CONTROL: i16 = 1 << 5;
    pub(super) const DELETE_HORIZON: i16 = 1 << 6;

    /// The codec of the records section; 5, 6 and 7 stand for none.
    pub fn codec(self) -> Result<Codec, Malformed> {
        self.codec_or_flaw().map_err(Flaw::nowhere)
    }

    pub(super) fn codec_or_flaw(self) -> Result<Codec, Flaw> {
        Codec::from_bits(self.0 & Self::CODEC)
    }

    /// Whether the broker's append time stands in for the records' own times.
    pub fn is_append_time(self) -> bool {
        self.0 & Self::APPEND_TIME != 0
    }

    /// Whether it was written in a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether it holds a marker of the cluster itself and no data.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the delete horizon that the source's log cleaner set (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}
