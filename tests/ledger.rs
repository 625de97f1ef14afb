//! The ledger on real brokers: what is appended is followed, whoever claims fences the others, and starting is quick.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use twinlog::endpoint::{
    ErrorKind, LedgerAppender, LedgerEntry, LedgerEvent, LedgerFollower, LedgerStore, LedgerTopic, Mechanism, Protocol,
    Secret, SecretSource, Security,
};
use twinlog::ledger::record::{Desired, LeaseRecord, Rate};
use twinlog::ledger::{Acquiring, Claimant, Clusters, ControlRecord, Ledger, ProcessIdentity, View, topics};
use twinlog::librdkafka::{ClusterAccess, RdLedgerStore};
use twinlog::model::{LinkName, Offset, OffsetRange, TopicPartition};
use twinlog::offsets::OffsetMap;
use twinlog::runtime::tasks::TaskScope;

use support::access::User;
use support::raw::Allow;
use support::{Cluster, ClusterSpec, shared_target, unique, until_told};

/// A ledger with its topics created, on a cluster shared with other tests.
fn new_ledger(cluster: &Cluster) -> (LinkName, Arc<dyn LedgerStore>) {
    let link = LinkName::from(unique("link"));
    for spec in topics::specs(&link, 1) {
        let configs: Vec<(&str, &str)> = spec.configs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        cluster.client().create_topic(spec.name.as_str(), spec.partitions, &configs).unwrap();
    }
    (link.clone(), store(cluster, &link))
}

fn store(cluster: &Cluster, link: &LinkName) -> Arc<dyn LedgerStore> {
    store_of(cluster, link, Security { protocol: Protocol::Plaintext, ..Security::default() })
}

fn store_of(cluster: &Cluster, link: &LinkName, security: Security) -> Arc<dyn LedgerStore> {
    let access = ClusterAccess { alias: "lyon".into(), bootstrap: cluster.bootstrap(), security, tokens: None };
    Arc::new(RdLedgerStore::new(access, link))
}

fn clusters() -> Clusters {
    Clusters { source: "source-id".into(), target: "target-id".into() }
}

async fn acquire(store: &Arc<dyn LedgerStore>, link: &LinkName, scope: &TaskScope) -> Ledger {
    let progress = watch::Sender::new(Acquiring::Reading);
    Ledger::acquire(store.clone(), &Claimant::new(link.clone()), clusters(), scope, &progress).await.unwrap()
}

fn entry(key: &str, value: &str) -> LedgerEntry {
    LedgerEntry { key: Bytes::copy_from_slice(key.as_bytes()), value: Some(Bytes::copy_from_slice(value.as_bytes())) }
}

/// Everything ever committed. A commit is acknowledged before its markers are written, so only a claim, which waits for
/// them, makes sure that the end is the end.
async fn read_settled(store: &dyn LedgerStore, topic: LedgerTopic) -> Vec<LedgerEntry> {
    let _claim = claim(store).await;
    read_to_end(&mut store.follow(topic).await.unwrap()).await
}

async fn claim(store: &dyn LedgerStore) -> Box<dyn LedgerAppender> {
    loop {
        match store.claim().await {
            Ok(appender) => return appender,
            Err(error) => assert_eq!(error.kind, ErrorKind::Retryable, "{error}"),
        }
    }
}

