//! The test bed: real Kafka clusters, a client and two oracles that share no code with Twinlog, and Twinlog as a process.
//!
//! Integration tests, the demo and the bench include this tree with `mod support;` or `#[path = "…"]`; each uses a part.
#![allow(dead_code, unused_imports, reason = "every program that includes the test bed uses another part of it")]

pub mod access;
pub mod batch;
pub mod broker;
pub mod cluster;
pub mod jars;
pub mod load;
pub mod oracle;
pub mod port;
pub mod process;
pub mod raw;
pub mod record;
pub mod scratch;
pub mod twinlog;
pub mod view;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// A topic, group or link name that no other test of any process uses on a shared cluster.
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{stem}-{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
