//! Compare-and-append on real brokers: what the produce side of the batches plane promises, and what it must notice.

mod support;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use kafka_protocol::messages::WriteTxnMarkersRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use support::batch::{Batch, Codec, open};
use support::raw::{Client, Isolation};
use support::record::{Record, Stored};
use support::{Cluster, ClusterSpec, shared_target, unique};
use twinlog::endpoint::{Error, ErrorKind, Opened, Security, Sink, Writer};
use twinlog::model::{EncodedBatch, LeaderEpoch, Offset, ProducerIdentity, Route, Run, TopicId, TopicPartition};
use twinlog::runtime::tasks::TaskScope;
use twinlog::wire::produce::{ProduceSettings, ProduceSink};

/// A sink of its own on a cluster, as a process of Twinlog has it.
fn sink(cluster: &Cluster) -> ProduceSink {
    sink_with(cluster, ProduceSettings::default())
}

fn sink_with(cluster: &Cluster, settings: ProduceSettings) -> ProduceSink {
    let target = twinlog::wire::Cluster::new("lyon", &cluster.bootstrap(), Security::default(), "twinlog-test");
    ProduceSink::new(target, TaskScope::new(), settings)
}

fn identity(client: &Client) -> ProducerIdentity {
    let producer = client.producer(None).unwrap();
    ProducerIdentity { id: producer.id, epoch: producer.epoch }
}

fn route(topic: &str, partition: i32) -> Route {
    let at = TopicPartition::new(topic, partition);
    Route { source: at.clone(), source_id: None, target: at, target_id: None }
}

/// A fresh topic of one partition on the shared cluster, a route to it and a producer identity.
struct Bed {
    cluster: &'static Cluster,
    topic: String,
    route: Route,
    producer: ProducerIdentity,
}

impl Bed {
    fn new(stem: &str) -> Bed {
        Self::with(stem, &[])
    }

    fn with(stem: &str, configs: &[(&str, &str)]) -> Bed {
        let cluster = shared_target();
        let topic = unique(stem);
        cluster.client().create_topic(&topic, 1, configs).unwrap();
        Bed { cluster, route: route(&topic, 0), topic, producer: identity(cluster.client()) }
    }

    async fn open(&self, sink: &ProduceSink) -> Result<Opened, Error> {
        sink.open(&self.route, self.producer).await
    }

    fn ids(&self) -> Vec<u64> {
        ids(self.cluster.client(), &self.topic, 0)
    }
}

fn stored(client: &Client, topic: &str, partition: i32) -> Vec<Stored> {
    let (start, end) = client.bounds(topic, partition).unwrap();
    let mut records: Vec<Stored> = Vec::new();
    let mut next = start;
    while next < end {
        let section = client.fetch(topic, partition, next, Isolation::Uncommitted).unwrap();
        let batches = open(&section.bytes).unwrap();
        let from = next;
        next = batches.last().expect("a log that is not at its end holds a batch").last_offset + 1;
        records.extend(batches.into_iter().flat_map(|batch| batch.records).filter(|r| r.offset >= from));
    }
    records
}

fn ids(client: &Client, topic: &str, partition: i32) -> Vec<u64> {
    stored(client, topic, partition).iter().map(|s| s.record.id().expect("an order")).collect()
}

/// Orders `from..from + count` in one batch, as fetched from a source.
fn orders(from: u64, count: u64) -> EncodedBatch {
    orders_of(from, count, 100, Codec::None)
}

/// An order of now: producer state of older records expires at a restart.
fn order(id: u64, size: usize) -> Record {
    static STARTED_MS: OnceLock<i64> = OnceLock::new();
    let started_ms = *STARTED_MS.get_or_init(|| {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        since_1970.as_millis() as i64
    });
    Record { timestamp: started_ms, ..Record::order(id, size) }
}

fn orders_of(from: u64, count: u64, size: usize, codec: Codec) -> EncodedBatch {
    let records: Vec<Record> = (from..from + count).map(|id| order(id, size)).collect();
    let max_timestamp_ms = records.iter().map(|r| r.timestamp).max().unwrap_or(-1);
    EncodedBatch {
        bytes: Batch::of(records, codec).encode().into(),
        records: count as u32,
        runs: vec![Run { start: Offset(from as i64), length: count as u32 }],
        leader_epoch: LeaderEpoch(0),
        max_timestamp_ms,
    }
}

async fn deliver(writer: &mut Box<dyn Writer>, batch: EncodedBatch, expected: i64) -> Result<i64, Error> {
    Ok(writer.send(batch, Offset(expected)).await?.await?.0)
}

