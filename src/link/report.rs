//! What a link tells about itself; the JSON of `/v1/links` and of `--json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use crate::model::Resolution;
use crate::model::{GroupId, LinkName, Offset, PartitionState, Plane, TopicPartition};

/// A link as seen from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LinkReport {
    /// Name of the link.
    pub link: LinkName,
    /// Alias and cluster id of the source.
    pub source: String,
    /// Alias and cluster id of the target.
    pub target: String,
    /// `starting: …`, `waiting for the lease: …`, `waiting for the source: …`, `running`, `paused`, `interrupted: …`, `stopping`, `stopped` or
    /// `failed: …`; what follows the colon is for people.
    pub state: String,
    /// Rate limit in force, bytes per second.
    pub rate_limit_bytes: Option<u64>,
    /// How topics share it: weights by pattern, 1 for all others.
    pub priorities: BTreeMap<String, u32>,
    /// Bytes reserved of the memory budget.
    pub memory_used_bytes: u64,
    /// The memory budget, bytes.
    pub memory_budget_bytes: u64,
    /// Problems of topics and of the link itself, each a sentence with a way out.
    pub problems: Vec<String>,
    /// What is otherwise on the target than at the source, on purpose.
    pub notices: Vec<String>,
    /// The link's groups, summed up.
    pub groups: GroupsReport,
    /// One row per route, in order of the target partition.
    pub partitions: Vec<PartitionReport>,
}

/// The groups of a link, summed up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GroupsReport {
    /// How the source's commits are learnt of: `following __consumer_offsets`, or `polling: …` and why.
    pub way: String,
    /// Groups by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Partitions that positions are not held back for, each with the reason.
    pub cut_without: Vec<String>,
    /// What all groups that are not taken over would cost if applications switched over now.
    pub cost: CostReport,
}

/// What a switch-over now would cost a group, in records, as far as offsets tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CostReport {
    /// Read at the source, and read again on the target.
    pub re_read_records: i64,
    /// Not read at the source, and passed over on the target.
    pub skip_records: i64,
    /// In partitions that the group reads without a position: what its reset rule makes of them is not known here.
    pub at_risk_records: i64,
    /// The part of the skipped that the target has deleted while the source still has it.
    pub lost_records: i64,
}

/// A route as seen from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Source partition.
    pub source: TopicPartition,
    /// Target partition.
    pub target: TopicPartition,
    /// What it is doing.
    #[serde(flatten)]
    pub state: PartitionState,
    /// How its records travel.
    pub plane: Plane,
    /// Why, where that is not the configuration's word.
    pub plane_reason: Option<String>,
    /// Exclusive end of what the target durably holds, as a source offset.
    pub position: Option<Offset>,
    /// Target offset the next record will get.
    pub target_end: Option<Offset>,
    /// Source offsets up to the high watermark not yet on the target.
    pub lag_records: Option<i64>,
    /// Of these, behind the source's last stable offset (open transactions).
    pub unstable_records: Option<i64>,
    /// Seconds since the source's end was where our position is; 0 when level.
    pub lag_seconds: Option<f64>,
    /// Records copied by this process.
    pub records: u64,
    /// Bytes of record batches copied by this process.
    pub bytes: u64,
    /// Records that this process wrote with the timestamp of 1 ms instead of 0, which the records plane cannot write.
    pub altered_records: u64,
    /// Records acknowledged by the target but not yet in the durable map.
    pub unflushed_records: u64,
    /// Whether the last start found no copied record on both sides to compare: all were compacted or have expired.
    pub unanchored: bool,
    /// What an operator can type, when halted: command and consequence.
    pub ways_out: Vec<String>,
}

/// A group as seen from outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupReport {
    /// The group.
    pub group: GroupId,
    /// The most urgent that applies: `share group`, `taken over`, `type conflict`, `failed`, `gone at the source`,
    /// `clamped up`, `before the mirror`, `no position`, `waiting for the mirror`, `synced`.
    pub verdict: String,
    /// What more there is to say, as a sentence.
    pub detail: Option<String>,
    /// Partitions that its positions are not held back for: what its work has produced there may be missing.
    pub cut_without: Vec<String>,
    /// What a switch-over now would cost it; nothing where an application has taken it over.
    #[serde(flatten)]
    pub cost: Option<CostReport>,
    /// Each partition's position.
    pub partitions: Vec<GroupPartitionReport>,
}

/// One partition of a group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupPartitionReport {
    /// Source partition.
    pub source: TopicPartition,
    /// Committed at the source, if any.
    pub source_offset: Option<Offset>,
    /// Committed on the target by us, if any.
    pub target_offset: Option<Offset>,
    /// `synced`, `waiting for the mirror`, `before the mirror (n)`, `no position (n at risk)`, `clamped up (n lost)`,
    /// `gone at the source`, `pending in a transaction`, `not mirrored`, or the group's.
    pub verdict: String,
    /// Records read at the source that would be read again.
    pub re_read_records: i64,
    /// Records not read at the source that would be passed over.
    pub skip_records: i64,
}

/// Answer to a translation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum TranslateReport {
    /// The exact offset on the other side.
    Exact {
        /// The partition on the other side.
        partition: TopicPartition,
        /// First offset there whose record is at or behind the one asked for.
        offset: Offset,
    },
    /// The map begins later.
    BeforeTheMirror {
        /// First offset the map knows, on the side asked about.
        first: Offset,
    },
    /// Not copied yet.
    Ahead {
        /// Exclusive end of what is mapped, on the side asked about.
        end: Offset,
    },
    /// No route has this partition.
    Unknown,
}
