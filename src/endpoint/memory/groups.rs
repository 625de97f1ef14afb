//! Consumer groups and their positions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::endpoint::memory::{Call, MemoryCluster, State};
use crate::endpoint::{
    CommittedOffset, ErrorKind, GroupInfo, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, ReadOffsets, Result,
};
use crate::model::{GroupId, Offset, TopicPartition};

pub(super) struct Group {
    protocol: GroupProtocol,
    has_members: bool,
    had_members: bool,
    pending: bool,
    offsets: GroupOffsets,
    assigned: BTreeSet<TopicPartition>,
    share_starts: BTreeMap<TopicPartition, Offset>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            protocol: GroupProtocol::Classic,
            has_members: false,
            had_members: false,
            pending: false,
            offsets: BTreeMap::new(),
            assigned: BTreeSet::new(),
            share_starts: BTreeMap::new(),
        }
    }
}

/// What the applications' groups do.
impl MemoryCluster {
    /// A group commits a position, as its member or from outside.
    pub fn commit(&self, group: &str, at: &TopicPartition, offset: Offset) {
        self.commit_with(group, at, offset, "");
    }

    /// The same with metadata.
    pub fn commit_with(&self, group: &str, at: &TopicPartition, offset: Offset, metadata: &str) {
        let committed = CommittedOffset { offset, metadata: Bytes::copy_from_slice(metadata.as_bytes()) };
        self.change(|s| {
            s.group(group).offsets.insert(at.clone(), committed);
            s.ring(&group.into());
        });
    }

    /// A group's members come or go. A group unknown so far begins with that.
    pub fn set_members(&self, group: &str, has_members: bool) {
        self.change(|s| {
            let g = s.group(group);
            g.has_members = has_members;
            g.had_members |= has_members;
            // Who goes gives back what he had.
            g.assigned.retain(|_| has_members);
        });
    }

    /// The members of a group are assigned these partitions, and only these.
    pub fn assign(&self, group: &str, partitions: &[TopicPartition]) {
        self.set_members(group, true);
        self.change(|s| s.group(group).assigned = partitions.iter().cloned().collect());
    }

    /// A share group has done with every record of a partition below this offset.
    pub fn set_share_start(&self, group: &str, at: &TopicPartition, start: Offset) {
        self.change(|s| {
            let g = s.group(group);
            g.protocol = GroupProtocol::Share;
            g.share_starts.insert(at.clone(), start);
        });
    }

    /// A group's positions expire; it stays.
    pub fn expire_positions(&self, group: &str) {
        self.change(|s| s.group(group).offsets.clear());
    }

    /// Makes a group one of another kind.
    pub fn set_protocol(&self, group: &str, protocol: GroupProtocol) {
        self.change(|s| s.group(group).protocol = protocol);
    }

    /// Begins or ends a transactional commit of the group.
    pub fn set_pending(&self, group: &str, pending: bool) {
        self.change(|s| {
            s.group(group).pending = pending;
            // What ends a transaction is a marker, and no record of the group.
            if pending {
                s.ring(&group.into());
            }
        });
    }

    /// A group is deleted, or expires.
    pub fn delete_group(&self, group: &str) {
        self.change(|s| {
            let gone = s.groups.remove(&GroupId::from(group));
            // A tombstone for each position.
            if gone.is_some_and(|gone| !gone.offsets.is_empty()) {
                s.ring(&group.into());
            }
        });
    }

    /// The coordinator has missed that its log is replicated: it tells no positions until something is written.
    pub fn deafen_coordinator(&self) {
        self.change(|s| s.coordinator_is_deaf = true);
    }

    /// Where a group stands, if it committed.
    pub fn position_of(&self, group: &str, at: &TopicPartition) -> Option<Offset> {
        self.state().groups.get(&GroupId::from(group))?.offsets.get(at).map(|committed| committed.offset)
    }
}

impl State {
    /// The group, which begins with that if it is unknown.
    fn group(&mut self, id: &str) -> &mut Group {
        self.groups.entry(id.into()).or_default()
    }
}

