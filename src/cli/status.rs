//! `twinlog status`: links and partitions as text for people.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::table::{Table, bytes, grouped, known, seconds};
use crate::link::report::{GroupsReport, LinkReport, PartitionReport};
use crate::model::{PartitionState, ProtectionLevel};

/// Every link, one under the other. `before` is what was reported how long ago, for throughput.
pub(super) fn render(links: &[LinkReport], before: Option<(&[LinkReport], Duration)>) -> String {
    if links.is_empty() {
        return "no link has been started yet\n".to_owned();
    }
    let one = |link: &LinkReport| {
        let earlier = before.and_then(|(links, ago)| Some((links.iter().find(|old| old.link == link.link)?, ago)));
        render_link(link, earlier)
    };
    links.iter().map(one).collect::<Vec<_>>().join("\n")
}

fn render_link(link: &LinkReport, before: Option<(&LinkReport, Duration)>) -> String {
    let mut text = format!("{}: {}  {} → {}\n", link.link, link.state, link.source, link.target);
    text.push_str(&format!("  {}\n", counts(&link.partitions)));
    text.push_str(&format!("  lag: {}\n", lag(&link.partitions)));
    if let Some((before, ago)) = before {
        text.push_str(&format!("  copying: {}\n", throughput(before, link, ago)));
    }
    let limit = match link.rate_limit_bytes {
        Some(rate) => format!("{}/s{}", bytes(rate), shares(&link.priorities)),
        None => "none".to_owned(),
    };
    let memory = (bytes(link.memory_used_bytes), bytes(link.memory_budget_bytes));
    text.push_str(&format!("  limit: {limit}; memory: {} of {}\n", memory.0, memory.1));
    text.push_str(&groups(&link.groups));
    for problem in &link.problems {
        text.push_str(&format!("  problem: {problem}\n"));
    }
    for notice in &link.notices {
        text.push_str(&format!("  note: {notice}\n"));
    }
    if !link.partitions.is_empty() {
        let table = partitions(&link.partitions).render();
        text.push('\n');
        text.extend(table.lines().map(|line| format!("  {line}\n")));
    }
    text
}

/// Who gets more of the limit than others.
fn shares(priorities: &BTreeMap<String, u32>) -> String {
    if priorities.is_empty() {
        return String::new();
    }
    let weights: Vec<_> = priorities.iter().map(|(pattern, weight)| format!("{pattern} × {weight}")).collect();
    format!(" ({})", weights.join(", "))
}

fn groups(groups: &GroupsReport) -> String {
    if groups.verdicts.is_empty() {
        return String::new();
    }
    let verdicts: Vec<String> = groups.verdicts.iter().map(|(verdict, count)| format!("{count} {verdict}")).collect();
    let cost = groups.cost;
    let mut text = format!("  groups: {}; {}\n", verdicts.join(", "), groups.way);
    text.push_str(&format!(
        "  if applications switched over now: {} records re-read, {} skipped, {} at risk without a position\n",
        grouped(cost.re_read_records),
        grouped(cost.skip_records),
        grouped(cost.at_risk_records),
    ));
    if !groups.cut_without.is_empty() {
        text.push_str(&format!("  partial cut without {}\n", groups.cut_without.join(", ")));
    }
    text
}

fn counts(partitions: &[PartitionReport]) -> String {
    let count = |wanted: fn(&PartitionState) -> bool| partitions.iter().filter(|p| wanted(&p.state)).count();
    let states = [
        (count(|s| matches!(s, PartitionState::Replicating { .. })), "replicating"),
        (count(|s| matches!(s, PartitionState::Attaching)), "attaching"),
        (count(|s| matches!(s, PartitionState::Waiting { .. })), "waiting"),
        (count(|s| matches!(s, PartitionState::BackingOff { .. })), "backing off"),
        (count(|s| matches!(s, PartitionState::Paused)), "paused"),
        (count(|s| matches!(s, PartitionState::Stopped)), "stopped"),
        (count(|s| matches!(s, PartitionState::Halted(_))), "HALTED"),
    ];
    let some = states.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}"));
    let states = some.collect::<Vec<_>>().join(", ");
    match partitions.len() {
        0 => "no partitions".to_owned(),
        1 => format!("1 partition: {states}"),
        count => format!("{count} partitions: {states}"),
    }
}

