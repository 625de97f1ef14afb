//! The wire adapter's contracts on real brokers: catalog, admin, point reads, security, broker death.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::access::User;
use support::batch::{Batch, Codec};
use support::cluster::{OLDER, ZOOKEEPER_ERA};
use support::raw::{Allow, Client};
use support::record::Record;
use support::{Cluster, ClusterSpec, shared_source, unique, until, until_told};
use twinlog::endpoint::{
    Catalog, ConfigChange, ConfigOrigin, ErrorKind, GroupReader, Mechanism, PointReader, Protocol, Secret,
    SecretSource, Security, TopicAdmin, TopicSpec, View,
};
use twinlog::model::{GroupId, LeaderEpoch, Offset, OffsetRange, TopicName, TopicPartition};
use twinlog::wire::{self, Points};

const SOON: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn wire_of(cluster: &Cluster) -> wire::Cluster {
    wire::Cluster::new("lyon", &cluster.bootstrap(), Security::default(), "twinlog-test")
}

fn write(client: &Client, topic: &str, ids: std::ops::Range<u64>) -> i64 {
    let records = ids.map(|id| Record::order(id, 100)).collect();
    client.produce(topic, 0, &Batch::of(records, Codec::Lz4).encode()).unwrap()
}

fn range(start: i64, end: i64) -> OffsetRange {
    OffsetRange::new(Offset(start), Offset(end))
}

fn spec(name: &str, partitions: i32) -> TopicSpec {
    let configs = BTreeMap::from([("retention.ms".to_owned(), "1234567".to_owned())]);
    TopicSpec { name: name.into(), partitions, replication: 1, configs }
}

