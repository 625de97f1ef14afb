//! Laws over random batches.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::codec::ALL;
use super::*;
use crate::model::{EncodedBatch, LeaderEpoch, Offset, OffsetRange, ProducerIdentity};

const PRODUCER: ProducerIdentity = ProducerIdentity { id: 4711, epoch: 3 };

fn everything() -> OffsetRange {
    OffsetRange::new(Offset(0), Offset(i64::MAX))
}

fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..4), vec(0u8..3, 0..300)].prop_map(Bytes::from)
}

/// Header names that are empty, equal or no UTF-8, values that are null or empty.
fn headers() -> impl Strategy<Value = Bytes> {
    let name = prop_oneof![Just(vec![]), Just(b"same".to_vec()), Just(vec![0xff, 0xfe]), vec(any::<u8>(), 0..5)];
    vec((name, proptest::option::of(blob())), 0..4).prop_map(|pairs| {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&name[..], value.as_deref())).collect();
        encode_headers(&pairs)
    })
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(-1),
        Just(0),
        Just(i64::MAX),
        Just(i64::MIN),
        1_700_000_000_000..1_700_000_100_000_i64,
        any::<i64>()
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let parts = (timestamp(), proptest::option::of(blob()), proptest::option::of(blob()), headers(), any::<i8>());
    parts.prop_map(|(timestamp_ms, key, value, headers, attributes)| Record {
        offset: Offset(0),
        timestamp_ms,
        key,
        value,
        headers,
        attributes,
    })
}

/// A stored batch and the records a consumer would read from it.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    batch: RawBatch,
    records: Vec<Record>,
}

/// Batches with or without holes, with any codec, flag and time type.
fn stored_at(base: i64, holes: bool) -> impl Strategy<Value = Stored> {
    stored_with(base, holes, 0..ALL.len())
}

fn stored_with(base: i64, holes: bool, codec: impl Strategy<Value = usize>) -> impl Strategy<Value = Stored> {
    let gap = if holes { 0..3_i64 } else { 0..1 };
    let flags = (codec, any::<bool>(), proptest::option::of(timestamp()), proptest::option::of(timestamp()));
    (vec((record(), gap.clone()), 1..12), gap, flags).prop_map(move |(mut given, trailing, flags)| {
        let (codec, transactional, append_time, horizon) = flags;
        let mut builder = BatchBuilder::new(Offset(base)).codec(ALL[codec]).leader_epoch(LeaderEpoch(7));
        if transactional {
            builder = builder.producer(ProducerIdentity { id: 9, epoch: 1 }, 100).transactional();
        }
        if let Some(horizon) = horizon {
            builder = builder.delete_horizon(horizon);
        }
        if let Some(time) = append_time {
            builder = builder.append_time(time);
        }
        let mut next = Offset(base);
        for (record, gap) in &mut given {
            record.offset = next + *gap;
            next = record.offset + 1;
            builder.push(record);
            record.timestamp_ms = append_time.unwrap_or(record.timestamp_ms);
        }
        let batch = builder.ending_at(next + (trailing - 1)).build();
        Stored { batch, records: given.into_iter().map(|(record, _)| record).collect() }
    })
}

fn stored() -> impl Strategy<Value = Stored> {
    (0..1_i64 << 40, any::<bool>()).prop_flat_map(|(base, holes)| stored_at(base, holes))
}

/// Successive batches, some behind a hole, and now and then a marker or an emptied batch between them.
fn log() -> impl Strategy<Value = Vec<RawBatch>> {
    vec((stored_at(0, true), 0..3_i64, 0..4), 1..6).prop_map(|pieces| {
        let mut log = Vec::new();
        let mut next = Offset(40);
        for (stored, gap, extra) in pieces {
            let batch = stored.batch.placed(next + gap, LeaderEpoch(2));
            next = batch.header.next_offset();
            log.push(batch);
            let between = match extra {
                0 => Marker::Abort.batch(next, LeaderEpoch(2), PRODUCER, 5),
                1 => BatchBuilder::new(next).ending_at(next + 4).build(),
                _ => continue,
            };
            next = between.header.next_offset();
            log.push(between);
        }
        log
    })
}

