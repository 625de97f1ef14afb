//! Records on their way: what is copied, how much is in flight, what stops the flow and what does not.

use super::*;
use crate::batch::{BatchBuilder, Codec};
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::{Call, Disturbance};
use crate::ledger::LEASE;

#[tokio::test(start_paused = true)]
async fn records_arrive_with_every_byte_in_order_and_every_offset_translates() {
    let twin = Twin::new();
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let from = twin.source.log_end(&at(0)).0;
        let mut records: Vec<Record> = (from..from + 4).map(fresh).collect();
        records[1] = Record { key: None, value: Some("".into()), ..records[1].clone() };
        records[2] = Record { key: Some("".into()), value: None, ..records[2].clone() };
        twin.source.append_compressed(&at(0), &records, codec);
        let mut transaction = twin.source.transaction();
        transaction.append(&at(0), &[fresh(100 + from)]);
        if from % 2 == 0 { transaction.commit() } else { transaction.abort() }
    }
    let run = twin.run().await;
    let copied = twin.source.committed(&at(0)).len() as i64;
    run.reaches(30, copied).await;
    twin.assert_exact(&run, "five codecs, transactions between them");
}

#[tokio::test(start_paused = true)]
async fn position_never_passes_an_unacked_batch() {
    let twin = Twin::new();
    let run = twin.run().await;
    run.replicating().await;
    twin.target.hold_followers(&at(0));
    twin.produce(0..3);
    until("the batch lies on the target's leader", || (twin.target.log_end(&at(0)) == Offset(3)).then_some(())).await;
    meanwhile(60).await;
    assert_eq!(run.monitor().position(), Some((Offset(0), Offset(0))));
    twin.target.release_followers(&at(0));
    run.reaches(3, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_range_that_holds_nothing_to_copy_still_advances_the_position() {
    let twin = Twin::new();
    let mut aborted = twin.source.transaction();
    aborted.append(&at(0), &[fresh(0), fresh(1)]);
    aborted.abort();
    let run = twin.run().await;
    run.reaches(3, 0).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0));
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_the_last_stable_offset_is_copied() {
    let twin = Twin::new();
    let mut open = twin.source.transaction();
    twin.produce(0..2);
    open.append(&at(0), &[fresh(2)]);
    twin.produce(3..5);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    meanwhile(60).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(2));
    open.commit();
    run.reaches(6, 5).await;
    twin.assert_exact(&run, "the transaction was committed");
}

#[tokio::test(start_paused = true)]
async fn fresh_data_is_pipelined_once_the_first_ack_came() {
    let twin = Twin::new();
    let run = twin.run().await;
    twin.produce(0..1);
    run.reaches(1, 1).await;
    assert_eq!(run.replicating().await, ProtectionLevel::Guarded);
    twin.target.hold_followers(&at(0));
    twin.produce_singly(1..6);
    until("five are in flight", || (twin.target.log_end(&at(0)) == Offset(6)).then_some(())).await;
    twin.target.release_followers(&at(0));
    run.reaches(6, 6).await;
}