/// The link's lag: the sum of records and the worst of the seconds, and how many partitions nobody knows it of.
fn lag(partitions: &[PartitionReport]) -> String {
    let records: i64 = partitions.iter().filter_map(|partition| partition.lag_records).sum();
    let unstable: i64 = partitions.iter().filter_map(|partition| partition.unstable_records).sum();
    let worst = partitions.iter().filter_map(|partition| partition.lag_seconds).reduce(f64::max);
    let unknown = partitions.iter().filter(|partition| partition.lag_records.is_none()).count();
    let mut text = format!("{} records", grouped(records));
    if let Some(worst) = worst {
        text.push_str(&format!(", {}", seconds(worst)));
    }
    if unstable > 0 {
        text.push_str(&format!(" ({} held back by open transactions)", grouped(unstable)));
    }
    if unknown > 0 {
        text.push_str(&format!("; unknown for {unknown} of the partitions"));
    }
    text
}

/// What went through between two reports of the same process. A partition that was not there before, or counts less
/// than before because its daemon was restarted, counts from zero.
fn throughput(before: &LinkReport, now: &LinkReport, ago: Duration) -> String {
    let earlier: HashMap<_, _> = before.partitions.iter().map(|p| (&p.target, (p.records, p.bytes))).collect();
    let (mut records, mut moved) = (0u64, 0u64);
    for partition in &now.partitions {
        let (old_records, old_bytes) = earlier.get(&partition.target).copied().unwrap_or_default();
        records += partition.records.checked_sub(old_records).unwrap_or(partition.records);
        moved += partition.bytes.checked_sub(old_bytes).unwrap_or(partition.bytes);
    }
    let per_second = |count: u64| (count as f64 / ago.as_secs_f64().max(0.001)).round();
    format!("{} records/s, {}/s", grouped(per_second(records) as i64), bytes(per_second(moved) as u64))
}

fn partitions(partitions: &[PartitionReport]) -> Table {
    let mut table = Table::new(&["PARTITION", "STATE", "POSITION", "TARGET END", "LAG", "LAG TIME", "UNFLUSHED"]);
    for partition in partitions {
        let name = if partition.source == partition.target {
            partition.target.to_string()
        } else {
            format!("{} → {}", partition.source, partition.target)
        };
        table.row(vec![
            name,
            state(&partition.state),
            known(partition.position.map(|offset| offset.0)),
            known(partition.target_end.map(|offset| offset.0)),
            known(partition.lag_records),
            partition.lag_seconds.map_or_else(|| "-".to_owned(), seconds),
            grouped(i64::try_from(partition.unflushed_records).unwrap_or(i64::MAX)),
        ]);
        match &partition.state {
            PartitionState::Waiting { reason } => table.note(reason.as_str()),
            PartitionState::BackingOff { error } => table.note(error.as_str()),
            PartitionState::Halted(halt) => table.note(halt.detail.as_str()),
            _ => {}
        }
        if partition.unanchored {
            table.note("unanchored: no copied record was left on both sides to compare (compacted or expired)");
        }
        if let Some(why) = &partition.plane_reason {
            table.note(format!("plane {}: {why}", partition.plane));
        }
        if partition.altered_records > 0 {
            table.note(format!("{} records have the timestamp 1 ms instead of 0", partition.altered_records));
        }
        for way_out in &partition.ways_out {
            table.note(format!("way out: {way_out}"));
        }
    }
    table
}

fn state(state: &PartitionState) -> String {
    match state {
        PartitionState::Attaching => "attaching".to_owned(),
        PartitionState::Waiting { .. } => "waiting".to_owned(),
        PartitionState::Replicating { level: ProtectionLevel::Guarded } => "guarded".to_owned(),
        PartitionState::Replicating { level: ProtectionLevel::ProbeOnly } => "probe only".to_owned(),
        PartitionState::Replicating { level: ProtectionLevel::DetectOnly } => "detect only".to_owned(),
        PartitionState::BackingOff { .. } => "backing off".to_owned(),
        PartitionState::Paused => "paused".to_owned(),
        PartitionState::Halted(halt) => format!("HALTED {}", halt.reason),
        PartitionState::Stopped => "stopped".to_owned(),
    }
}
