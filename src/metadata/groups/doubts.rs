//! Commits of ours that nobody has answered: they may still reach the target when a later one has, and are no
//! application's then. Kept in memory only: across a restart, the ledger's last intent tells of one.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::group::Positions;

/// A request that has not landed by now never will: longer than clients wait, and brokers keep one in their queues.
const LANDS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Doubts {
    groups: BTreeMap<GroupId, Vec<(Instant, Positions)>>,
}

impl Doubts {
    /// `intent` was to be committed; whether it was, nobody said. What of it stands on the target has landed.
    pub(super) fn add(&mut self, id: &GroupId, intent: &Positions, target: &Positions) {
        let has_landed = |at: &TopicPartition, offset: &Offset| target.get(at) == Some(offset);
        let under_way = intent.iter().filter(|(at, offset)| !has_landed(at, offset));
        let under_way: Positions = under_way.map(|(at, offset)| (at.clone(), *offset)).collect();
        if !under_way.is_empty() {
            let doubts = self.groups.entry(id.clone()).or_default();
            doubts.retain(|(_, known)| *known != under_way);
            doubts.push((Instant::now(), under_way));
        }
    }

    /// Forgets what can no longer land.
    pub(super) fn settle(&mut self) {
        self.groups.retain(|_, doubts| {
            doubts.retain(|(since, _)| since.elapsed() < LANDS_WITHIN);
            !doubts.is_empty()
        });
    }

    /// What may still land for a group.
    pub(super) fn of(&self, id: &GroupId) -> impl Iterator<Item = &Positions> {
        self.groups.get(id).into_iter().flatten().map(|(_, positions)| positions)
    }
}
