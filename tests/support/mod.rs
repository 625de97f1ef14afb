//! The test bed: real Kafka clusters, a client and two oracles that share no code with Twinlog, and Twinlog as a process.
//!
//! Integration tests, the demo and the bench include this tree with `mod support;` or `#[path = "…"]`; each uses a part.
#![allow(dead_code, unused_imports, reason = "every program that includes the test bed uses another part of it")]

pub mod access;
pub mod batch;
pub mod broker;
pub mod cluster;
pub mod hold;
pub mod jars;
pub mod load;
pub mod messages;
pub mod oracle;
pub mod port;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod record;
pub mod scratch;
pub mod twinlog;
pub mod view;
pub mod zookeeper;

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

pub use cluster::{Cluster, ClusterSpec, Security, shared_pair, shared_source, shared_target};
pub use twinlog::{Setup, Twinlog};

/// Waits for a condition, asking every 20 ms; panics with `what` when `within` has passed.
#[track_caller]
pub fn until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    until_some(within, what, || condition().then_some(()));
}

/// Waits for a value, asking every 20 ms; panics with `what` when `within` has passed.
#[track_caller]
pub fn until_some<T>(within: Duration, what: &str, mut value: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = value() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for what an asynchronous question answers, asking every 20 ms; panics with `what` and the last answer that was
/// not it when `within` has passed.
pub async fn until_told<T, E: Debug>(within: Duration, what: &str, mut ask: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + within;
    loop {
        match ask().await {
            Ok(told) => return told,
            Err(other) => assert!(Instant::now() < deadline, "not within {within:?}: {what}: {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A topic, group or link name that no other test of any process uses on a shared cluster.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{stem}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// How often to do it: `few` in `make test`, `full` in `make soak`.
pub fn rounds(few: usize, full: usize) -> usize {
    if std::env::var_os("TWINLOG_SOAK").is_some() { full } else { few }
}

/// Chance with a seed that is printed, and taken from `TWINLOG_SEED` to do a failed run again.
pub fn dice() -> StdRng {
    let given = std::env::var("TWINLOG_SEED").ok().map(|seed| seed.parse().expect("TWINLOG_SEED is a number"));
    let seed: u64 = given.unwrap_or_else(rand::random);
    println!("TWINLOG_SEED={seed}");
    StdRng::seed_from_u64(seed)
}
