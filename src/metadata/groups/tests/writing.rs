//! What is written on the target, and what a crash leaves.

use super::*;
use crate::endpoint::memory::Call;
use crate::endpoint::{ErrorKind, GroupProtocol};

#[tokio::test(start_paused = true)]
async fn positions_land_on_the_first_record_not_read() {
    for (committed, lands) in [(10, 0), (15, 5), (20, 10), (22, 10), (23, 10), (24, 11), (30, 17)] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(committed));
        assert_eq!(twin.verdict().await, "synced");
        assert_eq!(twin.there(), Some(Offset(lands)), "source position {committed}");
        assert_eq!((twin.record().confirmed, twin.record().intent), (positions(lands), Positions::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_off_the_mirror_is_named_counted_and_not_written() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(31));
    assert_eq!(twin.verdict().await, "waiting for the mirror");
    twin.source.commit("billing", &at(), Offset(4));
    assert_eq!(twin.verdict().await, "before the mirror");
    assert_eq!(twin.state("billing").partitions[0].verdict, PositionVerdict::BeforeTheMirror(6));
    assert_eq!(twin.state("billing").cost().unwrap().skip, 6);
    twin.source.commit("billing", &TopicPartition::new("elsewhere", 0), Offset(4));
    twin.pass().await;
    assert_eq!(twin.state("billing").partitions[0].verdict, PositionVerdict::NotMirrored);
    assert_eq!((twin.there(), twin.record()), (None, GroupRecord::default()));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_has_not_attached_keeps_its_groups_waiting() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.mirrored = [(at(), route(at(), None))].into_iter().collect();
    assert_eq!(twin.verdict().await, "waiting for the mirror");
    assert_eq!((twin.there(), twin.record()), (None, GroupRecord::default()));
    twin.mirrored = mirrored();
    assert_eq!(twin.verdict().await, "synced");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_before_its_intent_is_durable() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.fail_next(Call::LedgerAppend, 1, ErrorKind::Retryable);
    assert!(twin.try_pass(Extent::Full).await.is_err());
    assert_eq!(twin.there(), None);
    twin.pass().await;
    assert_eq!(twin.there(), Some(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn an_intent_stays_ours_while_its_partition_is_not_attached() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.source.commit("billing", &beside(), Offset(13));
    // A process that ended between its commit and the confirmation of it.
    let intent = Positions::from([(at(), Offset(2)), (beside(), Offset(3))]);
    for (at, offset) in &intent {
        twin.target.commit("billing", at, *offset);
    }
    let record = GroupRecord { intent, ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), record)]).await.unwrap();
    twin.restart().await;
    // One route is not attached yet, the group moves on on the other.
    twin.source.commit("billing", &at(), Offset(14));
    let both = |there| [(at(), route(at(), Some(map()))), (beside(), route(beside(), there))].into_iter().collect();
    twin.mirrored = both(None);
    twin.pass().await;
    twin.source.commit("billing", &beside(), Offset(15));
    twin.mirrored = both(Some(map()));
    assert_eq!(twin.verdict().await, "synced");
    assert_eq!(twin.target.position_of("billing", &beside()), Some(Offset(5)));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_commit_leaves_an_intent_that_the_next_process_fulfils() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    assert_eq!(twin.verdict().await, "failed");
    assert_eq!((twin.record().intent, twin.record().confirmed), (positions(2), Positions::new()));
    twin.restart().await;
    assert_eq!(twin.verdict().await, "synced");
    assert_eq!((twin.there(), twin.record().confirmed), (Some(Offset(2)), positions(2)));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_commit_and_confirmation_is_no_take_over() {
    let mut twin = Twin::new().await;
    let intended = GroupRecord { intent: positions(5), confirmed: positions(3), ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), intended)]).await.expect("appended");
    twin.target.commit("billing", &at(), Offset(5));
    twin.source.commit("billing", &at(), Offset(17));
    twin.restart().await;
    assert_eq!(twin.verdict().await, "synced");
    assert_eq!(twin.there(), Some(Offset(7)));
}

