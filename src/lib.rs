//! Twinlog keeps a second Kafka cluster as an exact twin of the first.

pub mod batch;
pub mod cli;
pub mod config;
pub mod endpoint;
pub mod http;
pub mod ledger;
pub mod librdkafka;
pub mod link;
pub mod metadata;
pub mod model;
pub mod offsets;
pub mod policy;
pub mod replication;
pub mod runtime;
pub mod telemetry;
pub mod wire;
