//! A partition's section of a fetch response → batches of the committed view, joined without gap from a given offset.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use crate::batch::{
    Handling, LegacySet, Malformed, Marker, Piece, RawBatch, classify, marker, pass, records, repack, repack_legacy,
    split, verify_crc,
};
use crate::model::{EncodedBatch, LeaderEpoch, Offset, OffsetRange, Payload};

/// A transaction that was aborted: everything transactional of the producer from an offset up to its abort marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    /// Whose.
    pub(super) producer_id: i64,
    /// Its first offset.
    pub(super) first: Offset,
}

/// A slice of the partition.
#[derive(Debug)]
pub(super) struct Slice {
    /// Offsets it accounts for; never empty.
    pub(super) range: OffsetRange,
    /// What survives there; neighbouring empty ranges are one slice.
    pub(super) payload: Payload,
    /// Leader epoch of what lies right below it.
    pub(super) epoch_below: LeaderEpoch,
}

/// What a section yielded.
#[derive(Debug)]
pub(super) struct Slices {
    /// Joined from the offset asked for up to `next`.
    pub(super) slices: Vec<Slice>,
    /// Where to go on: behind the last whole batch.
    pub(super) next: Offset,
    /// Leader epoch of the batch right below `next`.
    pub(super) epoch: LeaderEpoch,
    /// Whether bytes of one more batch were there, but not all of them.
    pub(super) torn: bool,
    /// What stopped it; the slices in front of that are good.
    pub(super) flaw: Option<Malformed>,
}

/// Slices a records section as a broker serves it for `from` under read_committed: the first batch may begin below
/// `from`, the last may be torn, and `aborted` names the aborted transactions that reach into it.
///
/// Offsets between batches, and those within batches where records are missing, are proven empty: the log goes on.
/// Nothing is concluded about offsets behind the last batch. Checksums are verified of all that is opened or left out;
/// a batch passed unopened keeps its checksum and the target verifies it.
pub(super) fn slice(section: Bytes, from: Offset, epoch: LeaderEpoch, aborted: Vec<Aborted>) -> Slices {
    let done = Slices { slices: Vec::new(), next: from, epoch, torn: false, flaw: None };
    let mut slicer = Slicer { done, aborted: Transactions::new(aborted) };
    let mut pieces = split(section);
    for piece in &mut pieces {
        let taken = piece.and_then(|piece| match piece {
            Piece::Batch(batch) => slicer.batch(&batch),
            Piece::Legacy(set) => slicer.legacy(&set),
        });
        if let Err(flaw) = taken {
            slicer.done.flaw = Some(flaw);
            return slicer.done;
        }
    }
    slicer.done.torn = pieces.torn_bytes() > 0;
    slicer.done
}

struct Slicer {
    done: Slices,
    aborted: Transactions,
}

impl Slicer {
    fn batch(&mut self, batch: &RawBatch) -> Result<(), Malformed> {
        let header = &batch.header;
        let is_aborted = self.aborted.voids(batch)?;
        let (base, next) = (Offset(header.base_offset), header.next_offset());
        if next <= self.done.next {
            return Ok(());
        }
        let from = base.max(self.done.next);
        let kept = match classify(header) {
            Handling::Pass if !is_aborted && base == from => Some(pass(batch)),
            Handling::Pass | Handling::Open(_) if !is_aborted => repack(batch, OffsetRange::new(from, next))?,
            // Left out on the word of bits that only the checksum vouches for; opening the batch names the damage.
            _ if !verify_crc(batch) => records(batch).map(|_| None)?,
            _ => None,
        };
        self.emit(from, next, LeaderEpoch(header.leader_epoch), kept);
        Ok(())
    }

    fn legacy(&mut self, set: &LegacySet) -> Result<(), Malformed> {
        let (from, next) = (self.done.next, set.next_offset());
        if next <= from {
            return Ok(());
        }
        let kept = repack_legacy(set, OffsetRange::new(from, next))?;
        self.emit(from, next, LeaderEpoch::UNKNOWN, kept);
        Ok(())
    }

    /// Accounts for the offsets up to `end`: nothing up to `start`, `kept` from there.
    fn emit(&mut self, start: Offset, end: Offset, epoch: LeaderEpoch, kept: Option<EncodedBatch>) {
        match kept {
            None => self.append(end, Payload::Empty),
            Some(encoded) => {
                if self.done.next < start {
                    self.append(start, Payload::Empty);
                    self.done.epoch = LeaderEpoch::UNKNOWN;
                }
                self.append(end, Payload::Batches(encoded));
            }
        }
        self.done.epoch = epoch;
    }

    fn append(&mut self, end: Offset, payload: Payload) {
        let range = OffsetRange::new(self.done.next, end);
        self.done.next = end;
        match (self.done.slices.last_mut(), &payload) {
            (Some(Slice { range: last, payload: Payload::Empty, .. }), Payload::Empty) => last.end = end,
            _ => self.done.slices.push(Slice { range, payload, epoch_below: self.done.epoch }),
        }
    }
}

/// Which producers are in an aborted transaction at the place reached (as read_committed consumers keep it, KIP-98).
struct Transactions {
    ahead: VecDeque<Aborted>,
    open: HashSet<i64>,
}

impl Transactions {
    fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_by_key(|transaction| transaction.first);
        Self { ahead: aborted.into(), open: HashSet::new() }
    }

    /// Whether the batch belongs to an aborted transaction. To be asked about every batch, in order.
    fn voids(&mut self, batch: &RawBatch) -> Result<bool, Malformed> {
        while let Some(begun) = self.ahead.front().filter(|next| next.first <= batch.header.last_offset()) {
            self.open.insert(begun.producer_id);
            self.ahead.pop_front();
        }
        let attributes = batch.header.attributes;
        if attributes.is_control() {
            if !self.open.is_empty() && marker(batch)? == Some(Marker::Abort) {
                self.open.remove(&batch.header.producer_id);
            }
            return Ok(false);
        }
        Ok(attributes.is_transactional() && self.open.contains(&batch.header.producer_id))
    }
}

#[cfg(test)]
mod tests;
