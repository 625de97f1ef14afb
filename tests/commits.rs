//! Hearing of commits on real brokers: who rings, how soon, at what cost, and what no broker's death may silence.

mod support;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, Producer};
use rdkafka::{ClientConfig, TopicPartitionList};
use support::access::User;
use support::process::{mortal, usage_of};
use support::raw::{Allow, Client, Isolation};
use support::{Cluster, ClusterSpec, rounds, shared_source, unique, until};
use twinlog::endpoint::{
    CommitFeed, CommitTail, CommittedOffset, Error, ErrorKind, GroupOffsets, GroupWriter, Mechanism, Protocol, Secret,
    SecretSource, Security,
};
use twinlog::model::{GroupId, Offset, TopicPartition};
use twinlog::runtime::tasks::TaskScope;
use twinlog::wire;

const SOON: Duration = Duration::from_secs(60);
/// How late a ring may be on a machine that does much else.
const AT_ONCE: Duration = Duration::from_secs(2);
const TOPIC: &str = "__consumer_offsets";

fn feed(bootstrap: String, security: Security) -> wire::Commits {
    wire::Commits::new(wire::Cluster::new("lyon", &bootstrap, security, "twinlog-test"), TaskScope::new())
}

/// Where every partition of the topic ends now. It is there once a group has committed.
fn ends(client: &Client) -> Vec<(i32, Offset)> {
    let count = client.partitions(TOPIC).unwrap();
    (0..count).map(|p| (p, Offset(client.bounds(TOPIC, p).unwrap().1))).collect()
}

/// A new topic, a tail from now on, and a group that has committed before.
fn begin(cluster: &Cluster) -> (String, Box<dyn CommitTail>) {
    let (client, topic) = (cluster.client(), unique("orders"));
    client.create_topic(&topic, 1, &[]).unwrap();
    client.commit_offsets(&unique("first"), &[(&topic, 0, 0)], "").unwrap();
    let tail = feed(cluster.bootstrap(), Security::default()).listen(&ends(client)).unwrap();
    (topic, tail)
}

/// How long the ring for a group takes from now on.
async fn rung(tail: &mut Box<dyn CommitTail>, group: &str) -> Duration {
    let (begun, group) = (Instant::now(), GroupId::from(group));
    let heard = async { while !tail.next().await.unwrap().contains(&group) {} };
    tokio::time::timeout(SOON, heard).await.unwrap_or_else(|_| panic!("nothing was heard of {group}"));
    begun.elapsed()
}

