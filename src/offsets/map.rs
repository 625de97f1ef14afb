//! The map itself: how it grows, shrinks from both ends, and where its ends are.

use std::collections::{BTreeSet, VecDeque};

use super::anchor::{self, Anchor};
use super::open::Open;
use super::place::Place;
use super::run::MapRun;
use super::segment::{self, Sealed};
use super::translation::Translation;
use crate::model::{LeaderEpoch, Offset, OffsetRange, Run};

/// Which source offset lies at which target offset, for one route, from the first source offset followed on.
///
/// Offsets in between that hold no record on their side (transaction markers, aborted or compacted records, foreign
/// markers at the target) are proven holes, not unknowns: every offset from the map's start to its end is answered.
/// Methods that change the map panic when a caller breaks their stated order: only a bug does.
#[derive(Debug, Clone)]
pub struct OffsetMap {
    /// First source offset followed, target end at birth.
    pub(super) born: Place,
    /// Below this nothing is answered: where the map was born, or the base of the first segment left by `trim`.
    pub(super) floor: Place,
    /// Exclusive end on both sides.
    pub(super) end: Place,
    /// Full segments, consecutively numbered from `first_number`.
    pub(super) sealed: VecDeque<Sealed>,
    /// The segment behind them; there is one as soon as a record is mapped.
    pub(super) open: Option<Open>,
    pub(super) first_number: u32,
    /// Newest last.
    pub(super) anchors: Vec<Anchor>,
    /// Numbers of segments that the ledger must set, or delete where they no longer exist.
    pub(super) dirty: BTreeSet<u32>,
    pub(super) head_dirty: bool,
    pub(super) unflushed: u64,
}

impl OffsetMap {
    /// An empty map: source offsets from `born_source` on will be followed, and the first record will lie at or behind
    /// target offset `born_target`.
    pub fn new(born_source: Offset, born_target: Offset) -> Self {
        assert!(born_source >= Offset(0) && born_target >= Offset(0), "born at {born_source} and {born_target}");
        let born = Place { source: born_source, target: born_target };
        Self {
            born,
            floor: born,
            end: born,
            sealed: VecDeque::new(),
            open: None,
            first_number: 0,
            anchors: Vec::new(),
            dirty: BTreeSet::new(),
            head_dirty: true,
            unflushed: 0,
        }
    }

    /// First source offset followed, and the target's end when the map was born.
    pub fn born(&self) -> (Offset, Offset) {
        (self.born.source, self.born.target)
    }

    /// Exclusive source end of what is mapped: the next source offset to send.
    pub fn position(&self) -> Offset {
        self.end.source
    }

    /// Exclusive target end of what is mapped. Foreign markers may lie behind it.
    pub fn target_end(&self) -> Offset {
        self.end.target
    }

    /// Source leader epoch of the record right before the position; [`LeaderEpoch::UNKNOWN`] if there is none or a hole
    /// precedes the position. What lies in a hole (a marker, an aborted batch) may be of a later epoch than the last
    /// record: a broker told the older one would report a divergence that never was (KIP-595).
    pub fn last_epoch(&self) -> LeaderEpoch {
        let last = self.last_run().filter(|run| run.end().source == self.end.source);
        last.map_or(LeaderEpoch::UNKNOWN, |run| run.epoch)
    }

    /// The run of the last mapped record.
    pub fn last_run(&self) -> Option<MapRun> {
        self.open.as_ref().map(Open::last)
    }

    /// The records at the source offsets `runs` (in order, all within `range`; nothing else of `range` survives) lie at
    /// target offset `target` and the following ones. `range` must start at the position, and `target` must not lie
    /// before the target's end; foreign markers may lie in between.
    pub fn extend(&mut self, range: OffsetRange, runs: &[Run], target: Offset, epoch: LeaderEpoch) {
        assert!(range.start == self.end.source, "range {range} does not join position {}", self.end.source);
        assert!(target >= self.end.target, "target offset {target} lies before the mapped end {}", self.end.target);
        let mut next = Place { source: range.start, target };
        for run in runs {
            let run = MapRun { source: run.start, target: next.target, length: i64::from(run.length), epoch };
            assert!(run.length > 0 && run.source >= next.source, "run {run:?} is empty or out of order");
            assert!(run.end().source <= range.end, "run {run:?} leaves the range {range}");
            next = run.end();
            self.push(run);
            self.end.target = next.target;
            self.unflushed += run.length as u64;
        }
        self.end.source = range.end;
        self.head_dirty |= !range.is_empty();
    }

    /// `range`, which must start at the position, holds nothing to copy: only the position moves.
    pub fn skip(&mut self, range: OffsetRange) {
        self.extend(range, &[], self.end.target, LeaderEpoch::UNKNOWN);
    }

