//! How things stand at a scrape, summed up from what the links report.

use std::collections::BTreeMap;

use super::registry::Links;
use crate::link::report::{GroupReport, LinkReport, PartitionReport};
use crate::model::{HaltReason, PartitionState, ProtectionLevel};
use crate::telemetry::metrics::{Gauges, families};

/// The states a link can be in; whatever follows a colon is not part of it.
const LINK_STATES: [&str; 9] = [
    "starting",
    "waiting for the lease",
    "waiting for the source",
    "running",
    "paused",
    "interrupted",
    "stopping",
    "stopped",
    "failed",
];
const PARTITION_STATES: [&str; 7] =
    ["attaching", "waiting", "replicating", "backing_off", "paused", "halted", "stopped"];

pub(super) fn of(links: &Links, keeps_partitions: bool) -> Gauges {
    let gauges = Gauges::default();
    gauges.set(families::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    for (name, link) in links.all() {
        let Some(link) = link else {
            of_state(&gauges, name.as_str(), "starting");
            continue;
        };
        let report = link.report();
        of_link(&gauges, &report);
        of_partitions(&gauges, &report);
        of_lag(&gauges, &report, keeps_partitions);
        of_groups(&gauges, &report);
        if keeps_partitions {
            link.groups().unwrap_or_default().iter().for_each(|group| of_group(&gauges, &report, group));
        }
    }
    gauges
}

fn of_state(gauges: &Gauges, link: &str, current: &str) {
    for state in LINK_STATES {
        let labels = [("link", link), ("state", state)];
        gauges.set(families::LINK_STATE, &labels, f64::from(head(current) == state));
    }
}

fn of_link(gauges: &Gauges, report: &LinkReport) {
    let link = ("link", report.link.as_str());
    of_state(gauges, report.link.as_str(), &report.state);
    gauges.set(families::LINK_PROBLEMS, &[link], report.problems.len() as f64);
    // The budget is the process's: every link reports the same.
    gauges.set(families::MEMORY_USED, &[], report.memory_used_bytes as f64);
    gauges.set(families::MEMORY_BUDGET, &[], report.memory_budget_bytes as f64);
    if let Some(rate) = report.rate_limit_bytes {
        gauges.set(families::RATE_LIMIT, &[link], rate as f64);
    }
}

fn of_partitions(gauges: &Gauges, report: &LinkReport) {
    let link = ("link", report.link.as_str());
    // Zeros are said, so that an alert has a series before anything is wrong.
    let mut states: BTreeMap<&str, u32> = PARTITION_STATES.map(|state| (state, 0)).into();
    let mut levels: BTreeMap<&str, u32> =
        [ProtectionLevel::Guarded, ProtectionLevel::ProbeOnly, ProtectionLevel::DetectOnly]
            .map(|level| (level_name(level), 0))
            .into();
    let mut halted: BTreeMap<String, u32> = BTreeMap::new();
    for partition in &report.partitions {
        *states.entry(state_name(&partition.state)).or_default() += 1;
        match &partition.state {
            PartitionState::Replicating { level } => *levels.entry(level_name(*level)).or_default() += 1,
            PartitionState::Halted(halt) => *halted.entry(HaltReason::to_string(&halt.reason)).or_default() += 1,
            _ => {}
        }
    }
    for (state, count) in states {
        gauges.set(families::PARTITIONS, &[link, ("state", state)], f64::from(count));
    }
    for (level, count) in levels {
        gauges.set(families::PROTECTION, &[link, ("level", level)], f64::from(count));
    }
    for (reason, count) in halted {
        gauges.set(families::HALTED, &[link, ("reason", &reason)], f64::from(count));
    }
}

fn of_groups(gauges: &Gauges, report: &LinkReport) {
    let (link, groups) = (("link", report.link.as_str()), &report.groups);
    for (verdict, count) in &groups.verdicts {
        gauges.set(families::GROUPS, &[link, ("verdict", verdict)], *count as f64);
    }
    gauges.set(families::GROUPS_RE_READ, &[link], groups.cost.re_read_records as f64);
    gauges.set(families::GROUPS_SKIP, &[link], groups.cost.skip_records as f64);
    gauges.set(families::GROUPS_AT_RISK, &[link], groups.cost.at_risk_records as f64);
    gauges.set(families::GROUPS_LOST, &[link], groups.cost.lost_records as f64);
    gauges.set(families::CUT_WITHOUT, &[link], groups.cut_without.len() as f64);
    gauges.set(families::GROUPS_FOLLOWED, &[link], f64::from(groups.way.starts_with("following")));
}

fn of_group(gauges: &Gauges, report: &LinkReport, group: &GroupReport) {
    let Some(cost) = group.cost else { return };
    let labels = [("link", report.link.as_str()), ("group", group.group.as_str())];
    gauges.set(families::GROUP_RE_READ, &labels, cost.re_read_records as f64);
    gauges.set(families::GROUP_SKIP, &labels, cost.skip_records as f64);
    gauges.set(families::GROUP_AT_RISK, &labels, cost.at_risk_records as f64);
}

/// The lag of the partitions that share a series; a value nobody knows is absent, not zero.
#[derive(Default)]
struct Lag {
    records: Option<f64>,
    bytes: Option<f64>,
    seconds: Option<f64>,
    unstable: Option<f64>,
    unflushed: f64,
}

impl Lag {
    fn add(&mut self, partition: &PartitionReport) {
        let plus = |sum: &mut Option<f64>, part: Option<f64>| {
            if let Some(part) = part {
                *sum = Some(sum.unwrap_or(0.0) + part);
            }
        };
        plus(&mut self.records, partition.lag_records.map(|records| records as f64));
        plus(&mut self.bytes, lag_bytes(partition));
        plus(&mut self.unstable, partition.unstable_records.map(|records| records as f64));
        self.seconds = self.seconds.into_iter().chain(partition.lag_seconds).reduce(f64::max);
        self.unflushed += partition.unflushed_records as f64;
    }
}

/// The records lag times the mean size of a record so far.
fn lag_bytes(partition: &PartitionReport) -> Option<f64> {
    let mean = (partition.records > 0).then(|| partition.bytes as f64 / partition.records as f64);
    match (partition.lag_records?, mean) {
        (0, _) => Some(0.0),
        (records, mean) => Some(records as f64 * mean?),
    }
}

fn of_lag(gauges: &Gauges, report: &LinkReport, keeps_partitions: bool) {
    let mut lags: BTreeMap<(&str, Option<i32>), Lag> = BTreeMap::new();
    for partition in &report.partitions {
        let apart = keeps_partitions.then_some(partition.target.partition);
        lags.entry((partition.target.topic.as_str(), apart)).or_default().add(partition);
    }
    for ((topic, partition), lag) in lags {
        let partition = partition.map(|partition| partition.to_string());
        let mut labels = vec![("link", report.link.as_str()), ("topic", topic)];
        labels.extend(partition.as_deref().map(|partition| ("partition", partition)));
        for (family, value) in [
            (families::LAG_RECORDS, lag.records),
            (families::LAG_BYTES, lag.bytes),
            (families::LAG_SECONDS, lag.seconds),
            (families::UNSTABLE_RECORDS, lag.unstable),
            (families::UNFLUSHED_RECORDS, Some(lag.unflushed)),
        ] {
            if let Some(value) = value {
                gauges.set(family, &labels, value);
            }
        }
    }
}

/// A state or verdict without its details, which would make a series each.
fn head(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

fn state_name(state: &PartitionState) -> &'static str {
    match state {
        PartitionState::Attaching => "attaching",
        PartitionState::Waiting { .. } => "waiting",
        PartitionState::Replicating { .. } => "replicating",
        PartitionState::BackingOff { .. } => "backing_off",
        PartitionState::Paused => "paused",
        PartitionState::Halted(_) => "halted",
        PartitionState::Stopped => "stopped",
    }
}

fn level_name(level: ProtectionLevel) -> &'static str {
    match level {
        ProtectionLevel::Guarded => "guarded",
        ProtectionLevel::ProbeOnly => "probe_only",
        ProtectionLevel::DetectOnly => "detect_only",
    }
}