#[async_trait]
impl GroupReader for MemoryCluster {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        self.enter(Call::ReadGroups).await?;
        let info = |(id, group): (&GroupId, &Group)| GroupInfo {
            id: id.clone(),
            protocol: group.protocol,
            has_members: group.has_members,
            had_members: group.had_members,
        };
        Ok(self.state().groups.iter().map(info).collect())
    }

    async fn groups_in_use(&self) -> Result<Vec<GroupInfo>> {
        Ok(self.groups().await?.into_iter().filter(|group| group.has_members).collect())
    }

    async fn group_offsets(&self, of: &[GroupId]) -> Vec<Result<ReadOffsets>> {
        if let Err(error) = self.enter(Call::ReadGroups).await {
            return vec![Err(error); of.len()];
        }
        let state = self.state();
        if state.coordinator_is_deaf {
            return vec![Err(self.error(ErrorKind::Retryable, "not the coordinator".to_owned())); of.len()];
        }
        let offsets = |id| match state.groups.get(id) {
            Some(group) if group.pending => {
                Ok(ReadOffsets { offsets: GroupOffsets::new(), pending: group.offsets.keys().cloned().collect() })
            }
            // Brokers answer for a group they do not know with no positions.
            group => Ok(ReadOffsets {
                offsets: group.map(|group| group.offsets.clone()).unwrap_or_default(),
                ..ReadOffsets::default()
            }),
        };
        of.iter().map(offsets).collect()
    }

    async fn assignments(&self, of: &[(GroupId, GroupProtocol)]) -> Vec<Result<BTreeSet<TopicPartition>>> {
        if let Err(error) = self.enter(Call::ReadGroups).await {
            return vec![Err(error); of.len()];
        }
        let state = self.state();
        let assigned = |(id, protocol): &(GroupId, GroupProtocol)| match protocol {
            GroupProtocol::Classic | GroupProtocol::Consumer => {
                let known = state.groups.get(id).filter(|group| group.protocol == *protocol);
                Ok(known.map(|group| group.assigned.clone()).unwrap_or_default())
            }
            GroupProtocol::Share | GroupProtocol::Other => {
                Err(self.error(ErrorKind::Unsupported, format!("group {id} is no group of consumers")))
            }
        };
        of.iter().map(assigned).collect()
    }

    async fn share_starts(&self, of: &[GroupId]) -> Vec<Result<BTreeMap<TopicPartition, Offset>>> {
        if let Err(error) = self.enter(Call::ReadGroups).await {
            return vec![Err(error); of.len()];
        }
        let state = self.state();
        let starts = |id| state.groups.get(id).map(|group| group.share_starts.clone()).unwrap_or_default();
        of.iter().map(|id| Ok(starts(id))).collect()
    }
}

#[async_trait]
impl GroupWriter for MemoryCluster {
    async fn commit_offsets(&self, group: &GroupId, offsets: &GroupOffsets) -> Result<()> {
        self.enter(Call::CommitGroup).await?;
        self.change(|s: &mut State| {
            s.coordinator_is_deaf = false;
            let known = s.groups.entry(group.clone()).or_default();
            if known.protocol == GroupProtocol::Share {
                return Err(self.error(ErrorKind::Refused, format!("{group} is a share group")));
            }
            if known.has_members {
                return Err(self.error(ErrorKind::GroupBusy, format!("group {group} has members")));
            }
            known.offsets.extend(offsets.iter().map(|(at, committed)| (at.clone(), committed.clone())));
            if !offsets.is_empty() {
                s.ring(group);
            }
            Ok(())
        })
    }

    async fn delete_offsets(&self, group: &GroupId, of: &BTreeSet<TopicPartition>) -> Result<()> {
        self.enter(Call::DeleteOffsets).await?;
        self.change(|s: &mut State| {
            let Some(known) = s.groups.get_mut(group) else { return Ok(()) };
            if known.has_members {
                return Err(self.error(ErrorKind::GroupBusy, format!("group {group} has members")));
            }
            known.offsets.retain(|at, _| !of.contains(at));
            Ok(())
        })
    }

    async fn stir(&self, _group: &GroupId, _at: &TopicPartition) -> Result<()> {
        self.enter(Call::CommitGroup).await?;
        self.change(|s| s.coordinator_is_deaf = false);
        Ok(())
    }

    async fn offsets_retention(&self) -> Result<Duration> {
        self.enter(Call::ReadGroups).await?;
        Ok(Duration::from_secs(7 * 86_400))
    }
}
