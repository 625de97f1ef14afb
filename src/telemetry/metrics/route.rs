//! Counters of the data path and of passes: registered once, then an atomic addition each.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::families;
use crate::model::{LinkName, TopicPartition};

/// The counters of one route. Update per batch, not per record (an addition costs some 17 ns).
///
/// Create it when a route's replicator starts, after [`super::Exporter::install`]; made earlier it counts into the void.
/// Counters outlive it, as counters must; what can go stale is asked for at each scrape instead.
#[derive(Clone)]
pub struct RouteMetrics {
    records: Counter,
    bytes: Counter,
    joined: Counter,
    attaches: Counter,
    failures: Counter,
    duplicated: Counter,
    unverifiable: Counter,
    altered: Counter,
    lost: Counter,
    delivery: Histogram,
}

impl RouteMetrics {
    /// Counters for the route to `target` of `link`; summed per topic unless the exporter keeps partitions apart.
    pub fn new(link: &LinkName, target: &TopicPartition) -> Self {
        let labels = [
            ("link", link.to_string()),
            ("topic", target.topic.to_string()),
            (super::PARTITION, target.partition.to_string()),
        ];
        Self {
            records: counter!(families::RECORDS.name, &labels),
            bytes: counter!(families::BYTES.name, &labels),
            joined: counter!(families::JOINED.name, &labels),
            attaches: counter!(families::ATTACHES.name, &labels),
            failures: counter!(families::FAILURES.name, &labels),
            duplicated: counter!(families::DUPLICATED.name, &labels),
            unverifiable: counter!(families::UNVERIFIABLE.name, &labels),
            altered: counter!(families::ALTERED.name, &labels),
            lost: counter!(families::LOST.name, &labels),
            delivery: histogram!(families::DELIVERY_SECONDS.name, "link" => link.to_string()),
        }
    }

    /// A batch was acknowledged, this long after it was handed to the connection.
    pub fn copied(&self, records: u64, bytes: u64, took: Duration) {
        self.records.increment(records);
        self.bytes.increment(bytes);
        self.delivery.record(took.as_secs_f64());
    }

    /// So many batches of the source were written as one.
    pub fn joined(&self, batches: u64) {
        self.joined.increment(batches);
    }

    /// The partition attached.
    pub fn attached(&self) {
        self.attaches.increment(1);
    }

    /// The partition failed and backs off.
    pub fn failed(&self) {
        self.failures.increment(1);
    }

    /// Records were found twice on the target.
    pub fn duplicated(&self, records: u64) {
        self.duplicated.increment(records);
    }

    /// Records of the target's tail could not be held against the source.
    pub fn unverifiable(&self, records: u64) {
        self.unverifiable.increment(records);
    }

    /// Records were written with another timestamp.
    pub fn altered(&self, records: u64) {
        self.altered.increment(records);
    }

    /// Source offsets were given up.
    pub fn lost(&self, offsets: u64) {
        self.lost.increment(offsets);
    }
}

/// How one of a link's recurring passes fares.
#[derive(Clone)]
pub struct PassMetrics {
    seconds: Histogram,
    failures: Counter,
}

impl PassMetrics {
    /// For the pass called `pass` (`topics`, `groups`, `bounds`, `flush`); after [`super::Exporter::install`].
    pub fn new(link: &LinkName, pass: &'static str) -> Self {
        let labels = [("link", link.to_string()), ("pass", pass.to_owned())];
        Self {
            seconds: histogram!(families::PASS_SECONDS.name, &labels),
            failures: counter!(families::PASS_FAILURES.name, &labels),
        }
    }

    /// A pass ended, well or not, after this long.
    pub fn ended(&self, took: Duration, well: bool) {
        self.seconds.record(took.as_secs_f64());
        self.failures.increment(u64::from(!well));
    }
}
