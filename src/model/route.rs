//! Where records go: source partition to target partition, and under which producer identity.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{TopicId, TopicPartition};

/// Source partition → target partition with both topic ids; fixed for the life of a replicator.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The partition read from.
    pub source: TopicPartition,
    /// Id of the source topic; `None` where the brokers do not tell.
    pub source_id: Option<TopicId>,
    /// The partition written to.
    pub target: TopicPartition,
    /// Id of the target topic; `None` where the brokers do not tell.
    pub target_id: Option<TopicId>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.source, self.target)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The one producer id and epoch all owners of a link write under (compare-and-append: DESIGN §8).
///
/// Persisted in the ledger before its first use; never invented, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerIdentity {
    /// Producer id, from InitProducerId without a transactional id.
    pub id: i64,
    /// Producer epoch.
    pub epoch: i16,
}
