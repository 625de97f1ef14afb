//! What every [`PointReader`](crate::endpoint::PointReader) must do.

use super::stage::{Contents, Stage, contents, new_topic, some_records};
use crate::endpoint::{ErrorKind, View, Window};
use crate::model::{Offset, OffsetRange, TopicPartition};

/// Runs the whole suite.
pub async fn all(stage: &dyn Stage) {
    windows_join_and_show_every_record_of_the_view(stage).await;
    a_range_beyond_the_view_is_cut_there(stage).await;
    a_place_below_the_log_start_is_an_error_that_names_it(stage).await;
}

/// However few bytes are asked for at a time; the log view shows aborted records, the committed one does not.
pub async fn windows_join_and_show_every_record_of_the_view(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    let at = &route.source;
    let (first, aborted, last) = (some_records(3), some_records(2), some_records(2));
    let mut committed = contents(stage.append(at, &first).await, &first);
    stage.begin(at, &aborted).await.end(false).await;
    let range = stage.append(at, &last).await;
    let void = contents(OffsetRange::new(Offset(3), Offset(5)), &aborted);
    let in_log = [&committed[..], &void[..], &contents(range, &last)[..]].concat();
    committed.extend(contents(range, &last));
    for max_bytes in [1, 150, 1 << 20] {
        for from in (0..range.end.0).map(Offset) {
            let behind =
                |all: &Contents| all.iter().filter(|(offset, _)| *offset >= from).copied().collect::<Contents>();
            let wanted = OffsetRange::new(from, range.end);
            assert_eq!(tiled(stage, at, wanted, View::Committed, max_bytes).await, behind(&committed), "from {from}");
            assert_eq!(tiled(stage, at, wanted, View::Log, max_bytes).await, behind(&in_log), "from {from}");
        }
    }
}

/// At the last stable offset, or the high watermark; nothing is waited for.
pub async fn a_range_beyond_the_view_is_cut_there(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    let at = &route.source;
    stage.append(at, &some_records(2)).await;
    let open = stage.begin(at, &some_records(2)).await;
    let beyond = OffsetRange::new(Offset(0), Offset(1000));
    let committed = read(stage, at, beyond, View::Committed, 1 << 20).await;
    assert_eq!((committed.range, committed.records.len()), (OffsetRange::new(Offset(0), Offset(2)), 2));
    let log = read(stage, at, beyond, View::Log, 1 << 20).await;
    assert_eq!((log.range, log.records.len()), (OffsetRange::new(Offset(0), Offset(4)), 4));
    open.end(true).await;
    let at_end = read(stage, at, OffsetRange::new(Offset(5), Offset(9)), View::Log, 1 << 20).await;
    assert!(at_end.range.is_empty() && at_end.records.is_empty(), "{at_end:?} lies behind the end");
}

/// Retention may overtake a question.
pub async fn a_place_below_the_log_start_is_an_error_that_names_it(stage: &dyn Stage) {
    let route = new_topic(stage, &[]).await;
    stage.append(&route.source, &some_records(5)).await;
    stage.delete_records(&route.source, Offset(3)).await;
    let range = OffsetRange::new(Offset(1), Offset(5));
    let error = stage.points().read(&route.source, range, View::Log, 1 << 20).await.expect_err("offset 1 is gone");
    assert_eq!(error.kind, ErrorKind::BelowLogStart(Offset(3)), "{error}");
}

async fn read(stage: &dyn Stage, at: &TopicPartition, range: OffsetRange, view: View, max_bytes: u32) -> Window {
    let window = stage.points().read(at, range, view, max_bytes).await.expect("an existing place is read");
    assert_eq!(window.range.start, range.start, "a window begins where it was asked for");
    assert!(window.range.end <= range.end, "{} exceeds {range}", window.range);
    assert!(window.records.iter().all(|record| window.range.contains(record.offset)), "{window:?}");
    window
}

async fn tiled(stage: &dyn Stage, at: &TopicPartition, mut rest: OffsetRange, view: View, max_bytes: u32) -> Contents {
    let mut seen = Contents::new();
    while !rest.is_empty() {
        let window = read(stage, at, rest, view, max_bytes).await;
        assert!(!window.range.is_empty(), "a window below the view's end covers something");
        seen.extend(window.records.iter().map(|record| (record.offset, record.hash)));
        rest.start = window.range.end;
    }
    seen
}
