//! Adapter over librdkafka in rdkafka's safe API: the ledger's transactional appends and committed reading.
//!
//! Every call that can block (creating, polling, committing, dropping a client) runs on a thread of its own, never on a
//! tokio worker.

mod access;
mod appender;
mod errors;
mod follower;
mod login;
mod producer;
mod store;

pub use access::ClusterAccess;
pub use store::{RdLedgerStore, RdLedgers};