#[tokio::test(start_paused = true)]
async fn data_older_than_producer_state_keeps_one_in_flight_from_the_first_start_on() {
    for knows_us in [false, true] {
        let twin = Twin::new();
        if knows_us {
            twin.produce(0..1);
        }
        let run = twin.run().await;
        let start = twin.source.log_end(&at(0)).0;
        run.reaches(start, start).await;
        twin.source.append(&at(0), &[old(1)]);
        run.reaches(start + 1, start + 1).await;
        assert_eq!(run.replicating().await, ProtectionLevel::ProbeOnly);
        twin.target.hold_followers(&at(0));
        for n in 2..6 {
            twin.source.append(&at(0), &[old(n)]);
        }
        let sent = Offset(start + 2);
        until("one more was sent", || (twin.target.log_end(&at(0)) == sent).then_some(())).await;
        meanwhile(60).await;
        assert_eq!(twin.target.log_end(&at(0)), sent, "a second unprotected batch was sent (state known: {knows_us})");
        twin.target.release_followers(&at(0));
        run.reaches(start + 5, start + 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn fresh_data_never_overtakes_old_data_whose_outcome_is_open() {
    let twin = Twin::new();
    twin.source.append(&at(0), &[old(0)]);
    let run = twin.run().await;
    run.reaches(1, 1).await;
    twin.target.expire_producers(&at(0));
    twin.target.disturb(&at(0), 0, Disturbance::LoseRequest);
    twin.target.delay(Call::Ack, Duration::from_millis(100));
    twin.source.append(&at(0), &[old(1)]);
    twin.produce_singly(2..5);
    run.reaches(5, 5).await;
    twin.assert_exact(&run, "the old record was lost on its way while the target had no state");
    assert_eq!(run.replicating().await, ProtectionLevel::Guarded);
}

#[tokio::test(start_paused = true)]
async fn a_foreign_marker_at_the_target_takes_an_offset_and_is_no_foreign_write() {
    let twin = Twin::new();
    let run = twin.run().await;
    twin.produce(0..2);
    run.reaches(2, 2).await;
    twin.target.fence(&at(0), STRANGER);
    twin.produce(2..4);
    run.reaches(4, 5).await;
    twin.assert_exact(&run, "the acknowledgement came above what was expected");
}

#[tokio::test(start_paused = true)]
async fn a_strangers_record_before_ours_is_found_by_the_ack_and_halts_by_name() {
    let twin = Twin::new();
    let run = twin.run().await;
    twin.produce(0..2);
    run.reaches(2, 2).await;
    twin.target.append(&at(0), &[fresh(99)]);
    twin.produce(2..4);
    let detail = run.halts_as(HaltReason::ForeignWrite).await;
    assert!(detail.contains("orders/0 at offset 2"), "{detail}");
    assert_eq!(run.monitor().position(), Some((Offset(2), Offset(2))), "nothing in doubt is claimed");
}

#[tokio::test(start_paused = true)]
async fn lost_requests_lost_acks_and_moved_leaders_lose_and_double_nothing() {
    for disturbance in [Disturbance::LoseRequest, Disturbance::LoseAck, Disturbance::Refuse(ErrorKind::Retryable)] {
        for skipping in 0..4 {
            let twin = Twin::new();
            twin.target.delay(Call::Ack, Duration::from_millis(20));
            twin.target.disturb(&at(0), skipping, disturbance);
            for n in 0..8 {
                twin.produce(3 * n..3 * n + 3);
            }
            let run = twin.run().await;
            run.reaches(24, 24).await;
            twin.target.elect(&at(0));
            twin.produce(24..25);
            run.reaches(25, 25).await;
            twin.assert_exact(&run, &format!("{disturbance:?} after {skipping}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_target_refuses_for_good_halts_before_anything_overtakes_it() {
    let twin = Twin::new();
    twin.target.delete_topic(TOPIC);
    twin.target.create(TOPIC, 2, &[("max.message.bytes", "300")]);
    twin.produce(0..1);
    let large = Record { value: Some(vec![b'x'; 1000].into()), ..fresh(1) };
    twin.source.append(&at(0), &[large]);
    twin.produce(2..3);
    let run = twin.run().await;
    run.halts_as(HaltReason::RecordRefused).await;
    meanwhile(90).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(1));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_map_stops_sending_says_so_and_resumes() {
    let twin = Twin::new();
    let run = twin.run().await;
    run.replicating().await;
    run.map_stalled.send_replace(true);
    twin.produce(0..2);
    assert_eq!(run.halted().await.reason, HaltReason::MapStalled, "nothing says running while nothing moves");
    meanwhile(60).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0));
    run.map_stalled.send_replace(false);
    run.comes_to(2, 2).await;
    run.replicating().await;
    assert_eq!(run.ledger.view().halt(&at(0)), None);
}

#[tokio::test(start_paused = true)]
async fn past_its_lease_nothing_is_sent_until_it_is_renewed() {
    let twin = Twin::new();
    let run = twin.run().await;
    run.replicating().await;
    twin.target.fail_next(Call::LedgerAppend, usize::MAX, ErrorKind::Retryable);
    tokio::time::sleep(LEASE).await;
    twin.produce(0..2);
    until("the wait is named", || match run.monitor().state() {
        PartitionState::Waiting { reason } => reason.contains("lease").then_some(()),
        _ => None,
    })
    .await;
    meanwhile(60).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0));
    twin.target.heal();
    run.comes_to(2, 2).await;
    run.replicating().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_in_flight_but_not_for_ever() {
    let twin = Twin::new();
    let mut run = twin.run().await;
    run.replicating().await;
    twin.target.delay(Call::Ack, Duration::from_secs(2));
    twin.produce(0..3);
    until("it is in flight", || (twin.target.log_end(&at(0)) == Offset(3)).then_some(())).await;
    let drained = run.drain().await;
    assert_eq!(run.monitor().position(), Some((Offset(3), Offset(3))), "drained");
    assert_eq!(run.monitor().state(), PartitionState::Stopped);
    assert!(drained <= Duration::from_secs(3), "{drained:?}");
    run.stop().await;

    let mut run = twin.run().await;
    run.replicating().await;
    twin.target.hold_followers(&at(0));
    twin.produce(3..4);
    until("it is in flight", || (twin.target.log_end(&at(0)) == Offset(4)).then_some(())).await;
    let drained = run.drain().await;
    assert!(drained <= Duration::from_secs(6), "a target that never answers holds up the stop: {drained:?}");
    run.crash().await;
    twin.target.release_followers(&at(0));
    let run = twin.run().await;
    run.reaches(4, 4).await;
    twin.assert_exact(&run, "the unanswered batch was found");
}

/// The rate limit runs on the machine's clock, so this test does too.
#[tokio::test]
async fn bytes_flow_no_faster_than_the_rate() {
    let twin = Twin::new();
    let mut bytes = 0;
    for n in 0..16 {
        let record = Record { value: Some(vec![b'x'; 8192].into()), ..fresh(n) };
        let mut builder = BatchBuilder::new(Offset(0));
        builder.push(&record);
        bytes += builder.build().bytes.len() as u64;
        twin.source.append(&at(0), &[record]);
    }
    let mut run = twin.prepare().await;
    run.rate.set(Some(bytes * 4));
    let began = std::time::Instant::now();
    run.copy(twin.route(0).await);
    run.reaches(16, 16).await;
    let (took, least) = (began.elapsed(), Duration::from_millis(200));
    assert!(took >= least, "a quarter of a second's worth of bytes passed in {took:?}");
}