#[tokio::test(start_paused = true)]
async fn a_confirmation_waits_for_the_next_intent_or_full_pass_and_is_told_at_once() {
    for crash in [false, true] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(12));
        twin.pass().await;
        for (source, target) in [(14, 4), (15, 5)] {
            let before = twin.record();
            twin.source.commit("billing", &at(), Offset(source));
            twin.groups.heard().await;
            twin.try_pass(Extent::Heard).await.unwrap();
            assert_eq!((twin.there(), twin.state("billing").verdict), (Some(Offset(target)), GroupVerdict::Synced));
            assert_eq!(twin.record().intent, positions(target));
            let confirmed = if target == 4 { before.confirmed } else { before.intent };
            assert_eq!(twin.record().confirmed, confirmed);
        }
        if crash {
            twin.restart().await;
        }
        assert_eq!(twin.verdict().await, "synced");
        assert_eq!((twin.record().intent, twin.record().confirmed), (Positions::new(), positions(5)));
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_comes_before_the_confirmation_is_noticed() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.commit("billing", &at(), Offset(14));
    twin.groups.heard().await;
    twin.try_pass(Extent::Heard).await.unwrap();
    twin.target.commit("billing", &at(), Offset(9));
    twin.source.commit("billing", &at(), Offset(15));
    twin.groups.heard().await;
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(9)));
    assert!(twin.record().taken_over.is_some(), "it is durable at once");
    assert_eq!(twin.verdict().await, "taken over");
    assert!(twin.record().taken_over.is_some(), "no earlier record has come after it");
}

#[tokio::test(start_paused = true)]
async fn what_an_intent_wrote_is_not_set_back_while_the_source_says_nothing() {
    let mut twin = Twin::new().await;
    let intended = GroupRecord { intent: positions(5), confirmed: positions(3), ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), intended)]).await.expect("appended");
    twin.target.commit("billing", &at(), Offset(5));
    twin.source.fail_next(Call::ReadGroups, usize::MAX, ErrorKind::Retryable);
    twin.restart().await;
    assert!(twin.try_pass(Extent::Full).await.is_err());
    assert_eq!(twin.there(), Some(Offset(5)));
}

