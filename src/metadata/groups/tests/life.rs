//! Positions that would expire, groups that end, partitions without a position.

use super::super::survey::SWEEP;
use super::*;
use crate::endpoint::memory::Call;
use crate::endpoint::{ErrorKind, GroupReader};

/// A quarter of the week that a cluster in memory keeps positions, which is more than the longest.
const KEPT_EVERY: Duration = Duration::from_secs(86_400);

#[tokio::test(start_paused = true)]
async fn unchanged_positions_are_committed_again_before_they_expire_also_without_the_source() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    let first = twin.record().committed_at_ms;
    twin.source.fail_next(Call::ReadGroups, usize::MAX, ErrorKind::Retryable);
    for turn in 1..4 {
        tokio::time::sleep(KEPT_EVERY).await;
        assert!(twin.try_pass(Extent::Full).await.is_err(), "the source is away");
        assert_eq!(twin.record().committed_at_ms, first + turn * KEPT_EVERY.as_millis() as i64);
    }
    twin.restart().await;
    tokio::time::sleep(KEPT_EVERY).await;
    assert!(twin.try_pass(Extent::Full).await.is_err());
    assert_eq!(twin.record().committed_at_ms, first + 4 * KEPT_EVERY.as_millis() as i64);
}

#[tokio::test(start_paused = true)]
async fn an_idle_position_beside_a_busy_one_is_committed_again_in_time() {
    let mut twin = Twin::new().await;
    twin.mirrored = [(at(), route(at(), Some(map()))), (beside(), route(beside(), Some(map())))].into_iter().collect();
    twin.source.commit("billing", &at(), Offset(12));
    twin.source.commit("billing", &beside(), Offset(12));
    twin.pass().await;
    let first = twin.record().committed_at_ms;
    for turn in 0..14 {
        tokio::time::sleep(KEPT_EVERY / 10).await;
        twin.source.commit("billing", &at(), Offset(13 + turn % 2));
        twin.pass().await;
    }
    assert_eq!(twin.record().committed_at_ms, first + KEPT_EVERY.as_millis() as i64);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_vanished_is_written_again_with_its_metadata_also_without_the_source() {
    let mut twin = Twin::new().await;
    twin.source.commit_with("billing", &at(), Offset(12), "partition time");
    twin.pass().await;
    twin.source.fail_next(Call::ReadGroups, usize::MAX, ErrorKind::Retryable);
    twin.restart().await;
    twin.target.delete_group("billing");
    assert!(twin.try_pass(Extent::Full).await.is_err());
    assert_eq!(twin.there(), Some(Offset(2)));
    let told = GroupReader::group_offsets(&twin.target, &["billing".into()]).await.remove(0).unwrap();
    assert_eq!(&told.offsets[&at()].metadata[..], b"partition time");
}

#[tokio::test(start_paused = true)]
async fn a_classic_group_that_had_members_is_looked_at_in_every_pass() {
    let mut twin = Twin::new().await;
    twin.target.set_members("billing", true);
    twin.target.set_members("billing", false);
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    for _ in 0..3 {
        tokio::time::sleep(SECOND).await;
        twin.target.expire_positions("billing");
        twin.pass().await;
        assert_eq!(twin.there(), Some(Offset(2)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_gone_at_the_source_is_named_and_its_positions_left_to_expire() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.delete_group("billing");
    twin.passes_for(GRACE / 2).await;
    assert_eq!(twin.verdict().await, "synced", "it may come back within the grace period");
    twin.passes_for(SWEEP + GRACE).await;
    assert_eq!(twin.verdict().await, "gone at the source");
    let written = twin.record().committed_at_ms;
    tokio::time::sleep(2 * KEPT_EVERY).await;
    twin.passes_for(5 * SECOND).await;
    assert_eq!((twin.there(), twin.record().committed_at_ms), (Some(Offset(2)), written));
    twin.restart().await;
    twin.passes_for(GRACE + 5 * SECOND).await;
    assert_eq!(twin.verdict().await, "gone at the source");
    twin.source.commit("billing", &at(), Offset(15));
    twin.passes_for(6 * SECOND).await;
    assert_eq!((twin.verdict().await, twin.there()), ("synced", Some(Offset(5))));
}

#[tokio::test(start_paused = true)]
async fn deletions_are_carried_over_where_that_is_wanted_but_never_into_an_application() {
    let carrying = || GroupRules { deletions: Deletions::Carry, ..rules() };
    let mut twin = Twin::with(carrying()).await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.delete_group("billing");
    twin.passes_for(SWEEP + 3 * GRACE).await;
    assert_eq!((twin.there(), twin.states().len()), (None, 0));
    assert!(twin.ledger.view().group(&"billing".into()).is_none());

    let mut twin = Twin::with(carrying()).await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.delete_group("billing");
    twin.target.commit("billing", &at(), Offset(7));
    twin.passes_for(SWEEP + 3 * GRACE).await;
    assert_eq!((twin.there(), twin.verdict().await), (Some(Offset(7)), "taken over"));
}

#[tokio::test(start_paused = true)]
async fn a_partition_without_a_position_is_counted_or_seeded() {
    for (no_position, expected) in [(NoPosition::Leave, None), (NoPosition::Seed, Some(Offset(0)))] {
        let mut twin = Twin::with(GroupRules { no_position, ..rules() }).await;
        twin.mirrored =
            [(at(), route(at(), Some(map()))), (beside(), route(beside(), Some(map())))].into_iter().collect();
        twin.source.commit("billing", &at(), Offset(12));
        twin.pass().await;
        let state = twin.state("billing");
        let at_risk = if expected.is_some() { 0 } else { 17 };
        assert_eq!(
            (&state.partitions[1].verdict, state.cost().unwrap().at_risk),
            (&PositionVerdict::NoPosition, at_risk)
        );
        assert_eq!(twin.target.position_of("billing", &beside()), expected);
        // The group begins to read it.
        twin.source.commit("billing", &beside(), Offset(13));
        twin.pass().await;
        assert_eq!(twin.target.position_of("billing", &beside()), Some(Offset(3)));
        assert_eq!(twin.state("billing").verdict, GroupVerdict::Synced);
    }
}

#[tokio::test(start_paused = true)]
async fn a_seed_is_known_as_one_also_when_its_confirmation_was_lost() {
    let mut twin = Twin::with(GroupRules { no_position: NoPosition::Seed, ..rules() }).await;
    twin.mirrored = [(at(), route(at(), Some(map()))), (beside(), route(beside(), Some(map())))].into_iter().collect();
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    let confirmed = twin.record();
    assert_eq!(confirmed.seeded, [(beside(), Offset(0))].into());
    // As a process would leave it that ended right after its commit.
    let intent = confirmed.confirmed;
    let record = GroupRecord { intent, ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), record)]).await.unwrap();
    twin.restart().await;
    twin.pass().await;
    assert_eq!(twin.state("billing").partitions[1].verdict, PositionVerdict::NoPosition);
    assert_eq!(twin.record().seeded, confirmed.seeded);
}

#[tokio::test(start_paused = true)]
async fn what_a_switch_over_now_would_cost_is_counted() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    // The commit is made, and the target cannot be written.
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    twin.source.commit("billing", &at(), Offset(24));
    twin.pass().await;
    assert_eq!(twin.state("billing").cost().unwrap(), Cost { re_read: 9, ..Cost::default() });
    twin.pass().await;
    assert_eq!(twin.state("billing").cost().unwrap(), Cost::default());
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    twin.source.commit("billing", &at(), Offset(15));
    twin.pass().await;
    assert_eq!(twin.state("billing").cost().unwrap(), Cost { skip: 6, ..Cost::default() });
}