    /// What lies at the target from its mapped end up to `end` is not ours or already mapped elsewhere (markers,
    /// repetitions, accepted strangers): the next record comes at or behind `end`. Nothing happens when `end` lies before.
    pub fn pass_target(&mut self, end: Offset) {
        if end > self.end.target {
            self.end.target = end;
            self.head_dirty = true;
        }
    }

    /// Counts segments as changed: those this map has are stored with the next changes, others (an earlier map's of this
    /// route) are deleted.
    pub fn store_again(&mut self, numbers: impl IntoIterator<Item = u32>) {
        self.dirty.extend(numbers);
    }

    /// Numbers of all segments the ledger may hold of this map.
    pub fn stored_segments(&self) -> BTreeSet<u32> {
        (self.first_number..self.end_number()).chain(self.dirty.iter().copied()).collect()
    }

    fn push(&mut self, run: MapRun) {
        match &mut self.open {
            Some(open) => {
                if let Some(full) = open.push(run) {
                    self.dirty.insert(self.first_number + self.sealed.len() as u32);
                    self.sealed.push_back(full);
                }
            }
            None => self.open = Some(Open::new(run)),
        }
        self.dirty.insert(self.end_number() - 1);
    }

    /// The target lost its records from offset `end` on: forgets their runs and anchors. The position becomes the first
    /// source offset whose record is gone. Nothing happens when `end` is at or behind the target's end.
    pub fn truncate_target(&mut self, end: Offset) {
        if end >= self.end.target {
            return;
        }
        let source = match self.translate_back(end) {
            Translation::Exact(source) => source,
            // Lost even what `trim` forgot, which the source no longer has: go on with what it may have.
            _ => self.floor.source,
        };
        self.end = Place { source, target: end };
        self.floor.target = self.floor.target.min(end);
        let numbers_before = self.end_number();
        let mut open = self.open.take().and_then(|open| Open::cut(open.runs(), end));
        while open.is_none() {
            let Some(sealed) = self.sealed.pop_back() else { break };
            open = Open::cut(segment::read_checked(&sealed.bytes), end);
        }
        self.open = open;
        self.dirty.extend(self.end_number().saturating_sub(1)..numbers_before);
        self.anchors.retain(|anchor| anchor.target < end);
        self.head_dirty = true;
    }

    /// Forgets runs that lie below both log starts, in whole segments. The segment with the last record always stays.
    pub fn trim(&mut self, source_log_start: Offset, target_log_start: Offset) {
        let log_start = Place { source: source_log_start, target: target_log_start };
        while !self.sealed.is_empty() {
            let Some(next) = self.base_of(1).filter(|next| log_start.is_at_or_behind(*next)) else { break };
            self.sealed.pop_front();
            self.dirty.insert(self.first_number);
            self.first_number += 1;
            self.floor = next;
            self.head_dirty = true;
        }
        self.anchors.retain(|a| a.source >= self.floor.source);
    }

    /// Remembers the content of a mapped record, usually the last one. At most 8 are kept, ever further apart into the
    /// past.
    pub fn set_anchor(&mut self, anchor: Anchor) {
        let there = self.translate(anchor.source) == Translation::Exact(anchor.target);
        let back = self.translate_back(anchor.target) == Translation::Exact(anchor.source);
        assert!(there && back && anchor.target < self.end.target, "no mapped record at {anchor:?}");
        anchor::add(&mut self.anchors, anchor);
        self.head_dirty = true;
    }

    /// The anchors kept, newest last.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// Records mapped since changes were last taken (those handed out and not restored count as flushed).
    pub fn unflushed_records(&self) -> u64 {
        self.unflushed
    }

    /// Number that the segment behind the last one will get.
    pub(super) fn end_number(&self) -> u32 {
        let segments = u32::try_from(self.sealed.len()).expect("four billion segments of a KiB do not fit in memory")
            + u32::from(self.open.is_some());
        self.first_number.checked_add(segments).expect("four billion segments take longer than a broker lives")
    }

    /// Where the segment at `index` (from 0) starts.
    pub(super) fn base_of(&self, index: usize) -> Option<Place> {
        match self.sealed.get(index) {
            Some(sealed) => Some(sealed.base),
            None => self.open.as_ref().filter(|_| index == self.sealed.len()).map(Open::base),
        }
    }

    /// Index of the last segment whose base satisfies `before`, which holds for a prefix of the segments.
    pub(super) fn last_segment_where(&self, before: impl Fn(Place) -> bool) -> Option<usize> {
        if self.open.as_ref().is_some_and(|open| before(open.base())) {
            return Some(self.sealed.len());
        }
        self.sealed.partition_point(|sealed| before(sealed.base)).checked_sub(1)
    }

    /// The first run of the segment at `index` that is `wanted`.
    pub(super) fn find_run(&self, index: usize, wanted: impl FnMut(&MapRun) -> bool) -> Option<MapRun> {
        match self.sealed.get(index) {
            Some(sealed) => segment::read_checked(&sealed.bytes).find(wanted),
            None => self.open.as_ref()?.runs().find(wanted),
        }
    }
}
