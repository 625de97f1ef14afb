//! The wire adapter's group contracts on real brokers: listed, read, described, written, deleted from.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use support::batch::{Batch, Codec};
use support::cluster::OLDER;
use support::raw::Client;
use support::record::Record;
use support::{Cluster, ClusterSpec, shared_source, unique, until, until_told};
use twinlog::endpoint::{
    CommittedOffset, ErrorKind, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, ReadOffsets, Security,
};
use twinlog::model::{GroupId, Offset, TopicPartition};
use twinlog::wire;

const SOON: Duration = Duration::from_secs(60);

fn wire_of(cluster: &Cluster) -> wire::Cluster {
    wire::Cluster::new("lyon", &cluster.bootstrap(), Security::default(), "twinlog-test")
}

fn write(client: &Client, topic: &str, ids: std::ops::Range<u64>) -> i64 {
    let records = ids.map(|id| Record::order(id, 100)).collect();
    client.produce(topic, 0, &Batch::of(records, Codec::Lz4).encode()).unwrap()
}

async fn positions_travel_byte_for_byte(cluster: &Cluster) {
    let (client, topic) = (cluster.client(), unique("read"));
    client.create_topic(&topic, 3, &[]).unwrap();
    write(client, &topic, 0..10);
    let lyon = wire_of(cluster);
    let (group, nobody) = (GroupId::from(unique("group")), GroupId::from(unique("nobody")));
    let position = |offset, metadata: &'static str| CommittedOffset {
        offset: Offset(offset),
        metadata: Bytes::from_static(metadata.as_bytes()),
    };
    let offsets = GroupOffsets::from([
        (TopicPartition::new(&topic, 0), position(7, "α\u{0}β")),
        (TopicPartition::new(&topic, 2), position(0, "")),
    ]);
    // The coordinator's own topic may have to be made first.
    until_told(SOON, "the coordinator takes commits", async || {
        let outcome = lyon.commit_offsets(&group, &offsets).await;
        assert!(outcome.as_ref().err().is_none_or(|error| error.is_retryable()), "{outcome:?}");
        outcome
    })
    .await;
    let told = lyon.group_offsets(&[nobody.clone(), group.clone()]).await;
    assert_eq!(told[0].as_ref().unwrap(), &ReadOffsets::default());
    assert_eq!(told[1].as_ref().unwrap().offsets, offsets);
    let listed = lyon.groups().await.unwrap();
    let info = listed.iter().find(|g| g.id == group).unwrap();
    assert_eq!((info.protocol, info.has_members, info.had_members), (GroupProtocol::Classic, false, false));
    assert!(lyon.groups_in_use().await.unwrap().iter().all(|g| g.id != group));
    assert_eq!(lyon.offsets_retention().await.unwrap(), Duration::from_secs(7 * 86_400));
    assert!(listed.iter().all(|g| g.id != nobody));
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_travel_on_the_current_version() {
    positions_travel_byte_for_byte(shared_source()).await;
}

fn member(cluster: &Cluster, group: &GroupId, protocol: &str, topic: &str, partitions: usize) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap()).set("group.id", group.as_str());
    config.set("group.protocol", protocol);
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    until(SOON, "the consumer has its partitions", || {
        let _ = consumer.poll(Duration::from_millis(50));
        consumer.assignment().unwrap().count() == partitions
    });
    consumer
}

