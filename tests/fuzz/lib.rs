//! The pure rooms of Twinlog as a crate of their own, and what every input to them must satisfy.

#[path = "../../src/batch/mod.rs"]
pub mod batch;
#[path = "../../src/model/mod.rs"]
pub mod model;
/// The one thing of the runtime that a type of the model holds.
#[path = "."]
pub mod runtime {
    #[path = "../../src/runtime/memory.rs"]
    pub mod memory;
}

use batch::{Handling, Piece, RawBatch, Record, Stamp};
use bytes::Bytes;
use model::{EncodedBatch, Offset, OffsetRange, ProducerIdentity};

/// Puts a section through everything a fetch does with it and asserts the laws that hold for any bytes whatsoever.
pub fn fetch(section: Bytes) {
    let total = section.len();
    let mut split = batch::split(section);
    let (mut bytes, mut end, mut failed) = (0, Offset(0), false);
    for piece in split.by_ref() {
        assert!(!failed, "an error ends the split");
        match piece {
            Ok(piece) => {
                assert!(piece.next_offset() > end || bytes == 0, "offsets ascend");
                end = piece.next_offset();
                bytes += match piece {
                    Piece::Batch(batch) => open(&batch),
                    Piece::Legacy(set) => open_old(&set),
                };
            }
            Err(error) => {
                failed = true;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    assert_eq!(bytes + split.torn_bytes(), total, "every byte is in a piece or in the tail");
}

fn open(batch: &RawBatch) -> usize {
    let _ = batch::marker(batch);
    let whole = OffsetRange::new(Offset(0), Offset(i64::MAX));
    let records = batch::records(batch);
    let repacked = batch::repack(batch, whole);
    if let Ok(records) = &records {
        assert_eq!(records.len(), batch.header.count as usize);
        match repacked.expect("what can be read can be repacked") {
            Some(encoded) => assert_same(&encoded, records),
            None => assert!(records.is_empty() || batch.header.attributes.is_control()),
        }
    }
    if batch::classify(&batch.header) == Handling::Pass {
        let encoded = batch::pass(batch);
        let stamp = Stamp { producer: ProducerIdentity { id: 1, epoch: 0 }, sequence: 0 };
        let head = batch::stamp(&encoded.bytes, &stamp);
        let sent = [&head[..], &encoded.bytes[batch::HEADER_BYTES..]].concat();
        let sent = RawBatch::parse(sent.into()).expect("a stamped header is a header");
        assert_eq!(batch::verify_crc(&sent), batch::verify_crc(batch), "damage shows before and after alike");
        assert_eq!(batch::split_in_two(&encoded).is_ok(), records.is_ok() || encoded.records == 1);
    }
    batch.bytes.len()
}

fn open_old(set: &batch::LegacySet) -> usize {
    let whole = OffsetRange::new(Offset(0), Offset(i64::MAX));
    if let Ok(records) = set.records() {
        assert!(records.last().is_some_and(|last| last.offset < set.next_offset()));
        let encoded = batch::repack_legacy(set, whole).expect("what can be read can be repacked");
        assert_same(&encoded.expect("a set holds a record"), &records);
    }
    set.stored_bytes()
}

/// The encoded batch holds exactly these records, at these source offsets.
fn assert_same(encoded: &EncodedBatch, expected: &[Record]) {
    let batch = RawBatch::parse(encoded.bytes.clone()).expect("what we encode is a batch");
    assert!(batch.header.is_dense() && batch::verify_crc(&batch));
    let sources = encoded.runs.iter().flat_map(|run| (0..run.length).map(|n| run.start + n.into()));
    let records = batch::records(&batch).expect("what we encode can be read");
    let at_source = records.into_iter().zip(sources).map(|(record, offset)| Record { offset, ..record });
    assert!(at_source.eq(expected.iter().cloned()), "every record byte is kept");
}
