use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, Codec, Record};
use crate::model::ProducerIdentity;

const EPOCH: LeaderEpoch = LeaderEpoch(4);

fn builder(base: i64) -> BatchBuilder {
    BatchBuilder::new(Offset(base)).leader_epoch(EPOCH)
}

fn record(offset: i64) -> Record {
    Record::new(Offset(offset), 1_000 + offset, None, Some(format!("value {offset}").into_bytes().into()))
}

fn producer(id: i64) -> ProducerIdentity {
    ProducerIdentity { id, epoch: 0 }
}

fn data(mut builder: BatchBuilder, offsets: impl IntoIterator<Item = i64>) -> RawBatch {
    offsets.into_iter().for_each(|offset| builder.push(&record(offset)));
    builder.build()
}

fn end(how: Marker, at: i64, id: i64) -> RawBatch {
    how.batch(Offset(at), EPOCH, producer(id), 5)
}

fn section(batches: &[RawBatch]) -> Bytes {
    let mut bytes = BytesMut::new();
    batches.iter().for_each(|batch| bytes.extend_from_slice(&batch.bytes));
    bytes.freeze()
}

fn sliced(batches: &[RawBatch], from: i64, aborted: &[Aborted]) -> Slices {
    slice(section(batches), Offset(from), LeaderEpoch::UNKNOWN, aborted.to_vec())
}

/// `start..end: offsets`, one line per slice; the offsets are those of records whose content is that of their offset.
fn shown(slices: &Slices) -> Vec<String> {
    slices.slices.iter().map(|slice| format!("{}: {:?}", slice.range, survivors(slice))).collect()
}

fn survivors(slice: &Slice) -> Vec<i64> {
    let Payload::Batches(encoded) = &slice.payload else { return Vec::new() };
    let opened = records(&RawBatch::parse(encoded.bytes.clone()).expect("one batch")).expect("good records");
    let sources = encoded.runs.iter().flat_map(|run| (0..run.length).map(|n| run.start.0 + i64::from(n)));
    let sources: Vec<i64> = sources.collect();
    assert_eq!(opened.len(), sources.len());
    for (opened, source) in opened.iter().zip(&sources) {
        assert_eq!(opened.value, record(*source).value);
        assert_eq!(opened.timestamp_ms, 1_000 + source);
        assert!(slice.range.contains(Offset(*source)));
    }
    sources
}

#[test]
fn a_dense_batch_passes_with_the_bytes_it_has() {
    let batch = data(builder(10).codec(Codec::Lz4), 10..13);
    let slices = sliced(std::slice::from_ref(&batch), 10, &[]);
    let [Slice { payload: Payload::Batches(encoded), .. }] = &slices.slices[..] else { panic!("{slices:?}") };
    assert_eq!(encoded.bytes, batch.bytes);
    assert_eq!((slices.next, slices.epoch, encoded.leader_epoch), (Offset(13), EPOCH, EPOCH));
}

#[test]
fn the_first_batch_is_cut_where_reading_goes_on() {
    let slices = sliced(&[data(builder(10), 10..15), data(builder(15), 15..16)], 12, &[]);
    assert_eq!(shown(&slices), ["12..15: [12, 13, 14]", "15..16: [15]"]);
    let slices = sliced(&[data(builder(10), 10..15), data(builder(15), 15..16)], 15, &[]);
    assert_eq!(shown(&slices), ["15..16: [15]"]);
}

#[test]
fn holes_markers_and_emptied_batches_become_one_empty_range() {
    let emptied = builder(6).ending_at(Offset(8)).build();
    let batches = [
        data(builder(2), 2..4),
        end(Marker::Commit, 4, 7),
        emptied,
        data(builder(12), [12, 14]),
        end(Marker::Commit, 15, 7),
    ];
    let slices = sliced(&batches, 0, &[]);
    assert_eq!(shown(&slices), ["0..2: []", "2..4: [2, 3]", "4..12: []", "12..15: [12, 14]", "15..16: []"]);
    assert_eq!(slices.next, Offset(16));
}

#[test]
fn the_epoch_below_is_unknown_behind_a_hole() {
    let slices = sliced(&[data(builder(1), 1..2), data(builder(2), 2..3), data(builder(5), 5..6)], 1, &[]);
    let below: Vec<_> = slices.slices.iter().map(|slice| slice.epoch_below).collect();
    assert_eq!(below, [LeaderEpoch::UNKNOWN, EPOCH, EPOCH, LeaderEpoch::UNKNOWN]);
    assert_eq!(slices.epoch, EPOCH);
}

