//! What to do with a stored batch, decided from its header alone.

use crate::batch::{Header, RawBatch};
use crate::model::{EncodedBatch, LeaderEpoch, Offset, Run};

/// How a stored batch travels when it is wanted whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handling {
    /// Unopened: [`pass`].
    Pass,
    /// Opened and encoded again ([`repack`](fn@crate::batch::repack)), for the named reason.
    Open(&'static str),
    /// Not at all: it holds no data record.
    Skip,
}

/// Decides about a batch. Whether its transaction was aborted, and whether it is cut by the range wanted, the header does
/// not tell: the caller knows.
pub fn classify(header: &Header) -> Handling {
    if header.attributes.is_control() || header.count == 0 {
        Handling::Skip
    } else if !header.is_dense() {
        Handling::Open("thinned by compaction")
    } else if header.attributes.is_append_time() {
        // With the bit cleared the producers' times underneath would come up again.
        Handling::Open("append time is kept")
    } else {
        Handling::Pass
    }
}

/// The batch as it is, all its records surviving. Touches no byte of the payload.
///
/// # Panics
/// When [`classify`] says anything but [`Handling::Pass`]: only a bug passes such a batch.
pub fn pass(batch: &RawBatch) -> EncodedBatch {
    let header = &batch.header;
    assert_eq!(classify(header), Handling::Pass, "batch at offset {}", header.base_offset);
    let records = header.count as u32;
    EncodedBatch {
        bytes: batch.bytes.clone(),
        records,
        runs: vec![Run { start: Offset(header.base_offset), length: records }],
        leader_epoch: LeaderEpoch(header.leader_epoch),
        max_timestamp_ms: header.max_timestamp,
    }
}