fn concatenated(log: &[RawBatch]) -> Bytes {
    log.iter().flat_map(|batch| batch.bytes.iter().copied()).collect::<Vec<_>>().into()
}

fn whole_batches(section: Bytes) -> (Vec<RawBatch>, usize) {
    let mut split = split(section);
    let batches = split.by_ref().map(|piece| match piece.expect("a genuine section has no flaw") {
        Piece::Batch(batch) => batch,
        Piece::Legacy(set) => panic!("{set:?} is no batch of ours"),
    });
    (batches.collect(), split.torn_bytes())
}

/// What a consumer of the target reads of an encoded batch, with the source offsets its runs name.
fn survivors(encoded: &EncodedBatch) -> Vec<Record> {
    let batch = RawBatch::parse(encoded.bytes.clone()).unwrap();
    let header = batch.header;
    assert!(header.is_dense());
    assert_eq!(header.count as u32, encoded.records);
    assert_eq!(encoded.runs.iter().map(|run| run.length).sum::<u32>(), encoded.records);
    let mut records = records(&batch).unwrap();
    let sources = encoded.runs.iter().flat_map(|run| (0..run.length).map(|n| run.start + n.into()));
    for (record, source) in records.iter_mut().zip(sources) {
        record.offset = source;
    }
    records
}

/// The rules of facts/raw-batches §9.3 for what goes to a target.
fn assert_acceptable(encoded: &EncodedBatch, sequence: i32) -> RawBatch {
    let head = stamp(&encoded.bytes, &Stamp { producer: PRODUCER, sequence });
    let sent = RawBatch::parse([&head[..], &encoded.bytes[HEADER_BYTES..]].concat().into()).unwrap();
    let header = sent.header;
    assert_eq!((header.base_offset, header.leader_epoch, header.magic), (0, -1, 2));
    assert_eq!(header.attributes.0 & !7, 0, "only the codec stays");
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4711, 3, sequence));
    assert_eq!(header.count, header.last_offset_delta + 1);
    sent
}

