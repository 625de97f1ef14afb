//! A fetched section of one partition → digests of the records in a range, and how far that is proven; pure.

use bytes::Bytes;

use crate::batch::{Malformed, Piece, Record, content_hash, records, split};
use crate::endpoint::{RecordDigest, Window};
use crate::model::{LeaderEpoch, Offset, OffsetRange};
use crate::wire::transactions::Transactions;

/// Reads a section as a broker serves it, alone, for `range.start`: the first batch may begin below it, the last may be
/// torn. Offsets between and inside batches are proven; nothing is concluded about offsets behind the last whole batch,
/// so the proven range is empty when there is none.
pub(super) fn window(section: Bytes, range: OffsetRange, mut aborted: Transactions) -> Result<Window, Malformed> {
    let mut seen = Window { records: Vec::new(), range: OffsetRange::new(range.start, range.start) };
    for piece in split(section) {
        let piece = piece?;
        let next = piece.next_offset();
        let void = match &piece {
            Piece::Batch(batch) => aborted.voids(batch)? || batch.header.attributes.is_control(),
            Piece::Legacy(_) => false,
        };
        if next > range.start && !void {
            let (epoch, opened) = match &piece {
                Piece::Batch(batch) if Offset(batch.header.base_offset) < range.end => {
                    (LeaderEpoch(batch.header.leader_epoch), records(batch)?)
                }
                Piece::Batch(_) => (LeaderEpoch::UNKNOWN, Vec::new()),
                Piece::Legacy(set) => (LeaderEpoch::UNKNOWN, set.records()?),
            };
            let wanted = opened.iter().filter(|record| range.contains(record.offset));
            seen.records.extend(wanted.map(|record| digest(record, epoch)));
        }
        seen.range.end = next.clamp(seen.range.end, range.end);
        if next >= range.end {
            break;
        }
    }
    Ok(seen)
}

fn digest(record: &Record, leader_epoch: LeaderEpoch) -> RecordDigest {
    RecordDigest { offset: record.offset, leader_epoch, hash: content_hash(record) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Marker, RawBatch};
    use crate::model::ProducerIdentity;

    const PRODUCER: ProducerIdentity = ProducerIdentity { id: 7, epoch: 0 };

    fn record(offset: i64) -> Record {
        Record::new(Offset(offset), 1_000 + offset, None, Some(Bytes::from(offset.to_string())))
    }

    fn plain(offsets: &[i64]) -> RawBatch {
        let mut builder = BatchBuilder::new(Offset(offsets[0])).leader_epoch(LeaderEpoch(3));
        offsets.iter().for_each(|offset| builder.push(&record(*offset)));
        builder.build()
    }

    fn transactional(offset: i64) -> RawBatch {
        let mut builder = BatchBuilder::new(Offset(offset)).producer(PRODUCER, 0).transactional();
        builder.push(&record(offset));
        builder.build()
    }

    fn abort(offset: i64) -> RawBatch {
        Marker::Abort.batch(Offset(offset), LeaderEpoch(3), PRODUCER, 0)
    }

    fn section(batches: &[RawBatch]) -> Bytes {
        batches.iter().flat_map(|batch| batch.bytes.to_vec()).collect::<Vec<_>>().into()
    }

    fn offsets(window: &Window) -> Vec<i64> {
        window.records.iter().map(|record| record.offset.0).collect()
    }

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(Offset(start), Offset(end))
    }

    #[test]
    fn records_outside_the_range_are_left_out_and_holes_inside_are_proven() {
        let bytes = section(&[plain(&[10, 11, 14]), plain(&[20, 21])]);
        let seen = window(bytes.clone(), range(11, 100), Transactions::aborted([])).expect("sound");
        assert_eq!((offsets(&seen), seen.range), (vec![11, 14, 20, 21], range(11, 22)));
        let cut = window(bytes.clone(), range(11, 17), Transactions::aborted([])).expect("sound");
        assert_eq!((offsets(&cut), cut.range), (vec![11, 14], range(11, 17)));
        let hole = window(bytes, range(15, 18), Transactions::aborted([])).expect("sound");
        assert_eq!((offsets(&hole), hole.range), (vec![], range(15, 18)));
    }

    #[test]
    fn a_torn_tail_proves_nothing() {
        let mut bytes = section(&[plain(&[10]), plain(&[11, 12])]);
        bytes.truncate(bytes.len() - 1);
        let seen = window(bytes, range(10, 100), Transactions::aborted([])).expect("sound");
        assert_eq!((offsets(&seen), seen.range), (vec![10], range(10, 11)));
        let torn = plain(&[10]).bytes.slice(..30);
        let nothing = window(torn, range(10, 100), Transactions::aborted([])).expect("sound");
        assert!(nothing.range.is_empty());
    }

    #[test]
    fn aborted_records_and_markers_are_void_in_the_committed_view_only() {
        let bytes = section(&[plain(&[0]), transactional(1), abort(2), transactional(3), plain(&[5])]);
        let committed = window(bytes.clone(), range(0, 9), Transactions::aborted([(7, Offset(1))])).expect("sound");
        assert_eq!((offsets(&committed), committed.range), (vec![0, 3, 5], range(0, 6)));
        let log = window(bytes, range(0, 9), Transactions::aborted([])).expect("sound");
        assert_eq!(offsets(&log), [0, 1, 3, 5]);
    }

    #[test]
    fn a_damaged_record_is_an_error_not_a_digest() {
        let mut bytes = section(&[plain(&[0])]).to_vec();
        *bytes.last_mut().expect("bytes") ^= 1;
        assert!(window(bytes.into(), range(0, 9), Transactions::aborted([])).is_err());
    }
}