#[tokio::test(start_paused = true)]
async fn a_second_crash_before_the_next_commit_is_no_take_over_either() {
    let mut twin = Twin::new().await;
    let intended = GroupRecord { intent: positions(5), confirmed: positions(3), ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), intended)]).await.expect("appended");
    twin.target.commit("billing", &at(), Offset(5));
    twin.source.commit("billing", &at(), Offset(17));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    twin.pass().await;
    assert_eq!((twin.there(), twin.record().intent), (Some(Offset(5)), positions(7)));
    twin.restart().await;
    assert_eq!(twin.verdict().await, "synced", "what an earlier intent wrote was taken for a stranger's");
    assert_eq!(twin.there(), Some(Offset(7)));
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_lands_behind_a_later_one_is_no_take_over() {
    for dead in [false, true] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(13));
        twin.pass().await;
        twin.source.commit("billing", &at(), Offset(15));
        twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
        twin.pass().await;
        if dead {
            twin.restart().await;
        }
        twin.source.commit("billing", &at(), Offset(17));
        assert_eq!(twin.verdict().await, "synced");
        twin.target.commit("billing", &at(), Offset(5));
        assert_eq!(twin.verdict().await, "synced");
        assert_eq!(twin.there(), Some(Offset(7)), "it is set right");
        // By then only an application can have set it.
        twin.passes_for(60 * SECOND).await;
        twin.target.commit("billing", &at(), Offset(5));
        assert_eq!(twin.verdict().await, "taken over");
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_stays_ours_while_its_partition_is_not_listed() {
    // A process that ended right after its first commits; its successor may look before it knows its routes.
    for listed_first in [None, Some(at())] {
        let mut twin = Twin::new().await;
        let intent = Positions::from([(at(), Offset(2)), (beside(), Offset(3))]);
        for (at, offset) in &intent {
            twin.target.commit("billing", at, *offset);
        }
        let record = GroupRecord { intent, ..GroupRecord::default() };
        twin.ledger.append(vec![ControlRecord::Group("billing".into(), record)]).await.unwrap();
        twin.source.commit("billing", &at(), Offset(14));
        twin.source.commit("billing", &beside(), Offset(15));
        twin.restart().await;
        twin.mirrored = listed_first.into_iter().map(|at| (at.clone(), route(at, Some(map())))).collect();
        twin.pass().await;
        twin.restart().await;
        twin.mirrored = [at(), beside()].map(|at| (at.clone(), route(at, Some(map())))).into_iter().collect();
        assert_eq!(twin.verdict().await, "synced");
        assert_eq!(twin.target.position_of("billing", &beside()), Some(Offset(5)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_reset_at_the_source_is_followed_back() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(18));
    twin.pass().await;
    twin.source.commit("billing", &at(), Offset(11));
    assert_eq!(twin.verdict().await, "synced");
    assert_eq!(twin.there(), Some(Offset(1)));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_tells_nothing_until_something_is_written_is_written_to() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    assert_eq!(twin.verdict().await, "synced");
    twin.target.deafen_coordinator();
    twin.source.commit("billing", &at(), Offset(14));
    assert_eq!(twin.verdict().await, "failed");
    assert_eq!(twin.there(), Some(Offset(2)), "nothing is written for the group itself before it was looked at");
    assert_eq!(twin.verdict().await, "synced");
    assert_eq!(twin.there(), Some(Offset(4)));
}

#[tokio::test(start_paused = true)]
async fn one_group_that_fails_keeps_no_other_from_its_position() {
    let mut twin = Twin::new().await;
    for group in ["audit", "billing", "search"] {
        twin.source.commit(group, &at(), Offset(12));
    }
    twin.source.set_pending("audit", true);
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    twin.pass().await;
    assert_eq!(twin.target.position_of("audit", &at()), None, "an open transaction may replace it");
    assert_eq!(twin.state("audit").partitions[0].verdict, PositionVerdict::Pending);
    let failed = twin.states().into_iter().filter(|s| s.verdict.words() == "failed").count();
    assert_eq!(failed, 1, "{:?}", twin.states());
    twin.source.set_pending("audit", false);
    twin.pass().await;
    assert!(twin.states().iter().all(|state| state.verdict == GroupVerdict::Synced), "{:?}", twin.states());
    let everybody = ["audit", "billing", "search"].map(|group| twin.target.position_of(group, &at()));
    assert_eq!(everybody, [Some(Offset(2)); 3]);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_group_costs_the_target_no_commit() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    for call in [Call::CommitGroup, Call::LedgerAppend] {
        twin.target.fail_next(call, 1, ErrorKind::Protocol);
    }
    twin.passes_for(200 * SECOND).await;
    assert_eq!(twin.verdict().await, "synced", "the target was written");
}

#[tokio::test(start_paused = true)]
async fn share_groups_are_listed_and_our_own_are_not() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.source.set_protocol("billing", GroupProtocol::Share);
    twin.source.commit("twinlog.dr", &at(), Offset(12));
    assert_eq!(twin.verdict().await, "share group");
    assert_eq!((twin.states().len(), twin.there()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_target_that_has_deleted_unread_records_is_named_with_their_count() {
    for (source_start, lost) in [(None, Some(3)), (Some(13), Some(2)), (Some(15), None)] {
        let mut twin = Twin::new().await;
        let clamped = MirroredRoute {
            source_start: source_start.map(Offset),
            target_start: Some(Offset(5)),
            ..route(at(), Some(map()))
        };
        twin.mirrored = [(at(), clamped)].into_iter().collect();
        twin.source.commit("billing", &at(), Offset(12));
        twin.pass().await;
        assert_eq!(twin.there(), Some(Offset(5)));
        let state = twin.state("billing");
        let expected = lost.map_or(PositionVerdict::Synced, PositionVerdict::ClampedUp);
        assert_eq!(state.partitions[0].verdict, expected, "source starts at {source_start:?}");
        assert_eq!(state.cost().unwrap().skip, lost.unwrap_or(0));
    }
}
