//! Tiny batches: joined while the route is behind, exact whatever befalls a joined write, untouched while it is level.

use super::*;
use crate::batch::Codec;
use crate::endpoint::memory::Disturbance;
use crate::endpoint::{ErrorKind, Source};
use crate::model::{LeaderEpoch, Payload};

/// Where the batches that hold data begin and end.
async fn bounds(cluster: &MemoryCluster, route: &Route) -> Vec<OffsetRange> {
    let (mut reader, end) = (cluster.open(route, Offset(0), LeaderEpoch::UNKNOWN), cluster.log_end(&route.source));
    let (mut next, mut bounds) = (Offset(0), Vec::new());
    while next < end {
        let batch = reader.next().await.expect("the log can be read");
        next = batch.range.end;
        bounds.extend(matches!(batch.payload, Payload::Batches(_)).then_some(batch.range));
    }
    bounds
}

/// The target's log as a route onto itself.
async fn on_target(twin: &Twin) -> Route {
    let route = twin.route(0).await;
    Route { source_id: route.target_id, ..route }
}

#[tokio::test(start_paused = true)]
async fn a_backlog_of_tiny_batches_is_written_in_few_and_every_offset_translates() {
    let twin = Twin::new();
    twin.produce_singly(0..100);
    let run = twin.run().await;
    run.reaches(100, 100).await;
    twin.assert_exact(&run, "a hundred batches of one record");
    assert_eq!(bounds(&twin.target, &on_target(&twin).await).await.len(), 1);
    let map = run.map();
    assert_eq!(map.lock().expect("no panic while held").last_run().map(|run| run.length), Some(100), "one run");
}

#[tokio::test(start_paused = true)]
async fn transactions_codecs_and_holes_between_tiny_batches_change_nothing() {
    let twin = Twin::new();
    for n in 0..40 {
        let mut transaction = twin.source.transaction();
        transaction.append(&at(0), &[fresh(n), old(n)]);
        if n % 3 == 0 {
            transaction.abort()
        } else {
            transaction.commit()
        }
        let codec = [Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][n as usize / 7];
        twin.source.append_compressed(&at(0), &[fresh(100 + n)], codec);
        if n % 10 == 0 {
            twin.source.elect(&at(0));
        }
    }
    twin.source.remove_records(&at(0), |record| record.offset.0 % 5 == 4);
    let run = twin.run().await;
    let (source_end, copied) = (twin.source.log_end(&at(0)), twin.source.committed(&at(0)).len() as i64);
    run.reaches(source_end.0, copied).await;
    twin.assert_exact(&run, "tiny transactions");
    let (before, after) =
        (bounds(&twin.source, &twin.route(0).await).await, bounds(&twin.target, &on_target(&twin).await).await);
    assert!(after.len() < before.len(), "{} batches became {}", before.len(), after.len());
}

#[tokio::test(start_paused = true)]
async fn a_level_route_keeps_the_bounds_of_batches_and_waits_for_none() {
    let twin = Twin::new();
    let run = twin.run().await;
    run.replicating().await;
    let mut end = 0;
    for count in [1, 1, 3, 5, 1, 9] {
        // So many at once: still no backlog.
        for _ in 0..count {
            twin.produce(end..end + 2);
            end += 2;
        }
        run.reaches(end, end).await;
    }
    let source = bounds(&twin.source, &twin.route(0).await).await;
    assert_eq!(bounds(&twin.target, &on_target(&twin).await).await, source);
}

#[tokio::test(start_paused = true)]
async fn whatever_befalls_a_joined_write_nothing_is_lost_or_doubled() {
    let kinds = [Disturbance::LoseRequest, Disturbance::LoseAck, Disturbance::Refuse(ErrorKind::Retryable)];
    for (disturbance, skipping) in kinds.into_iter().flat_map(|kind| [(kind, 0), (kind, 1), (kind, 2)]) {
        let twin = Twin::new();
        twin.target.disturb(&at(0), skipping, disturbance);
        for wave in 0..4 {
            twin.produce_singly(30 * wave..30 * wave + 30);
            twin.source.append_compressed(&at(0), &[fresh(1000 + wave)], Codec::Lz4);
        }
        let run = twin.run().await;
        run.reaches(124, 124).await;
        twin.assert_exact(&run, &format!("{disturbance:?} after {skipping}"));
    }
}

#[tokio::test(start_paused = true)]
async fn killed_in_the_middle_of_joined_writes_the_next_owner_cuts_otherwise_and_is_exact() {
    for kept in [0, 7, 40, 41, 77] {
        let twin = Twin::new();
        twin.produce(0..1);
        let run = twin.run().await;
        run.reaches(1, 1).await;
        twin.target.hold_followers(&at(0));
        twin.produce_singly(1..40);
        until("joined batches are appended", || (twin.target.log_end(&at(0)) == Offset(40)).then_some(())).await;
        twin.produce_singly(40..77);
        until("and more of them", || (twin.target.log_end(&at(0)) == Offset(77)).then_some(())).await;
        run.crash().await;
        // A leader that has part of it, or all.
        twin.target.elect_without(&at(0), Offset(kept));
        twin.target.release_followers(&at(0));
        twin.produce_singly(77..82);
        let run = twin.run().await;
        run.reaches(82, 82).await;
        twin.assert_exact(&run, &format!("{kept} of 77 records survived"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_joined_batch_that_became_too_large_for_the_topic_is_cut_anew_and_no_halt() {
    let twin = Twin::new();
    twin.target.disturb(&at(0), 0, Disturbance::Refuse(ErrorKind::TooLarge));
    twin.produce_singly(0..40);
    let run = twin.run().await;
    run.reaches(40, 40).await;
    twin.assert_exact(&run, "the topic's limit had been lowered");
}
