//! Named states of a partition: nothing says "running" while nothing moves.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How well the target protects a partition against doubles right now (DESIGN P1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProtectionLevel {
    /// The target's brokers enforce compare-and-append.
    Guarded,
    /// Producer state is absent or may expire (data older than `producer.id.expiration.ms`): one batch in flight, the
    /// true end is probed before anything is repeated.
    ProbeOnly,
    /// Nobody refuses a double (records plane): what an earlier process had queued may still land. It is matched at
    /// attach or at the next ack, and counted.
    DetectOnly,
}

/// What a partition is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PartitionState {
    /// Learning the target's true end and finding the position.
    Attaching,
    /// Waiting for something named, such as the high watermark reaching the log end, or the lease.
    Waiting {
        /// For what.
        reason: String,
    },
    /// Records move, or would if there were any.
    Replicating {
        /// Protection against doubles in force.
        level: ProtectionLevel,
    },
    /// Failed; tries again after a pause.
    BackingOff {
        /// What failed.
        error: String,
    },
    /// Stopped by an operator.
    Paused,
    /// Stopped until an operator decides.
    Halted(Halt),
    /// No replicator runs.
    Stopped,
}

/// Why a partition stands still until somebody decides, with both ends of what is in doubt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halt {
    /// The named state.
    pub reason: HaltReason,
    /// One sentence with offsets: what was found, what was expected.
    pub detail: String,
}

/// The named reasons of a halt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HaltReason {
    /// The source's record at an anchor is not the one that was copied.
    SourceRewritten,
    /// The source ends below what was copied from it.
    SourceTruncated,
    /// The source topic was deleted and created again.
    SourceRecreated,
    /// Retention removed source records before they were copied.
    RetentionOvertook,
    /// The target's record at an anchor is not the one that was written.
    TargetRewritten,
    /// The target topic was deleted and created again.
    TargetRecreated,
    /// The target holds records this link never wrote and has no map for.
    TargetNotEmpty,
    /// Somebody else wrote into the target partition.
    ForeignWrite,
    /// The target refuses a record for good (too large, null key on a compacted topic).
    RecordRefused,
    /// A newer owner fenced this one, or a hand-over fence stands.
    Fenced,
    /// Bytes that fail their checksum: records of either side, or the stored map. The detail names which.
    Corrupt,
    /// The map could not be made durable for too long.
    MapStalled,
    /// Rights or configuration are missing at a cluster.
    AccessDenied,
}

/// An operator's decision about a halted partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// Take what the target holds as ours, after matching it where there is something to match.
    Adopt,
    /// Copy again from the source's log start (or from where both sides agree), behind what the target holds.
    Resend,
    /// Go on behind the lost range and keep it on record.
    SkipLoss,
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Resolution::Adopt => "adopt",
            Resolution::Resend => "resend",
            Resolution::SkipLoss => "skip-loss",
        })
    }
}

impl fmt::Display for HaltReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HaltReason::SourceRewritten => "SOURCE_REWRITTEN",
            HaltReason::SourceTruncated => "SOURCE_TRUNCATED",
            HaltReason::SourceRecreated => "SOURCE_RECREATED",
            HaltReason::RetentionOvertook => "RETENTION_OVERTOOK",
            HaltReason::TargetRewritten => "TARGET_REWRITTEN",
            HaltReason::TargetRecreated => "TARGET_RECREATED",
            HaltReason::TargetNotEmpty => "TARGET_NOT_EMPTY",
            HaltReason::ForeignWrite => "FOREIGN_WRITE",
            HaltReason::RecordRefused => "RECORD_REFUSED",
            HaltReason::Fenced => "FENCED",
            HaltReason::Corrupt => "CORRUPT",
            HaltReason::MapStalled => "MAP_STALLED",
            HaltReason::AccessDenied => "ACCESS_DENIED",
        })
    }
}
