//! Laws of the map, held against a list of every record.

use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;

use super::*;
use crate::model::{LeaderEpoch, Offset, OffsetRange, Run};

/// The map as a plain list: one entry per record, both offsets.
#[derive(Debug)]
struct Naive {
    records: Vec<(i64, i64, i32)>,
    floor: (i64, i64),
    end: (i64, i64),
}

impl Naive {
    fn new(source: i64, target: i64) -> Self {
        Self { records: Vec::new(), floor: (source, target), end: (source, target) }
    }

    fn translate(&self, at: i64) -> Translation {
        let next = self.records.partition_point(|r| r.0 < at);
        answer(at, self.floor.0, self.end, self.records.get(next).map(|r| r.1))
    }

    fn translate_back(&self, at: i64) -> Translation {
        let next = self.records.partition_point(|r| r.1 < at);
        answer(at, self.floor.1, (self.end.1, self.end.0), self.records.get(next).map(|r| r.0))
    }

    fn truncate_target(&mut self, end: i64) {
        if end < self.end.1 {
            let lost = self.records.iter().find(|r| r.1 >= end).map(|r| r.0);
            self.end = (if end < self.floor.1 { self.floor.0 } else { lost.unwrap_or(self.end.0) }, end);
            self.floor.1 = self.floor.1.min(end);
            self.records.retain(|r| r.1 < end);
        }
    }
}

