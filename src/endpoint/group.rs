//! Contracts about consumer groups: bulk reading on both sides, writing on the target.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;

use crate::endpoint::Result;
use crate::model::{GroupId, Offset, TopicPartition};

/// How a group coordinates itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// JoinGroup/SyncGroup, or offsets only.
    Classic,
    /// KIP-848.
    Consumer,
    /// KIP-932 share group: has no committed offsets.
    Share,
    /// Anything else a broker lists (Connect, Streams rebalance protocol, …).
    Other,
}

/// A group as a cluster lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its id.
    pub id: GroupId,
    /// Its kind.
    pub protocol: GroupProtocol,
    /// Whether it has members now.
    pub has_members: bool,
}

/// A committed position with what travels beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// First offset the group has not read.
    pub offset: Offset,
    /// The committer's metadata, byte for byte (Streams keeps its partition time there).
    pub metadata: Bytes,
}

/// Committed positions of one group. Partitions without a commit are absent.
pub type GroupOffsets = BTreeMap<TopicPartition, CommittedOffset>;

/// Reads groups; both sides.
#[async_trait]
pub trait GroupReader: Send + Sync {
    /// All groups this principal may see, from every broker.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;
    /// Committed positions of many groups, one answer per group in the same order, in one request per coordinator.
    /// Transactional commits still pending are not shown (`require_stable`): their partitions are left out.
    async fn group_offsets(&self, of: &[GroupId]) -> Vec<Result<GroupOffsets>>;
}

/// Writes groups; target side only.
#[async_trait]
pub trait GroupWriter: Send + Sync {
    /// Commits all positions of one group in one request, from outside (generation −1, leader epoch −1). The broker
    /// refuses it while the group has members: `GroupBusy`. Durable when it returns `Ok`.
    async fn commit_offsets(&self, group: &GroupId, offsets: &GroupOffsets) -> Result<()>;
}
