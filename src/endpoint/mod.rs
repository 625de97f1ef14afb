//! Contracts between the work and the clusters, with the kinds of errors they share.
//!
//! Adapters (`wire`, `librdkafka`, the in-memory cluster of `endpoint::memory`) implement them; the rooms above know nothing
//! else of a cluster. The source side is only ever handed [`Catalog`], [`Source`], [`PointReader`], [`GroupReader`] and
//! [`CommitFeed`]: that Twinlog needs only read rights there is a matter of types.

#[cfg(any(test, feature = "test-util"))]
pub mod conformance;
mod error;
mod format;
mod group;
mod ledger;
mod log;
#[cfg(any(test, feature = "test-util"))]
pub mod memory;
mod security;
mod token;
mod topic;

pub use error::{Error, ErrorKind, Result};
pub use format::MessageFormat;
pub use group::{
    COMMITS_TOPIC, CommitFeed, CommitTail, CommittedOffset, GroupInfo, GroupOffsets, GroupProtocol, GroupReader,
    GroupWriter, ReadOffsets,
};
pub use ledger::{
    LedgerAppender, LedgerEntry, LedgerEvent, LedgerFollower, LedgerReader, LedgerStore, LedgerTopic, Ledgers,
    MAX_LEDGER_VALUE_BYTES,
};
pub use log::{
    Delivery, EndsByFetch, FetchedEnds, Opened, PointReader, Reader, RecordDigest, Sink, Source, View, Window, Writer,
};
pub use security::{Identity, Mechanism, Protocol, Secret, SecretSource, Security};
pub use token::{BearerToken, BearerTokens, TokenEndpoint, TokenSource};
pub use topic::{
    Bounds, Catalog, ClusterInfo, ConfigChange, ConfigEntry, ConfigOrigin, EpochEnd, PartitionInfo, TopicAdmin,
    TopicInfo, TopicSpec,
};