async fn read_to_end(follower: &mut Box<dyn LedgerFollower>) -> Vec<LedgerEntry> {
    let mut entries = Vec::new();
    loop {
        match follower.next().await.unwrap() {
            LedgerEvent::Entry(entry) => entries.push(entry),
            LedgerEvent::CaughtUp => return entries,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_followed_in_order_to_the_end_and_live() {
    let (_, store) = new_ledger(shared_target());
    let appender = store.claim().await.unwrap();
    let tombstone = LedgerEntry { key: Bytes::from_static(b"gone"), value: None };
    let first = vec![entry("a", "1"), entry("b", "2"), tombstone];
    appender.append(LedgerTopic::Control, first.clone()).await.unwrap();
    let mut follower = store.follow(LedgerTopic::Control).await.unwrap();
    let mut heard = read_to_end(&mut follower).await;
    while heard.len() < first.len() {
        let LedgerEvent::Entry(entry) = follower.next().await.unwrap() else { panic!("caught up twice") };
        heard.push(entry);
    }
    assert_eq!(heard, first);
    let second: Vec<_> = (0..3000).map(|i| entry(&format!("key {i}"), "x")).collect();
    appender.append(LedgerTopic::Control, second.clone()).await.unwrap();
    for expected in second {
        assert_eq!(follower.next().await.unwrap(), LedgerEvent::Entry(expected));
    }
    let mut empty = store.follow(LedgerTopic::Map).await.unwrap();
    assert_eq!(read_to_end(&mut empty).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_claim_fences_the_first_and_what_it_left_open_is_never_seen() {
    let (_, store) = new_ledger(shared_target());
    let first = store.claim().await.unwrap();
    first.append(LedgerTopic::Control, vec![entry("by", "first")]).await.unwrap();
    // Too large for the topic: fails at its delivery, with the entry before it already written and then aborted.
    let too_large = "x".repeat(9 * 1024 * 1024);
    let refused = first.append(LedgerTopic::Control, vec![entry("aborted", "1"), entry("large", &too_large)]).await;
    assert_eq!(refused.unwrap_err().kind, ErrorKind::TooLarge);
    let second = store.claim().await.unwrap();
    let error = first.append(LedgerTopic::Control, vec![entry("by", "zombie")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    assert!(error.message.contains("lyon") && error.message.contains("another Twinlog"), "{error}");
    let error = first.append(LedgerTopic::Map, vec![entry("by", "zombie")]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    second.append(LedgerTopic::Control, vec![entry("by", "second")]).await.unwrap();
    let survived = read_settled(&*store, LedgerTopic::Control).await;
    assert_eq!(survived, [entry("by", "first"), entry("by", "second")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_named() {
    let cluster = shared_target();
    let link = LinkName::from(unique("nowhere"));
    let mut follower = store(cluster, &link).follow(LedgerTopic::Control).await.unwrap();
    let error = follower.next().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownTopic, "{error}");
    assert!(error.message.contains(&format!("__twinlog.{link}.control")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_the_ledger_is_told_and_reads_it_once_the_right_is_given() {
    let users = vec![User::new("admin", "root-pw"), User::new("reader", "reader-pw")];
    let security = support::Security::SaslSsl(users);
    let cluster = Cluster::start(ClusterSpec { security, ..ClusterSpec::default() });
    let (link, _) = new_ledger(&cluster);
    let security = Security {
        protocol: Protocol::SaslSsl,
        ca: Some(cluster.certificates().unwrap().ca.clone()),
        mechanism: Some(Mechanism::ScramSha512),
        username: Some("reader".into()),
        password: Some(SecretSource::Known(Secret::new("reader-pw"))),
        ..Security::default()
    };
    let store = store_of(&cluster, &link, security);
    let topic = format!("__twinlog.{link}.control");
    let error = store.follow(LedgerTopic::Control).await.unwrap().next().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.message.contains(&topic) && error.message.contains("lyon"), "{error}");
    let right = Allow { principal: "User:reader", resource: 2, name: &topic, prefixed: false, operation: 3 };
    cluster.client().allow(&[right]).unwrap();
    let event = until_told(Duration::from_secs(60), "the right is in force", async || {
        store.follow(LedgerTopic::Control).await.unwrap().next().await
    });
    assert_eq!(event.await, LedgerEvent::CaughtUp, "nothing was written yet");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_maps_survive_the_holder_and_a_clean_stop_lets_the_next_start_at_once() {
    let (link, store) = new_ledger(shared_target());
    let scope = TaskScope::new();
    let ledger = acquire(&store, &link, &scope).await;
    let desired = Desired { paused: true, rate: Rate::Bytes(1 << 20) };
    ledger.append(vec![ControlRecord::Desired(desired)]).await.unwrap();
    let target = TopicPartition::new("orders", 3);
    let map = ledger.set_map(&target, OffsetMap::new(Offset(100), Offset(0)));
    map.lock().unwrap().skip(OffsetRange::new(Offset(100), Offset(250)));
    ledger.flush_maps(std::slice::from_ref(&target)).await.unwrap();
    ledger.release().await.unwrap();
    scope.stop().await;

    drop(claim(&*store).await);
    let view = View::read(&*store).await.unwrap();
    assert_eq!(view.desired(), desired);
    assert!(view.lease().unwrap().released);
    let begun = Instant::now();
    let scope = TaskScope::new();
    let ledger = acquire(&store, &link, &scope).await;
    let took = begun.elapsed();
    assert_eq!(ledger.view().desired(), desired);
    let map = ledger.map(&target).unwrap().unwrap();
    assert_eq!(map.lock().unwrap().position(), Offset(250));
    println!("acquired {took:?} after a clean stop");
    assert!(took < Duration::from_millis(900), "{took:?}");
    ledger.release().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_killed_on_this_machine_is_not_waited_for_but_one_that_may_live_is() {
    let (link, store) = new_ledger(shared_target());
    let scope = TaskScope::new();
    acquire(&store, &link, &scope).await.release().await.unwrap();
    drop(claim(&*store).await);
    let lease = View::read(&*store).await.unwrap().lease().unwrap();

    let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
    let held = held_by(&lease, child.id());
    store.claim().await.unwrap().append(LedgerTopic::Control, vec![held]).await.unwrap();
    child.kill().unwrap();
    let begun = Instant::now();
    let ledger = acquire(&store, &link, &scope).await;
    let took = begun.elapsed();
    println!("acquired {took:?} after a kill");
    assert!(took < Duration::from_millis(900), "{took:?}");
    child.wait().unwrap();
    drop(ledger);
    scope.stop().await;

    // Not released, and its process (this one) lives.
    let scope = TaskScope::new();
    let begun = Instant::now();
    let ledger = acquire(&store, &link, &scope).await;
    let took = begun.elapsed();
    println!("acquired {took:?} from a holder that may live");
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(7), "{took:?}");
    ledger.release().await.unwrap();
}

fn held_by(lease: &LeaseRecord, pid: u32) -> LedgerEntry {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let start_ticks = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let mut process = ProcessIdentity { pid, ..lease.process.clone() };
    process.proof.as_mut().unwrap().start_ticks = start_ticks;
    ControlRecord::Lease(LeaseRecord { process, released: false, ..lease.clone() }).to_entry()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_loses_its_lease_at_the_next_append_after_another_claims() {
    let (link, store) = new_ledger(shared_target());
    let scope = TaskScope::new();
    let ledger = acquire(&store, &link, &scope).await;
    assert!(ledger.lease().valid());
    let _usurper = store.claim().await.unwrap();
    // No append of ours: the renewal finds out.
    let why = tokio::time::timeout(Duration::from_secs(10), ledger.lease().lost()).await.unwrap();
    assert_eq!(why.kind, ErrorKind::Fenced, "{why}");
    assert!(!ledger.lease().valid());
    let refused = ledger.append(vec![ControlRecord::Desired(Desired::default())]).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Fenced, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_takes_milliseconds_not_a_poll_quantum() {
    let (_, store) = new_ledger(shared_target());
    let appender = store.claim().await.unwrap();
    let mut took = Vec::new();
    for i in 0..200 {
        let begun = Instant::now();
        appender.append(LedgerTopic::Map, vec![entry("orders/3/head", &i.to_string())]).await.unwrap();
        took.push(begun.elapsed());
    }
    took.sort();
    println!("append p50 {:?}, p99 {:?}, max {:?}", took[100], took[198], took[199]);
    assert!(took[100] < Duration::from_millis(50), "{:?}", took[100]);
}

/// Private cluster: its only broker is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_under_appends_costs_time_but_nothing_acknowledged() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (link, store) = new_ledger(&cluster);
    let mut appender = store.claim().await.unwrap();
    let (mut acknowledged, mut failures) = (0, Vec::new());
    for i in 0..60 {
        if i % 20 == 10 {
            cluster.only().kill9();
            cluster.only().launch();
        }
        loop {
            match appender
                .append(LedgerTopic::Control, vec![entry(&i.to_string(), "x"), entry("last", &i.to_string())])
                .await
            {
                Ok(()) => break,
                Err(error) => {
                    failures.push(error.clone());
                    match error.kind {
                        ErrorKind::Retryable => {}
                        // What a holder of a lease would do by starting again.
                        ErrorKind::Fenced | ErrorKind::Attach => appender = claim(&*store).await,
                        _ => panic!("{error}"),
                    }
                }
            }
        }
        acknowledged += 1;
    }
    println!("{} failures: {failures:#?}", failures.len());
    drop(appender);
    let entries = read_settled(&*store, LedgerTopic::Control).await;
    let lost: Vec<i32> = (0..acknowledged).filter(|i| !entries.contains(&entry(&i.to_string(), "x"))).collect();
    // For the one who has to find out why.
    let log = || cluster.only().dump(topics::specs(&link, 1)[0].name.as_str(), 0);
    assert!(lost.is_empty(), "{lost:?} in\n{}", log());
    assert_eq!(entries.last(), Some(&entry("last", "59")));
    let whole = |pair: &[LedgerEntry]| pair[1].value.as_ref().is_some_and(|i| pair[0].key == *i);
    let mut lasts = entries.windows(2).filter(|pair| pair[1].key == "last");
    assert!(lasts.all(whole), "both entries of an append or none");
}