fn without_offsets(records: Vec<Record>) -> Vec<Record> {
    records.into_iter().map(|record| Record { offset: Offset(0), ..record }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_built_is_read(stored in stored()) {
        prop_assert!(verify_crc(&stored.batch));
        prop_assert_eq!(&RawBatch::parse(stored.batch.bytes.clone()).unwrap().header, &stored.batch.header);
        prop_assert_eq!(records(&stored.batch).unwrap(), stored.records);
    }

    #[test]
    fn any_cut_of_a_section_keeps_the_whole_batches_and_nothing_else(log in log()) {
        let section = concatenated(&log);
        for cut in 0..=section.len() {
            let (batches, torn) = whole_batches(section.slice(..cut));
            let mut end = 0;
            let fitting = log.iter().take_while(|batch| { end += batch.bytes.len(); end <= cut }).count();
            prop_assert_eq!(batches.len(), fitting);
            let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
            prop_assert_eq!(bytes + torn, cut);
            for (got, stored) in batches.iter().zip(&log) {
                prop_assert_eq!(&got.bytes, &stored.bytes);
            }
        }
    }

    #[test]
    fn a_fetch_from_where_the_last_one_was_cut_joins_without_loss_or_double(log in log(), cut: prop::sample::Index) {
        let section = concatenated(&log);
        let (first, _) = whole_batches(section.slice(..cut.index(section.len() + 1)));
        let (second, torn) = whole_batches(concatenated(&log[first.len()..]));
        prop_assert_eq!(torn, 0);
        let offsets = |batches: &[RawBatch]| batches.iter().map(|batch| batch.header.base_offset).collect::<Vec<_>>();
        prop_assert_eq!([offsets(&first), offsets(&second)].concat(), offsets(&log));
    }

    #[test]
    fn a_stamped_batch_is_acceptable_and_keeps_every_record_byte_and_time(
        stored in (0..1_i64 << 40).prop_flat_map(|base| stored_at(base, false)),
        sequence in 0..=i32::MAX,
    ) {
        prop_assume!(classify(&stored.batch.header) == Handling::Pass);
        let encoded = pass(&stored.batch);
        prop_assert_eq!(&survivors(&encoded), &stored.records);
        let sent = assert_acceptable(&encoded, sequence);
        prop_assert!(verify_crc(&sent));
        prop_assert_eq!(&sent.bytes[HEADER_BYTES..], &stored.batch.bytes[HEADER_BYTES..]);
        prop_assert_eq!(without_offsets(records(&sent).unwrap()), without_offsets(stored.records));
    }

    #[test]
    fn damage_to_the_payload_shows_through_the_stamp_and_stops_every_opening(
        stored in (0..1_i64 << 40).prop_flat_map(|base| stored_at(base, false)),
        bit: prop::sample::Index,
    ) {
        let mut bytes = stored.batch.bytes.to_vec();
        let bit = bit.index((bytes.len() - HEADER_BYTES) * 8);
        bytes[HEADER_BYTES + bit / 8] ^= 1 << (bit % 8);
        let damaged = RawBatch::parse(bytes.into()).unwrap();
        prop_assert!(!verify_crc(&damaged));
        let head = stamp(&damaged.bytes, &Stamp { producer: PRODUCER, sequence: 0 });
        let sent = RawBatch::parse([&head[..], &damaged.bytes[HEADER_BYTES..]].concat().into()).unwrap();
        prop_assert!(!verify_crc(&sent));
        let is_checksum = |error: Malformed| matches!(error.flaw, Flaw::Checksum { .. });
        prop_assert!(is_checksum(records(&damaged).unwrap_err()));
        prop_assert!(is_checksum(repack(&damaged, everything()).unwrap_err()));
    }

    #[test]
    fn repacking_keeps_exactly_the_survivors(stored in stored(), from in -2..40_i64, span in 0..40_i64) {
        let base = stored.batch.header.base_offset;
        let keep = OffsetRange::new(Offset(base + from), Offset(base + from + span));
        let expected: Vec<_> =
            stored.records.iter().filter(|record| keep.contains(record.offset)).cloned().collect();
        match repack(&stored.batch, keep).unwrap() {
            None => prop_assert_eq!(expected, vec![]),
            Some(encoded) => {
                prop_assert_eq!(&survivors(&encoded), &expected);
                prop_assert_eq!(encoded.leader_epoch, LeaderEpoch(7));
                let latest = expected.iter().map(|record| record.timestamp_ms).fold(-1, i64::max);
                prop_assert_eq!(encoded.max_timestamp_ms, latest);
                let sent = assert_acceptable(&encoded, 5);
                prop_assert!(verify_crc(&sent));
                prop_assert_eq!(sent.header.attributes.codec(), stored.batch.header.attributes.codec());
            }
        }
    }

    #[test]
    fn a_batch_split_in_two_again_and_again_holds_the_same_records(stored in stored()) {
        fn halves(batch: EncodedBatch, into: &mut Vec<Record>) {
            match split_in_two(&batch).unwrap() {
                None => { assert_eq!(batch.records, 1); into.extend(survivors(&batch)); }
                Some((first, second)) => { halves(first, into); halves(second, into); }
            }
        }
        let encoded = repack(&stored.batch, everything()).unwrap().unwrap();
        let mut joined = Vec::new();
        halves(encoded, &mut joined);
        prop_assert_eq!(joined, stored.records);
    }

    #[test]
    fn joined_batches_hold_the_records_of_all_of_them_and_no_more_bytes_than_they_may(
        pieces in (0..ALL.len()).prop_flat_map(|codec| vec((stored_with(0, true, Just(codec)), 0..3_i64), 1..8)),
        most in prop_oneof![Just(usize::MAX), HEADER_BYTES..4000],
    ) {
        let (mut parts, mut content, mut next) = (Vec::new(), Vec::new(), Offset(40));
        for (stored, gap) in pieces {
            let batch = stored.batch.placed(next + gap, LeaderEpoch(2));
            let base = batch.header.base_offset;
            content.push(stored.records.into_iter().map(|r| Record { offset: r.offset + base, ..r }).collect::<Vec<_>>());
            next = batch.header.next_offset();
            // As a source hands them over.
            parts.push(match classify(&batch.header) {
                Handling::Pass => pass(&batch),
                _ => repack(&batch, everything()).unwrap().unwrap(),
            });
        }
        let mut join = Join::begin(parts[0].clone(), most).unwrap();
        let taken = 1 + parts[1..].iter().take_while(|part| join.take(part).unwrap()).count();
        prop_assert_eq!(join.parts() as usize, taken);
        let whole = join.finish();
        prop_assert!(most < usize::MAX || taken == parts.len(), "there was room for all");
        let expected = content[..taken].concat();
        prop_assert_eq!(&survivors(&whole), &expected);
        if taken == 1 {
            prop_assert_eq!(&whole.bytes, &parts[0].bytes);
        } else {
            let latest = expected.iter().map(|record| record.timestamp_ms).fold(-1, i64::max);
            prop_assert_eq!((whole.max_timestamp_ms, whole.leader_epoch), (latest, LeaderEpoch(2)));
            let sent = assert_acceptable(&whole, 5);
            prop_assert!(verify_crc(&sent));
            let codec = sent.header.attributes.codec().unwrap();
            prop_assert_eq!(codec, RawBatch::parse(parts[0].bytes.clone()).unwrap().header.attributes.codec().unwrap());
            prop_assert!(codec != Codec::None || whole.bytes.len() <= most);
        }
    }

    #[test]
    fn the_hash_tells_apart_what_differs_and_ignores_the_place(one in record(), other in record(), at: u32) {
        let moved = Record { offset: Offset(at.into()), ..one.clone() };
        prop_assert_eq!(content_hash(&one), content_hash(&moved));
        let time = |record: &Record| if record.timestamp_ms == 0 { STANDS_FOR_ZERO_MS } else { record.timestamp_ms };
        let said = |r: &Record| Record { offset: Offset(0), attributes: 0, timestamp_ms: time(r), ..r.clone() };
        prop_assert_eq!(said(&one) == said(&other), content_hash(&one) == content_hash(&other));
    }

    #[test]
    fn garbage_is_an_error_but_never_a_panic(bytes in vec(any::<u8>(), 0..300)) {
        open_everything(bytes.into());
    }

    /// The checksum is made right again, so that the damage gets as deep as it can.
    #[test]
    fn a_damaged_batch_under_a_right_checksum_is_an_error_but_never_a_panic(
        stored in stored(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = stored.batch.bytes.to_vec();
        for (place, with) in damage {
            let place = place.index(bytes.len());
            bytes[place] = with;
        }
        let crc = super::crc::computed(&bytes);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        open_everything(bytes.into());
    }
}

/// Does everything one can do with a fetched section.
fn open_everything(section: Bytes) {
    for piece in split(section) {
        match piece {
            Ok(Piece::Batch(batch)) => {
                let _ = (verify_crc(&batch), marker(&batch), records(&batch));
                match classify(&batch.header) {
                    Handling::Pass => {
                        let batch = pass(&batch);
                        drop(split_in_two(&batch));
                        if let Some(mut join) = Join::begin(batch.clone(), 1 << 20) {
                            drop((join.take(&batch), join.finish()));
                        }
                    }
                    Handling::Open(_) | Handling::Skip => drop(repack(&batch, everything())),
                }
            }
            Ok(Piece::Legacy(set)) => drop(repack_legacy(&set, everything())),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

#[test]
fn null_and_empty_hash_differently_and_hashes_never_change() {
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let null = Record::new(Offset(0), 1, None, bytes(""));
    let empty = Record::new(Offset(0), 1, bytes(""), None);
    assert_ne!(content_hash(&null), content_hash(&empty));
    let order = Record::new(Offset(9), 1_700_000_000_000, bytes("order-1"), bytes("{}"));
    assert_eq!(content_hash(&order), 2_878_134_664_081_692_684, "stored in ledgers: a change orphans every anchor");
}

#[test]
fn what_does_not_go_together_or_is_damaged_is_not_joined_and_changes_nothing() {
    let batch = |at, codec, epoch| {
        let mut builder = BatchBuilder::new(Offset(at)).codec(codec).leader_epoch(LeaderEpoch(epoch));
        builder.push(&Record::new(Offset(at), 7, None, Some(vec![b'x'; 100].into())));
        pass(&builder.build())
    };
    let damaged = |of: EncodedBatch| {
        let mut bytes = of.bytes.to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        EncodedBatch { bytes: bytes.into(), ..of }
    };
    for codec in ALL {
        let mut join = Join::begin(batch(5, codec, 1), 10_000).unwrap();
        assert_eq!(join.take(&batch(6, codec, 1)), Ok(true));
        let other = if codec == Codec::None { Codec::Lz4 } else { Codec::None };
        assert_eq!(join.take(&batch(7, other, 1)), Ok(false), "{codec} and {other}");
        assert_eq!(join.take(&batch(7, codec, 2)), Ok(false), "of another epoch");
        assert!(join.take(&damaged(batch(7, codec, 1))).is_err());
        assert_eq!(join.take(&batch(9, codec, 1)), Ok(true));
        let whole = join.finish();
        assert_eq!(survivors(&whole).iter().map(|record| record.offset.0).collect::<Vec<_>>(), [5, 6, 9]);

        let first = damaged(batch(5, codec, 1));
        let mut join = Join::begin(first.clone(), 10_000).unwrap();
        assert!(join.take(&batch(6, codec, 1)).is_err());
        assert_eq!((join.parts(), join.finish().bytes), (1, first.bytes), "the target's own check shall name it");
    }
}

#[test]
fn a_section_that_runs_backwards_is_malformed_there() {
    let one = |at| Marker::Commit.batch(Offset(at), LeaderEpoch(0), PRODUCER, 1);
    let mut split = split(concatenated(&[one(5), one(6), one(6), one(7)]));
    assert!(split.next().is_some_and(|piece| piece.is_ok()));
    assert!(split.next().is_some_and(|piece| piece.is_ok()));
    let error = split.next().unwrap().unwrap_err();
    assert_eq!((error.base_offset, error.flaw), (Some(Offset(6)), Flaw::Order(Offset(7))));
    assert!(split.next().is_none());
}

#[test]
fn headers_that_no_broker_writes_are_refused() {
    let good = Marker::Commit.batch(Offset(5), LeaderEpoch(0), PRODUCER, 1).bytes;
    for (at, with) in [(0, 0x80), (0, 0x7f), (8, 0x80), (11, 48), (16, 3), (23, 0x80), (57, 0x80), (60, 2)] {
        let mut bytes = good.to_vec();
        bytes[at] = with;
        if at == 11 {
            bytes[8..11].fill(0);
        } else if at == 0 && with == 0x7f {
            bytes[1..8].fill(0xff);
        }
        assert!(Header::parse(&bytes).is_err(), "byte {at} = {with}");
    }
    assert!(Header::parse(&good[..60]).is_err());
    assert!(split(good.slice(..60)).next().is_none());
}

#[test]
fn markers_tell_how_the_transaction_ended_and_nothing_of_them_is_copied() {
    for end in [Marker::Commit, Marker::Abort] {
        let batch = end.batch(Offset(12), LeaderEpoch(4), PRODUCER, 99);
        assert_eq!(marker(&batch), Ok(Some(end)));
        assert_eq!(batch.bytes.len(), 78, "as brokers write them");
        assert_eq!(classify(&batch.header), Handling::Skip);
        assert!(repack(&batch, everything()).unwrap().is_none());
    }
}