async fn failure(mut tail: Box<dyn CommitTail>) -> Error {
    let failed = async {
        loop {
            if let Err(error) = tail.next().await {
                return error;
            }
        }
    };
    tokio::time::timeout(SOON, failed).await.expect("the tail fails")
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_from_outside_and_deletions_ring_at_once() {
    let (topic, mut tail) = begin(shared_source());
    let (client, group) = (shared_source().client(), unique("billing"));
    client.commit_offsets(&group, &[(&topic, 0, 0)], "").unwrap();
    let first = rung(&mut tail, &group).await;
    let mut later = Vec::new();
    for offset in 0..100 {
        client.commit_offsets(&group, &[(&topic, 0, offset)], "").unwrap();
        later.push(rung(&mut tail, &group).await);
    }
    later.sort();
    client.delete_group(&group).unwrap();
    let deleted = rung(&mut tail, &group).await;
    println!("rung {first:?} after the first acknowledgement; later p50 {:?}, p99 {:?}", later[50], later[99]);
    println!("rung {deleted:?} after a deletion");
    assert!(first < AT_ONCE && later[99] < AT_ONCE && deleted < AT_ONCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_commits_ring_by_both_protocols() {
    let (topic, mut tail) = begin(shared_source());
    for protocol in ["classic", "consumer"] {
        let group = unique(protocol);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", shared_source().bootstrap()).set("group.id", &group);
        config.set("group.protocol", protocol).set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        until(SOON, "the consumer has its partition", || {
            let _ = consumer.poll(Duration::from_millis(50));
            consumer.assignment().unwrap().count() == 1
        });
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(0)).unwrap();
        consumer.commit(&offsets, CommitMode::Sync).unwrap();
        let late = rung(&mut tail, &group).await;
        println!("rung {late:?} after the commit of a {protocol} member");
        assert!(late < AT_ONCE, "{protocol}: {late:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_commit_rings_and_while_its_transaction_hangs_so_do_others_behind_it() {
    let (topic, mut tail) = begin(shared_source());
    let (client, group) = (shared_source().client(), unique("pending"));
    let before = ends(client);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared_source().bootstrap()).set("transactional.id", unique("pending"));
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(SOON).unwrap();
    producer.begin_transaction().unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared_source().bootstrap()).set("group.id", &group);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(5)).unwrap();
    let metadata = consumer.group_metadata().unwrap();
    producer.send_offsets_to_transaction(&offsets, &metadata, SOON).unwrap();
    let late = rung(&mut tail, &group).await;
    println!("rung {late:?} after a pending commit");
    assert!(late < AT_ONCE, "{late:?}");

    let look = |p: i32, from: Offset| client.fetch(TOPIC, p, from.0, Isolation::Uncommitted).unwrap();
    let hangs = |(p, from): &&(i32, Offset)| look(*p, *from).last_stable < look(*p, *from).high_watermark;
    let (hanging, from) = *before.iter().find(hangs).expect("the transaction is open");
    let mut behind = 0;
    for _ in 0..100 {
        let (other, end) = (unique("other"), look(hanging, from).high_watermark);
        client.commit_offsets(&other, &[(&topic, 0, 1)], "").unwrap();
        let late = rung(&mut tail, &other).await;
        assert!(late < AT_ONCE, "{late:?}");
        behind += usize::from(look(hanging, from).high_watermark > end);
        if behind == 3 {
            break;
        }
    }
    let now = look(hanging, from);
    assert!(behind == 3 && now.last_stable < now.high_watermark, "{behind} commits behind the open transaction");
    producer.abort_transaction(SOON).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_that_is_gone_or_not_there_yet_ends_the_tail_and_so_does_a_missing_partition() {
    let (_, tail) = begin(shared_source());
    drop(tail);
    let feed = feed(shared_source().bootstrap(), Security::default());
    let beyond = failure(feed.listen(&[(0, Offset(1_000_000_000))]).unwrap()).await;
    assert_eq!(beyond.kind, ErrorKind::Retryable, "{beyond}");
    assert!(beyond.message.contains("lyon") && beyond.message.contains(TOPIC), "{beyond}");
    let missing = failure(feed.listen(&[(1_000, Offset(0))]).unwrap()).await;
    assert_eq!(missing.kind, ErrorKind::UnknownTopic, "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_secured_cluster_refusals_name_the_right_and_a_restarted_broker_is_found_again() {
    let users = vec![User::new("admin", "root-pw"), User::new("reader", "reader-pw")];
    let security = support::Security::SaslSsl(users);
    let cluster = Cluster::start(ClusterSpec { security, ..ClusterSpec::default() });
    let (client, topic, group) = (cluster.client(), unique("orders"), unique("billing"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let commit = |offset| client.commit_offsets(&group, &[(&topic, 0, offset)], "").unwrap();
    commit(0);
    let ca = &cluster.certificates().unwrap().ca;
    let enter = |user: &str, password: &str, trusted: bool| {
        let security = Security {
            protocol: Protocol::SaslSsl,
            ca: trusted.then(|| ca.clone()),
            mechanism: Some(Mechanism::ScramSha512),
            username: Some(user.into()),
            password: Some(SecretSource::Known(Secret::new(password))),
            ..Security::default()
        };
        feed(cluster.bootstrap(), security).listen(&ends(client)).unwrap()
    };
    let refused = async |tail, says: &str| {
        let error: Error = failure(tail).await;
        println!("{error}");
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.message.contains("lyon") && error.message.contains(says), "{says}: {error}");
    };
    refused(enter("admin", "not-it", true), "clusters.lyon.security").await;
    refused(enter("admin", "root-pw", false), "clusters.lyon.security").await;
    let right = format!("Read on topic {TOPIC}");
    refused(enter("reader", "reader-pw", true), &right).await;
    let principal = "User:reader";
    let allow = |operation| client.allow(&[Allow { principal, resource: 2, name: TOPIC, prefixed: false, operation }]);
    // Describe is not enough, Read is, and nothing else is needed: no right on any group.
    allow(8).unwrap();
    refused(enter("reader", "reader-pw", true), &right).await;
    allow(3).unwrap();
    let mut offset = 0;
    let mut tail = loop {
        let mut tail = enter("reader", "reader-pw", true);
        offset += 1;
        commit(offset);
        match tail.next().await {
            Ok(_) => break tail,
            Err(error) => assert_eq!(error.kind, ErrorKind::Denied, "until the right is in force: {error}"),
        }
    };
    for _ in 0..3 {
        cluster.only().kill9();
        cluster.only().launch();
        offset += 1;
        commit(offset);
        println!("rung {:?} after the first commit to a restarted broker", rung(&mut tail, &group).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rings_go_on_when_the_leader_dies() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (topic, mut tail) = begin(&cluster);
    let (client, group) = (cluster.client(), unique("billing"));
    let before = ends(client);
    client.commit_offsets(&group, &[(&topic, 0, 0)], "").unwrap();
    rung(&mut tail, &group).await;
    let (home, _) = before.into_iter().zip(ends(client)).find(|(was, is)| was != is).expect("it was written").0;
    let mut offset = 0;
    for _ in 0..rounds(2, 10) {
        client.forget_leader(TOPIC, home);
        let leader = client.leader(TOPIC, home).unwrap();
        cluster.broker(leader).kill9();
        // Acknowledged by the next leader, which is elected first.
        for _ in 0..3 {
            offset += 1;
            client.commit_offsets(&group, &[(&topic, 0, offset)], "").unwrap();
            println!("rung {:?} after commit {offset}, its leader killed", rung(&mut tail, &group).await);
        }
        cluster.broker(leader).restart();
        until(SOON, "every partition is led and copied", || client.bounds(TOPIC, home).is_ok());
    }
    // Groups of all partitions.
    for _ in 0..16 {
        let other = unique("other");
        client.commit_offsets(&other, &[(&topic, 0, 0)], "").unwrap();
        rung(&mut tail, &other).await;
    }
}

/// What the measuring process is told: where the cluster is.
const MEASURE: &str = "TWINLOG_MEASURE_COMMITS";

/// Measured in a process of its own, so that the tests beside it do not count.
#[tokio::test(flavor = "multi_thread")]
async fn an_idle_tail_of_fifty_partitions_costs_next_to_nothing_and_a_busy_one_little() {
    if let Ok(bootstrap) = std::env::var(MEASURE) {
        return measure(bootstrap).await;
    }
    let cluster = Cluster::start(ClusterSpec::default().with("offsets.topic.num.partitions", 50));
    let (client, topic) = (cluster.client(), unique("orders"));
    client.create_topic(&topic, 100, &[]).unwrap();
    client.commit_offsets("first", &[(&topic, 0, 0)], "").unwrap();
    let lyon = wire::Cluster::new("lyon", &cluster.bootstrap(), Security::default(), "twinlog-test");
    let position = || CommittedOffset { offset: Offset(0), metadata: Bytes::new() };
    let offsets: GroupOffsets = (0..100).map(|p| (TopicPartition::new(&topic, p), position())).collect();
    let groups: Vec<GroupId> = (0..100).map(|n| GroupId::from(format!("group-{n}"))).collect();
    for _ in 0..10 {
        let all = groups.iter().map(|group| lyon.commit_offsets(group, &offsets));
        futures::future::join_all(all).await.into_iter().for_each(|outcome| outcome.unwrap());
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([
        "--exact",
        "--nocapture",
        "an_idle_tail_of_fifty_partitions_costs_next_to_nothing_and_a_busy_one_little",
    ]);
    child.env(MEASURE, cluster.bootstrap());
    let done = tokio::task::block_in_place(|| mortal(&child).output().unwrap());
    println!("{}", String::from_utf8_lossy(&done.stdout));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

async fn measure(bootstrap: String) {
    let cpu = || usage_of(std::process::id()).unwrap();
    let all: Vec<(i32, Offset)> = (0..50).map(|p| (p, Offset(0))).collect();
    let (began, before) = (Instant::now(), cpu());
    let mut tail = feed(bootstrap, Security::default()).listen(&all).unwrap();
    let mut told = BTreeMap::<GroupId, usize>::new();
    let mut last = began;
    // All is heard when nothing comes for a while.
    while let Ok(heard) = tokio::time::timeout(AT_ONCE, tail.next()).await {
        heard.unwrap().into_iter().for_each(|group| *told.entry(group).or_default() += 1);
        last = Instant::now();
    }
    assert_eq!(told.len(), 101);
    let (busy, read) = (cpu(), last - began);
    println!("100,000 commits of 100 groups: heard in {read:?}, told as {} rings", told.values().sum::<usize>());
    println!("processor time with start {:?}, peak memory {} MiB", busy.cpu - before.cpu, busy.peak_bytes >> 20);
    let idle = Duration::from_secs(rounds(5, 30) as u64);
    let quiet = tokio::time::timeout(idle, tail.next()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    let spent = cpu().cpu - busy.cpu;
    println!("idle for {idle:?}: processor time {spent:?}");
    assert!(spent < idle / 50, "{spent:?}");
}
