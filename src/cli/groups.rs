//! `twinlog groups` and `twinlog translate`: positions as text for people.

use serde::Serialize;

use super::table::{Table, grouped, known};
use crate::link::report::{CostReport, GroupReport, TranslateReport};
use crate::model::{Offset, TopicPartition};

/// One line per group.
pub(super) fn all(groups: &[GroupReport]) -> String {
    if groups.is_empty() {
        return "no groups\n".to_owned();
    }
    let mut table = Table::new(&["GROUP", "VERDICT", "PARTITIONS", "RE-READ", "SKIP", "AT RISK"]);
    for group in groups {
        let cost = |part: fn(&CostReport) -> i64| known(group.cost.as_ref().map(part));
        table.row(vec![
            group.group.to_string(),
            group.verdict.clone(),
            group.partitions.len().to_string(),
            cost(|cost| cost.re_read_records),
            cost(|cost| cost.skip_records),
            cost(|cost| cost.at_risk_records),
        ]);
        notes(group).for_each(|note| table.note(note));
    }
    format!("{}RE-READ, SKIP, AT RISK: records, if applications switched over now\n", table.render())
}

/// One line per partition of a group.
pub(super) fn one(group: &GroupReport) -> String {
    let mut table = Table::new(&["PARTITION", "SOURCE OFFSET", "TARGET OFFSET", "VERDICT", "RE-READ", "SKIP"]);
    for partition in &group.partitions {
        table.row(vec![
            partition.source.to_string(),
            known(partition.source_offset.map(|offset| offset.0)),
            known(partition.target_offset.map(|offset| offset.0)),
            partition.verdict.clone(),
            grouped(partition.re_read_records),
            grouped(partition.skip_records),
        ]);
    }
    let notes: String = notes(group).map(|note| format!("  {note}\n")).collect();
    format!("{}: {}\n{notes}{}", group.group, group.verdict, table.render())
}

fn notes(group: &GroupReport) -> impl Iterator<Item = String> {
    let cut = &group.cut_without;
    let partial = (!cut.is_empty()).then(|| format!("partial cut without {}", cut.join(", ")));
    group.detail.clone().into_iter().chain(partial)
}

/// A group's position in one partition, and where that is on the target.
#[derive(Debug, Serialize)]
pub(super) struct Translated {
    pub(super) source: TopicPartition,
    pub(super) source_offset: Offset,
    #[serde(flatten)]
    pub(super) translation: TranslateReport,
}

impl Translated {
    pub(super) fn is_exact(&self) -> bool {
        matches!(self.translation, TranslateReport::Exact { .. })
    }
}

/// One line per partition of a translated group.
pub(super) fn translated(positions: &[Translated]) -> String {
    let mut table = Table::new(&["SOURCE", "OFFSET", "TARGET", "OFFSET"]);
    for position in positions {
        let (target, offset) = match &position.translation {
            TranslateReport::Exact { partition, offset } => (partition.to_string(), offset.to_string()),
            other => ("-".to_owned(), why_not(other)),
        };
        table.row(vec![position.source.to_string(), position.source_offset.to_string(), target, offset]);
    }
    table.render()
}

/// Why there is no exact offset to tell.
pub(super) fn why_not(answer: &TranslateReport) -> String {
    match answer {
        TranslateReport::Exact { partition, offset } => format!("{partition} {offset}"),
        TranslateReport::BeforeTheMirror { first } => format!("before the mirror, which begins at {first}"),
        TranslateReport::Ahead { end } => format!("not copied yet: the mirror ends at {end}"),
        TranslateReport::Unknown => "no route has this partition".to_owned(),
    }
}