fn places(topic: &str, partitions: std::ops::Range<i32>) -> BTreeSet<TopicPartition> {
    partitions.map(|partition| TopicPartition::new(topic, partition)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_members_is_listed_so_and_its_positions_cannot_be_set_or_deleted() {
    let (client, topic) = (shared_source().client(), unique("busy"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let lyon = wire_of(shared_source());
    for (protocol, expected) in [("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)] {
        let group = GroupId::from(unique(protocol));
        let _member = member(shared_source(), &group, protocol, &topic, 1);
        let listed = lyon.groups().await.unwrap();
        let info = listed.iter().find(|g| g.id == group).unwrap();
        assert_eq!((info.protocol, info.has_members), (expected, true), "{protocol}");
        assert_eq!(info.had_members, expected == GroupProtocol::Classic, "{protocol}");
        assert!(lyon.groups_in_use().await.unwrap().contains(info), "{protocol}");
        let position = CommittedOffset { offset: Offset(0), metadata: Bytes::new() };
        let offsets = GroupOffsets::from([(TopicPartition::new(&topic, 0), position)]);
        let refused = lyon.commit_offsets(&group, &offsets).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::GroupBusy, "{protocol}: {refused}");
        let refused = lyon.delete_offsets(&group, &places(&topic, 0..1)).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::GroupBusy, "{protocol}: {refused}");
    }
}

async fn deleted_positions_are_gone_and_the_others_stay(cluster: &Cluster) {
    let (client, topic, group) = (cluster.client(), unique("delete"), unique("delete"));
    client.create_topic(&topic, 3, &[]).unwrap();
    client.commit_offsets(&group, &[(&topic, 0, 4), (&topic, 1, 5)], "").unwrap();
    let lyon = wire_of(cluster);
    // One with a position, one without, and two that do not exist.
    let mut gone = BTreeSet::from([TopicPartition::new(unique("never"), 0), TopicPartition::new(&topic, 99)]);
    gone.extend([TopicPartition::new(&topic, 0), TopicPartition::new(&topic, 2)]);
    for _ in 0..2 {
        lyon.delete_offsets(&group.as_str().into(), &gone).await.unwrap();
        let left = lyon.group_offsets(&[group.as_str().into()]).await.remove(0).unwrap();
        let left: Vec<_> = left.offsets.into_iter().map(|(at, position)| (at, position.offset)).collect();
        assert_eq!(left, [(TopicPartition::new(&topic, 1), Offset(5))]);
    }
    lyon.delete_offsets(&unique("nobody").into(), &gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_positions_are_gone_on_the_current_version() {
    deleted_positions_are_gone_and_the_others_stay(shared_source()).await;
}

async fn members_are_assigned_what_they_read_until_they_go(cluster: &Cluster, protocol: &str, kind: GroupProtocol) {
    let (client, topic, group) = (cluster.client(), unique("assigned"), GroupId::from(unique(protocol)));
    client.create_topic(&topic, 3, &[]).unwrap();
    let (lyon, asked) = (wire_of(cluster), [(GroupId::from(unique("nobody")), kind), (group.clone(), kind)]);
    let member = member(cluster, &group, protocol, &topic, 3);
    let told = lyon.assignments(&asked).await;
    assert!(told[0].as_ref().unwrap().is_empty());
    assert_eq!(told[1].as_ref().unwrap(), &places(&topic, 0..3), "{protocol}");
    drop(member);
    until_told(SOON, "nothing is assigned", async || match lyon.assignments(&asked).await.remove(1) {
        Ok(told) if told.is_empty() => Ok(()),
        Err(error) if !error.is_retryable() => panic!("{protocol}: {error}"),
        other => Err((protocol, other)),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_assigned_what_they_read_by_either_protocol() {
    members_are_assigned_what_they_read_until_they_go(shared_source(), "classic", GroupProtocol::Classic).await;
    members_are_assigned_what_they_read_until_they_go(shared_source(), "consumer", GroupProtocol::Consumer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_read_described_and_deleted_from_on_an_older_version() {
    let cluster = Cluster::start(ClusterSpec { version: OLDER, ..ClusterSpec::default() });
    positions_travel_byte_for_byte(&cluster).await;
    deleted_positions_are_gone_and_the_others_stay(&cluster).await;
    members_are_assigned_what_they_read_until_they_go(&cluster, "classic", GroupProtocol::Classic).await;
    let lyon = wire_of(&cluster);
    let assigned = lyon.assignments(&[("new".into(), GroupProtocol::Consumer)]).await.remove(0).unwrap_err();
    let starts = lyon.share_starts(&["new".into()]).await.remove(0).unwrap_err();
    for unknown in [assigned, starts] {
        assert_eq!(unknown.kind, ErrorKind::Unsupported, "{unknown}");
        assert!(unknown.message.contains("lyon"), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_write_something_else_than_partitions_hurt_their_own_group_only() {
    let (client, topic) = (shared_source().client(), unique("garbage"));
    client.create_topic(&topic, 2, &[]).unwrap();
    let [garbage, workers, sound] = ["garbage", "workers", "sound"].map(|stem| GroupId::from(unique(stem)));
    client.join_group(garbage.as_str(), "consumer", b"{\"not\": \"partitions\"}").unwrap();
    client.join_group(workers.as_str(), "connect", b"whatever workers write").unwrap();
    let _member = member(shared_source(), &sound, "classic", &topic, 2);
    let lyon = wire_of(shared_source());
    let asked = [&garbage, &workers, &sound].map(|group| (group.clone(), GroupProtocol::Classic));
    let told = lyon.assignments(&asked).await;
    let kinds = [ErrorKind::Corrupt, ErrorKind::Unsupported];
    for ((told, kind), group) in told.iter().zip(kinds).zip([&garbage, &workers]) {
        let error = told.as_ref().unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains("lyon") && error.message.contains(group.as_str()), "{error}");
    }
    assert_eq!(told[2].as_ref().unwrap(), &places(&topic, 0..2));
}

#[tokio::test(flavor = "multi_thread")]
async fn share_groups_begin_where_they_were_set() {
    let (client, topic, group) = (shared_source().client(), unique("shared"), GroupId::from(unique("shared")));
    client.create_topic(&topic, 3, &[]).unwrap();
    write(client, &topic, 0..10);
    let lyon = wire_of(shared_source());
    let member = client.join_share_group(group.as_str(), &[&topic]).unwrap();
    assert!(lyon.share_starts(std::slice::from_ref(&group)).await.remove(0).unwrap().is_empty(), "nothing was read");
    client.leave_share_group(group.as_str(), &member).unwrap();
    client.set_share_start(group.as_str(), &topic, 0, 4).unwrap();
    let told = lyon.share_starts(&[group, GroupId::from(unique("nobody"))]).await;
    assert_eq!(told[0].as_ref().unwrap(), &BTreeMap::from([(TopicPartition::new(&topic, 0), Offset(4))]));
    assert!(told[1].as_ref().unwrap().is_empty());
}

/// Sets a position of a group from outside: how it is listed, and what the broker answers.
async fn listed_and_set(
    lyon: &wire::Cluster,
    group: &str,
    topic: &str,
) -> ((GroupProtocol, bool), Result<(), ErrorKind>) {
    let listed = lyon.groups().await.unwrap();
    let info = listed.iter().find(|g| g.id.as_str() == group).unwrap();
    let position = CommittedOffset { offset: Offset(1), metadata: Bytes::new() };
    let offsets = GroupOffsets::from([(TopicPartition::new(topic, 0), position)]);
    let outcome = lyon.commit_offsets(&info.id, &offsets).await;
    ((info.protocol, info.has_members), outcome.map_err(|e| e.kind))
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_set_in_whatever_group_is_empty_but_never_in_share_groups() {
    let (client, topic, lyon) = (shared_source().client(), unique("kinds"), wire_of(shared_source()));
    client.create_topic(&topic, 1, &[]).unwrap();
    let set = async |group: &str| listed_and_set(&lyon, group, &topic).await;
    let busy = Err(ErrorKind::GroupBusy);

    let share = unique("share");
    let worker = client.join_share_group(&share, &[&topic]).unwrap();
    assert_eq!(set(&share).await, ((GroupProtocol::Share, true), Err(ErrorKind::Refused)));
    client.leave_share_group(&share, &worker).unwrap();
    assert_eq!(set(&share).await, ((GroupProtocol::Share, false), Err(ErrorKind::Refused)));

    let connect = unique("connect");
    let worker = client.join_group(&connect, "connect", b"").unwrap();
    assert_eq!(set(&connect).await, ((GroupProtocol::Other, true), busy));
    client.leave_group(&connect, &worker).unwrap();
    assert_eq!(set(&connect).await, ((GroupProtocol::Other, false), Ok(())));

    let consumer = GroupId::from(unique("consumer"));
    let worker = member(shared_source(), &consumer, "consumer", &topic, 1);
    assert_eq!(set(consumer.as_str()).await, ((GroupProtocol::Consumer, true), busy));
    drop(worker);
    until_told(SOON, "the group is empty", async || {
        let in_use = lyon.groups_in_use().await.unwrap();
        if in_use.iter().any(|g| g.id == consumer) { Err(in_use) } else { Ok(()) }
    })
    .await;
    for _ in 0..2 {
        // It stays what it is.
        assert_eq!(set(consumer.as_str()).await, ((GroupProtocol::Consumer, false), Ok(())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_in_an_open_transaction_are_not_shown() {
    let (client, topic) = (shared_source().client(), unique("pending"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let group = GroupId::from(unique("pending"));
    client.commit_offsets(group.as_str(), &[(&topic, 0, 1)], "").unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared_source().bootstrap()).set("transactional.id", unique("pending"));
    let producer: rdkafka::producer::BaseProducer = config.create().unwrap();
    rdkafka::producer::Producer::init_transactions(&producer, SOON).unwrap();
    rdkafka::producer::Producer::begin_transaction(&producer).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared_source().bootstrap()).set("group.id", group.as_str());
    let consumer: BaseConsumer = config.create().unwrap();
    let mut offsets = rdkafka::TopicPartitionList::new();
    offsets.add_partition_offset(&topic, 0, rdkafka::Offset::Offset(5)).unwrap();
    let metadata = consumer.group_metadata().unwrap();
    rdkafka::producer::Producer::send_offsets_to_transaction(&producer, &offsets, &metadata, SOON).unwrap();

    let lyon = wire_of(shared_source());
    let told = lyon.group_offsets(std::slice::from_ref(&group)).await;
    let place = TopicPartition::new(&topic, 0);
    let pending = ReadOffsets { pending: [place.clone()].into(), ..ReadOffsets::default() };
    assert_eq!(told[0].as_ref().unwrap(), &pending);
    rdkafka::producer::Producer::commit_transaction(&producer, SOON).unwrap();
    until_told(SOON, "the position is told", async || {
        let told = lyon.group_offsets(std::slice::from_ref(&group)).await.remove(0);
        // Left out while the transaction's marker is under way, told from then on.
        let is_told = |told: &ReadOffsets| told.offsets.get(&place).is_some_and(|told| told.offset == Offset(5));
        if told.as_ref().is_ok_and(is_told) { Ok(()) } else { Err(told) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_stirred_where_it_is_kept_and_not_touched() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (client, topic) = (cluster.client(), unique("stirred"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let (lyon, at) = (wire_of(&cluster), TopicPartition::new(&topic, 0));
    let ends = || {
        let partitions = 0..client.partitions("__consumer_offsets").unwrap();
        partitions.map(|p| client.bounds("__consumer_offsets", p).unwrap().1).collect::<Vec<i64>>()
    };
    client.commit_offsets("first", &[(&topic, 0, 1)], "").unwrap();
    for _ in 0..8 {
        let group = unique("stirred");
        let before = ends();
        client.commit_offsets(&group, &[(&topic, 0, 7)], "").unwrap();
        let (between, position) = (ends(), client.committed(&group).unwrap());
        lyon.stir(&GroupId::from(&group), &at).await.unwrap();
        let after = ends();
        let moved = |from: &[i64], to: &[i64]| from.iter().zip(to).position(|(from, to)| from != to);
        assert_eq!(moved(&before, &between), moved(&between, &after), "{before:?} {between:?} {after:?}");
        assert_ne!(between, after);
        assert_eq!(client.committed(&group).unwrap(), position);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_groups_are_read_in_one_go() {
    let (client, topic) = (shared_source().client(), unique("many"));
    client.create_topic(&topic, 10, &[]).unwrap();
    let lyon = wire_of(shared_source());
    let prefix = unique("many");
    let groups: Vec<GroupId> = (0..1_000).map(|n| GroupId::from(format!("{prefix}-{n}"))).collect();
    let offsets: GroupOffsets = (0..10)
        .map(|p| (TopicPartition::new(&topic, p), CommittedOffset { offset: Offset(3), metadata: Bytes::new() }))
        .collect();
    client.commit_offsets(groups[0].as_str(), &[(&topic, 0, 1)], "").unwrap();
    let mut writing = Vec::new();
    for _ in 0..2 {
        let begun = Instant::now();
        let written = futures::future::join_all(groups.iter().map(|group| lyon.commit_offsets(group, &offsets))).await;
        written.into_iter().for_each(|outcome| outcome.unwrap());
        writing.push(begun.elapsed());
    }
    // A client that knows no coordinator yet, then the same again.
    let (paris, mut first, mut fastest) = (wire_of(shared_source()), None, SOON);
    assert!(paris.groups().await.unwrap().len() >= 1_000);
    for _ in 0..5 {
        let begun = Instant::now();
        let told = paris.group_offsets(&groups).await;
        first.get_or_insert(begun.elapsed());
        fastest = fastest.min(begun.elapsed());
        assert!(told.iter().all(|t| t.as_ref().unwrap().offsets == offsets));
    }
    println!("1,000 groups × 10 partitions: written in {writing:?}, read first in {first:?}, later in {fastest:?}");
    assert!(fastest < Duration::from_secs(2), "{fastest:?}");
}
