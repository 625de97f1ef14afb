//! Adapter: Kafka's wire protocol, spoken directly.
//!
//! [`Cluster`] owns a cluster's metadata and makes [`Connection`]s; the catalog, admin, group and point-read contracts
//! are implemented on it. Everything a broker sends is checked before it is believed.

mod admin;
mod api;
#[cfg(test)]
mod broker_stub;
mod brokers;
mod catalog;
mod chunks;
mod commits;
mod connection;
mod coordinators;
mod dialer;
mod ends;
mod fault;
pub mod fetch;
mod groups;
mod line;
mod metadata;
mod point;
pub mod produce;
mod quota;
mod sasl;
mod scram;
mod shape;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod transactions;
mod window;

pub use brokers::Cluster;
pub use commits::Commits;
pub use connection::{Connection, DEFAULT_TIMEOUT};
pub use fault::error_of;
pub use kafka_protocol::messages::ApiKey;
pub use kafka_protocol::protocol::Request;
pub use metadata::Leader;
pub use point::Points;