#[test]
fn aborted_data_is_left_out_up_to_its_marker_and_no_further() {
    let transactional = |base, id, offsets| data(builder(base).producer(producer(id), 0).transactional(), offsets);
    let batches = [
        transactional(0, 1, 0..2),
        transactional(2, 2, 2..4),
        end(Marker::Abort, 4, 1),
        transactional(5, 1, 5..6),
        end(Marker::Commit, 6, 2),
        end(Marker::Commit, 7, 1),
        transactional(8, 1, 8..9),
        end(Marker::Abort, 9, 1),
        data(builder(10), 10..11),
    ];
    let aborted = [Aborted { producer_id: 1, first: Offset(8) }, Aborted { producer_id: 1, first: Offset(0) }];
    let slices = sliced(&batches, 0, &aborted);
    assert_eq!(shown(&slices), ["0..2: []", "2..4: [2, 3]", "4..5: []", "5..6: [5]", "6..10: []", "10..11: [10]"]);
}

#[test]
fn a_torn_tail_ends_the_section_without_loss() {
    let whole = section(&[data(builder(0), 0..3), data(builder(3), 3..5)]);
    for length in 0..=whole.len() {
        let slices = slice(whole.slice(..length), Offset(0), EPOCH, Vec::new());
        assert_eq!(slices.flaw, None);
        let next = if length == whole.len() { 5 } else { 3 * i64::from(length >= data(builder(0), 0..3).bytes.len()) };
        assert_eq!(slices.next, Offset(next));
        assert_eq!(slices.torn, ![0, data(builder(0), 0..3).bytes.len(), whole.len()].contains(&length));
    }
}

#[test]
fn damage_stops_behind_the_good_batches() {
    let damaged_at = |batch: RawBatch, at: usize| {
        let mut bytes = batch.bytes.to_vec();
        bytes[at] ^= 1;
        RawBatch::parse(bytes.into()).expect("the header still parses")
    };
    let marker = damaged_at(end(Marker::Commit, 3, 7), 70);
    let slices = sliced(&[data(builder(0), 0..3), marker, data(builder(4), 4..5)], 0, &[]);
    assert_eq!(shown(&slices), ["0..3: [0, 1, 2]"]);
    assert!(slices.flaw.is_some_and(|flaw| flaw.to_string().contains("checksum")));
    // Taken for a control batch on the word of a damaged bit, its records would be lost.
    let mut control = data(builder(3), 3..4).bytes.to_vec();
    control[22] |= 1 << 5;
    let control = RawBatch::parse(control.into()).expect("the header still parses");
    assert!(sliced(&[control], 3, &[]).flaw.is_some());
}

/// One thing in a random log.
#[derive(Debug, Clone)]
enum Entry {
    /// Records, some of which compaction removed.
    Data { survive: Vec<bool>, codec: Codec },
    /// Records of a transaction of a producer.
    Transactional { id: i64, records: u8 },
    /// The end of the producer's transaction, if it has one.
    End { id: i64, commit: bool },
    /// Offsets without any batch.
    Hole(u8),
}

fn entry() -> impl Strategy<Value = Entry> {
    let codec = prop_oneof![Just(Codec::None), Just(Codec::Lz4), Just(Codec::Zstd)];
    prop_oneof![
        3 => (prop::collection::vec(prop::bool::weighted(0.8), 1..6), codec)
            .prop_map(|(survive, codec)| Entry::Data { survive, codec }),
        3 => (0..3i64, 1..4u8).prop_map(|(id, records)| Entry::Transactional { id, records }),
        2 => (0..3i64, any::<bool>()).prop_map(|(id, commit)| Entry::End { id, commit }),
        1 => (1..9u8).prop_map(Entry::Hole),
    ]
}

/// A log as a broker stores it, the offsets a read_committed consumer sees, and its aborted transactions with the
/// offset of their markers.
#[derive(Debug, Default)]
struct Log {
    batches: Vec<RawBatch>,
    visible: Vec<i64>,
    aborted: Vec<(Aborted, i64)>,
    end: i64,
}

