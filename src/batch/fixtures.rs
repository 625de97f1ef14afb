//! Batches written by Kafka's own Java code (`fixtures/Fixtures.java`), read by ours.

use bytes::Bytes;

use super::codec::ALL;
use super::*;
use crate::model::{EncodedBatch, LeaderEpoch, Offset, OffsetRange};

const TIME: i64 = 1_700_000_000_000;
const APPENDED: i64 = 1_700_000_999_000;

fn fixture(name: &str) -> Option<Bytes> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/batch/fixtures");
    std::fs::read(format!("{directory}/{name}.bin")).ok().map(Bytes::from)
}

fn file_name(codec: Codec) -> String {
    codec.to_string().replace("uncompressed", "none")
}

/// What `Fixtures.java` appended.
fn expected(magic: u8, codec: Codec) -> Vec<Record> {
    let large = "0123456789".repeat(if codec == Codec::None { 30 } else { 7_000 });
    let time = |second: i64| if magic == 0 { -1 } else { TIME + second * 1000 };
    let record = |offset, time, key: Option<&[u8]>, value: Option<&[u8]>| {
        Record::new(Offset(offset), time, key.map(Bytes::copy_from_slice), value.map(Bytes::copy_from_slice))
    };
    let mut records = vec![
        record(100, time(0), Some(b"order-0"), Some(b"{\"amount\":0}")),
        record(101, time(1), None, Some(b"v1")),
        record(103, time(2), Some(b""), None),
        record(104, -1, Some(b"k3"), Some(b"")),
        record(107, time(4), Some(&[0, 0xff]), Some(large.as_bytes())),
    ];
    if magic == 2 {
        records[0].headers = encode_headers(&[(b"trace", Some(&[1, 2])), (b"trace", Some(b"")), (b"", None)]);
    }
    records
}

fn appended(mut records: Vec<Record>) -> Vec<Record> {
    for record in &mut records {
        record.timestamp_ms = APPENDED;
    }
    records
}

fn everything() -> OffsetRange {
    OffsetRange::new(Offset(0), Offset(i64::MAX))
}

fn only_batch(section: Bytes) -> RawBatch {
    match split(section).next() {
        Some(Ok(Piece::Batch(batch))) => batch,
        other => panic!("{other:?} is not a batch"),
    }
}

/// Re-read with the source offsets the runs name.
fn reread(encoded: EncodedBatch, codec: Codec) -> Vec<Record> {
    let batch = RawBatch::parse(encoded.bytes).unwrap();
    assert!(verify_crc(&batch) && batch.header.is_dense());
    assert_eq!(batch.header.attributes.codec(), Ok(codec));
    let sources = encoded.runs.iter().flat_map(|run| (0..run.length).map(|n| run.start + n.into()));
    let records = records(&batch).unwrap().into_iter().zip(sources);
    records.map(|(record, offset)| Record { offset, ..record }).collect()
}

#[test]
fn batches_of_javas_client_are_read_and_repacked_with_every_codec() {
    for codec in ALL {
        for (kind, records_expected) in [("", expected(2, codec)), ("-appended", appended(expected(2, codec)))] {
            let name = file_name(codec);
            let batch = only_batch(fixture(&format!("v2-{name}{kind}")).expect("the fixture is in the repository"));
            let header = batch.header;
            assert!(verify_crc(&batch) && header.attributes.is_transactional());
            assert_eq!((header.base_offset, header.next_offset(), header.leader_epoch), (100, Offset(108), 5));
            assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (42, 3, 77));
            assert_eq!(records(&batch).unwrap(), records_expected, "{codec}{kind}");
            assert_eq!(classify(&header), Handling::Open("thinned by compaction"));
            let encoded = repack(&batch, everything()).unwrap().unwrap();
            assert_eq!(encoded.leader_epoch, LeaderEpoch(5));
            assert_eq!(reread(encoded, codec), records_expected, "{codec}{kind}");
        }
    }
}

#[test]
fn what_the_log_cleaner_leaves_keeps_its_times_although_they_count_from_the_delete_horizon() {
    for codec in ALL {
        let name = file_name(codec);
        let batch = only_batch(fixture(&format!("v2-{name}-cleaned")).expect("the fixture is in the repository"));
        assert!(batch.header.attributes.has_delete_horizon());
        assert_eq!(batch.header.base_timestamp, APPENDED + 1000, "the horizon");
        let mut records_expected = expected(2, codec);
        records_expected.remove(1);
        assert_eq!(records(&batch).unwrap(), records_expected, "{codec}");
        assert_eq!(reread(repack(&batch, everything()).unwrap().unwrap(), codec), records_expected, "{codec}");
    }
}

#[test]
fn messages_older_than_0_11_are_read_and_become_batches() {
    for magic in [0, 1] {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4] {
            for kind in ["", "-appended"] {
                let name = file_name(codec);
                let Some(section) = fixture(&format!("v{magic}-{name}{kind}")) else {
                    assert_eq!((magic, kind), (0, "-appended"), "magic 0 has no times, all else is in the repository");
                    continue;
                };
                let mut split = split(section.clone());
                let Some(Ok(Piece::Legacy(set))) = split.next() else { panic!("v{magic}-{name}{kind} is one set") };
                assert!(split.next().is_none() && split.torn_bytes() == 0);
                assert_eq!(set.next_offset(), Offset(108));
                let mut records = expected(magic, codec);
                if kind == "-appended" {
                    records = appended(records);
                }
                assert_eq!(set.records().unwrap(), records, "v{magic}-{name}{kind}");
                let encoded = repack_legacy(&set, everything()).unwrap().unwrap();
                assert_eq!(reread(encoded, codec), records);
                let from_103 = OffsetRange::new(Offset(103), Offset(107));
                let encoded = repack_legacy(&set, from_103).unwrap().unwrap();
                assert_eq!(reread(encoded, codec), records[2..4]);
            }
        }
    }
}

#[test]
fn every_cut_and_every_flipped_bit_of_old_messages_is_noticed() {
    /// Offsets of all records, each piece's end behind its own.
    fn offsets(section: Bytes) -> Result<Vec<Offset>, Malformed> {
        let mut offsets = Vec::new();
        for piece in split(section) {
            let Piece::Legacy(set) = piece? else { panic!("old messages hold no batch") };
            offsets.extend(set.records()?.iter().map(|record| record.offset));
            offsets.push(set.next_offset());
        }
        Ok(offsets)
    }
    for name in ["v0-none", "v0-lz4", "v1-none", "v1-gzip"] {
        let section = fixture(name).expect("the fixture is in the repository");
        let whole = offsets(section.clone()).unwrap();
        assert_eq!(whole.len(), 6);
        for cut in 0..section.len() {
            let mut kept = offsets(section.slice(..cut)).unwrap();
            kept.pop();
            assert!(whole.starts_with(&kept) && kept.len() < 5, "{name} cut at {cut}");
        }
        for bit in 0..section.len() * 8 {
            let mut damaged = section.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(offsets(damaged.into()), Ok(whole.clone()), "{name} bit {bit}");
        }
    }
}

#[test]
fn markers_of_brokers_are_understood() {
    for (name, end) in [("marker-commit", Marker::Commit), ("marker-abort", Marker::Abort)] {
        let batch = only_batch(fixture(name).expect("the fixture is in the repository"));
        assert_eq!(marker(&batch), Ok(Some(end)));
        assert_eq!((batch.header.base_offset, batch.header.producer_id), (200, 42));
    }
}
