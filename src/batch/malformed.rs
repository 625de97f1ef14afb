//! Why bytes are not what the record format says they must be.

use crate::batch::Codec;
use crate::model::Offset;

/// Bytes of a log that break the record format or fail their checksum.
///
/// It names the stored batch by its base offset as far as that could be read; who knows topic and partition adds them.
/// Nothing was changed or allocated on account of the bad bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Base offset of the batch (legacy wrappers: offset of their last message); `None` when not even that was there.
    pub base_offset: Option<Offset>,
    /// What is wrong.
    pub flaw: Flaw,
}

impl std::error::Error for Malformed {}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.base_offset {
            Some(base) => write!(f, "batch at offset {base}: {}", self.flaw),
            None => write!(f, "batch: {}", self.flaw),
        }
    }
}

/// The flaws a batch can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Fewer bytes than the structure needs.
    #[error("{present} bytes where {needed} are needed")]
    Short {
        /// Bytes there are.
        present: usize,
        /// Bytes there must be.
        needed: usize,
    },
    /// A format this program does not know.
    #[error("record format {0} is unknown (2, and 1 and 0 of brokers before 0.11, are known)")]
    Magic(i8),
    /// A header field that no broker writes.
    #[error("its header says {field} = {value}, which cannot be")]
    Field {
        /// Kafka's name of the field.
        field: &'static str,
        /// What it says.
        value: i64,
    },
    /// It begins below the end of the batch before it.
    #[error("it begins below offset {0}, where the batch before it ended")]
    Order(Offset),
    /// Stored checksum and bytes disagree.
    #[error("its checksum says {stored:#010x}, its bytes {computed:#010x}: they were damaged in storage or on the way")]
    Checksum {
        /// In the header.
        stored: u32,
        /// Over the bytes.
        computed: u32,
    },
    /// Compression bits that stand for no codec.
    #[error("compression type {0} is unknown")]
    UnknownCodec(i16),
    /// The compressed section does not decompress.
    #[error("its {codec} section does not decompress: {reason}")]
    Compressed {
        /// The codec its attributes name.
        codec: Codec,
        /// The decoder's words.
        reason: String,
    },
    /// The compressed section grows beyond all reason.
    #[error("its {codec} section of {compressed} bytes grows beyond {limit} bytes, which no producer makes")]
    Bomb {
        /// The codec its attributes name.
        codec: Codec,
        /// Bytes as stored.
        compressed: usize,
        /// Bytes at which opening it was given up.
        limit: usize,
    },
    /// A record whose structure is broken.
    #[error("record {index} of it: {what}")]
    Record {
        /// Counted from 0 within the batch.
        index: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Bytes behind the last record the header counts.
    #[error("{0} bytes are left behind its last record")]
    Trailing(usize),
}

impl Flaw {
    /// The flaw, of the batch at `base_offset`.
    pub(super) fn at(self, base_offset: i64) -> Malformed {
        Malformed { base_offset: Some(Offset(base_offset)), flaw: self }
    }

    /// The flaw, where not even an offset could be read.
    pub(super) fn nowhere(self) -> Malformed {
        Malformed { base_offset: None, flaw: self }
    }
}
