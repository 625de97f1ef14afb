//! Which batches of a committed reading belong to aborted transactions (KIP-98); pure.

use std::collections::{HashSet, VecDeque};

use crate::batch::{Malformed, Marker, RawBatch, marker};
use crate::model::Offset;

/// The aborted transactions that reach into one fetched section, and which of them are open at the place reached.
pub(super) struct Transactions {
    /// Producer and first offset of those not reached yet, in order of the offset.
    ahead: VecDeque<(i64, Offset)>,
    open: HashSet<i64>,
}

impl Transactions {
    /// Takes the broker's list: producer id and first offset of each aborted transaction, in any order.
    pub(super) fn aborted(list: impl IntoIterator<Item = (i64, Offset)>) -> Self {
        let mut ahead: Vec<_> = list.into_iter().collect();
        ahead.sort_by_key(|(_, first)| *first);
        Self { ahead: ahead.into(), open: HashSet::new() }
    }

    /// Whether a batch is void. To be asked about every batch of the section, in order: abort markers close what they
    /// end.
    pub(super) fn voids(&mut self, batch: &RawBatch) -> Result<bool, Malformed> {
        while let Some((producer, _)) = self.ahead.front().filter(|(_, first)| *first <= batch.header.last_offset()) {
            self.open.insert(*producer);
            self.ahead.pop_front();
        }
        let (attributes, producer) = (batch.header.attributes, batch.header.producer_id);
        if !attributes.is_control() {
            return Ok(attributes.is_transactional() && self.open.contains(&producer));
        }
        if self.open.contains(&producer) && marker(batch)? == Some(Marker::Abort) {
            self.open.remove(&producer);
        }
        Ok(false)
    }
}
