//! Adapter over librdkafka in rdkafka's safe API: the ledger's transactional appends and committed reading,
//! and the writing half of the records plane.
//!
//! Every call that can block (creating, polling, committing, dropping a client) runs on a thread of its own, never on a
//! tokio worker.

mod access;
mod appender;
mod errors;
mod follower;
mod login;
mod producer;
mod records;
mod store;

pub use access::ClusterAccess;
pub use records::{RecordSettings, RecordSink};
pub use store::{RdLedgerStore, RdLedgers};
