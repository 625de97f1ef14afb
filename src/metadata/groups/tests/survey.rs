//! How the source's commits are learnt of.

use super::super::survey::SWEEP;
use super::*;
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::Call;

fn way(twin: &Twin) -> Way {
    twin.board.lock().unwrap().way().clone()
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_was_heard_of_is_carried_over_without_a_full_look() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    assert_eq!(way(&twin), Way::Following);
    twin.source.commit("billing", &at(), Offset(14));
    twin.groups.heard().await;
    assert!(twin.groups.has_news());
    // Whatever a full look would ask fails: this one asks none of it.
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(4)));
    assert!(!twin.groups.has_news());
}

#[tokio::test(start_paused = true)]
async fn without_the_right_to_follow_groups_are_polled_and_the_reason_is_told() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.fail_next(Call::HearCommits, 1, ErrorKind::Denied);
    twin.groups.heard().await;
    assert!(matches!(way(&twin), Way::Polling { .. }));
    twin.source.commit("billing", &at(), Offset(14));
    twin.pass().await;
    assert_eq!(twin.there(), Some(Offset(4)));
    // The right is given: half a minute later it is found out.
    twin.passes_for(31 * SECOND).await;
    assert_eq!(way(&twin), Way::Following);
}

#[tokio::test(start_paused = true)]
async fn a_transactional_commit_is_carried_over_when_it_is_final_though_that_is_not_heard() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.set_pending("billing", true);
    twin.groups.heard().await;
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(2)));
    assert!(twin.groups.has_news(), "it is asked for again");
    twin.source.commit("billing", &at(), Offset(14));
    twin.source.set_pending("billing", false);
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(4)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_heard_of_is_found_within_the_sweep() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    twin.source.commit("billing", &at(), Offset(14));
    // Nobody listens: the ring is lost.
    for _ in 0..=SWEEP.as_secs() {
        twin.try_pass(Extent::Full).await.unwrap();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(twin.there(), Some(Offset(4)));
}
