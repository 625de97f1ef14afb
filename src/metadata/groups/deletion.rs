//! Positions that the source has no more: forgotten, and deleted on the target where that is wanted.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::endpoint::Result;
use crate::ledger::record::GroupRecord;
use crate::ledger::{ControlKey, ControlRecord};
use crate::metadata::groups::Groups;
use crate::metadata::groups::standing::Mirrored;
use crate::metadata::groups::wanted::gone;
use crate::model::{GroupId, TopicPartition};
use crate::policy::group::Deletions;

impl Groups {
    /// Deletes what is to be deleted on the target, and forgets groups of which nothing is left on either side.
    pub(super) async fn see_to_deletions(&mut self, in_use: &BTreeSet<GroupId>, mirrored: &Mirrored) -> Result<()> {
        let now = Instant::now();
        let mut records = Vec::new();
        for (id, partitions, record) in self.deletable(in_use, mirrored, now) {
            let offsets = self.target.group_offsets(std::slice::from_ref(&id)).await.remove(0);
            let is_ours = |at: &TopicPartition| match &offsets {
                Ok(read) => {
                    let there = read.offsets.get(at).map(|committed| committed.offset);
                    !read.pending.contains(at) && (there.is_none() || there == record.confirmed.get(at).copied())
                }
                Err(_) => false,
            };
            // What is not ours is found out, and latched, when the group's turn comes to be looked at.
            let partitions: BTreeSet<TopicPartition> = partitions.into_iter().filter(is_ours).collect();
            if partitions.is_empty() {
                continue;
            }
            let outcome = self.publisher.delete(&id, &partitions).await;
            let mut board = self.board.lock().expect("no panic while held");
            let Some(group) = board.groups.get_mut(&id) else { continue };
            match outcome {
                Ok(()) => {
                    let mut record = record;
                    record.confirmed.retain(|at, _| !partitions.contains(at));
                    records.push(ControlRecord::Group(id, record));
                }
                Err(error) => group.unwritten = Some(error.message),
            }
        }
        records.extend(self.forget());
        if records.is_empty() { Ok(()) } else { self.publisher.ledger().append(records).await }
    }

    /// Partitions on which positions of ours are to be deleted.
    fn deletable(
        &self,
        in_use: &BTreeSet<GroupId>,
        mirrored: &Mirrored,
        now: Instant,
    ) -> Vec<(GroupId, Vec<TopicPartition>, GroupRecord)> {
        let board = self.board.lock().expect("no panic while held");
        let mut found = Vec::new();
        let carry = self.rules.deletions == Deletions::Carry;
        for (id, record) in self.publisher.ledger().view().groups() {
            if record.taken_over.is_some() || !(carry || record.resynced.is_some()) || in_use.contains(&id) {
                continue;
            }
            let Some(group) = board.groups.get(&id) else { continue };
            let (Some(read), Some(changed_at)) = (&group.read, group.changed_at) else { continue };
            let carries = carry && group.unread.is_none() && now - changed_at >= self.rules.deletion_grace;
            let gone = gone(read, &record, mirrored).map(|(_, route)| route.target.clone());
            let partitions: Vec<_> = gone.filter(|at| carries || is_leftover(&record, at)).collect();
            if !partitions.is_empty() {
                found.push((id, partitions, (*record).clone()));
            }
        }
        found
    }

    /// Drops groups that the source has no more and that have nothing of ours on the target.
    fn forget(&self) -> Vec<ControlRecord> {
        let mut board = self.board.lock().expect("no panic while held");
        let view = self.publisher.ledger().view();
        let is_bare = |id: &GroupId| {
            let record = self.publisher.record(id);
            record.confirmed.is_empty() && record.intent.is_empty() && record.taken_over.is_none()
        };
        let gone = board.groups.iter().filter(|(_, group)| group.gone).map(|(id, _)| id);
        let over: Vec<GroupId> = gone.filter(|id| is_bare(id)).cloned().collect();
        let mut records = Vec::new();
        for id in over {
            board.groups.remove(&id);
            if view.group(&id).is_some() {
                records.push(ControlRecord::Removed(ControlKey::Group(id.clone())));
            }
            if view.seen(&id).is_some() {
                records.push(ControlRecord::Removed(ControlKey::Seen(id)));
            }
        }
        records
    }
}

/// Whether the position there is what an application had left when an operator took the group back.
fn is_leftover(record: &GroupRecord, at: &TopicPartition) -> bool {
    record.resynced.as_ref().is_some_and(|resynced| {
        resynced.replaced.contains_key(at) && resynced.replaced.get(at) == record.confirmed.get(at)
    })
}