fn log(entries: Vec<Entry>) -> Log {
    let mut log = Log::default();
    let mut open: std::collections::BTreeMap<i64, Vec<i64>> = Default::default();
    let ends = (0..3).map(|id| Entry::End { id, commit: id == 1 });
    // The tail is data, since nothing is concluded about what is behind the last batch.
    let tail = Entry::Data { survive: vec![true], codec: Codec::None };
    for entry in entries.into_iter().chain(ends).chain([tail]) {
        let base = log.end;
        match entry {
            Entry::Hole(offsets) => log.end += i64::from(offsets),
            Entry::Data { survive, codec } => {
                log.end += survive.len() as i64;
                let offsets = (base..).zip(survive).filter(|(_, survives)| *survives).map(|(offset, _)| offset);
                let offsets: Vec<i64> = offsets.collect();
                let mut builder = builder(base).codec(codec);
                offsets.iter().for_each(|offset| builder.push(&record(*offset)));
                log.batches.push(builder.ending_at(Offset(log.end - 1)).build());
                log.visible.extend(offsets);
            }
            Entry::Transactional { id, records } => {
                log.end += i64::from(records);
                log.batches.push(data(builder(base).producer(producer(id), 0).transactional(), base..log.end));
                open.entry(id).or_default().extend(base..log.end);
            }
            Entry::End { id, commit } => {
                let Some(offsets) = open.remove(&id) else { continue };
                log.batches.push(end(if commit { Marker::Commit } else { Marker::Abort }, base, id));
                match commit {
                    true => log.visible.extend(offsets),
                    false => log.aborted.push((Aborted { producer_id: id, first: Offset(offsets[0]) }, base)),
                }
                log.end += 1;
            }
        }
    }
    log.visible.sort_unstable();
    log
}

impl Log {
    /// A broker's answer: from the batch that holds `from`, cut after `bytes`, never within the first batch (KIP-74).
    fn fetch(&self, from: i64, bytes: usize) -> (Bytes, Vec<Aborted>) {
        let first = self.batches.iter().position(|batch| batch.header.last_offset().0 >= from).unwrap_or(0);
        let whole = section(&self.batches[first..]);
        let section = whole.slice(..bytes.max(self.batches[first].bytes.len()).min(whole.len()));
        let aborted = self.aborted.iter().filter(|(_, marker)| *marker >= from).map(|(aborted, _)| *aborted);
        (section, aborted.collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn data_and_gaps_add_up_to_the_offsets_passed_and_only_committed_records_come_out(
        entries in prop::collection::vec(entry(), 0..24),
        from in 0.0..1.0f64,
        sizes in prop::collection::vec(1..900usize, 1..8),
    ) {
        let log = log(entries);
        let from = (log.end as f64 * from) as i64;
        let (mut next, mut seen) = (Offset(from), Vec::new());
        for size in sizes.iter().cycle() {
            if next.0 >= log.end {
                break;
            }
            let (section, aborted) = log.fetch(next.0, *size);
            let slices = slice(section, next, LeaderEpoch::UNKNOWN, aborted);
            prop_assert_eq!(slices.flaw, None);
            prop_assert!(slices.next > next, "no progress at {}", next);
            for slice in &slices.slices {
                prop_assert_eq!(slice.range.start, next);
                prop_assert!(!slice.range.is_empty());
                next = slice.range.end;
                seen.extend(survivors(slice));
            }
            prop_assert_eq!(slices.next, next);
        }
        prop_assert_eq!(next.0, log.end);
        let visible: Vec<i64> = log.visible.iter().copied().filter(|offset| *offset >= from).collect();
        prop_assert_eq!(seen, visible);
    }

    #[test]
    fn hostile_bytes_never_panic_and_never_run_backwards(
        noise in prop::collection::vec(any::<u8>(), 0..300),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        from in 0..20i64,
    ) {
        let slices = slice(noise.into(), Offset(from), EPOCH, Vec::new());
        prop_assert!(slices.next >= Offset(from));
        let batches = [data(builder(0), 0..5), end(Marker::Commit, 5, 1), data(builder(6), [6, 9])];
        let mut bytes = section(&batches).to_vec();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let slices = slice(bytes.into(), Offset(from), EPOCH, vec![Aborted { producer_id: -1, first: Offset(3) }]);
        let mut next = Offset(from);
        for slice in &slices.slices {
            prop_assert_eq!(slice.range.start, next);
            next = slice.range.end;
        }
        prop_assert_eq!(slices.next, next);
    }
}
