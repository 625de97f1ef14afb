//! What can go wrong at a cluster, classified where the native error is born.

use std::fmt;

use crate::model::Offset;

/// Result of an endpoint call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a cluster: what to do about it ([`ErrorKind`]) and a sentence for people, which names cluster, topic,
/// partition and offset as far as they are known, and never a secret.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What the caller can do.
    pub kind: ErrorKind,
    /// The sentence.
    pub message: String,
}

/// Kinds of errors by what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Passing: the same call may succeed later (connection lost, leader moving, time-out, throttled).
    Retryable,
    /// The writer's state is in doubt: close it and attach again.
    Attach,
    /// The topic or partition does not exist, by the cluster's word.
    UnknownTopic,
    /// The topic under this name has another id than expected.
    Recreated,
    /// The offset asked for is below the log start (first offset still there).
    BelowLogStart(Offset),
    /// The offset asked for is above the log end (the log end), or an epoch of ours ends at that offset: the log was
    /// truncated below us.
    Truncated(Offset),
    /// The batch or record is larger than the target accepts.
    TooLarge,
    /// The target refuses this batch for good.
    Refused,
    /// The target refuses this plane's way of writing here, whatever is written; another plane may serve.
    PlaneRefused,
    /// Bytes fail their checksum or structure.
    Corrupt,
    /// A newer owner or a fence stands against this writer.
    Fenced,
    /// A right, a password or a setting is missing; people must act, so retry slowly.
    Denied,
    /// The group has members, so its offsets cannot be set from outside.
    GroupBusy,
    /// The broker does not speak what is needed.
    Unsupported,
    /// Our own or the broker's violation of the protocol.
    Protocol,
}

impl Error {
    /// An error of `kind` with a sentence for people.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The same error with what was being attempted in front.
    pub fn context(self, attempted: impl fmt::Display) -> Self {
        Self { kind: self.kind, message: format!("{attempted}: {}", self.message) }
    }

    /// Whether the same call may succeed later without anybody acting.
    pub fn is_retryable(&self) -> bool {
        self.kind == ErrorKind::Retryable
    }
}
