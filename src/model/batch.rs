//! The datum that moves: a source offset range and what of it survives.

use bytes::Bytes;

use crate::model::{LeaderEpoch, Offset, OffsetRange};
use crate::runtime::memory::Permit;

/// A contiguous piece of a source partition on its way to the target.
///
/// Ranges of successive batches of a reader join without gap or overlap. The memory permit is released when the batch is
/// dropped, which is after its ack.
#[derive(Debug)]
pub struct Batch {
    /// Source offsets this batch accounts for, whether or not a record survives at each.
    pub range: OffsetRange,
    /// What is to be written for the range.
    pub payload: Payload,
    /// Memory taken for the bytes before they were fetched; `None` for ranges without bytes.
    pub permit: Option<Permit>,
}

/// What a batch's range holds.
#[derive(Debug, Clone)]
pub enum Payload {
    /// One record batch to be produced without being opened.
    Batches(EncodedBatch),
    /// Proven to hold nothing to copy: control records, aborted data, compacted holes.
    Empty,
}

/// One magic-2 record batch, acceptable to a broker once its header is stamped: records are dense (offset deltas
/// `0..records`), not control, not aborted, not transactional in effect.
#[derive(Debug, Clone)]
pub struct EncodedBatch {
    /// The whole batch as stored at the source, or as repacked: 61-byte header and records section.
    pub bytes: Bytes,
    /// How many records the batch holds, at least 1.
    pub records: u32,
    /// Which source offsets the records had, in order; lengths add up to `records`.
    pub runs: Vec<Run>,
    /// Leader epoch at the source under which the batch was appended.
    pub leader_epoch: LeaderEpoch,
    /// Largest record timestamp, milliseconds since 1970 (−1 = none). Decides whether producer state can expire.
    pub max_timestamp_ms: i64,
}

/// Consecutive source offsets that all survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First source offset.
    pub start: Offset,
    /// Number of records, at least 1.
    pub length: u32,
}
