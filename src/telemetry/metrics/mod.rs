//! Metrics in Prometheus' text format: what grows is counted where it happens, how things stand is asked at the scrape.
//!
//! So no gauge can go stale: a partition that is gone is simply not there at the next scrape.

pub mod families;
mod partition;
mod route;

use std::time::Duration;

use metrics::{Key, Label, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use families::Family;
use partition::WithoutPartition;
pub use route::{PassMetrics, RouteMetrics};

/// The label that is dropped unless partitions are kept apart.
const PARTITION: &str = "partition";

/// From a broker on the same host to one across an ocean that is being throttled.
const SECONDS_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Histograms keep raw samples until somebody drains them: 16 MiB per million, if nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The process's counters and histograms, and how to show them. Clones share them.
#[derive(Clone)]
pub struct Exporter {
    counters: PrometheusHandle,
    keeps_partitions: bool,
}

impl Exporter {
    /// Makes this the recorder of the process; call once, before anything that counts is created.
    ///
    /// `keeps_partitions`: whether series carry a `partition` label, or are summed up per topic.
    ///
    /// # Errors
    /// A sentence, when a recorder was installed before.
    pub fn install(keeps_partitions: bool) -> Result<Self, String> {
        let (recorder, exporter) = Self::new(keeps_partitions);
        metrics::set_global_recorder(recorder).map_err(|error| format!("metrics cannot start: {error}"))?;
        Ok(exporter)
    }

    /// An exporter of its own, with the recorder that feeds it.
    pub fn new(keeps_partitions: bool) -> (Box<dyn Recorder + Send + Sync>, Self) {
        let recorder =
            PrometheusBuilder::new().set_buckets(&SECONDS_BUCKETS).expect("there are buckets").build_recorder();
        for family in families::COUNTERS {
            recorder.describe_counter(family.name.into(), None, family.help.into());
        }
        for family in families::HISTOGRAMS {
            recorder.describe_histogram(family.name.into(), None, family.help.into());
        }
        let exporter = Self { counters: recorder.handle(), keeps_partitions };
        exporter.counters.run_upkeep();
        if keeps_partitions { (Box::new(recorder), exporter) } else { (Box::new(WithoutPartition(recorder)), exporter) }
    }

    /// Whether series carry a `partition` label.
    pub fn keeps_partitions(&self) -> bool {
        self.keeps_partitions
    }

    /// Everything in the text exposition format, version 0.0.4.
    pub fn render(&self, gauges: &Gauges) -> String {
        self.counters.render() + &gauges.0.handle().render()
    }

    /// Bounds the memory of histograms while nobody scrapes; runs until dropped.
    pub async fn upkeep(&self) {
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        loop {
            tick.tick().await;
            self.counters.run_upkeep();
        }
    }
}

/// How things stand at one moment; made for one scrape and thrown away.
pub struct Gauges(PrometheusRecorder);

impl Default for Gauges {
    fn default() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        for family in families::GAUGES {
            recorder.describe_gauge(family.name.into(), None, family.help.into());
        }
        recorder.handle().run_upkeep();
        Self(recorder)
    }
}

impl Gauges {
    /// Sets one series.
    pub fn set(&self, family: Family, labels: &[(&'static str, &str)], value: f64) {
        let labels: Vec<Label> = labels.iter().map(|(name, value)| Label::new(*name, (*value).to_owned())).collect();
        let metadata = Metadata::new(module_path!(), metrics::Level::INFO, None);
        self.0.register_gauge(&Key::from_parts(family.name, labels), &metadata).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicPartition;

    fn counted(keeps_partitions: bool) -> String {
        let (recorder, exporter) = Exporter::new(keeps_partitions);
        metrics::with_local_recorder(&recorder, || {
            for partition in 0..2 {
                let route = RouteMetrics::new(&"dr".into(), &TopicPartition::new("orders", partition));
                route.copied(10, 1000, Duration::from_millis(3));
            }
            PassMetrics::new(&"dr".into(), "topics").ended(Duration::from_millis(20), false);
        });
        exporter.render(&Gauges::default())
    }

    #[test]
    fn partitions_of_a_topic_are_summed_up_unless_kept_apart() {
        let summed = counted(false);
        assert!(summed.contains("twinlog_records_total{link=\"dr\",topic=\"orders\"} 20\n"), "{summed}");
        assert!(!summed.contains("partition="), "{summed}");
        let apart = counted(true);
        assert!(apart.contains("twinlog_bytes_total{link=\"dr\",topic=\"orders\",partition=\"1\"} 1000\n"), "{apart}");
    }

    #[test]
    fn families_carry_their_help_and_buckets() {
        let page = counted(false);
        assert!(
            page.contains("# HELP twinlog_records_total Records copied and acknowledged by the target.\n"),
            "{page}"
        );
        assert!(page.contains("twinlog_delivery_seconds_bucket{link=\"dr\",le=\"0.005\"} 2\n"), "{page}");
        assert!(page.contains("twinlog_pass_failures_total{link=\"dr\",pass=\"topics\"} 1\n"), "{page}");
    }

    #[test]
    fn a_gauge_lives_for_one_scrape() {
        let (_recorder, exporter) = Exporter::new(false);
        let gauges = Gauges::default();
        gauges.set(families::LAG_RECORDS, &[("link", "dr"), ("topic", "a\"b")], 5.0);
        let page = exporter.render(&gauges);
        assert!(page.contains("# TYPE twinlog_lag_records gauge\n"), "{page}");
        assert!(page.contains("twinlog_lag_records{link=\"dr\",topic=\"a\\\"b\"} 5\n"), "{page}");
        assert!(!exporter.render(&Gauges::default()).contains("twinlog_lag_records{"));
    }
}
