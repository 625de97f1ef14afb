//! Sums series up per topic by dropping their `partition` label before they reach the registry.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::PARTITION;

/// A recorder in which all partitions of a topic share their counters.
pub(super) struct WithoutPartition(pub(super) PrometheusRecorder);

fn stripped(key: &Key) -> Key {
    let kept: Vec<_> = key.labels().filter(|label| label.key() != PARTITION).cloned().collect();
    Key::from_parts(key.name_shared(), kept)
}

impl Recorder for WithoutPartition {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_counter(name, unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_gauge(name, unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.0.describe_histogram(name, unit, help);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.0.register_counter(&stripped(key), metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.0.register_gauge(&stripped(key), metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.0.register_histogram(&stripped(key), metadata)
    }
}
