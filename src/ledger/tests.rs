//! The ledger's promises on a clock that can be paused.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::fake::{FakeStore, Fault};
use super::record::{Born, ClaimRecord, Desired, GroupRecord, LeaseRecord, Rate, SeenPositions};
use super::*;
use crate::endpoint::{ErrorKind, LedgerEntry, LedgerStore, LedgerTopic, Result};
use crate::model::{Offset, OffsetRange, Route, TopicPartition};
use crate::offsets::OffsetMap;
use crate::runtime::tasks::TaskScope;

fn clusters() -> Clusters {
    Clusters { source: "paris-id".into(), target: "lyon-id".into() }
}

/// A process of its own.
fn claimant() -> Claimant {
    Claimant::new("dr".into())
}

async fn try_acquire(store: &FakeStore, scope: &TaskScope) -> Result<Ledger> {
    let progress = watch::Sender::new(Acquiring::Reading);
    Ledger::acquire(Arc::new(store.clone()), &claimant(), clusters(), scope, &progress).await
}

async fn acquire(store: &FakeStore, scope: &TaskScope) -> Ledger {
    try_acquire(store, scope).await.unwrap()
}

/// A holder that ends without a word; its process (this one) cannot be proven gone.
async fn abandoned(store: &FakeStore) -> LeaseRecord {
    let scope = TaskScope::new();
    let ledger = acquire(store, &scope).await;
    scope.stop().await;
    ledger.view().lease().unwrap()
}

fn desired(rate: u64) -> ControlRecord {
    ControlRecord::Desired(Desired { paused: false, rate: Rate::Bytes(rate) })
}

fn born(partition: i32) -> ControlRecord {
    let at = TopicPartition::new("orders", partition);
    let route = Route { source: at.clone(), source_id: None, target: at, target_id: None };
    ControlRecord::Born(Born { route, first_source: Offset(7), target_start: Offset(0) })
}

#[tokio::test(start_paused = true)]
async fn a_successor_waits_out_a_lease_whose_holder_may_live() {
    let store = FakeStore::default();
    abandoned(&store).await;
    let begun = Instant::now();
    acquire(&store, &TaskScope::new()).await;
    assert!(begun.elapsed() >= LEASE && begun.elapsed() < LEASE + Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_process_never_waits_for_itself_but_for_everybody_else_since() {
    let (store, claimant) = (FakeStore::default(), claimant());
    let progress = watch::Sender::new(Acquiring::Reading);
    let tenure = || async {
        let (scope, begun) = (TaskScope::new(), Instant::now());
        let ledger = Ledger::acquire(Arc::new(store.clone()), &claimant, clusters(), &scope, &progress).await.unwrap();
        let waited = begun.elapsed();
        scope.stop().await;
        drop(ledger);
        waited
    };
    tenure().await;
    assert!(tenure().await < Duration::from_secs(1), "its own lease");
    abandoned(&store).await;
    assert!(tenure().await >= LEASE, "another's lease");
}

#[tokio::test(start_paused = true)]
async fn while_the_holder_renews_a_waiting_one_never_claims_and_says_whom_it_waits_for() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &scope).await;
    let (progress, seen) = watch::channel(Acquiring::Reading);
    let waiting = {
        let (store, scope) = (Arc::new(store.clone()), scope.clone());
        tokio::spawn(async move { Ledger::acquire(store, &claimant(), clusters(), &scope, &progress).await })
    };
    for _ in 0..600 {
        sleep(Duration::from_millis(100)).await;
        assert!(ledger.lease().valid());
    }
    assert_eq!(store.claims(), 1);
    let Acquiring::Waiting { holder, until } = seen.borrow().clone() else { panic!("{:?}", seen.borrow()) };
    assert!(holder.contains(&format!("pid {}", std::process::id())), "{holder}");
    assert!(until > Instant::now());
    let begun = Instant::now();
    ledger.release().await.unwrap();
    waiting.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_millis(100), "a release is heard live: {:?}", begun.elapsed());
    assert_eq!(*seen.borrow(), Acquiring::Held);
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_release_the_next_one_starts_at_once() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &scope).await;
    ledger.append(vec![desired(5)]).await.unwrap();
    let lease = ledger.lease().clone();
    ledger.release().await.unwrap();
    assert!(!lease.valid(), "what is released accepts nothing");
    let begun = Instant::now();
    let ledger = acquire(&store, &TaskScope::new()).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(ledger.view().desired().rate.in_force(None), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_provably_gone_holder_is_not_waited_for() {
    let store = FakeStore::default();
    let lease = abandoned(&store).await;
    // No process has this pid; boot and namespace are ours.
    let process = ProcessIdentity { pid: u32::MAX, ..lease.process.clone() };
    let claim = ClaimRecord { holder: lease.holder, process: process.clone() };
    store.plant(ControlRecord::Claim(claim).to_entry());
    store.plant(ControlRecord::Lease(LeaseRecord { process, ..lease }).to_entry());
    let begun = Instant::now();
    acquire(&store, &TaskScope::new()).await;
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_slips_in_before_the_claim_is_waited_out_before_the_lease_is_taken() {
    let store = FakeStore::default();
    let lease = abandoned(&store).await;
    store.slip_in_before_claim(vec![ControlRecord::Lease(LeaseRecord { renewal: 9, ..lease }).to_entry()]);
    let begun = Instant::now();
    acquire(&store, &TaskScope::new()).await;
    assert!(begun.elapsed() >= LEASE * 2, "{:?}", begun.elapsed());
    assert_eq!(store.claims(), 2, "no second claim is needed for it");
}

#[tokio::test(start_paused = true)]
async fn a_zombie_is_fenced_at_its_next_append_and_everything_learns_of_it() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let zombie = acquire(&store, &scope).await;
    let usurper = store.claim().await.unwrap();
    let error = zombie.append(vec![desired(1)]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert_eq!(zombie.lease().lost().await.kind, ErrorKind::Fenced);
    assert!(!zombie.lease().valid());
    assert_eq!(zombie.view().desired().rate.in_force(None), None, "what is not durable is not shown");
    assert!(zombie.release().await.is_err());
    usurper.append(LedgerTopic::Control, vec![desired(2).to_entry()]).await.unwrap();
    assert_eq!(View::read(&store).await.unwrap().desired().rate.in_force(None), Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_idle_zombie_learns_by_its_renewal() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let zombie = acquire(&store, &scope).await;
    let _usurper = store.claim().await.unwrap();
    timeout(LEASE, zombie.lease().lost()).await.expect("before its lease would have ended");
}

#[tokio::test(start_paused = true)]
async fn while_appends_fail_the_lease_runs_out_and_comes_back_when_they_succeed() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &scope).await;
    store.fail(Some(Fault::Away));
    sleep(LEASE + Duration::from_millis(1)).await;
    assert!(!ledger.lease().valid());
    store.fail(None);
    sleep(Duration::from_secs(2)).await;
    assert!(ledger.lease().valid());
}

#[tokio::test(start_paused = true)]
async fn two_that_claim_at_the_same_time_end_with_one_holder() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let (first, second) = (acquire(&store, &scope), acquire(&store, &scope));
    tokio::pin!(first, second);
    let holder = tokio::select! { ledger = &mut first => ledger, ledger = &mut second => ledger };
    sleep(Duration::from_secs(30)).await;
    assert!(holder.lease().valid());
    let claims = store.claims();
    sleep(Duration::from_secs(30)).await;
    assert_eq!(store.claims(), claims, "the other waits");
}

