//! Contracts about consumer groups: bulk reading on both sides, hearing of commits, writing on the target.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::endpoint::Result;
use crate::model::{GroupId, Offset, TopicPartition};

/// The topic where coordinators keep positions.
pub const COMMITS_TOPIC: &str = "__consumer_offsets";

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
    /// Whether it is a classic group that has had members: as soon as it has none, its positions expire counted from
    /// when the last one left, whatever is committed later (facts/live-measurements §5.9).
    pub had_members: bool,
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

/// What a coordinator says of one group's positions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOffsets {
    /// The positions that are final.
    pub offsets: GroupOffsets,
    /// Partitions on which an open transaction may replace the position: nothing is said of them (`require_stable`).
    pub pending: BTreeSet<TopicPartition>,
}

/// Reads groups; both sides.
#[async_trait]
pub trait GroupReader: Send + Sync {
    /// All groups this principal may see, from every broker. Absence means nothing while coordinators move.
    async fn groups(&self) -> Result<Vec<GroupInfo>>;
    /// The groups that have members now, from every broker: few, where nothing should be running.
    async fn groups_in_use(&self) -> Result<Vec<GroupInfo>>;
    /// Committed positions of many groups, one answer per group in the same order, in one request per coordinator. A
    /// group that its coordinator does not know has none.
    async fn group_offsets(&self, of: &[GroupId]) -> Vec<Result<ReadOffsets>>;
    /// The partitions that the members of many groups are assigned right now, one answer per group in the same order.
    /// A group that its coordinator does not know as one of that protocol has none. `Retryable` while a classic group
    /// rebalances; `Corrupt` when what its members wrote about it makes no sense; `Unsupported` for groups whose members
    /// are no consumers, and where the brokers do not know the protocol.
    async fn assignments(&self, of: &[(GroupId, GroupProtocol)]) -> Vec<Result<BTreeSet<TopicPartition>>>;
    /// Where many share groups begin, one answer per group in the same order: the offset below which a group has done
    /// with every record. Partitions that it has not begun are left out; a share group that its coordinator does not
    /// know has none. `Unsupported` where the brokers do not tell (before 4.1).
    async fn share_starts(&self, of: &[GroupId]) -> Vec<Result<BTreeMap<TopicPartition, Offset>>>;
}

/// Writes groups; target side only.
#[async_trait]
pub trait GroupWriter: Send + Sync {
    /// Commits all positions of one group in one request, from outside (generation −1, leader epoch −1). The broker
    /// refuses it while the group has members: `GroupBusy`, and always where the name is that of a share group: `Refused`.
    /// An empty group of any other kind takes it and stays what it is. Durable when it returns `Ok`; after an error some
    /// of the positions may stand.
    async fn commit_offsets(&self, group: &GroupId, offsets: &GroupOffsets) -> Result<()>;
    /// Deletes the positions of one group on these partitions, where it has any. `GroupBusy` while the group has members
    /// (brokers go by those that read the topics); after an error some of the positions may be gone.
    async fn delete_offsets(&self, group: &GroupId, of: &BTreeSet<TopicPartition>) -> Result<()>;
    /// Makes the group's coordinator write something beside it, by a position on `at` for a group of our own
    /// (`twinlog.stir-…`): where it has missed that its log is replicated, it answers no question about groups until
    /// then. The group itself is not touched.
    async fn stir(&self, group: &GroupId, at: &TopicPartition) -> Result<()>;
    /// How long an unused position is kept: the shortest `offsets.retention.minutes` of the brokers.
    async fn offsets_retention(&self) -> Result<Duration>;
}

/// A cluster whose commits can be heard of as they are made.
pub trait CommitFeed: Send + Sync {
    /// Listens to the partitions of `__consumer_offsets` from these offsets on, one per partition. No I/O happens here:
    /// errors come out of [`CommitTail::next`].
    fn listen(&self, from: &[(i32, Offset)]) -> Result<Box<dyn CommitTail>>;
}

/// Hears which groups' positions changed. Dropping it ends the listening.
#[async_trait]
pub trait CommitTail: Send {
    /// The groups for which a position was written or deleted, committed or still pending in a transaction, since the
    /// last call; waits for one. What was heard is on disk of all in-sync replicas. That a pending one became final is
    /// *not* heard. Cancel-safe. After an error the tail is spent: `Denied` when this principal may not read the topic.
    async fn next(&mut self) -> Result<BTreeSet<GroupId>>;
}
