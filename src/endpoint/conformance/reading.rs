//! What every [`Source`](crate::endpoint::Source) must do.

use std::time::Duration;

use futures::FutureExt;

use super::stage::{Contents, Stage, contents, contents_of, new_topic, some_records, within};
use crate::endpoint::{ErrorKind, Reader};
use crate::model::{LeaderEpoch, Offset, OffsetRange, Route};

/// Runs the whole suite.
pub async fn all(stage: &dyn Stage) {
    ranges_join_and_every_committed_record_arrives_once(stage).await;
    a_reader_begins_exactly_where_it_is_asked_to(stage).await;
    a_dropped_wait_loses_nothing(stage).await;
    what_is_said_to_wait_comes_without_waiting(stage).await;
    an_open_transaction_holds_records_back_until_it_ends(stage).await;
    offsets_outside_the_log_are_errors_that_name_its_ends(stage).await;
    a_topic_that_does_not_exist_is_an_error(stage).await;
}

/// Holes, whether of markers or of aborted records, are part of a range: ranges join from the first offset to the last.
pub async fn ranges_join_and_every_committed_record_arrives_once(stage: &dyn Stage) {
    let (route, expected, end) = mixed_log(stage).await;
    let mut reader = stage.source().open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    assert_eq!(read_to(&mut *reader, Offset(0), end).await, expected);
}

/// In a hole, in the middle of a batch, at the very end.
pub async fn a_reader_begins_exactly_where_it_is_asked_to(stage: &dyn Stage) {
    let (route, expected, end) = mixed_log(stage).await;
    for from in (0..end.0).map(Offset) {
        let mut reader = stage.source().open(&route, from, LeaderEpoch::UNKNOWN);
        let rest: Contents = expected.iter().filter(|(offset, _)| *offset >= from).copied().collect();
        assert_eq!(read_to(&mut *reader, from, end).await, rest, "read from offset {from}");
    }
}

/// `next` is cancel-safe, also while it waits at the end.
pub async fn a_dropped_wait_loses_nothing(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    let mut reader = stage.source().open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    let mut expected = Contents::new();
    let mut seen = Contents::new();
    let mut next = Offset(0);
    for _ in 0..5 {
        let gave_up = tokio::time::timeout(Duration::from_millis(30), reader.next()).await;
        assert!(gave_up.is_err(), "a reader at the end waits");
        let records = some_records(3);
        let range = stage.append(&route.source, &records).await;
        expected.extend(contents(range, &records));
        while next < range.end {
            // A wait cut short at any moment, then a whole one.
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(1), reader.next()).await {
                let batch = batch.expect("an open partition is read");
                assert_eq!(batch.range.start, next, "ranges join");
                seen.extend(contents_of(&batch));
                next = batch.range.end;
            }
        }
    }
    assert_eq!(seen, expected);
}

/// The count of what waits is no promise but a fact.
pub async fn what_is_said_to_wait_comes_without_waiting(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    let mut expected = Contents::new();
    for _ in 0..12 {
        let records = some_records(2);
        expected.extend(contents(stage.append(&route.source, &records).await, &records));
    }
    let mut reader = stage.source().open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    let first = within("the first batch comes", reader.next()).await.expect("an open partition is read");
    let mut seen = contents_of(&first);
    while seen.len() < expected.len() {
        for _ in 0..reader.waiting() {
            let batch = reader.next().now_or_never().expect("it was said to wait").expect("an open partition is read");
            seen.extend(contents_of(&batch));
        }
        if seen.len() < expected.len() {
            let more = within("the rest comes", reader.next()).await.expect("an open partition is read");
            seen.extend(contents_of(&more));
        }
    }
    assert_eq!((seen, reader.waiting()), (expected, 0));
}

/// Only what is stable is read: what follows an open transaction waits too.
pub async fn an_open_transaction_holds_records_back_until_it_ends(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    let at = &route.source;
    let records = some_records(2);
    let mut expected = contents(stage.append(at, &records).await, &records);
    let open = stage.begin(at, &some_records(2)).await;
    let after = some_records(2);
    let last = stage.append(at, &after).await;
    let mut reader = stage.source().open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    assert_eq!(read_to(&mut *reader, Offset(0), Offset(2)).await, expected);
    let held = tokio::time::timeout(Duration::from_millis(300), reader.next()).await;
    assert!(held.is_err(), "a record behind an open transaction was read: {held:?}");
    open.end(false).await;
    expected.extend(contents(last, &after));
    let rest = read_to(&mut *reader, Offset(2), last.end + 1).await;
    assert_eq!(rest, expected[2..]);
}

/// Below the log start, and above the log end.
pub async fn offsets_outside_the_log_are_errors_that_name_its_ends(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    for _ in 0..3 {
        stage.append(&route.source, &some_records(4)).await;
    }
    stage.delete_records(&route.source, Offset(6)).await;
    let mut below = stage.source().open(&route, Offset(5), LeaderEpoch::UNKNOWN);
    let error = within("a reader below the log start fails", below.next()).await.expect_err("offset 5 is gone");
    assert_eq!(error.kind, ErrorKind::BelowLogStart(Offset(6)), "{error}");
    let mut above = stage.source().open(&route, Offset(13), LeaderEpoch::UNKNOWN);
    let error = within("a reader above the log end fails", above.next()).await.expect_err("offset 13 is not there");
    assert_eq!(error.kind, ErrorKind::Truncated(Offset(12)), "{error}");
    let mut reader = stage.source().open(&route, Offset(6), LeaderEpoch::UNKNOWN);
    assert_eq!(read_to(&mut *reader, Offset(6), Offset(12)).await.len(), 6);
}

/// Asked by name, the cluster's word counts.
pub async fn a_topic_that_does_not_exist_is_an_error(stage: &dyn Stage) {
    let mut route = new_topic(stage, &[]).await;
    route.source.topic = format!("{}-is-missing", route.source.topic).into();
    route.source_id = None;
    let mut reader = stage.source().open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    let error = within("a missing topic is an error", reader.next()).await.expect_err("the topic is missing");
    assert_eq!(error.kind, ErrorKind::UnknownTopic, "{error}");
}

/// Plain, aborted and committed batches, ending in a marker; what a committed reader sees of them, and the end.
async fn mixed_log(stage: &dyn Stage) -> (Route, Contents, Offset) {
    let route = new_topic(stage, &[]).await;
    let at = &route.source;
    let mut expected = Contents::new();
    let mut end = Offset(0);
    for (records, committed) in [(3, None), (2, Some(false)), (4, Some(true)), (1, None), (2, Some(true))] {
        let records = some_records(records);
        match committed {
            None => {
                let range = stage.append(at, &records).await;
                expected.extend(contents(range, &records));
                end = range.end;
            }
            Some(commit) => {
                stage.begin(at, &records).await.end(commit).await;
                let range = OffsetRange::new(end, end + records.len() as i64);
                if commit {
                    expected.extend(contents(range, &records));
                }
                end = range.end + 1;
            }
        }
    }
    (route, expected, end)
}

/// Reads until `end`; ranges must join from `from` on.
async fn read_to(reader: &mut dyn Reader, from: Offset, end: Offset) -> Contents {
    let (mut next, mut seen) = (from, Contents::new());
    while next < end {
        let batch = within("committed records are read to the end", reader.next()).await;
        let batch = batch.expect("an open partition is read");
        assert_eq!(batch.range.start, next, "ranges join");
        assert!(!batch.range.is_empty(), "a range spans something");
        seen.extend(contents_of(&batch));
        next = batch.range.end;
    }
    seen
}
