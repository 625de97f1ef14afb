//! Anchors: content hashes of copied records, proof at attach that both logs are still the ones that were copied.
//!
//! While records stream, one batch per flush is opened for its last record's hash; when the stream pauses, the last batch
//! is kept (copied out of its fetch frame) until the next flush asks for it.

use bytes::Bytes;

use crate::batch;
use crate::endpoint::{PointReader, Result, View};
use crate::model::{Offset, OffsetRange, Route};
use crate::offsets::Anchor;

/// A batch above this size is hashed at once instead of being kept.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// One record's batch is read whole, whatever its size; this only bounds what comes along.
const READ_BYTES: u32 = 64 << 10;

/// The newest copied batch, waiting for a flush.
#[derive(Debug)]
pub(super) struct Candidate {
    bytes: Bytes,
    source: Offset,
    target: Offset,
}

/// What is known about a route's head until the next flush.
#[derive(Debug, Default)]
pub(super) struct AnchorSlot {
    kept: Option<Candidate>,
    ready: Option<Anchor>,
    /// A flush has taken the last anchor: the next ack of a streaming partition makes a new one.
    due: bool,
}

impl AnchorSlot {
    /// Notes an acked batch whose last record is `source` → `target`. `level`: nothing else is in flight.
    pub(super) fn acked(&mut self, batch: &Bytes, source: Offset, target: Offset, level: bool) {
        if level && batch.len() <= KEPT_BYTES_MAX {
            self.kept = Some(Candidate { bytes: Bytes::copy_from_slice(batch), source, target });
        } else if level || self.due {
            self.kept = None;
            self.ready = hash_last(batch).map(|hash| Anchor { source, target, hash });
            self.due = false;
        } else {
            self.kept = None;
        }
    }

    /// The anchor to be stored with this flush, if there is a new one.
    pub(super) fn take(&mut self) -> Option<Anchor> {
        self.due = true;
        let kept = self.kept.take().and_then(|c| {
            let hash = hash_last(&c.bytes)?;
            Some(Anchor { source: c.source, target: c.target, hash })
        });
        kept.or(self.ready.take())
    }

    /// Forgets everything: the route attaches anew.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Hash of a batch's last record; `None` if it does not parse (the target's own check refuses it anyway).
fn hash_last(bytes: &Bytes) -> Option<u64> {
    let header = batch::Header::parse(bytes).ok()?;
    let records = batch::records(&batch::RawBatch { header, bytes: bytes.clone() }).ok()?;
    records.last().map(batch::content_hash)
}

/// Outcome of holding a route's anchors against both logs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Anchored {
    /// Both sides hold the copied record, or there is nothing to check yet.
    Proven,
    /// Every anchor was compacted or expired on one side.
    Unanchored,
    /// The source's record differs.
    SourceDiffers(Anchor),
    /// The target's record differs.
    TargetDiffers(Anchor),
}

/// Checks the newest anchor that still exists on each side.
pub(super) async fn verify(
    anchors: &[Anchor],
    route: &Route,
    source: &dyn PointReader,
    source_log_start: Offset,
    target: &dyn PointReader,
    target_log_start: Offset,
) -> Result<Anchored> {
    let (mut source_proven, mut target_proven) = (false, false);
    for anchor in anchors.iter().rev() {
        if !target_proven && anchor.target >= target_log_start {
            let at = OffsetRange::new(anchor.target, anchor.target + 1);
            match target.read(&route.target, at, View::Log, READ_BYTES).await?.records.first() {
                Some(record) if record.hash != anchor.hash => return Ok(Anchored::TargetDiffers(*anchor)),
                Some(_) => target_proven = true,
                None => {}
            }
        }
        if !source_proven && anchor.source >= source_log_start {
            let at = OffsetRange::new(anchor.source, anchor.source + 1);
            match source.read(&route.source, at, View::Committed, READ_BYTES).await?.records.first() {
                Some(record) if record.hash != anchor.hash => return Ok(Anchored::SourceDiffers(*anchor)),
                Some(_) => source_proven = true,
                None => {}
            }
        }
        if source_proven && target_proven {
            return Ok(Anchored::Proven);
        }
    }
    Ok(if anchors.is_empty() { Anchored::Proven } else { Anchored::Unanchored })
}