fn answer(at: i64, first: i64, end: (i64, i64), next_record: Option<i64>) -> Translation {
    if at < first {
        Translation::BeforeTheMirror { first: Offset(first) }
    } else if at > end.0 {
        Translation::Ahead { end: Offset(end.0) }
    } else {
        Translation::Exact(Offset(next_record.unwrap_or(end.1)))
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Gap and length of each run, trailing hole, foreign markers before, leader epoch.
    Extend(Vec<(u8, u8)>, u8, u8, i32),
    /// Many single records with holes between: fills segments.
    Compacted(u16),
    Skip(u8),
    /// Lose this many of the last target offsets, or of thousands.
    Truncate(u8),
    TruncateDeep(u16),
    /// Log starts, in thousandths of the ends.
    Trim(u16, u16),
    Flush,
    FlushFails,
    Reload,
}

fn step() -> impl Strategy<Value = Step> {
    let runs = prop::collection::vec((0..40u8, 1..200u8), 0..6);
    prop_oneof![
        6 => (runs, 0..4u8, prop_oneof![4 => Just(0u8), 1 => 1..5u8], -1..3i32).prop_map(|(r, h, f, e)| Step::Extend(r, h, f, e)),
        2 => (1..3000u16).prop_map(Step::Compacted),
        1 => any::<u8>().prop_map(Step::Skip),
        1 => any::<u8>().prop_map(Step::Truncate),
        1 => any::<u16>().prop_map(|n| Step::TruncateDeep(n % 4000)),
        1 => (0..1100u16, 0..1100u16).prop_map(|(s, t)| Step::Trim(s, t)),
        2 => Just(Step::Flush),
        1 => Just(Step::FlushFails),
        1 => Just(Step::Reload),
    ]
}

/// What the ledger's compacted topic would hold.
#[derive(Default)]
struct Stored(BTreeMap<MapKey, Bytes>);

impl Stored {
    fn apply(&mut self, changes: &MapChanges) {
        for (key, value) in &changes.entries {
            match value {
                Some(value) => drop(self.0.insert(*key, value.clone())),
                None => drop(self.0.remove(key)),
            }
        }
    }

    fn load(&self) -> Result<OffsetMap, MapCorrupt> {
        let segments = self.0.iter().filter_map(|(key, value)| match key {
            MapKey::Segment(number) => Some((*number, value.clone())),
            MapKey::Head => None,
        });
        OffsetMap::load(&self.0[&MapKey::Head], segments)
    }
}

fn extend(map: &mut OffsetMap, naive: &mut Naive, runs: &[(i64, i64)], hole: i64, foreign: i64, epoch: i32) {
    let start = map.position();
    let (mut source, mut target) = (start.0, naive.end.1 + foreign);
    let mut list = Vec::new();
    for &(gap, length) in runs {
        source += gap;
        list.push(Run { start: Offset(source), length: length as u32 });
        naive.records.extend((0..length).map(|i| (source + i, target + i, epoch)));
        source += length;
        target += length;
    }
    let range = OffsetRange::new(start, Offset(source + hole));
    map.extend(range, &list, Offset(naive.end.1 + foreign), LeaderEpoch(epoch));
    naive.end = (range.end.0, if list.is_empty() { naive.end.1 } else { target });
}

fn apply(step: Step, map: &mut OffsetMap, naive: &mut Naive, stored: &mut Stored) {
    match step {
        Step::Extend(runs, hole, foreign, epoch) => {
            let runs: Vec<_> = runs.into_iter().map(|(gap, length)| (gap.into(), length.into())).collect();
            extend(map, naive, &runs, hole.into(), foreign.into(), epoch);
        }
        Step::Compacted(records) => {
            let runs: Vec<_> = (0..records).map(|i| (i64::from(i) * 7 % 5 + 1, i64::from(i) * 11 % 3 + 1)).collect();
            extend(map, naive, &runs, 0, 0, 7);
        }
        Step::Skip(hole) => {
            let range = OffsetRange::new(map.position(), map.position() + i64::from(hole));
            map.skip(range);
            naive.end.0 = range.end.0;
        }
        Step::Truncate(lost) => truncate(map, naive, lost.into()),
        Step::TruncateDeep(lost) => truncate(map, naive, lost.into()),
        Step::Trim(source, target) => {
            let source = Offset(map.position().0 * i64::from(source) / 1000);
            let target = Offset(map.target_end().0 * i64::from(target) / 1000);
            map.trim(source, target);
            let Translation::BeforeTheMirror { first } = map.translate(Offset(-1)) else { panic!("−1 is mapped") };
            let Translation::BeforeTheMirror { first: first_target } = map.translate_back(Offset(-1)) else {
                panic!("−1 is mapped")
            };
            if first.0 != naive.floor.0 {
                assert!(first <= source && first_target <= target, "trimmed above a log start");
                naive.floor = (first.0, first_target.0);
                naive.records.retain(|r| r.0 >= first.0);
            }
        }
        Step::Flush => {
            stored.apply(&map.take_changes());
            assert_eq!(map.unflushed_records(), 0);
            assert!(map.take_changes().is_empty());
        }
        Step::FlushFails => {
            let unflushed = map.unflushed_records();
            let changes = map.take_changes();
            map.restore_changes(changes);
            assert_eq!(map.unflushed_records(), unflushed);
        }
        Step::Reload => {
            stored.apply(&map.take_changes());
            *map = stored.load().expect("what was stored loads");
        }
    }
}

fn truncate(map: &mut OffsetMap, naive: &mut Naive, lost: i64) {
    let end = (naive.end.1 - lost).max(0);
    map.truncate_target(Offset(end));
    naive.truncate_target(end);
}

fn assert_equal(map: &OffsetMap, naive: &Naive) {
    assert_eq!((map.position().0, map.target_end().0), naive.end);
    let adjacent = naive.records.last().filter(|r| r.0 + 1 == naive.end.0);
    assert_eq!(map.last_epoch().0, adjacent.map_or(-1, |r| r.2));
    let last = map.last_run().map(|run| (run.source.0 + run.length - 1, run.target.0 + run.length - 1));
    assert_eq!(last, naive.records.last().map(|r| (r.0, r.1)));
}

/// Every offset around every record, both ways, against the list; thinned for long lists, edges always.
fn assert_exact(map: &OffsetMap, naive: &Naive) {
    let every = naive.records.len() / 80 + 1;
    let around = |at: i64| (at - 1)..=(at + 1);
    let records = || naive.records.iter().step_by(every).chain(naive.records.last());
    for at in records().flat_map(|r| around(r.0)).chain(around(naive.floor.0)).chain(around(naive.end.0)) {
        assert_eq!(map.translate(Offset(at)), naive.translate(at), "source offset {at}");
    }
    for at in records().flat_map(|r| around(r.1)).chain(around(naive.floor.1)).chain(around(naive.end.1)) {
        assert_eq!(map.translate_back(Offset(at)), naive.translate_back(at), "target offset {at}");
    }
    for &(source, target, _) in records() {
        assert_eq!(map.translate(Offset(source)), Translation::Exact(Offset(target)));
        assert_eq!(map.translate_back(Offset(target)), Translation::Exact(Offset(source)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_offset_is_exact_both_ways_whatever_happened(
        born in (0..50i64, 0..50i64),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut map = OffsetMap::new(Offset(born.0), Offset(born.1));
        let (mut naive, mut stored) = (Naive::new(born.0, born.1), Stored::default());
        for step in steps {
            apply(step, &mut map, &mut naive, &mut stored);
            assert_equal(&map, &naive);
        }
        assert_exact(&map, &naive);
        stored.apply(&map.take_changes());
        let loaded = stored.load().expect("what was stored loads");
        assert_equal(&loaded, &naive);
        assert_exact(&loaded, &naive);
        prop_assert_eq!(loaded.born(), (Offset(born.0), Offset(born.1)));
        prop_assert!(stored.0.values().all(|value| value.len() <= 1024), "a value exceeds 1 KiB");
    }

    #[test]
    fn translation_there_and_back_never_skips_a_record(steps in prop::collection::vec(step(), 1..20)) {
        let mut map = OffsetMap::new(Offset(0), Offset(0));
        let (mut naive, mut stored) = (Naive::new(0, 0), Stored::default());
        for step in steps {
            apply(step, &mut map, &mut naive, &mut stored);
        }
        let mut before = None;
        for at in (naive.floor.0..=naive.end.0).step_by((naive.end.0 - naive.floor.0) as usize / 200 + 1) {
            let Translation::Exact(there) = map.translate(Offset(at)) else { panic!("{at} has no exact answer") };
            let Translation::Exact(back) = map.translate_back(there) else { panic!("{there} has no exact answer") };
            prop_assert!(back >= Offset(at), "{at} goes to {there}, which returns to {back}");
            let next = naive.records.partition_point(|r| r.0 < at);
            let skipped = naive.records.get(next).is_some_and(|r| r.0 < back.0);
            prop_assert!(!skipped, "a record between {at} and {back}");
            prop_assert!(before <= Some(there));
            before = Some(there);
        }
    }

    #[test]
    fn damaged_bytes_never_panic(mut value in prop::collection::vec(any::<u8>(), 0..200), version in 0..3u8) {
        if let Some(first) = value.first_mut() {
            *first = version;
        }
        let _ = OffsetMap::load(&value, [(0, Bytes::from(value.clone()))]);
        let head = filled(10).take_changes().entries.last().and_then(|(_, value)| value.clone()).expect("a head");
        if let Ok(map) = OffsetMap::load(&head, [(0, Bytes::from(value))]) {
            for at in 0..50 {
                map.translate(Offset(at));
                map.translate_back(Offset(at));
            }
        }
    }
}

/// A compacted topic: `runs` runs of one to three records with holes of one to five.
fn filled(runs: u16) -> OffsetMap {
    let mut map = OffsetMap::new(Offset(0), Offset(0));
    apply(Step::Compacted(runs), &mut map, &mut Naive::new(0, 0), &mut Stored::default());
    map
}

#[test]
fn an_empty_map_answers_its_birth_and_nothing_else() {
    let map = OffsetMap::new(Offset(7), Offset(3));
    assert_eq!(map.translate(Offset(6)), Translation::BeforeTheMirror { first: Offset(7) });
    assert_eq!(map.translate(Offset(7)), Translation::Exact(Offset(3)));
    assert_eq!(map.translate(Offset(8)), Translation::Ahead { end: Offset(7) });
    assert_eq!(map.translate_back(Offset(3)), Translation::Exact(Offset(7)));
    assert_eq!((map.last_epoch(), map.last_run()), (LeaderEpoch::UNKNOWN, None));
}

#[test]
fn behind_a_hole_no_epoch_is_claimed() {
    let mut map = OffsetMap::new(Offset(0), Offset(0));
    extend(&mut map, &mut Naive::new(0, 0), &[(0, 5)], 0, 0, 3);
    assert_eq!(map.last_epoch(), LeaderEpoch(3));
    map.skip(OffsetRange::new(Offset(5), Offset(6)));
    assert_eq!(map.last_epoch(), LeaderEpoch::UNKNOWN, "the marker at 5 may be of epoch 4");
    assert_eq!(map.last_run().map(|run| run.epoch), Some(LeaderEpoch(3)));
}

#[test]
fn a_dense_topic_is_one_run_whatever_its_length() {
    let mut map = OffsetMap::new(Offset(0), Offset(0));
    let mut naive = Naive::new(0, 0);
    for _ in 0..1000 {
        extend(&mut map, &mut naive, &[(0, 100)], 0, 0, 3);
    }
    let length = 100_000;
    assert_eq!(map.last_run(), Some(MapRun { source: Offset(0), target: Offset(0), length, epoch: LeaderEpoch(3) }));
    extend(&mut map, &mut naive, &[(0, 1)], 0, 0, 4);
    assert_eq!(map.last_run().map(|run| run.source), Some(Offset(length)), "a new epoch starts a new run");
}

#[test]
fn a_flush_rewrites_one_small_segment_and_the_head() {
    let mut map = filled(5000);
    map.take_changes();
    let end = map.position();
    map.extend(OffsetRange::new(end, end + 9), &[Run { start: end + 5, length: 4 }], map.target_end(), LeaderEpoch(7));
    let changes = map.take_changes();
    assert!(changes.entries.len() <= 3 && changes.value_bytes() <= 2200, "{changes:?}");
    assert!(matches!(changes.entries.last(), Some((MapKey::Head, Some(_)))));
}

#[test]
fn trimmed_and_lost_segments_are_deleted_from_the_ledger() {
    let mut map = filled(5000);
    let stored = map.take_changes().entries.len() - 1;
    map.trim(map.position(), map.target_end());
    let trimmed = map.take_changes();
    assert_eq!(trimmed.entries.iter().filter(|(_, value)| value.is_none()).count(), stored - 1);
    let mut map = filled(5000);
    map.take_changes();
    map.truncate_target(Offset(0));
    let lost = map.take_changes();
    assert_eq!(lost.entries.iter().filter(|(_, value)| value.is_none()).count(), stored);
    assert_eq!(map.position(), Offset(1), "the first record that must be sent again");
}

#[test]
fn anchors_survive_the_ledger_and_go_with_what_the_target_loses() {
    let mut map = filled(100);
    let first = Anchor { source: Offset(1), target: Offset(0), hash: u64::MAX };
    let last = map.last_run().expect("records");
    map.set_anchor(first);
    map.set_anchor(Anchor { source: last.source, target: last.target, hash: 1 });
    let mut stored = Stored::default();
    stored.apply(&map.take_changes());
    let mut map = stored.load().expect("what was stored loads");
    assert_eq!(map.anchors().len(), 2);
    map.truncate_target(last.target);
    assert_eq!(map.anchors(), [first]);
}

#[test]
#[should_panic(expected = "no mapped record")]
fn an_anchor_must_be_a_mapped_record() {
    filled(10).set_anchor(Anchor { source: Offset(0), target: Offset(0), hash: 0 });
}

#[test]
fn parts_that_do_not_belong_together_are_named() {
    let mut map = filled(3000);
    let mut stored = Stored::default();
    stored.apply(&map.take_changes());
    let broken = |change: &dyn Fn(&mut BTreeMap<MapKey, Bytes>)| {
        let mut parts = stored.0.clone();
        change(&mut parts);
        Stored(parts).load().expect_err("a broken map does not load")
    };
    let one = MapKey::Segment(1);
    let missing = broken(&|parts| drop(parts.remove(&one)));
    assert_eq!(missing, MapCorrupt::Missing { segment: 1 });
    let surplus = broken(&|parts| drop(parts.insert(MapKey::Segment(99), parts[&one].clone())));
    assert_eq!(surplus, MapCorrupt::Surplus { segment: 99 });
    let swapped = broken(&|parts| drop(parts.insert(one, parts[&MapKey::Segment(2)].clone())));
    assert_eq!(swapped, MapCorrupt::Overlap { segment: 2 });
    let torn = broken(&|parts| drop(parts.insert(one, parts[&one].slice(..1))));
    assert_eq!(torn, MapCorrupt::TornSegment { segment: 1 });
    let newer = broken(&|parts| drop(parts.insert(MapKey::Head, Bytes::from_static(&[2, 0]))));
    assert_eq!(
        newer.to_string(),
        "the head of the offset map has format 2, this program knows 1: run the version that wrote it"
    );
}

#[test]
fn a_run_costs_a_byte_or_two_when_compacted_and_three_when_transactional() {
    let bytes_per_run = |map: &OffsetMap, runs: usize| {
        let entries: usize = map.sealed.iter().map(|s| s.bytes.len() + size_of_val(s)).sum();
        entries as f64 / runs as f64
    };
    let compacted = bytes_per_run(&filled(50_000), 50_000);
    let mut transactional = OffsetMap::new(Offset(0), Offset(0));
    let mut naive = Naive::new(0, 0);
    for i in 0..50_000 {
        extend(&mut transactional, &mut naive, &[(1, 50 + i % 200)], 0, 0, 5);
    }
    let transactional = bytes_per_run(&transactional, 50_000);
    println!("bytes per run: compacted {compacted:.2}, transactional {transactional:.2}");
    assert!(compacted < 1.1 && transactional < 3.2, "{compacted:.2} and {transactional:.2} bytes per run");
}