async fn topics_are_created_seen_grown_and_changed(cluster: &Cluster, producers_expire_after: Duration) {
    let (lyon, name) = (wire_of(cluster), unique("life"));
    let topic = TopicName::from(&name);
    lyon.create_topic(&spec(&name, 2)).await.unwrap();
    let again = lyon.create_topic(&spec(&name, 2)).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::Refused, "{again}");
    assert!(again.message.contains(&name) && again.message.contains("lyon"), "{again}");

    lyon.grow_topic(&topic, 3).await.unwrap();
    let changes =
        [ConfigChange::Set("max.message.bytes".into(), "2000000".into()), ConfigChange::Unset("retention.ms".into())];
    lyon.change_configs(&topic, &changes).await.unwrap();

    let unknown = TopicName::from(unique("never"));
    // Metadata follow the controller with a delay.
    let info = until_told(SOON, "three partitions", async || {
        let mut told = lyon.describe_topics(&[topic.clone(), unknown.clone()]).await;
        assert_eq!(told.pop().unwrap().unwrap_err().kind, ErrorKind::UnknownTopic);
        match told.pop().unwrap() {
            Ok(info) if info.partitions.len() == 3 => Ok(info),
            other => Err(other),
        }
    })
    .await;
    assert!(info.id.is_some() && !info.internal && info.partitions.iter().all(|p| p.replicas == 1), "{info:?}");
    let listed = lyon.topics().await.unwrap();
    assert_eq!(listed.iter().find(|t| t.name == topic).map(|t| t.id), Some(info.id));
    assert!(listed.iter().all(|t| t.name != unknown));

    let size = until_told(SOON, "the changed settings", async || {
        let mut told = lyon.topic_configs(&[unknown.clone(), topic.clone()]).await;
        let mut configs = told.pop().unwrap().unwrap();
        assert_eq!(told.pop().unwrap().unwrap_err().kind, ErrorKind::UnknownTopic);
        let size = configs.remove("max.message.bytes").unwrap();
        let is_changed = size.value.as_deref() == Some("2000000");
        let is_as_told = is_changed && configs["retention.ms"].origin == ConfigOrigin::Inherited;
        if is_as_told { Ok(size) } else { Err((size, configs)) }
    })
    .await;
    assert_eq!(size.origin, ConfigOrigin::Topic);

    let told = lyon.cluster().await.unwrap();
    assert_eq!((told.id.as_str(), told.brokers), (cluster.id(), 1));
    assert_eq!(lyon.producer_expiration_ms().await.unwrap(), producers_expire_after.as_millis() as i64);
    let (one, other) = (lyon.allocate_producer_id().await.unwrap(), lyon.allocate_producer_id().await.unwrap());
    assert!(one.id >= 0 && one.id != other.id && one.epoch == 0, "{one:?} {other:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_live_as_told_on_the_current_version() {
    topics_are_created_seen_grown_and_changed(shared_source(), DAY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_places_are_read_on_older_versions() {
    // Before 3.0 producers were remembered for as long as transactional ids.
    for (version, producers_expire_after) in [(OLDER, DAY), (ZOOKEEPER_ERA, 7 * DAY)] {
        let cluster = Cluster::start(ClusterSpec { version, ..ClusterSpec::default() });
        topics_are_created_seen_grown_and_changed(&cluster, producers_expire_after).await;
        ends_tell_open_transactions_and_deleted_records(&cluster).await;
        places_are_read_in_both_views(&cluster).await;
    }
}

async fn ends_tell_open_transactions_and_deleted_records(cluster: &Cluster) {
    let (client, topic) = (cluster.client(), unique("ends"));
    client.create_topic(&topic, 2, &[]).unwrap();
    let (lyon, at) = (wire_of(cluster), TopicPartition::new(&topic, 0));
    write(client, &topic, 0..10);
    let mut producer = client.producer(Some(&topic)).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&topic, 0, &Batch::of(vec![Record::order(10, 100)], Codec::None)).unwrap();
    client.delete_records(&topic, 0, 4).unwrap();

    let asked = [TopicPartition::new(&topic, 1), at.clone(), TopicPartition::new(&topic, 7), at.clone()];
    let told = lyon.bounds(&asked).await;
    let ends = |n: usize| told[n].as_ref().map(|b| (b.log_start.0, b.last_stable.0, b.high_watermark.0)).unwrap();
    assert_eq!(ends(0), (0, 0, 0));
    assert_eq!((ends(1), ends(3)), ((4, 10, 11), (4, 10, 11)));
    assert_eq!(told[2].as_ref().unwrap_err().kind, ErrorKind::UnknownTopic);
    assert_eq!(told[1].as_ref().unwrap().leader_epoch, LeaderEpoch(0));
    transaction.commit().unwrap();
    until_told(SOON, "the marker is stable", async || {
        let bounds = lyon.bounds(std::slice::from_ref(&at)).await.remove(0).unwrap();
        if bounds.last_stable == Offset(12) { Ok(()) } else { Err(bounds) }
    })
    .await;

    let end = lyon.epoch_end(&at, LeaderEpoch(0)).await.unwrap();
    assert_eq!((end.epoch, end.end), (LeaderEpoch(0), Offset(12)));
    let time = Record::order(7, 100).timestamp;
    assert_eq!(lyon.offset_at_time(&at, time).await.unwrap(), Some(Offset(7)));
    assert_eq!(lyon.offset_at_time(&at, i64::MAX).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_are_told_on_the_current_version() {
    ends_tell_open_transactions_and_deleted_records(shared_source()).await;
}

async fn places_are_read_in_both_views(cluster: &Cluster) {
    let (client, topic) = (cluster.client(), unique("places"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let (points, at) = (Points::new(wire_of(cluster)), TopicPartition::new(&topic, 0));
    // 0..10 plain · 10..12 aborted, marker 12 · 13..15 committed, marker 15 · 16 open
    write(client, &topic, 0..10);
    let mut producer = client.producer(Some(&topic)).unwrap();
    for (first, commits) in [(10, false), (13, true)] {
        let mut transaction = producer.begin();
        let records = (first..first + 2).map(|id| Record::order(id, 100)).collect();
        assert_eq!(transaction.send(&topic, 0, &Batch::of(records, Codec::Zstd)).unwrap(), first as i64);
        if commits { transaction.commit() } else { transaction.abort() }.unwrap();
        until(SOON, "the marker is written", || client.bounds(&topic, 0).unwrap().1 == first as i64 + 3);
    }
    producer.begin().send(&topic, 0, &Batch::of(vec![Record::order(16, 100)], Codec::None)).unwrap();

    let read = async |view, from: i64, end: i64, bytes| {
        let (mut offsets, mut proven) = (Vec::new(), range(from, from));
        loop {
            let seen = points.read(&at, range(proven.end.0, end), view, bytes).await.unwrap();
            assert_eq!(seen.range.start, proven.end, "windows join");
            if seen.range.is_empty() {
                return (offsets, proven);
            }
            offsets.extend(seen.records.iter().map(|r| r.offset.0));
            proven.end = seen.range.end;
        }
    };
    let committed: Vec<i64> = (0..10).chain([13, 14]).collect();
    // A limit of one byte still yields a batch at a time.
    for bytes in [1, 1 << 20] {
        assert_eq!(read(View::Committed, 0, 100, bytes).await, (committed.clone(), range(0, 16)));
    }
    let all: Vec<i64> = (0..12).chain([13, 14, 16]).collect();
    assert_eq!(read(View::Log, 0, 100, 1 << 20).await, (all, range(0, 17)));
    assert_eq!(read(View::Committed, 3, 5, 1 << 20).await, (vec![3, 4], range(3, 5)));
    assert_eq!(read(View::Committed, 10, 13, 1 << 20).await, (vec![], range(10, 13)));
    assert_eq!(read(View::Committed, 40, 50, 1 << 20).await, (vec![], range(40, 40)), "above the end");

    client.delete_records(&topic, 0, 5).unwrap();
    let gone = points.read(&at, range(2, 9), View::Committed, 1 << 20).await.unwrap_err();
    assert_eq!(gone.kind, ErrorKind::BelowLogStart(Offset(5)), "{gone}");
    let nowhere = TopicPartition::new(unique("nowhere"), 0);
    let unknown = points.read(&nowhere, range(0, 9), View::Log, 1 << 20).await.unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::UnknownTopic, "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_read_on_the_current_version() {
    places_are_read_in_both_views(shared_source()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_records_have_equal_digests_wherever_they_stand() {
    let (client, topic) = (shared_source().client(), unique("digests"));
    client.create_topic(&topic, 2, &[]).unwrap();
    write(client, &topic, 0..6);
    for id in [5, 3] {
        let batch = Batch::of(vec![Record::order(id, 100)], Codec::Gzip);
        client.produce(&topic, 1, &batch.encode()).unwrap();
    }
    let points = Points::new(wire_of(shared_source()));
    let hash = async |partition, offset| {
        let at = TopicPartition::new(&topic, partition);
        let seen = points.read(&at, range(offset, offset + 1), View::Committed, 1 << 20).await.unwrap();
        seen.records[0].hash
    };
    assert_eq!(hash(1, 0).await, hash(0, 5).await);
    assert_eq!(hash(1, 1).await, hash(0, 3).await);
    assert_ne!(hash(0, 3).await, hash(0, 5).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secured_cluster_is_entered_with_trust_a_password_and_rights_and_refusals_say_what_to_do() {
    let users = vec![User::new("admin", "root-pw"), User::new("reader", "reader-pw")];
    let security = support::Security::SaslSsl(users);
    let cluster = Cluster::start(ClusterSpec { security, ..ClusterSpec::default() });
    let (client, topic) = (cluster.client(), unique("secret"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let ca = cluster.certificates().unwrap().ca.clone();
    let enter = |mechanism, user: &str, password: &str, trusted: bool| {
        let security = Security {
            protocol: Protocol::SaslSsl,
            ca: trusted.then(|| ca.clone()),
            mechanism: Some(mechanism),
            username: Some(user.into()),
            password: Some(SecretSource::Known(Secret::new(password))),
            ..Security::default()
        };
        wire::Cluster::new("lyon", &cluster.bootstrap(), security, "twinlog-test")
    };
    for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
        let lyon = enter(mechanism, "admin", "root-pw", true);
        assert!(lyon.topics().await.unwrap().iter().any(|t| t.name.as_str() == topic), "{mechanism:?}");
        let refused = enter(mechanism, "admin", "not-it", true).topics().await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Denied);
        for part in ["lyon", "admin", "clusters.lyon.security.password"] {
            assert!(refused.message.contains(part), "{part} is not in: {refused}");
        }
        assert!(!refused.message.contains("not-it"), "{refused}");
    }
    let untrusted = enter(Mechanism::Plain, "admin", "root-pw", false).topics().await.unwrap_err();
    assert_eq!(untrusted.kind, ErrorKind::Denied);
    for part in ["lyon", "127.0.0.1", "clusters.lyon.security.ca"] {
        assert!(untrusted.message.contains(part), "{part} is not in: {untrusted}");
    }
    let naked = wire::Cluster::new("lyon", &cluster.bootstrap(), Security::default(), "x").topics().await.unwrap_err();
    assert!(naked.message.contains("security.protocol"), "{naked}");

    let reader = enter(Mechanism::ScramSha512, "reader", "reader-pw", true);
    let (name, at) = (TopicName::from(&topic), TopicPartition::new(&topic, 0));
    assert!(reader.topics().await.unwrap().is_empty());
    let principal = "User:reader";
    client.allow(&[Allow { principal, resource: 2, name: &topic, prefixed: false, operation: 8 }]).unwrap();
    let describe = async || reader.describe_topics(std::slice::from_ref(&name)).await.remove(0);
    until_told(SOON, "the right is in force", describe).await;
    let missing = |refused: twinlog::endpoint::Error, right: &str| {
        assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
        let right = format!("{right} {topic}");
        assert!(refused.message.contains(&right) && refused.message.contains("lyon"), "{right}: {refused}");
    };
    missing(reader.topic_configs(std::slice::from_ref(&name)).await.remove(0).unwrap_err(), "DescribeConfigs on topic");
    let points = Points::new(reader.clone());
    missing(points.read(&at, range(0, 1), View::Log, 1024).await.unwrap_err(), "Read on topic");
    missing(reader.grow_topic(&name, 5).await.unwrap_err(), "Alter on topic");
    let created = reader.create_topic(&spec("other", 1)).await.unwrap_err();
    assert!(created.message.contains("Create on topic other"), "{created}");
    let group = reader.group_offsets(&[GroupId::from("g")]).await.remove(0).unwrap_err();
    assert!(group.message.contains("Describe on group g"), "{group}");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_and_frozen_brokers_are_routed_around_and_found_again() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (client, topic) = (cluster.client(), unique("moving"));
    client.create_topic(&topic, 6, &[]).unwrap();
    let lyon = wire_of(&cluster);
    let all: Vec<TopicPartition> = (0..6).map(|p| TopicPartition::new(&topic, p)).collect();
    let settled = async |what: &str| {
        let bounds = async || {
            let told = lyon.bounds(&all).await;
            let passing = told.iter().filter_map(|t| t.as_ref().err()).all(|e| e.is_retryable());
            assert!(passing, "{what}: {told:?}");
            if told.iter().all(|t| t.is_ok()) { Ok(()) } else { Err(told) }
        };
        until_told(SOON, what, bounds).await;
    };
    settled("all up").await;
    let before = lyon.leader(&all[0]).await.unwrap();
    let killed = before.broker_id;
    cluster.broker(killed).kill9();
    settled("one down").await;
    let after = lyon.leader(&all[0]).await.unwrap();
    assert!(after.broker_id != killed && after.epoch > before.epoch, "{before:?} {after:?}");
    cluster.broker(killed).restart();
    until_told(SOON, "the killed broker is found again", async || lyon.broker(killed).await).await;
    settled("all up again").await;

    let frozen = lyon.leader(&all[1]).await.unwrap().broker_id;
    cluster.broker(frozen).pause();
    settled("one frozen").await;
    assert_ne!(lyon.leader(&all[1]).await.unwrap().broker_id, frozen);
    cluster.broker(frozen).resume();
    settled("all awake").await;
}
