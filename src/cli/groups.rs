//! `twinlog groups` and `twinlog translate`: positions as text for people.

use serde::Serialize;

use super::table::{Table, grouped, known};
use crate::link::report::{GroupReport, TranslateReport};
use crate::model::{Offset, TopicPartition};

/// One line per group.
pub(super) fn all(groups: &[GroupReport]) -> String {
    if groups.is_empty() {
        return "no groups\n".to_owned();
    }
    let mut table = Table::new(&["GROUP", "VERDICT", "PARTITIONS", "SYNCED"]);
    for group in groups {
        let on_target = group.partitions.iter().filter(|partition| partition.target_offset.is_some()).count();
        let count = group.partitions.len();
        table.row(vec![group.group.to_string(), group.verdict.clone(), count.to_string(), on_target.to_string()]);
    }
    table.render()
}

/// One line per partition of a group.
pub(super) fn one(group: &GroupReport) -> String {
    let mut table = Table::new(&["PARTITION", "SOURCE OFFSET", "TARGET OFFSET", "VERDICT"]);
    for partition in &group.partitions {
        table.row(vec![
            partition.source.to_string(),
            grouped(partition.source_offset.0),
            known(partition.target_offset.map(|offset| offset.0)),
            partition.verdict.clone(),
        ]);
    }
    format!("{}: {}\n{}", group.group, group.verdict, table.render())
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
