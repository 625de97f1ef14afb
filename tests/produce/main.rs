//! Compare-and-append on real brokers: what the produce side of the batches plane promises, and what it must notice.

mod failing_brokers;
mod one_broker;
#[path = "../support/mod.rs"]
mod support;

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use support::batch::{Batch, Codec, open};
use support::raw::{Client, Isolation};
use support::record::{Record, Stored};
use support::{Cluster, shared_target, unique};
use twinlog::endpoint::{Error, ErrorKind, Opened, Security, Sink, Writer};
use twinlog::model::{EncodedBatch, LeaderEpoch, Offset, ProducerIdentity, Route, Run, TopicPartition};
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
