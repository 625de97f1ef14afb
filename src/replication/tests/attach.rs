//! Attach: what a crash left behind is taken over, what cannot be ours is named.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bytes::Bytes;

use super::*;
use crate::endpoint::memory::Call;
use crate::endpoint::{ErrorKind, LedgerTopic};
use crate::model::{LeaderEpoch, Run};
use crate::offsets::MapKey;

/// Copies 0..4, flushes; copies on to `end`, and dies before the next flush.
async fn crash_with_a_tail(twin: &Twin, end: i64) {
    twin.produce(0..4);
    let run = twin.run().await;
    run.reaches(4, 4).await;
    run.flush().await;
    twin.produce(4..end);
    run.reaches(end, end).await;
    run.crash().await;
}

#[tokio::test(start_paused = true)]
async fn a_birth_is_durable_before_the_first_send() {
    let twin = Twin::new();
    twin.produce(0..3);
    let mut run = twin.prepare().await;
    twin.target.fail_next(Call::LedgerAppend, usize::MAX, ErrorKind::Retryable);
    run.copy(twin.route(0).await);
    meanwhile(60).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0), "sent without a birth on record");
    twin.target.heal();
    until("the first record is sent", || (twin.target.log_end(&at(0)) > Offset(0)).then_some(())).await;
    let born = twin.durable().await.born(&at(0)).expect("born on record");
    assert_eq!((born.first_source, born.target_start, &born.route), (Offset(0), Offset(0), run.monitor().route()));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_birth_and_flush_skips_nothing_even_when_the_start_is_latest() {
    for copied_before_the_crash in [false, true] {
        let twin = Twin { start: Start::Latest, ..Twin::new() };
        twin.produce(0..5);
        let run = twin.run().await;
        run.replicating().await;
        if copied_before_the_crash {
            twin.produce(5..8);
            run.reaches(8, 3).await;
        }
        run.crash().await;
        twin.produce(8..10);
        let end = twin.source.log_end(&at(0)).0;
        let run = twin.run().await;
        run.reaches(end, end - 5).await;
        twin.assert_exact(&run, "from the first start on");
        assert_eq!(run.map().lock().expect("not poisoned").born(), (Offset(5), Offset(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn each_start_rule_begins_where_it_says() {
    for (start, first) in [(Start::Earliest, 2), (Start::Latest, 6), (Start::Time(1_004), 4), (Start::Time(9_999), 6)] {
        let twin = Twin { start, ..Twin::new() };
        for n in 0..6 {
            twin.source.append(&at(0), &[old(n)]);
        }
        twin.source.delete_records(&at(0), Offset(2));
        let run = twin.run().await;
        run.reaches(6, 6 - first).await;
        twin.assert_exact(&run, &format!("{start:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_a_crash_left_is_matched_and_nothing_is_sent_twice() {
    let twin = Twin::new();
    crash_with_a_tail(&twin, 9).await;
    twin.produce(9..11);
    let run = twin.run().await;
    run.reaches(11, 11).await;
    twin.assert_exact(&run, "the tail was taken over");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_record_in_the_tail_halts_even_when_the_count_fits() {
    let twin = Twin::new();
    twin.produce(0..4);
    let run = twin.run().await;
    run.reaches(4, 4).await;
    run.flush().await;
    run.crash().await;
    twin.produce(4..6);
    twin.target.append(&at(0), &[fresh(4), fresh(77)]);
    let run = twin.run().await;
    let detail = run.halts_as(HaltReason::ForeignWrite).await;
    assert!(detail.contains("somebody else wrote it"), "{detail}");
    meanwhile(90).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(6), "nothing is sent behind a stranger");
}

#[tokio::test(start_paused = true)]
async fn a_duplicated_run_in_the_tail_is_passed_over_and_stays_passed() {
    let twin = Twin::new();
    crash_with_a_tail(&twin, 8).await;
    let repeated: Vec<Record> = twin.target.committed(&at(0)).into_iter().skip(5).collect();
    twin.target.append(&at(0), &repeated);
    let run = twin.run().await;
    run.reaches(8, 11).await;
    let end = run.map().lock().expect("not poisoned").translate(Offset(8));
    assert_eq!(end, Translation::Exact(Offset(11)), "a group at the end lands behind the repetition");
    run.flush().await;
    run.crash().await;
    // Nothing was copied behind it: the repetition is still the log's end.
    let run = twin.run().await;
    run.reaches(8, 11).await;
    twin.produce(8..9);
    run.reaches(9, 12).await;
}

#[tokio::test(start_paused = true)]
async fn tail_records_whose_source_was_compacted_are_unverifiable_not_foreign() {
    let twin = Twin::with_settings(&[("cleanup.policy", "compact")]);
    crash_with_a_tail(&twin, 8).await;
    twin.source.remove_records(&at(0), |record| [5, 6].contains(&record.offset.0));
    let run = twin.run().await;
    run.reaches(8, 8).await;
    let map = run.map();
    assert_eq!(map.lock().expect("not poisoned").translate(Offset(5)), Translation::Exact(Offset(7)));
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_the_target_compacted_is_matched_around_its_holes() {
    // What the source has lost too is in no map; the rest stands where it stood.
    for (source_lost, lands_on) in [(&[][..], 5), (&[5], 6)] {
        let twin = Twin::with_settings(&[("cleanup.policy", "compact")]);
        crash_with_a_tail(&twin, 9).await;
        twin.source.remove_records(&at(0), |record| source_lost.contains(&record.offset.0));
        twin.target.remove_records(&at(0), |record| [4, 5, 6].contains(&record.offset.0));
        let run = twin.run().await;
        run.reaches(9, 9).await;
        let map = run.map();
        let map = map.lock().expect("not poisoned");
        assert_eq!(map.translate(Offset(5)), Translation::Exact(Offset(lands_on)), "the source lost {source_lost:?}");
        for kept in [6, 7, 8, 9] {
            assert_eq!(map.translate(Offset(kept)), Translation::Exact(Offset(kept)));
            assert_eq!(map.translate_back(Offset(kept)), Translation::Exact(Offset(kept)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn behind_a_hole_of_the_target_a_strangers_record_is_still_foreign() {
    let twin = Twin::with_settings(&[("cleanup.policy", "compact")]);
    crash_with_a_tail(&twin, 8).await;
    twin.target.append(&at(0), &[fresh(77), fresh(78)]);
    twin.produce(8..12);
    twin.target.remove_records(&at(0), |record| [5, 6, 8].contains(&record.offset.0));
    twin.run().await.halts_as(HaltReason::ForeignWrite).await;
}

#[tokio::test(start_paused = true)]
async fn behind_the_end_of_a_compacted_source_a_strangers_record_is_still_foreign() {
    let twin = Twin::with_settings(&[("cleanup.policy", "compact")]);
    crash_with_a_tail(&twin, 6).await;
    twin.target.append(&at(0), &[fresh(77)]);
    twin.run().await.halts_as(HaltReason::ForeignWrite).await;
}

#[tokio::test(start_paused = true)]
async fn a_tail_whose_source_expired_is_kept_and_only_below_the_log_start_excused() {
    for (stranger, position) in [(false, Some(10)), (true, None)] {
        let twin = Twin::new();
        crash_with_a_tail(&twin, 8).await;
        if stranger {
            twin.target.append(&at(0), &[fresh(77)]);
        }
        twin.produce_singly(8..10);
        twin.source.delete_records(&at(0), Offset(6));
        let run = twin.run().await;
        match position {
            Some(end) => run.reaches(end, end).await,
            None => drop(run.halts_as(HaltReason::ForeignWrite).await),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_the_target_lost_in_an_unclean_election_are_copied_again() {
    for flushed in [false, true] {
        let twin = Twin::new();
        twin.produce_singly(0..10);
        let run = twin.run().await;
        run.reaches(10, 10).await;
        if flushed {
            run.flush().await;
        }
        twin.target.elect_without(&at(0), Offset(6));
        twin.produce(10..11);
        run.reaches(11, 11).await;
        twin.assert_exact(&run, "live");
        run.flush().await;
        run.crash().await;
        twin.target.elect_without(&at(0), Offset(3));
        let run = twin.run().await;
        run.reaches(11, 11).await;
        twin.assert_exact(&run, "found at a start");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_below_what_was_copied_halts() {
    let twin = Twin::new();
    twin.crash_after_copying(6).await;
    twin.source.elect_without(&at(0), Offset(4));
    let run = twin.run().await;
    run.halts_as(HaltReason::SourceTruncated).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lost_and_grew_again_is_found_by_its_epochs() {
    for live in [true, false] {
        let twin = Twin::new();
        twin.produce_singly(0..6);
        let run = twin.run().await;
        run.reaches(6, 6).await;
        let lose = || {
            twin.source.elect_without(&at(0), Offset(4));
            twin.produce(40..48);
        };
        let run = if live {
            lose();
            run
        } else {
            run.flush().await;
            run.crash().await;
            lose();
            twin.run().await
        };
        run.halts_as(HaltReason::SourceTruncated).await;
        assert_eq!(twin.target.log_end(&at(0)), Offset(6), "nothing of the other history was copied");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_cut_in_a_hole_and_written_anew_is_found_by_what_stands_there() {
    for (copied, written) in [(6, 3), (0, 3), (6, 1)] {
        let twin = Twin::new();
        twin.produce_singly(0..copied);
        let mut transaction = twin.source.transaction();
        transaction.append(&at(0), &[fresh(90), fresh(91)]);
        transaction.abort();
        let passed = twin.source.log_end(&at(0));
        let run = twin.run().await;
        run.reaches(passed.0, copied).await;
        run.flush().await;
        run.crash().await;
        let run = twin.run().await;
        run.reaches(passed.0, copied).await;
        run.crash().await;
        twin.source.elect_without(&at(0), Offset(copied));
        twin.produce_singly(40..40 + written);
        let run = twin.run().await;
        let why = run.halts_as(HaltReason::SourceTruncated).await;
        assert!(why.contains(if written < 3 { "ends at" } else { "cut off" }), "{why}");
        run.decide(Resolution::SkipLoss).await;
        run.reaches(copied + written, copied + written).await;
        assert_same(&twin.source.committed(&at(0)), &twin.target.committed(&at(0)), "after the decision");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_chosen_inside_an_open_transaction_is_no_truncation() {
    let twin = Twin { start: Start::Latest, ..Twin::new() };
    let mut transaction = twin.source.transaction();
    transaction.append(&at(0), &[fresh(90), fresh(91)]);
    let run = twin.run().await;
    run.replicating().await;
    run.crash().await;
    let run = twin.run().await;
    run.replicating().await;
    transaction.append(&at(0), &[fresh(92)]);
    transaction.commit();
    run.reaches(4, 1).await;
    twin.assert_exact(&run, "behind the start");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_target_is_believed_only_once_all_replicas_have_it() {
    let twin = Twin::new();
    let run = twin.run().await;
    run.replicating().await;
    twin.target.hold_followers(&at(0));
    twin.produce(0..2);
    until("it lies above the high watermark", || (twin.target.log_end(&at(0)) == Offset(2)).then_some(())).await;
    run.crash().await;
    let run = twin.run().await;
    meanwhile(60).await;
    assert_eq!(run.monitor().state(), PartitionState::Attaching);
    twin.target.elect_without_unreplicated(&at(0));
    twin.target.release_followers(&at(0));
    run.reaches(2, 2).await;
    twin.assert_exact(&run, "a clean election took what was not replicated");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_map_halts_its_own_partition_and_keeps_no_neighbour_from_its_flush() {
    let twin = Twin::new();
    twin.produce(0..2);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    run.flush().await;
    run.crash().await;
    let entry =
        crate::endpoint::LedgerEntry { key: format!("{}/head", at(0)).into(), value: Some("\u{1}damaged".into()) };
    twin.target.ledger(LINK).plant(LedgerTopic::Map, entry);
    let mut run = twin.run().await;
    run.halted().await;
    run.copy(twin.route(1).await);
    twin.source.append(&at(1), &[fresh(0)]);
    let copied = || (run.monitor_of(1).position() == Some((Offset(1), Offset(1)))).then_some(());
    until("the neighbour copies", copied).await;
    run.ledger.flush_maps(&[at(0), at(1)]).await.expect("the neighbour's map is flushed");
    assert!(twin.durable().await.map(&at(1)).expect("sound").is_some());
}

#[tokio::test(start_paused = true)]
async fn partitions_that_wait_for_their_target_keep_no_neighbour_from_attaching() {
    let twin = Twin { attach_turns: 1, ..Twin::new() };
    let run = twin.run().await;
    run.replicating().await;
    twin.target.hold_followers(&at(0));
    twin.produce(0..1);
    until("it lies above the high watermark", || (twin.target.log_end(&at(0)) == Offset(1)).then_some(())).await;
    run.crash().await;
    let mut run = twin.run().await;
    run.copy(twin.route(1).await);
    twin.source.append(&at(1), &[fresh(0)]);
    let truth = "the neighbour copies";
    until(truth, || (run.monitor_of(1).position() == Some((Offset(1), Offset(1)))).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_target_that_ends_elsewhere_is_looked_at_once() {
    let twin = Twin::new();
    let run = twin.run().await;
    twin.produce(0..2);
    run.reaches(2, 2).await;
    twin.target.fence(&at(0), STRANGER);
    run.monitor().doubt();
    run.reaches(2, 3).await;
    twin.produce(2..3);
    run.reaches(3, 4).await;
    twin.assert_exact(&run, "a marker behind the last record");
}

#[test]
fn a_map_trimmed_while_its_route_attached_stays_whole_in_the_ledger() {
    let mut map = OffsetMap::new(Offset(0), Offset(0));
    for n in 0..2000 {
        let (range, run) =
            (OffsetRange::new(Offset(3 * n), Offset(3 * n + 3)), Run { start: Offset(3 * n), length: 1 });
        map.extend(range, &[run], Offset(n), LeaderEpoch((n % 7) as i32));
    }
    let mut ledger: BTreeMap<MapKey, Option<Bytes>> = map.take_changes().entries.into_iter().collect();
    let route = Route { source: at(0), source_id: None, target: at(0), target_id: None };
    let monitor = RouteMonitor::new(&LINK.into(), route);
    let (draft, map) = (map.clone(), Arc::new(Mutex::new(map)));
    {
        let mut map = map.lock().expect("not poisoned");
        map.trim(Offset(5000), Offset(1900));
        ledger.extend(map.take_changes().entries);
    }
    monitor.set_map(&map, draft);
    map.lock().expect("not poisoned").skip(OffsetRange::new(Offset(6000), Offset(6001)));
    ledger.extend(map.lock().expect("not poisoned").take_changes().entries);
    let head = ledger.remove(&MapKey::Head).flatten().expect("a head is stored");
    let segments = ledger.into_iter().filter_map(|(key, value)| match key {
        MapKey::Segment(number) => Some((number, value?)),
        MapKey::Head => None,
    });
    let stored = OffsetMap::load(&head, segments).expect("what is stored is a whole map");
    assert_eq!(stored.translate(Offset(1)), Translation::Exact(Offset(1)));
}
