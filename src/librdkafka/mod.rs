//! Adapter over librdkafka in rdkafka's safe API: the ledger's transactional appends and committed reading, and the
//! hearing of commits.
//!
//! Every call that can block (creating, polling, committing, dropping a client) runs on a thread of its own, never on a
//! tokio worker.

mod access;
mod appender;
mod bell;
mod commit_key;
mod commits;
mod errors;
mod follower;
mod producer;
mod reading;
mod store;

pub use access::ClusterAccess;
pub use commits::RdCommitFeed;
pub use store::{RdLedgerStore, RdLedgers};
