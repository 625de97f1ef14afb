//! Which transactions of a partition are open, and which were aborted.

use std::collections::BTreeMap;

use crate::batch::{Marker, RawBatch, marker};
use crate::model::{Offset, OffsetRange};

/// The transactions of a partition, by producer id.
#[derive(Debug, Clone, Default)]
pub(super) struct Transactions {
    /// First offset of each open one.
    open: BTreeMap<i64, Offset>,
    /// Producer and offsets from the first record to its marker.
    aborted: Vec<(i64, OffsetRange)>,
}

impl Transactions {
    /// Takes note of an appended batch.
    pub fn observe(&mut self, batch: &RawBatch) {
        let (producer, base) = (batch.header.producer_id, Offset(batch.header.base_offset));
        let ended = marker(batch).expect("batches in the log were checked when they were appended");
        match ended {
            None if batch.header.attributes.is_transactional() => drop(self.open.entry(producer).or_insert(base)),
            None => {}
            Some(Marker::Commit) => drop(self.open.remove(&producer)),
            Some(Marker::Abort) => {
                let first = self.open.remove(&producer);
                self.aborted.extend(first.map(|first| (producer, OffsetRange::new(first, base))));
            }
        }
    }

    /// First offset of the oldest open transaction.
    pub fn first_open(&self) -> Option<Offset> {
        self.open.values().min().copied()
    }

    /// Producer and first offset of the aborted ones that reach into what a fetch read, `from` inclusive to `end`
    /// exclusive.
    pub fn aborted_in(&self, from: Offset, end: Offset) -> impl Iterator<Item = (i64, Offset)> {
        let reaching = self.aborted.iter().filter(move |(_, range)| range.end >= from && range.start < end);
        reaching.map(|(id, range)| (*id, range.start))
    }

    /// Whether the batch belongs to an aborted transaction.
    pub fn aborted(&self, batch: &RawBatch) -> bool {
        let at = Offset(batch.header.base_offset);
        batch.header.attributes.is_transactional()
            && self.aborted.iter().any(|(id, range)| *id == batch.header.producer_id && range.contains(at))
    }
}
