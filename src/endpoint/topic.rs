//! Contracts about topics: what exists, where its ends are, and (target only) how to change it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::endpoint::Result;
use crate::model::{ClusterId, LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};

/// What a cluster says about itself.
#[derive(Debug, Clone)]
pub struct ClusterInfo {
    /// `cluster.id`.
    pub id: ClusterId,
    /// Number of live brokers; caps a replication factor.
    pub brokers: usize,
}

/// A topic as the catalog lists it.
#[derive(Debug, Clone)]
pub struct TopicInfo {
    /// Name.
    pub name: TopicName,
    /// Id; `None` where the brokers do not tell.
    pub id: Option<TopicId>,
    /// Whether the brokers call it internal.
    pub internal: bool,
    /// Partitions in order of their number, without holes.
    pub partitions: Vec<PartitionInfo>,
}

/// A partition as the catalog lists it.
#[derive(Debug, Clone)]
pub struct PartitionInfo {
    /// Leader epoch known to the broker that answered.
    pub leader_epoch: LeaderEpoch,
    /// Size of the replica set.
    pub replicas: usize,
}

/// The ends of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// First offset still there.
    pub log_start: Offset,
    /// Last stable offset: first offset of the oldest open transaction, or the high watermark.
    pub last_stable: Offset,
    /// High watermark: first offset not yet on all in-sync replicas.
    pub high_watermark: Offset,
    /// Leader epoch under which the answer was given.
    pub leader_epoch: LeaderEpoch,
}

/// Where a leader epoch ended (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// Largest epoch not above the one asked for; `UNKNOWN` when the log holds none.
    pub epoch: LeaderEpoch,
    /// First offset behind that epoch.
    pub end: Offset,
}

/// One topic setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Effective value; `None` for sensitive ones.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: ConfigOrigin,
}

/// Where an effective setting comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// Set on the topic itself.
    Topic,
    /// A broker's or the cluster's setting, or the built-in default.
    Inherited,
}

/// Reads about topics. All calls are bulk and bounded by the cluster's answer; none has a side effect.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// The cluster's id and size.
    async fn cluster(&self) -> Result<ClusterInfo>;
    /// All topics this principal may see, internal ones included.
    async fn topics(&self) -> Result<Vec<TopicInfo>>;
    /// The named topics only. A topic the cluster does not know (its own word, asked by name, not mere absence from a
    /// list) is an [`ErrorKind::UnknownTopic`](crate::endpoint::ErrorKind::UnknownTopic) in its place.
    async fn describe_topics(&self, names: &[TopicName]) -> Vec<Result<TopicInfo>>;
    /// Effective settings of the named topics, one answer per name in the same order.
    async fn topic_configs(&self, names: &[TopicName]) -> Vec<Result<BTreeMap<String, ConfigEntry>>>;
    /// The ends of many partitions, one answer per partition in the same order, in a few requests per broker.
    async fn bounds(&self, of: &[TopicPartition]) -> Vec<Result<Bounds>>;
    /// The high watermarks alone, one answer per partition in the same order, in one request per broker.
    async fn high_watermarks(&self, of: &[TopicPartition]) -> Vec<Result<Offset>>;
    /// The log starts alone, one answer per partition in the same order, in one request per broker.
    async fn log_starts(&self, of: &[TopicPartition]) -> Vec<Result<Offset>>;
    /// First offset whose record time is at or after `timestamp_ms`; `None` when there is none.
    async fn offset_at_time(&self, of: &TopicPartition, timestamp_ms: i64) -> Result<Option<Offset>>;
    /// Where `epoch` ended on the partition's leader.
    async fn epoch_end(&self, of: &TopicPartition, epoch: LeaderEpoch) -> Result<EpochEnd>;
}

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: TopicName,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Replication factor, at least 1.
    pub replication: i16,
    /// Settings given at creation.
    pub configs: BTreeMap<String, String>,
}

/// One change of a topic's own settings (incremental: unnamed settings stay).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// Set the value.
    Set(String, String),
    /// Fall back to the inherited value.
    Unset(String),
}

/// Changes topics; target side only.
#[async_trait]
pub trait TopicAdmin: Send + Sync {
    /// Creates topics, each with all its settings at once, in few calls: one answer per topic, in their order. Already
    /// existing is success only if the caller checks it: it is answered as an error of kind `Refused` naming the topic.
    async fn create_topics(&self, specs: &[TopicSpec]) -> Vec<Result<()>>;
    /// Creates one topic, as [`create_topics`](Self::create_topics) does.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        self.create_topics(std::slice::from_ref(spec)).await.pop().expect("one answer per topic")
    }
    /// Grows a topic to `partitions` in total.
    async fn grow_topic(&self, name: &TopicName, partitions: i32) -> Result<()>;
    /// Applies changes incrementally (KIP-339).
    async fn change_configs(&self, name: &TopicName, changes: &[ConfigChange]) -> Result<()>;
    /// A producer id without a transactional id (never reissued by the cluster), epoch 0.
    async fn allocate_producer_id(&self) -> Result<crate::model::ProducerIdentity>;
    /// `producer.id.expiration.ms` of the target's brokers, milliseconds.
    async fn producer_expiration_ms(&self) -> Result<i64>;
}
