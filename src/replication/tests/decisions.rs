//! Halts and the operator's decisions about them: recorded, obeyed once, answered for no other halt.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_target_that_is_not_empty_halts_until_somebody_decides() {
    let twin = Twin::new();
    twin.produce(0..4);
    twin.target.append(&at(0), &[fresh(50)]);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetNotEmpty).await;
    meanwhile(90).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(1));
    assert!(twin.durable().await.born(&at(0)).is_none(), "no birth before a decision");
    assert!(twin.durable().await.halt(&at(0)).is_some(), "a halt survives the process");
}

#[tokio::test(start_paused = true)]
async fn adopting_matches_what_the_target_holds_and_goes_on_behind_it() {
    let twin = Twin::new();
    twin.produce(0..4);
    twin.target.append(&at(0), &twin.source.committed(&at(0))[..3]);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetNotEmpty).await;
    run.decide(Resolution::Adopt).await;
    run.reaches(4, 4).await;
    twin.assert_exact(&run, "adopted");
    let durable = twin.durable().await;
    assert!(durable.halt(&at(0)).is_none() && durable.resolution(&at(0)).is_none(), "what was obeyed is history");
}

#[tokio::test(start_paused = true)]
async fn adopting_a_target_that_does_not_match_never_becomes_accepting_strangers() {
    let twin = Twin::new();
    twin.produce(0..4);
    twin.target.append(&at(0), &[fresh(50), fresh(51)]);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetNotEmpty).await;
    run.decide(Resolution::Adopt).await;
    let foreign = || match run.monitor().state() {
        PartitionState::Halted(halt) => (halt.reason == HaltReason::ForeignWrite).then_some(()),
        _ => None,
    };
    until("the mismatch is named", foreign).await;
    meanwhile(120).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(2), "the answer to one halt was taken for another's");
    assert_eq!(twin.durable().await.resolution(&at(0)), None);
    run.decide(Resolution::Adopt).await;
    run.reaches(4, 6).await;
}

#[tokio::test(start_paused = true)]
async fn resending_copies_everything_behind_what_the_target_holds() {
    let twin = Twin::new();
    twin.produce(0..4);
    twin.target.append(&at(0), &[fresh(50), fresh(51)]);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetNotEmpty).await;
    run.decide(Resolution::Resend).await;
    run.reaches(4, 6).await;
    let copies = twin.target.committed(&at(0)).split_off(2);
    assert_same(&twin.source.committed(&at(0)), &copies, "behind the strangers");
    assert_translates(&run.map().lock().expect("not poisoned"), &twin.source.committed(&at(0)), &copies, "resent");
}

#[tokio::test(start_paused = true)]
async fn a_source_created_again_is_copied_behind_the_old_records_when_resent_and_survives_a_restart() {
    let twin = Twin::new();
    // As many runs as need several segments of the map.
    for n in 0..2500 {
        twin.produce(n..n + 1);
        let mut transaction = twin.source.transaction();
        transaction.append(&at(0), &[fresh(n)]);
        transaction.abort();
    }
    let run = twin.run().await;
    run.reaches(7500, 2500).await;
    run.stop().await;
    twin.source.recreate_topic(TOPIC);
    twin.produce(0..3);
    let run = twin.run().await;
    run.halts_as(HaltReason::SourceRecreated).await;
    run.decide(Resolution::Resend).await;
    run.reaches(3, 2503).await;
    run.stop().await;
    twin.produce(3..5);
    let run = twin.run().await;
    run.reaches(5, 2505).await;
    let copies = twin.target.committed(&at(0)).split_off(2500);
    assert_same(&twin.source.committed(&at(0)), &copies, "the new topic");
}

#[tokio::test(start_paused = true)]
async fn a_decision_waits_for_the_route_to_the_topic_as_it_is_now() {
    let twin = Twin::new();
    twin.produce(0..2);
    let former = twin.route(0).await;
    let run = twin.run().await;
    run.reaches(2, 2).await;
    twin.source.recreate_topic(TOPIC);
    twin.produce(10..13);
    run.halts_as(HaltReason::SourceRecreated).await;
    run.decide(Resolution::Resend).await;
    meanwhile(60).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(2), "obeyed for a topic that is gone");
    run.crash().await;
    let run = twin.run().await;
    assert_ne!(*run.monitor().route(), former);
    run.reaches(3, 5).await;
}

#[tokio::test(start_paused = true)]
async fn strangers_that_were_accepted_stay_accepted_after_a_crash() {
    let twin = Twin::new();
    let run = twin.run().await;
    twin.produce(0..2);
    run.reaches(2, 2).await;
    run.flush().await;
    twin.target.append(&at(0), &[fresh(50)]);
    twin.produce(2..3);
    run.halts_as(HaltReason::ForeignWrite).await;
    run.decide(Resolution::Adopt).await;
    run.reaches(3, 4).await;
    run.crash().await;
    let run = twin.run().await;
    run.reaches(3, 4).await;
    twin.target.append(&at(0), &[fresh(51)]);
    twin.produce(3..4);
    run.halts_as(HaltReason::ForeignWrite).await;
    run.decide(Resolution::Adopt).await;
    run.reaches(4, 6).await;
}