#[tokio::test(start_paused = true)]
async fn what_a_newer_twinlog_wrote_is_refused_by_name() {
    for (key, value) in [("desired", r#"{"v":3,"paused":{}}"#), ("journal/failover", r#"{"v":1}"#)] {
        let store = FakeStore::default();
        store.plant(LedgerEntry { key: key.into(), value: Some(value.into()) });
        let error = try_acquire(&store, &TaskScope::new()).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert!(error.message.contains(&format!("'{key}'")) && error.message.contains("newer Twinlog"), "{error}");
        assert_eq!(store.claims(), 0, "refused before anybody is fenced");
    }
    let store = FakeStore::default();
    store.plant(LedgerEntry { key: "desired".into(), value: Some(r#"{"v":3}"#.into()) });
    assert!(View::read(&store).await.unwrap_err().message.contains("version 3"));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_of_other_clusters_is_refused_by_name() {
    let store = FakeStore::default();
    acquire(&store, &TaskScope::new()).await.release().await.unwrap();
    let progress = watch::Sender::new(Acquiring::Reading);
    let swapped = Clusters { source: "nice-id".into(), ..clusters() };
    let result = Ledger::acquire(Arc::new(store.clone()), &claimant(), swapped, &TaskScope::new(), &progress).await;
    let error = result.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Denied);
    for name in ["dr", "paris-id", "lyon-id", "nice-id"] {
        assert!(error.message.contains(name), "{error}");
    }
    assert_eq!(store.claims(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_append_loses_nothing_acknowledged_and_leaves_nothing_half() {
    for crash in 0..12 {
        for fault in [Fault::DiesBefore, Fault::DiesAfter] {
            let store = FakeStore::default();
            let scope = TaskScope::new();
            let ledger = acquire(&store, &scope).await;
            for i in 0..crash {
                ledger.append(vec![desired(i), born(i as i32)]).await.unwrap();
            }
            store.fail(Some(fault));
            let dying = ledger.append(vec![desired(crash), born(crash as i32)]);
            timeout(Duration::from_millis(100), dying).await.unwrap_err();
            scope.stop().await;
            store.fail(None);
            let view = acquire(&store, &TaskScope::new()).await.view().clone();
            let survived = crash + u64::from(fault == Fault::DiesAfter);
            assert_eq!(view.desired().rate.in_force(None), survived.checked_sub(1), "{fault:?} at append {crash}");
            assert_eq!(view.routes().len() as u64, survived);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn calls_made_together_share_a_transaction() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &scope).await;
    let before = store.transactions();
    futures::future::try_join_all((0..1000).map(|i| ledger.append(vec![born(i)]))).await.unwrap();
    assert_eq!(ledger.view().routes().len(), 1000);
    // A task of tokio sends at most 128 messages before it lets others run.
    assert!(store.transactions() - before <= 10, "{}", store.transactions() - before);
}

#[tokio::test(start_paused = true)]
async fn a_map_that_could_not_be_stored_goes_with_the_next_flush() {
    let store = FakeStore::default();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &scope).await;
    let target = TopicPartition::new("orders", 0);
    let map = ledger.set_map(&target, OffsetMap::new(Offset(10), Offset(0)));
    map.lock().unwrap().skip(OffsetRange::new(Offset(10), Offset(20)));
    store.fail(Some(Fault::Away));
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap_err();
    assert!(View::read(&store).await.unwrap().map(&target).unwrap().is_none());
    store.fail(None);
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap();
    let stored = View::read(&store).await.unwrap().map(&target).unwrap().unwrap();
    assert_eq!(stored.lock().unwrap().position(), Offset(20));
    let before = store.transactions();
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap();
    assert_eq!(store.transactions(), before, "what is stored is not stored again");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_map_is_the_trouble_of_its_own_partition_only() {
    let store = FakeStore::default();
    let ledger = acquire(&store, &TaskScope::new()).await;
    let (good, bad) = (TopicPartition::new("orders", 0), TopicPartition::new("orders", 1));
    ledger.set_map(&good, OffsetMap::new(Offset(0), Offset(0)));
    ledger.flush_maps(std::slice::from_ref(&good)).await.unwrap();
    ledger.release().await.unwrap();
    let appender = store.claim().await.unwrap();
    let torn = LedgerEntry { key: "orders/1/head".into(), value: Some(Bytes::from_static(b"\x01\xff")) };
    appender.append(LedgerTopic::Map, vec![torn]).await.unwrap();
    let view = acquire(&store, &TaskScope::new()).await.view().clone();
    assert!(view.map(&good).unwrap().is_some());
    let error = view.map(&bad).unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.message.contains("orders/1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_follower_sees_maps_and_records_live_in_the_same_shared_map() {
    let store = FakeStore::default();
    let ledger = acquire(&store, &TaskScope::new()).await;
    let target = TopicPartition::new("orders", 0);
    let map = ledger.set_map(&target, OffsetMap::new(Offset(0), Offset(0)));
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap();
    let mut reading = Reading::start(&store).await.unwrap();
    reading.to_the_end().await.unwrap();
    let followed = reading.view().map(&target).unwrap().unwrap();
    map.lock().unwrap().skip(OffsetRange::new(Offset(0), Offset(5)));
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap();
    ledger.append(vec![desired(1)]).await.unwrap();
    let follow = async {
        while reading.view().desired().rate == Rate::Configured || followed.lock().unwrap().position() != Offset(5) {
            reading.next().await.unwrap();
            reading.view().map(&target).unwrap();
        }
    };
    timeout(Duration::from_secs(1), follow).await.expect("the shared map is brought up to date in place");
}

#[test]
fn partitions_nest_under_their_topics_and_any_group_name_makes_a_key() {
    let positions = [("a", 0), ("a", 10), ("b", 2)].map(|(topic, p)| (TopicPartition::new(topic, p), Offset(3)));
    let seen = SeenPositions { at_ms: 1, positions: positions.into() };
    let record = ControlRecord::Seen("team/röd/1".into(), seen);
    let entry = record.to_entry();
    assert_eq!(&entry.key[..], "seen/team/röd/1".as_bytes());
    let expected = r#"{"at_ms":1,"positions":{"a":{"0":3,"10":3},"b":{"2":3}},"v":2}"#;
    assert_eq!(entry.value.as_deref(), Some(expected.as_bytes()));
    assert_eq!(ControlRecord::from_entry(&entry).unwrap(), record);
    let removed = LedgerEntry { value: None, ..entry };
    assert_eq!(ControlRecord::from_entry(&removed).unwrap(), ControlRecord::Removed(record.key()));
    let group = ControlRecord::Group("g".into(), GroupRecord::default());
    assert_eq!(ControlRecord::from_entry(&group.to_entry()).unwrap(), group);
}

#[test]
fn bytes_that_are_no_record_are_an_error_that_names_the_key() {
    for (key, value) in [
        ("desired", ""),
        ("desired", "{}"),
        ("desired", r#"{"v":1}"#),
        ("born/orders/0", r#"{"v":-1}"#),
        ("group/g", r#"{"v":1,"intent":{"a":{"x":1}},"confirmed":{}}"#),
    ] {
        let error = ControlRecord::from_entry(&LedgerEntry { key: key.into(), value: Some(value.into()) }).unwrap_err();
        assert!(error.kind == ErrorKind::Corrupt && error.message.contains(key), "{key}: {error}");
    }
    let moved = LedgerEntry { key: "born/other/0".into(), ..born(0).to_entry() };
    assert_eq!(ControlRecord::from_entry(&moved).unwrap_err().kind, ErrorKind::Corrupt);
}
