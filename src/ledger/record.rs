//! What the control topic remembers, one type per kind of record.
//!
//! All times are milliseconds since 1970 by the writer's clock: they are for people and reports, never for deciding
//! whether a lease is over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ledger::process::ProcessIdentity;
use crate::model::{ClusterId, Halt, Offset, Resolution, Route, TopicName, TopicPartition};

/// Offsets of many partitions, as `{topic: {partition: offset}}` in JSON.
pub type PartitionOffsets = BTreeMap<TopicPartition, Offset>;

/// Which two clusters the link joins. Written once, with the first lease; a mismatch refuses to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// `cluster.id` of the source.
    pub source_cluster_id: ClusterId,
    /// `cluster.id` of the target.
    pub target_cluster_id: ClusterId,
}

/// First thing a claimer appends to both topics: reading it back proves that everything before it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The claimer; its lease record, which follows, bears the same.
    pub holder: Uuid,
    /// The claimer's process, should it die before its lease is on record.
    pub process: ProcessIdentity,
}

/// Who holds the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRecord {
    /// One holding of the ledger; every acquisition draws a new one.
    pub holder: Uuid,
    /// The holder's process, by which a successor on the same machine can prove it gone.
    pub process: ProcessIdentity,
    /// Counts renewals, from 0.
    pub renewal: u64,
    /// Given back by a clean stop: a successor need not wait.
    pub released: bool,
    /// When it was written.
    pub at_ms: i64,
}

/// A route's birth, durable before its first record is sent, so that a crash before the first map flush cannot skip.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Born {
    /// The route with the topic ids it was born under.
    pub route: Route,
    /// First source offset this route copies; what lies before it is before the mirror.
    pub first_source: Offset,
    /// Target offset the first copied record gets.
    pub target_start: Offset,
}

/// Ends of a source partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEnd {
    /// First offset still open to change: the last stable offset.
    pub last_stable: Offset,
    /// High watermark.
    pub high_watermark: Offset,
}

/// Ends last seen of one source topic; what a failover knows of a dead source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceEnds {
    /// When these ends were read. Unchanged ends need not be written again: see [`Observed`].
    pub at_ms: i64,
    /// By partition number.
    pub partitions: BTreeMap<i32, SourceEnd>,
}

/// A source group's positions last seen, by source partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPositions {
    /// When these positions were read. Unchanged positions need not be written again: see [`Observed`].
    pub at_ms: i64,
    /// First offset not read by the group, by source partition.
    #[serde(with = "nested")]
    pub positions: PartitionOffsets,
}

/// Until when the [`SourceEnds`] and [`SeenPositions`] on record are known to be current, so that what does not change
/// costs one small record per pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Observed {
    /// Time of the last complete reading of source ends.
    pub ends_at_ms: Option<i64>,
    /// Time of the last complete reading of source group positions.
    pub positions_at_ms: Option<i64>,
}

/// What we wrote for one group on the target. Ours is what is intended or confirmed: after a crash neither is mistaken
/// for a commit of somebody else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Target offsets about to be committed, written before the commit.
    #[serde(with = "nested")]
    pub intent: PartitionOffsets,
    /// Target offsets committed, written after the commit succeeded.
    #[serde(with = "nested")]
    pub confirmed: PartitionOffsets,
    /// The committers' metadata beside these positions, where there is any: a position that expires is written again
    /// with it, also when the source is gone.
    #[serde(with = "nested", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<TopicPartition, String>,
    /// Those of the positions that the source has none for: seeds, by the link's `no_position` rule.
    #[serde(with = "nested", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub seeded: PartitionOffsets,
    /// When the target last took a commit of all of them: the time until the first of them expires counts from then.
    #[serde(default)]
    pub committed_at_ms: i64,
    /// Set once the group belongs to an application on the target: not written any more, in neither direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_over: Option<TakenOver>,
    /// The last time an operator took the group back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resynced: Option<Resynced>,
}

/// By what a group was recognized as in use on the target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenOver {
    /// When that was seen.
    pub at_ms: i64,
    /// What was seen, as a sentence.
    pub why: String,
}

/// An operator's word that a group on the target is to follow the source again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resynced {
    /// When it was given.
    pub at_ms: i64,
    /// The positions on the target then, which the source's replace.
    #[serde(with = "nested")]
    pub replaced: PartitionOffsets,
}

/// A partition that stands still until somebody decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HaltRecord {
    /// Why.
    pub halt: Halt,
    /// Since when.
    pub at_ms: i64,
}

/// What operators want of the link; survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// Records do not move.
    pub paused: bool,
    /// Rate limit.
    pub rate: Rate,
}

/// What operators want of a link's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// What the configuration says.
    #[default]
    Configured,
    /// No limit, whatever the configuration says.
    Unlimited,
    /// At most so many bytes per second.
    Bytes(u64),
}

impl Rate {
    /// The limit in force where the configuration says `configured`; `None` = no limit.
    pub fn in_force(self, configured: Option<u64>) -> Option<u64> {
        match self {
            Rate::Configured => configured,
            Rate::Unlimited => None,
            Rate::Bytes(rate) => Some(rate),
        }
    }
}

/// Settings a target topic shall get at hand-over, when it becomes the one that is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedConfigs {
    /// Setting → value.
    pub configs: BTreeMap<String, String>,
}

/// The source partitions that existed when the link was born: the start rule is theirs, later ones are copied whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthTopics {
    /// Source topic → number of partitions then.
    pub topics: BTreeMap<TopicName, i32>,
}

impl BirthTopics {
    /// Whether a source partition existed then.
    pub fn includes(&self, at: &TopicPartition) -> bool {
        self.topics.get(&at.topic).is_some_and(|partitions| at.partition < *partitions)
    }
}

/// An operator's decision, obeyed by the partition's next attach and then removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolutionRecord {
    /// The decision.
    pub decision: Resolution,
    /// When it was taken.
    pub at_ms: i64,
}

/// JSON keys are texts: partitions nest under their topic.
mod nested {
    use super::*;
    use serde::{Deserializer, Serializer};

    pub fn serialize<S: Serializer, T: Serialize>(
        values: &BTreeMap<TopicPartition, T>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let mut nested: BTreeMap<&TopicName, BTreeMap<i32, &T>> = BTreeMap::new();
        for (at, value) in values {
            nested.entry(&at.topic).or_default().insert(at.partition, value);
        }
        nested.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<TopicPartition, T>, D::Error> {
        let nested = BTreeMap::<TopicName, BTreeMap<i32, T>>::deserialize(from)?;
        let flat = nested.into_iter().flat_map(|(topic, partitions)| {
            let at = move |partition| TopicPartition { topic: topic.clone(), partition };
            partitions.into_iter().map(move |(partition, value)| (at(partition), value))
        });
        Ok(flat.collect())
    }
}
