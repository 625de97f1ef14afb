//! Twinlog as a process between two real Kafka clusters: what it promises, asserted by oracles that share no code with it.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod answers;
mod application_bed;
mod applications;
mod brokers;
mod certificates;
mod compaction;
mod copy;
mod crash;
mod expiry;
mod group_bed;
mod group_cut;
mod group_expiry;
mod group_faults;
mod group_latch;
mod group_random;
mod group_restarts;
mod group_resync;
mod group_rules;
mod group_subscriptions;
mod group_verdicts;
mod groups;
mod halts;
mod isolation;
mod limit;
mod member;
mod neighbours;
mod network;
mod old_target;
mod planes;
mod processor;
mod rights;
mod rotation;
mod start;
mod storm;
mod storm_faults;
mod tiny;
mod tokens;
mod topics;
mod translation;

use std::time::Duration;

use support::batch::{Batch, Codec};
use support::oracle::Twins;
use support::raw::Client;
use support::record::Record;
use support::{Cluster, Setup, Twinlog, rounds, unique};

/// The binary under test.
const BINARY: &str = env!("CARGO_BIN_EXE_twinlog");
/// Long enough for a loaded machine; waits end as soon as their condition holds.
const SOON: Duration = Duration::from_secs(60);

/// Whether all scenarios run on the records plane.
fn on_records() -> bool {
    std::env::var("TWINLOG_TEST_PLANE").is_ok_and(|plane| plane == "records")
}

/// A link of its own name over two clusters.
fn link(source: &Cluster, target: &Cluster, topics: &[&str], groups: &[&str]) -> Setup {
    Setup::new(source, target, &unique("link"), topics, groups)
}

fn twinlog(setup: Setup) -> Twinlog {
    Twinlog::new(BINARY, setup)
}

fn orders(ids: std::ops::Range<u64>) -> Vec<Record> {
    ids.map(|id| Record::order(id, 200)).collect()
}

fn write(client: &Client, topic: &str, partition: i32, records: Vec<Record>, codec: Codec) -> i64 {
    client.produce(topic, partition, &Batch::of(records, codec).encode()).expect("the batch is accepted")
}

fn twins<'a>(source: &'a Cluster, target: &'a Cluster, topic: &str) -> Twins<'a> {
    Twins::new(source.client(), target.client(), topic)
}

fn addresses(cluster: &Cluster) -> Vec<std::net::SocketAddr> {
    cluster.brokers().iter().map(|broker| broker.inner_address()).collect()
}
