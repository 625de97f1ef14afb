//! The positions a group should have on the target.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::endpoint::{CommittedOffset, GroupOffsets, ReadOffsets};
use crate::ledger::record::GroupRecord;
use crate::metadata::groups::group::Group;
use crate::metadata::groups::standing::{Mirrored, MirroredRoute, Standing};
use crate::model::{Offset, TopicPartition};
use crate::policy::group::Positions;

/// What should stand on the target for a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    /// The positions.
    pub(super) positions: Positions,
    /// What was written before and cannot be told anew, as while the source is away: it shall not vanish.
    pub(super) kept: Positions,
    /// The committers' metadata beside them, where there is any.
    pub(super) metadata: BTreeMap<TopicPartition, Bytes>,
    /// Those of the positions that the source has none for.
    pub(super) seeded: Positions,
    /// Whether a position is missing only because the mirror has not come that far.
    pub(super) waits: bool,
}

impl Wanted {
    /// What a group's published positions become on the target. `seeds`: partitions without a position get the first
    /// mirrored offset.
    pub(super) fn of(group: &Group, record: &GroupRecord, mirrored: &Mirrored, seeds: bool) -> Self {
        let mut wanted = Self::default();
        let mut deleted = BTreeSet::new();
        if let Some(read) = &group.published {
            wanted.translate(read, mirrored);
            for (_, route) in unpositioned(read, &group.assigned, record, mirrored) {
                let known = record.seeded.get(&route.target).copied();
                if let Some(first) = known.or_else(|| route.first_mirrored().filter(|_| seeds)) {
                    wanted.seeded.insert(route.target.clone(), first);
                }
            }
            wanted.positions.extend(wanted.seeded.clone());
            deleted.extend(gone(read, record, mirrored).map(|(_, route)| &route.target));
        }
        for (at, offset) in &record.confirmed {
            if !wanted.positions.contains_key(at) && !deleted.contains(at) {
                wanted.kept.insert(at.clone(), *offset);
                let metadata = record.metadata.get(at).map(|text| (at.clone(), Bytes::from(text.clone())));
                wanted.metadata.extend(metadata);
            }
        }
        wanted
    }

    fn translate(&mut self, read: &ReadOffsets, mirrored: &Mirrored) {
        for (source, committed) in &read.offsets {
            let Some(route) = mirrored.of(source) else { continue };
            match route.stand(committed.offset) {
                Standing::At(at) | Standing::ClampedUp { at, .. } => {
                    self.positions.insert(route.target.clone(), at);
                    if !committed.metadata.is_empty() {
                        self.metadata.insert(route.target.clone(), committed.metadata.clone());
                    }
                }
                Standing::Waiting => self.waits = true,
                Standing::BeforeTheMirror(_) => {}
            }
        }
    }

    /// The same, where what is kept stands as it does on the target; only what has vanished is as it was written last.
    pub(super) fn beside(mut self, current: &ReadOffsets) -> Self {
        for (at, offset) in std::mem::take(&mut self.kept) {
            let there = current.offsets.get(&at);
            if let Some(there) = there {
                self.metadata.insert(at.clone(), there.metadata.clone());
            }
            self.positions.insert(at, there.map_or(offset, |there| there.offset));
        }
        self
    }

    /// Whether nothing should stand there.
    pub(super) fn is_empty(&self) -> bool {
        self.positions.is_empty() && self.kept.is_empty()
    }

    /// Whether a group's record says that all of this stands on the target.
    pub(super) fn is_written(&self, record: &GroupRecord) -> bool {
        let is_there = |(at, offset): (&TopicPartition, &Offset)| {
            let metadata = record.metadata.get(at).map_or(&b""[..], |text| text.as_bytes());
            record.confirmed.get(at) == Some(offset) && self.metadata_of(at) == metadata
        };
        record.intent.is_empty() && self.positions.iter().all(is_there)
    }

    /// What the committer said beside a position.
    pub(super) fn metadata_of(&self, at: &TopicPartition) -> Bytes {
        self.metadata.get(at).cloned().unwrap_or_default()
    }

    /// All metadata, for the ledger. Kafka keeps it as text; what is none was refused by the coordinator.
    pub(super) fn texts(&self) -> BTreeMap<TopicPartition, String> {
        let text = |(at, metadata): (&TopicPartition, &Bytes)| {
            Some((at.clone(), std::str::from_utf8(metadata).ok().filter(|text| !text.is_empty())?.to_owned()))
        };
        self.metadata.iter().filter_map(text).collect()
    }

    /// These positions with their metadata, for the coordinator.
    pub(super) fn offsets(&self, positions: &Positions) -> GroupOffsets {
        let with_metadata = |(at, offset): (&TopicPartition, &Offset)| {
            (at.clone(), CommittedOffset { offset: *offset, metadata: self.metadata_of(at) })
        };
        positions.iter().map(with_metadata).collect()
    }
}

/// Mirrored partitions that a group reads without a position: those its members are assigned, and the others of every
/// topic in which it has committed somewhere. What was written for them once is not among them, unless as a seed.
pub(super) fn unpositioned<'a>(
    read: &'a ReadOffsets,
    assigned: &'a BTreeSet<TopicPartition>,
    record: &'a GroupRecord,
    mirrored: &'a Mirrored,
) -> impl Iterator<Item = (&'a TopicPartition, &'a MirroredRoute)> {
    let mut topics: Vec<&TopicPartition> = read.offsets.keys().collect();
    topics.dedup_by(|a, b| a.topic == b.topic);
    let beside = topics.into_iter().flat_map(|at| mirrored.beside(at));
    let mut partitions: BTreeMap<&TopicPartition, &MirroredRoute> = beside.collect();
    partitions.extend(assigned.iter().filter_map(|at| mirrored.routes().get_key_value(at)));
    partitions.into_iter().filter(|(source, route)| {
        let was_written = record.confirmed.contains_key(&route.target) && !record.seeded.contains_key(&route.target);
        !read.offsets.contains_key(*source) && !read.pending.contains(*source) && !was_written
    })
}

/// Partitions for which a position of the source was written, and of which the source has none any more.
pub(super) fn gone<'a>(
    read: &'a ReadOffsets,
    record: &'a GroupRecord,
    mirrored: &'a Mirrored,
) -> impl Iterator<Item = (&'a TopicPartition, &'a MirroredRoute)> {
    let written = record.confirmed.keys().filter(|target| !record.seeded.contains_key(*target));
    written.filter_map(|target| {
        let source = mirrored.source_of(target)?;
        let is_there = read.offsets.contains_key(source) || read.pending.contains(source);
        (!is_there).then_some((source, mirrored.of(source)?))
    })
}
