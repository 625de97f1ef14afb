//! What a leader answers to a batch.

use super::*;
use crate::batch::{HEADER_BYTES, Stamp, stamp};
use crate::endpoint::EpochEnd;
use crate::endpoint::memory::log::Limits;

/// Treats one batch of `count` records as the leader does.
fn produce(log: &mut Log, producer: ProducerIdentity, sequence: i32, count: i64) -> Result<i64, ErrorKind> {
    let batch = encoded(&some_records(0..count)).bytes;
    let header = stamp(&batch, &Stamp { producer, sequence });
    let bytes = [&header[..], &batch[HEADER_BYTES..]].concat();
    let limits = Limits { batch_bytes: 1 << 20, needs_keys: false };
    log.produce(bytes.into(), limits).map(|range| range.start.0).map_err(|refusal| refusal.kind)
}

#[test]
fn a_new_producer_may_start_anywhere_and_must_then_go_on() {
    let mut log = Log::new();
    assert_eq!(produce(&mut log, OURS, 40, 3), Ok(0));
    assert_eq!(produce(&mut log, OURS, 44, 1), Err(ErrorKind::Attach), "a gap");
    assert_eq!(produce(&mut log, OURS, 42, 3), Err(ErrorKind::Attach), "an overlap");
    assert_eq!(produce(&mut log, OURS, 43, 2), Ok(3));
    let other = ProducerIdentity { id: 78, ..OURS };
    assert_eq!(produce(&mut log, other, 43, 2), Ok(5), "another producer has its own count");
}

#[test]
fn five_batches_back_are_recognised_and_the_sixth_is_out_of_order() {
    let mut log = Log::new();
    for n in 0..6 {
        assert_eq!(produce(&mut log, OURS, n * 2, 2), Ok(i64::from(n) * 2));
    }
    for n in 1..6 {
        assert_eq!(produce(&mut log, OURS, n * 2, 2), Ok(i64::from(n) * 2), "batch {n} again");
    }
    assert_eq!(produce(&mut log, OURS, 0, 2), Err(ErrorKind::Attach));
    assert_eq!(log.end(), Offset(12), "nothing was appended twice");
    log.producers.keep_last_batches();
    assert_eq!(produce(&mut log, OURS, 10, 2), Ok(10));
    assert_eq!(produce(&mut log, OURS, 8, 2), Err(ErrorKind::Attach), "a restart keeps one batch back only");
}

#[test]
fn sequences_wrap_within_a_batch() {
    let mut log = Log::new();
    assert_eq!(produce(&mut log, OURS, i32::MAX - 1, 4), Ok(0));
    assert_eq!(produce(&mut log, OURS, 2, 1), Ok(4));
    assert_eq!(produce(&mut log, OURS, i32::MAX - 1, 4), Ok(0), "a repetition across the wrap");
}

#[test]
fn a_newer_epoch_begins_at_zero_and_fences_the_older() {
    let mut log = Log::new();
    let newer = ProducerIdentity { epoch: OURS.epoch + 1, ..OURS };
    assert_eq!(produce(&mut log, OURS, 0, 1), Ok(0));
    assert_eq!(produce(&mut log, newer, 1, 1), Err(ErrorKind::Attach));
    assert_eq!(produce(&mut log, newer, 0, 1), Ok(1));
    assert_eq!(produce(&mut log, OURS, 0, 1), Err(ErrorKind::Fenced), "even what was appended before");
}

#[test]
fn what_no_producer_may_send_is_refused() {
    let limits = Limits { batch_bytes: 200, needs_keys: true };
    let refuse = |bytes: Vec<u8>| Log::new().produce(bytes.into(), limits).expect_err("a bad batch").kind;
    let good = encoded(&some_records(0..2)).bytes.to_vec();
    assert!(Log::new().produce(good.clone().into(), limits).is_ok());
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] ^= byte;
        bytes
    };
    assert_eq!(refuse(with(good.len() - 1, 1)), ErrorKind::Corrupt, "a flipped payload bit");
    assert_eq!(refuse(with(7, 1)), ErrorKind::Refused, "a base offset");
    assert_eq!(refuse(good[..80].to_vec()), ErrorKind::Corrupt, "a torn batch");
    assert_eq!(refuse(encoded(&some_records(0..50)).bytes.to_vec()), ErrorKind::TooLarge);
    let keyless = Record { key: None, ..some_records(0..1).remove(0) };
    assert_eq!(refuse(encoded(&[keyless]).bytes.to_vec()), ErrorKind::Refused, "compaction needs keys");
    let mut void = BatchBuilder::new(Offset(0)).transactional();
    void.push(&some_records(0..1)[0]);
    assert_eq!(refuse(void.build().bytes.to_vec()), ErrorKind::Denied, "a transaction without an id");
}

#[test]
fn a_restart_forgets_producers_by_the_time_of_their_records() {
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("the clock is set");
    for (age_ms, remembered) in [(0, true), (80_000_000, true), (90_000_000, false)] {
        let mut log = Log::new();
        let mut batch = BatchBuilder::new(Offset(0)).producer(OURS, 7);
        batch.push(&Record { timestamp_ms: now().as_millis() as i64 - age_ms, ..some_records(0..1).remove(0) });
        log.append(&batch.build());
        log.restart();
        assert_eq!(log.producers.state(OURS).is_some(), remembered, "{age_ms} ms old");
        assert_eq!(produce(&mut log, OURS, 40, 1).is_ok(), !remembered, "without state any sequence is taken");
    }
}

#[test]
fn a_leader_epoch_that_is_gone_ends_where_the_log_begins() {
    let mut log = Log::new();
    produce(&mut log, OURS, 0, 3).expect("a sound batch");
    log.elect();
    log.elect();
    produce(&mut log, OURS, 3, 3).expect("a sound batch");
    let end = |log: &Log, epoch| log.epoch_end(LeaderEpoch(epoch));
    assert_eq!(end(&log, 0), EpochEnd { epoch: LeaderEpoch(0), end: Offset(3) });
    assert_eq!(end(&log, 2), EpochEnd { epoch: LeaderEpoch(2), end: Offset(6) });
    assert_eq!(end(&log, 3).epoch, LeaderEpoch::UNKNOWN, "nobody knows of it yet");
    log.delete_before(Offset(4));
    assert_eq!(end(&log, 0), EpochEnd { epoch: LeaderEpoch(0), end: Offset(3) });
}

#[test]
fn a_fetch_is_told_of_the_aborted_transactions_that_reach_into_it() {
    let (cluster, route) = cluster();
    let at = &route.source;
    for _ in 0..2 {
        let mut void = cluster.transaction();
        void.append(at, &some_records(0..2));
        void.append(at, &some_records(0..2));
        void.abort();
    }
    let state = cluster.state();
    let log = state.log(at).expect("it exists");
    let firsts = |from, end| -> Vec<i64> {
        log.transactions.aborted_in(Offset(from), Offset(end)).map(|(_, first)| first.0).collect()
    };
    assert_eq!(firsts(0, 2), [0]);
    assert_eq!(firsts(2, 5), [0]);
    assert_eq!(firsts(4, 7), [0, 5], "the marker of the first, the beginning of the second");
    assert_eq!(firsts(5, 10), [5]);
}
