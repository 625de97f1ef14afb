//! What every [`LedgerStore`] must do.

use std::time::Duration;

use super::stage::within;
use crate::endpoint::{
    ErrorKind, LedgerAppender, LedgerEntry, LedgerEvent, LedgerFollower, LedgerStore, LedgerTopic,
    MAX_LEDGER_VALUE_BYTES,
};

/// Runs the whole suite, each truth on an unused ledger of its own.
pub async fn all(unused: &[&dyn LedgerStore; 5]) {
    a_follower_catches_up_once_and_then_hears_every_append(unused[0]).await;
    the_topics_of_a_ledger_are_apart(unused[1]).await;
    a_successor_fences_and_nothing_of_the_fenced_appears(unused[2]).await;
    a_dropped_wait_loses_no_entry(unused[3]).await;
    the_largest_value_is_taken(unused[4]).await;
}

/// What is there first, then one word that this was all, then what comes, in the order of appending.
pub async fn a_follower_catches_up_once_and_then_hears_every_append(store: &dyn LedgerStore) {
    let owner = store.claim().await.expect("a ledger is claimed");
    let mut empty = store.follow(LedgerTopic::Map).await.expect("an empty ledger is followed");
    assert_eq!(next(&mut *empty).await, LedgerEvent::CaughtUp);
    let (early, late) = (entries(0..5), entries(5..9));
    owner.append(LedgerTopic::Map, early.clone()).await.expect("the owner appends");
    let owner = visible(store).await;
    let mut follower = store.follow(LedgerTopic::Map).await.expect("a ledger is followed");
    assert_eq!(take(&mut *follower, 5).await, early);
    assert_eq!(next(&mut *follower).await, LedgerEvent::CaughtUp);
    for entry in &late {
        owner.append(LedgerTopic::Map, vec![entry.clone()]).await.expect("the owner appends");
    }
    assert_eq!(take(&mut *follower, 4).await, late);
    assert_eq!(take(&mut *empty, 9).await, [early, late].concat());
}

/// Map and control do not mix.
pub async fn the_topics_of_a_ledger_are_apart(store: &dyn LedgerStore) {
    let owner = store.claim().await.expect("a ledger is claimed");
    let (map, control) = (entries(0..3), entries(3..6));
    owner.append(LedgerTopic::Map, map.clone()).await.expect("the owner appends");
    owner.append(LedgerTopic::Control, control.clone()).await.expect("the owner appends");
    visible(store).await;
    for (topic, expected) in [(LedgerTopic::Map, map), (LedgerTopic::Control, control)] {
        let mut follower = store.follow(topic).await.expect("a ledger is followed");
        assert_eq!(take(&mut *follower, 3).await, expected);
        assert_eq!(next(&mut *follower).await, LedgerEvent::CaughtUp);
    }
}

/// From the claim on, the predecessor's appends are refused, whole.
pub async fn a_successor_fences_and_nothing_of_the_fenced_appears(store: &dyn LedgerStore) {
    let predecessor = store.claim().await.expect("a ledger is claimed");
    predecessor.append(LedgerTopic::Control, entries(0..2)).await.expect("the owner appends");
    let successor = store.claim().await.expect("a ledger is claimed again");
    let refused = predecessor.append(LedgerTopic::Control, entries(2..4)).await.expect_err("a successor claimed");
    assert_eq!(refused.kind, ErrorKind::Fenced, "{refused}");
    successor.append(LedgerTopic::Control, entries(4..6)).await.expect("the successor appends");
    visible(store).await;
    let mut follower = store.follow(LedgerTopic::Control).await.expect("a ledger is followed");
    assert_eq!(take(&mut *follower, 4).await, [entries(0..2), entries(4..6)].concat());
    assert_eq!(next(&mut *follower).await, LedgerEvent::CaughtUp);
}

/// `next` is cancel-safe.
pub async fn a_dropped_wait_loses_no_entry(store: &dyn LedgerStore) {
    let owner = store.claim().await.expect("a ledger is claimed");
    let mut follower = store.follow(LedgerTopic::Map).await.expect("a ledger is followed");
    assert_eq!(next(&mut *follower).await, LedgerEvent::CaughtUp);
    for round in 0..5 {
        let gave_up = tokio::time::timeout(Duration::from_millis(20), follower.next()).await;
        assert!(gave_up.is_err(), "a follower at the end waits");
        let appended = entries(round..round + 1);
        owner.append(LedgerTopic::Map, appended.clone()).await.expect("the owner appends");
        assert_eq!(take(&mut *follower, 1).await, appended);
    }
}

/// Up to [`MAX_LEDGER_VALUE_BYTES`], beside others.
pub async fn the_largest_value_is_taken(store: &dyn LedgerStore) {
    let owner = store.claim().await.expect("a ledger is claimed");
    let mut large = entries(0..3);
    large[1].value = Some(vec![7; MAX_LEDGER_VALUE_BYTES].into());
    owner.append(LedgerTopic::Control, large.clone()).await.expect("the owner appends");
    visible(store).await;
    let mut follower = store.follow(LedgerTopic::Control).await.expect("a ledger is followed");
    assert!(take(&mut *follower, 3).await == large, "the largest value comes back as it was");
}

/// The next owner. Its claim waits until everything appended before can be seen, which nothing else does (see
/// [`LedgerReader::follow`](crate::endpoint::LedgerReader::follow)).
async fn visible(store: &dyn LedgerStore) -> Box<dyn LedgerAppender> {
    store.claim().await.expect("a ledger is claimed again")
}

/// Every third is a tombstone.
fn entries(numbers: std::ops::Range<u8>) -> Vec<LedgerEntry> {
    let entry = |n: u8| LedgerEntry { key: vec![n].into(), value: (n % 3 != 2).then(|| vec![n; 3].into()) };
    numbers.map(entry).collect()
}

async fn next(follower: &mut dyn LedgerFollower) -> LedgerEvent {
    within("a follower hears what was appended", follower.next()).await.expect("a ledger is followed")
}

async fn take(follower: &mut dyn LedgerFollower, count: usize) -> Vec<LedgerEntry> {
    let mut taken = Vec::new();
    while taken.len() < count {
        match next(follower).await {
            LedgerEvent::Entry(entry) => taken.push(entry),
            // Only a follower that began earlier than the appends is asked for more than it caught up with.
            LedgerEvent::CaughtUp => panic!("caught up after {} of {count} entries", taken.len()),
        }
    }
    taken
}
