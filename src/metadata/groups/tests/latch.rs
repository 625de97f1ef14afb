//! Groups that applications use on the target, and taking them back.

use super::*;
use crate::endpoint::memory::Call;
use crate::endpoint::{ErrorKind, GroupProtocol};
use crate::model::Route;

/// Makes the ledger know the route, as an attach does.
async fn born(twin: &Twin) {
    let route = Route { source: at(), source_id: None, target: at(), target_id: None };
    let born = crate::ledger::record::Born { route, first_source: Offset(10), target_start: Offset(0) };
    twin.ledger.append(vec![ControlRecord::Born(born)]).await.expect("appended");
}

async fn take_back(twin: &Twin, dry_run: bool) -> Result<Option<Vec<Move>>, String> {
    let known = Some((&twin.board, &twin.mirrored));
    resync(&"billing".into(), &twin.ledger, &twin.target, known, dry_run, twin.now_ms()).await
}

#[tokio::test(start_paused = true)]
async fn a_group_seen_with_members_on_the_target_stays_latched_when_they_leave_and_across_restarts() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.target.set_members("billing", true);
    assert_eq!(twin.verdict().await, "taken over");
    twin.target.set_members("billing", false);
    for straggler in [14, 11] {
        twin.source.commit("billing", &at(), Offset(straggler));
        assert_eq!(twin.verdict().await, "taken over");
        twin.restart().await;
        assert_eq!(twin.verdict().await, "taken over");
        twin.passes_for(100 * SECOND).await;
        assert_eq!(twin.there(), Some(Offset(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn members_that_join_between_our_look_and_our_commit_latch_the_group() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::GroupBusy);
    assert_eq!(twin.verdict().await, "taken over");
    twin.restart().await;
    assert_eq!((twin.verdict().await, twin.there()), ("taken over", None));
}

#[tokio::test(start_paused = true)]
async fn a_position_somebody_else_set_on_the_target_is_never_overwritten() {
    for theirs in [1, 9] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(15));
        twin.pass().await;
        twin.target.commit("billing", &at(), Offset(theirs));
        twin.source.commit("billing", &at(), Offset(17));
        assert_eq!(twin.verdict().await, "taken over");
        // By chance the application comes to where we wrote last.
        twin.target.commit("billing", &at(), Offset(5));
        twin.source.commit("billing", &at(), Offset(18));
        twin.passes_for(100 * SECOND).await;
        assert_eq!((twin.verdict().await, twin.there()), ("taken over", Some(Offset(5))));
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_without_members_is_noticed_though_nothing_happens_at_the_source() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(15));
    twin.pass().await;
    twin.target.commit("billing", &at(), Offset(9));
    assert_eq!(twin.verdict().await, "taken over");
    assert!(twin.state("billing").verdict.detail().unwrap().contains("orders/0 was set to 9"));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_on_the_target_latches_the_group() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(15));
    twin.pass().await;
    twin.target.set_pending("billing", true);
    twin.source.commit("billing", &at(), Offset(17));
    assert_eq!(twin.verdict().await, "taken over");
}

#[tokio::test(start_paused = true)]
async fn a_group_taken_back_follows_the_source_again_and_a_dry_run_changes_nothing() {
    let mut twin = Twin::new().await;
    born(&twin).await;
    twin.source.commit("billing", &at(), Offset(15));
    twin.pass().await;
    assert!(take_back(&twin, false).await.unwrap_err().contains("is not taken over"));
    twin.target.set_members("billing", true);
    twin.pass().await;
    assert!(take_back(&twin, false).await.unwrap_err().contains("has members on the target"));
    twin.target.commit("billing", &at(), Offset(9));
    twin.target.set_members("billing", false);
    twin.source.commit("billing", &at(), Offset(16));
    twin.pass().await;
    let moves = Some(vec![Move { at: at(), from: Some(Offset(9)), to: Some(Offset(6)) }]);
    assert_eq!(take_back(&twin, true).await, Ok(moves.clone()));
    assert_eq!((twin.verdict().await, twin.there()), ("taken over", Some(Offset(9))));
    assert_eq!(take_back(&twin, false).await, Ok(moves));
    assert_eq!((twin.verdict().await, twin.there()), ("synced", Some(Offset(6))));
    assert_eq!(twin.record().resynced.unwrap().replaced, positions(9));
    twin.restart().await;
    assert_eq!(twin.verdict().await, "synced");
}

#[tokio::test(start_paused = true)]
async fn what_a_drill_left_where_the_source_has_no_position_is_removed_with_the_resync() {
    let mut twin = Twin::new().await;
    born(&twin).await;
    twin.source.commit("billing", &TopicPartition::new("elsewhere", 0), Offset(1));
    twin.target.commit("billing", &at(), Offset(9));
    twin.target.set_members("billing", true);
    twin.pass().await;
    twin.target.set_members("billing", false);
    let moves = take_back(&twin, false).await.unwrap().unwrap();
    assert_eq!(moves, [Move { at: at(), from: Some(Offset(9)), to: None }]);
    twin.passes_for(5 * SECOND).await;
    assert_eq!((twin.there(), twin.record().confirmed), (None, Positions::new()));
}

#[tokio::test(start_paused = true)]
async fn another_kind_of_group_under_the_id_is_a_conflict_and_not_written() {
    let mut twin = Twin::new().await;
    twin.target.commit("billing", &at(), Offset(1));
    twin.target.set_protocol("billing", GroupProtocol::Share);
    twin.source.commit("billing", &at(), Offset(15));
    assert_eq!(twin.verdict().await, "type conflict");
    assert_eq!(twin.there(), Some(Offset(1)));
}