/// The batches every owner of a partition sees: fixed bounds, sizes 1 to 7, `total` records in all.
fn batches(total: u64) -> Vec<(i64, EncodedBatch)> {
    let (mut all, mut from) = (Vec::new(), 0);
    while from < total {
        let count = (from * 31 % 7 + 1).min(total - from);
        all.push((from as i64, orders(from, count)));
        from += count;
    }
    all
}

/// Copies as an owner does: opens, sends from the true end on, opens again whenever in doubt. Returns how often it
/// opened.
async fn copy(sink: &ProduceSink, route: &Route, producer: ProducerIdentity, all: &[(i64, EncodedBatch)]) -> usize {
    let mut opened = 0;
    loop {
        let Opened { end, mut writer, .. } = match sink.open(route, producer).await {
            Ok(it) => it,
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        opened += 1;
        let Some(first) = all.iter().position(|(from, _)| *from == end.0) else {
            let (from, last) = all.last().expect("something is copied");
            assert_eq!(end.0, from + i64::from(last.records), "the log ends where no batch begins");
            return opened;
        };
        let mut deliveries = Vec::new();
        for (from, batch) in &all[first..] {
            match writer.send(batch.clone(), Offset(*from)).await {
                Ok(delivery) => deliveries.push((*from, delivery)),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Attach, "{error}");
                    break;
                }
            }
        }
        for (from, delivery) in deliveries {
            match delivery.await {
                Ok(base) => assert_eq!(base, Offset(from)),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::Attach, "{error}");
                    break;
                }
            }
        }
        writer.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_every_partition_arrives_as_it_was() {
    let cluster = shared_target();
    let (client, topic, partitions) = (cluster.client(), unique("whole"), 6);
    client.create_topic(&topic, partitions, &[]).unwrap();
    let (sink, producer) = (Arc::new(sink(cluster)), identity(client));
    let copies = (0..partitions).map(|partition| {
        let (sink, route) = (sink.clone(), route(&topic, partition));
        tokio::spawn(async move {
            let Opened { end, log_start, has_producer_state, mut writer, .. } =
                sink.open(&route, producer).await.unwrap();
            assert_eq!((end, log_start, has_producer_state), (Offset(0), Offset(0), false));
            let mut deliveries = Vec::new();
            for n in 0..40u64 {
                let codec = Codec::ALL[n as usize % Codec::ALL.len()];
                deliveries.push(writer.send(orders_of(n * 25, 25, 700, codec), Offset(n as i64 * 25)).await.unwrap());
            }
            for (n, delivery) in deliveries.into_iter().enumerate() {
                assert_eq!(delivery.await.unwrap(), Offset(n as i64 * 25));
            }
        })
    });
    for copy in copies.collect::<Vec<_>>() {
        copy.await.unwrap();
    }
    let expected: Vec<Record> = (0..1000).map(|id| order(id, 700)).collect();
    for partition in 0..partitions {
        let stored = stored(client, &topic, partition);
        assert!(stored.iter().enumerate().all(|(n, s)| s.offset == n as i64 && !s.append_time));
        assert!(stored.into_iter().map(|s| s.record).eq(expected.iter().cloned()), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_written_by_another_owner_is_acknowledged_where_it_lies() {
    let bed = Bed::new("duplicate");
    let (one, two) = (sink(bed.cluster), sink(bed.cluster));
    let (mut first, mut second) = (bed.open(&one).await.unwrap().writer, bed.open(&two).await.unwrap().writer);
    assert_eq!(deliver(&mut first, orders(0, 3), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut second, orders(0, 3), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut second, orders(3, 2), 3).await.unwrap(), 3);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_other_bounds_means_attach_and_spends_the_writer() {
    let bed = Bed::new("gap");
    let (one, two) = (sink(bed.cluster), sink(bed.cluster));
    let (mut first, mut second) = (bed.open(&one).await.unwrap().writer, bed.open(&two).await.unwrap().writer);
    assert_eq!(deliver(&mut first, orders(0, 3), 0).await.unwrap(), 0);
    let error = deliver(&mut second, orders(0, 4), 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Attach);
    assert!(error.message.contains("lyon") && error.message.contains(&format!("{}/0", bed.topic)), "{error}");
    assert!(error.message.contains("OUT_OF_ORDER_SEQUENCE_NUMBER"), "{error}");
    assert_eq!(deliver(&mut second, orders(4, 1), 4).await.unwrap_err().kind, ErrorKind::Attach);
    let again = bed.open(&two).await.unwrap();
    assert_eq!((again.end, again.has_producer_state), (Offset(3), true));
    assert_eq!(bed.ids(), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_at_once_leave_an_exact_log() {
    let bed = Bed::new("owners");
    let all: Arc<Vec<_>> = Arc::new(batches(1500));
    let copies = (0..2).map(|_| {
        let (sink, route, producer, all) = (sink(bed.cluster), bed.route.clone(), bed.producer, all.clone());
        tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
    });
    let mut opened = Vec::new();
    for copy in copies.collect::<Vec<_>>() {
        opened.push(copy.await.unwrap());
    }
    assert_eq!(bed.ids(), (0..1500).collect::<Vec<_>>(), "opened {opened:?} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequence_is_the_leaders_whatever_lies_between() {
    let bed = Bed::new("sequence");
    let first = sink(bed.cluster);
    let mut writer = bed.open(&first).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    // Somebody else's records take offsets, not sequences.
    bed.cluster.client().produce(&bed.topic, 0, &orders(100, 3).bytes).unwrap();
    let Opened { end, has_producer_state, mut writer, .. } = bed.open(&sink(bed.cluster)).await.unwrap();
    assert_eq!((end, has_producer_state), (Offset(8), true));
    assert_eq!(deliver(&mut writer, orders(5, 2), 8).await.unwrap(), 8);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4, 100, 101, 102, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_record_shows_at_the_next_ack_and_stops_the_writer() {
    let bed = Bed::new("stranger");
    let mut writer = bed.open(&sink(bed.cluster)).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    bed.cluster.client().produce(&bed.topic, 0, &orders(100, 1).bytes).unwrap();
    assert_eq!(deliver(&mut writer, orders(5, 2), 5).await.unwrap(), 6);
    assert_eq!(deliver(&mut writer, orders(7, 2), 7).await.unwrap_err().kind, ErrorKind::Attach);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4, 100, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_wrap_behind_the_largest() {
    let bed = Bed::new("wrap");
    let near_the_end = Batch {
        records: (0..2).map(|id| order(id, 100)).collect(),
        producer_id: bed.producer.id,
        producer_epoch: bed.producer.epoch,
        base_sequence: i32::MAX - 3,
        ..Batch::default()
    };
    bed.cluster.client().produce(&bed.topic, 0, &near_the_end.encode()).unwrap();
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    // One batch across the wrap, one behind it, and behind that a writer that asks the leader.
    assert_eq!(deliver(&mut writer, orders(2, 5), 2).await.unwrap(), 2);
    assert_eq!(deliver(&mut writer, orders(7, 2), 7).await.unwrap(), 7);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(9, 1), 9).await.unwrap(), 9);
    assert_eq!(bed.ids(), (0..10).collect::<Vec<_>>());
}

fn fence(bed: &Bed) {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(kafka_protocol::messages::TopicName(bed.topic.clone().into()))
        .with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(bed.producer.id.into())
        .with_producer_epoch(bed.producer.epoch + 1)
        .with_transaction_result(true)
        .with_coordinator_epoch(0)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let answer = bed.cluster.client().ask_leader(&bed.topic, 0, &request, 1).unwrap();
    let codes: Vec<i16> =
        answer.markers.iter().flat_map(|m| &m.topics).flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_of_a_higher_epoch_fences_open_writers_and_new_ones() {
    let bed = Bed::new("fence");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    fence(&bed);
    let error = deliver(&mut writer, orders(5, 5), 5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert!(error.message.contains(&bed.topic) && error.message.contains("epoch"), "{error}");
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_damaged_on_the_way_is_refused_by_its_own_checksum() {
    let bed = Bed::new("damage");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    let good = orders(0, 5);
    let mut bytes = good.bytes.to_vec();
    bytes[200] ^= 0x10;
    let error = deliver(&mut writer, EncodedBatch { bytes: bytes.into(), ..good.clone() }, 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert!(bed.ids().is_empty());
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, good, 0).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_the_topic_is_split_and_delivered_once() {
    let bed = Bed::with("large", &[("max.message.bytes", "3000")]);
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders_of(0, 40, 500, Codec::None), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut writer, orders(40, 2), 40).await.unwrap(), 40);
    let error = writer.send(orders_of(42, 1, 5000, Codec::None), Offset(42)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    // Lowered behind the writer's back: the broker refuses, and the next writer knows.
    bed.cluster.client().alter_topic(&bed.topic, &[("max.message.bytes", Some("1500"))]).unwrap();
    let error = deliver(&mut writer, orders_of(42, 4, 500, Codec::None), 42).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders_of(42, 4, 500, Codec::None), 42).await.unwrap(), 42);
    assert_eq!(bed.ids(), (0..46).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_or_another_is_told_apart() {
    let mut bed = Bed::new("recreated");
    let client = bed.cluster.client();
    let id_of = |topic: &str| TopicId::known(client.metadata(Some(&[topic])).unwrap().topics[0].topic_id);
    bed.route.target_id = id_of(&bed.topic);
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    client.delete_topic(&bed.topic).unwrap();
    let error = deliver(&mut writer, orders(5, 5), 5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Attach, "{error}");
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::UnknownTopic, "{error}");
    client.create_topic(&bed.topic, 1, &[]).unwrap();
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Recreated, "{error}");
    assert_ne!(bed.route.target_id, id_of(&bed.topic));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_flight_is_kept_when_asked_for() {
    let bed = Bed::new("one");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 1), 0).await.unwrap(), 0);
    writer.limit_in_flight(true);
    let first = writer.send(orders(1, 1), Offset(1)).await.unwrap();
    // The second is accepted only when the first has its ack.
    let second = writer.send(orders(2, 1), Offset(2)).await.unwrap();
    let settled = tokio::time::timeout(Duration::ZERO, first).await;
    assert_eq!(settled.expect("the first is settled before the second is accepted").unwrap(), Offset(1));
    assert_eq!(second.await.unwrap(), Offset(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_twice_and_frozen_once_costs_attaches_and_no_record() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (client, topic) = (cluster.client(), unique("killed"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let producer = identity(client);
    let all = Arc::new(batches(60_000));
    let copying = {
        let settings = ProduceSettings { timeout: Duration::from_millis(500), ..Default::default() };
        let (sink, route, all) = (sink_with(&cluster, settings), route(&topic, 0), all.clone());
        tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
    };
    for round in 0..3 {
        let before = client.bounds(&topic, 0).unwrap().1;
        support::until(Duration::from_secs(60), "records move", || client.bounds(&topic, 0).unwrap().1 > before + 500);
        assert!(!copying.is_finished(), "the broker fails while records move");
        if round < 2 {
            cluster.only().restart();
        } else {
            // Longer than a lane bears silence: the time the broker may take, and 5 s for the network.
            cluster.only().pause();
            tokio::time::sleep(Duration::from_secs(7)).await;
            cluster.only().resume();
        }
    }
    let opened = copying.await.unwrap();
    assert!(opened >= 4, "{opened}");
    assert_eq!(ids(client, &topic, 0), (0..60_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_die_and_replicas_that_lag_cost_no_record() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (client, topic, partitions) = (cluster.client(), unique("leaders"), 3);
    client.create_topic(&topic, partitions, &[]).unwrap();
    let producer = identity(client);
    let all = Arc::new(batches(20_000));
    let sink = Arc::new(sink_with(&cluster, ProduceSettings { timeout: Duration::from_secs(3), ..Default::default() }));
    let copies: Vec<_> = (0..partitions)
        .map(|partition| {
            let (sink, route, all) = (sink.clone(), route(&topic, partition), all.clone());
            tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
        })
        .collect();
    let end = |partition| client.bounds(&topic, partition).unwrap().1;
    for victim in 1..=3 {
        let before = end(0);
        support::until(Duration::from_secs(60), "records move", || end(0) > before + 300 || copies[0].is_finished());
        let broker = cluster.broker(victim);
        if victim == 2 {
            broker.pause();
            tokio::time::sleep(Duration::from_secs(6)).await;
            broker.resume();
        } else {
            broker.restart();
        }
    }
    let mut opened = Vec::new();
    for copy in copies {
        opened.push(copy.await.unwrap());
    }
    for partition in 0..partitions {
        assert_eq!(ids(client, &topic, partition), (0..20_000).collect::<Vec<_>>(), "opened {opened:?} times");
    }
    a_log_end_above_the_high_watermark_is_waited_for(&cluster, producer).await;
}

async fn a_log_end_above_the_high_watermark_is_waited_for(cluster: &Cluster, producer: ProducerIdentity) {
    // Another owner looks: on one connection the question would stand behind the batch.
    let (first, second) = (sink(cluster), sink(cluster));
    let (client, topic) = (cluster.client(), unique("behind"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let leader = client.leader(&topic, 0).unwrap();
    let mut writer = first.open(&route(&topic, 0), producer).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 3), 0).await.unwrap(), 0);
    // Connected before the freeze, so that the frozen broker is not the one it asks for the leader.
    drop(second.open(&route(&topic, 0), producer).await.unwrap());
    // A frozen follower holds the high watermark back until the controller takes it out of the in-sync replicas.
    let follower = cluster.broker(leader % 3 + 1);
    follower.pause();
    let unheard = writer.send(orders(3, 2), Offset(3)).await.unwrap();
    let mut reasons = Vec::new();
    let opened = loop {
        match second.open(&route(&topic, 0), producer).await {
            Ok(opened) if opened.end > Offset(3) => break opened,
            Ok(early) => assert_eq!((early.end, reasons.len()), (Offset(3), 0), "opened before the batch arrived"),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
                reasons.push(error.message);
            }
        }
    };
    follower.resume();
    assert_eq!((opened.end, opened.has_producer_state), (Offset(5), true));
    assert!(reasons.iter().any(|reason| reason.starts_with("waiting for the high watermark 3")), "{reasons:?}");
    drop(unheard);
}
