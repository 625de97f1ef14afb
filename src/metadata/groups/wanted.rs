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
    /// The committers' metadata beside them, where there is any.
    pub(super) metadata: BTreeMap<TopicPartition, Bytes>,
    /// Those of the positions that the source has none for.
    pub(super) seeded: Positions,
    /// Whether a position is missing only because the mirror has not come that far.
    pub(super) waits: bool,
}

impl Wanted {
    /// What a group's published positions become on the target; what was written before and cannot be told anew, as while
    /// the source is away, stays as it is. `seeds`: partitions without a position get the first mirrored offset.
    pub(super) fn of(group: &Group, record: &GroupRecord, mirrored: &Mirrored, seeds: bool) -> Self {
        let mut wanted = Self::default();
        let Some(read) = &group.published else {
            return Self::kept(record, &BTreeSet::new());
        };
        for (source, committed) in &read.offsets {
            let Some(route) = mirrored.of(source) else { continue };
            match route.stand(committed.offset) {
                Standing::At(at) | Standing::ClampedUp { at, .. } => {
                    wanted.positions.insert(route.target.clone(), at);
                    if !committed.metadata.is_empty() {
                        wanted.metadata.insert(route.target.clone(), committed.metadata.clone());
                    }
                }
                Standing::Waiting => wanted.waits = true,
                Standing::BeforeTheMirror(_) => {}
            }
        }
        for (_, route) in unpositioned(read, &group.assigned, record, mirrored) {
            let known = record.seeded.get(&route.target).copied();
            if let Some(first) = known.or_else(|| route.first_mirrored().filter(|_| seeds)) {
                wanted.seeded.insert(route.target.clone(), first);
            }
        }
        wanted.positions.extend(wanted.seeded.clone());
        let gone = gone(read, record, mirrored).map(|(_, route)| route.target.clone()).collect();
        let kept = Self::kept(record, &gone);
        for (at, offset) in kept.positions {
            if let std::collections::btree_map::Entry::Vacant(vacant) = wanted.positions.entry(at.clone()) {
                vacant.insert(offset);
                wanted.metadata.extend(kept.metadata.get(&at).map(|metadata| (at.clone(), metadata.clone())));
            }
        }
        wanted
    }

    /// Whether a group's record says that all of this stands on the target.
    pub(super) fn is_written(&self, record: &GroupRecord) -> bool {
        let is_there = |(at, offset): (&TopicPartition, &Offset)| {
            let metadata = record.metadata.get(at).map_or(&b""[..], |text| text.as_bytes());
            record.confirmed.get(at) == Some(offset) && self.metadata_of(at) == metadata
        };
        record.intent.is_empty() && self.positions.iter().all(is_there)
    }

    /// What was written for a group, except on partitions of which the source has no position any more.
    fn kept(record: &GroupRecord, gone: &BTreeSet<TopicPartition>) -> Self {
        let is_kept = |at: &TopicPartition| !gone.contains(at);
        let metadata = record.metadata.iter().filter(|(at, _)| is_kept(at));
        Self {
            positions: record.confirmed.iter().filter(|(at, _)| is_kept(at)).map(|(a, o)| (a.clone(), *o)).collect(),
            metadata: metadata.map(|(at, text)| (at.clone(), Bytes::from(text.clone()))).collect(),
            seeded: record.seeded.clone(),
            waits: false,
        }
    }

    /// What the committer said beside a position.
    pub(super) fn metadata_of(&self, at: &TopicPartition) -> Bytes {
        self.metadata.get(at).cloned().unwrap_or_default()
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