#[tokio::test(start_paused = true)]
async fn strangers_at_the_very_end_that_were_accepted_are_asked_about_once() {
    let twin = Twin::new();
    twin.produce(0..2);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    run.flush().await;
    run.crash().await;
    twin.target.append(&at(0), &[fresh(50)]);
    let run = twin.run().await;
    run.halts_as(HaltReason::ForeignWrite).await;
    run.decide(Resolution::Adopt).await;
    run.reaches(2, 3).await;
    run.crash().await;
    let run = twin.run().await;
    run.reaches(2, 3).await;
    twin.produce(2..3);
    run.reaches(3, 4).await;
}

#[tokio::test(start_paused = true)]
async fn retention_that_overtook_halts_with_the_exact_range_and_goes_on_when_told() {
    let twin = Twin::new();
    twin.crash_after_copying(10).await;
    twin.produce_singly(10..20);
    twin.source.delete_records(&at(0), Offset(15));
    let run = twin.run().await;
    let detail = run.halts_as(HaltReason::RetentionOvertook).await;
    assert!(detail.contains("10..15"), "{detail}");
    assert_eq!(twin.target.log_end(&at(0)), Offset(10));
    run.decide(Resolution::SkipLoss).await;
    run.reaches(20, 15).await;
    assert_eq!(run.ledger.view().halt(&at(0)), None);
    run.crash().await;
    let run = twin.run().await;
    run.reaches(20, 15).await;
    let copies: Vec<Record> = twin.target.committed(&at(0)).split_off(10);
    assert_same(&twin.source.committed(&at(0)), &copies, "behind the loss");
}

#[tokio::test(start_paused = true)]
async fn retention_that_overtakes_while_copying_goes_on_at_once_where_the_link_says_so() {
    let twin = Twin { retention_overtook: RetentionOvertook::Continue, ..Twin::new() };
    twin.produce(0..2);
    let run = twin.run().await;
    run.reaches(2, 2).await;
    run.map_stalled.send_replace(true);
    run.crash().await;
    twin.produce_singly(2..8);
    twin.source.delete_records(&at(0), Offset(5));
    let run = twin.run().await;
    run.reaches(8, 5).await;
    assert_eq!(run.map().lock().expect("not poisoned").translate(Offset(3)), Translation::Exact(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_source_goes_on_from_its_end_when_the_loss_is_accepted() {
    let twin = Twin::new();
    twin.crash_after_copying(6).await;
    twin.source.elect_without(&at(0), Offset(4));
    let run = twin.run().await;
    run.halts_as(HaltReason::SourceTruncated).await;
    run.decide(Resolution::SkipLoss).await;
    run.reaches(4, 6).await;
    twin.produce(40..42);
    run.reaches(6, 8).await;
    run.stop().await;
    let run = twin.run().await;
    run.reaches(6, 8).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_written_between_a_truncation_and_its_decision_is_copied() {
    let twin = Twin::new();
    twin.crash_after_copying(6).await;
    twin.source.elect_without(&at(0), Offset(4));
    twin.produce_singly(40..45);
    let run = twin.run().await;
    run.halts_as(HaltReason::SourceTruncated).await;
    twin.produce_singly(45..47);
    run.decide(Resolution::SkipLoss).await;
    run.reaches(11, 13).await;
    let copied = twin.target.committed(&at(0)).split_off(6);
    assert_same(&twin.source.committed(&at(0))[4..], &copied, "the new history");
}

#[tokio::test(start_paused = true)]
async fn resending_copies_everything_whatever_the_start_rule_says() {
    let twin = Twin { start: Start::Latest, ..Twin::new() };
    twin.produce(0..4);
    twin.target.append(&at(0), &[fresh(50)]);
    let run = twin.run().await;
    run.halts_as(HaltReason::TargetNotEmpty).await;
    run.decide(Resolution::Resend).await;
    run.reaches(4, 5).await;
}

#[tokio::test(start_paused = true)]
async fn a_halt_whose_cause_was_mended_ends_by_itself_and_is_forgotten() {
    let twin = Twin::new();
    twin.produce(0..1);
    twin.target.fail_next(crate::endpoint::memory::Call::Attach, 1, crate::endpoint::ErrorKind::Denied);
    let run = twin.run().await;
    run.halts_as(HaltReason::AccessDenied).await;
    run.comes_to(1, 1).await;
    assert!(twin.durable().await.halt(&at(0)).is_none());
}
