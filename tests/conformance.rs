//! The conformance suites on real brokers: what the in-memory cluster promises, both planes keep as well.

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use support::batch::{Batch, Codec};
use support::raw::{Client, Transaction};
use support::{record, shared_source, unique};
use tokio::task::block_in_place;
use twinlog::batch::Record;
use twinlog::endpoint::conformance::{OpenTransaction, Stage, commits, ledger, points, reading, writing};
use twinlog::endpoint::{Catalog, PointReader, Security, Sink, Source, TopicAdmin};
use twinlog::ledger::topics;
use twinlog::librdkafka::{ClusterAccess, RdLedgerStore, RecordSettings, RecordSink};
use twinlog::model::{LinkName, Offset, OffsetRange, TopicPartition};
use twinlog::runtime::memory::MemoryBudget;
use twinlog::runtime::tasks::TaskScope;
use twinlog::wire::fetch::{FetchSettings, FetchSource};
use twinlog::wire::produce::{ProduceSettings, ProduceSink};
use twinlog::wire::{Cluster, Commits, Points};

/// The batches plane on a shared real cluster, and the test bed's own client as the application beside it.
struct Wire {
    cluster: Cluster,
    source: FetchSource,
    sink: ProduceSink,
    points: Points,
    client: &'static Client,
}

/// The records plane on the same cluster: it differs in how it writes.
struct Opened {
    wire: Wire,
    sink: RecordSink,
}

impl Opened {
    fn new() -> Opened {
        let wire = Wire::new();
        let catalog = Arc::new(wire.cluster.clone());
        let ends = Arc::new(ProduceSink::new(wire.cluster.clone(), TaskScope::new(), ProduceSettings::default()));
        let sink = RecordSink::new(access(), catalog, ends, RecordSettings::for_budget(16 << 20));
        Opened { wire, sink }
    }
}

#[async_trait]
impl Stage for Opened {
    fn catalog(&self) -> &dyn Catalog {
        self.wire.catalog()
    }
    fn admin(&self) -> &dyn TopicAdmin {
        self.wire.admin()
    }
    fn source(&self) -> &dyn Source {
        self.wire.source()
    }
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }
    fn points(&self) -> &dyn PointReader {
        self.wire.points()
    }
    async fn append(&self, at: &TopicPartition, records: &[Record]) -> OffsetRange {
        self.wire.append(at, records).await
    }
    async fn begin(&self, at: &TopicPartition, records: &[Record]) -> Box<dyn OpenTransaction> {
        self.wire.begin(at, records).await
    }
    async fn delete_records(&self, at: &TopicPartition, to: Offset) {
        self.wire.delete_records(at, to).await;
    }
}

impl Wire {
    fn new() -> Wire {
        let bed = shared_source();
        let cluster = Cluster::new("paris", &bed.bootstrap(), Security::default(), "conformance");
        let (budget, scope) = (16 << 20, TaskScope::new());
        let settings = FetchSettings::for_budget(budget);
        Wire {
            source: FetchSource::new(cluster.clone(), MemoryBudget::new(budget), scope.clone(), settings),
            sink: ProduceSink::new(cluster.clone(), scope, ProduceSettings::default()),
            points: Points::new(cluster.clone()),
            cluster,
            client: bed.client(),
        }
    }
}

#[async_trait]
impl Stage for Wire {
    fn catalog(&self) -> &dyn Catalog {
        &self.cluster
    }
    fn admin(&self) -> &dyn TopicAdmin {
        &self.cluster
    }
    fn source(&self) -> &dyn Source {
        &self.source
    }
    fn sink(&self) -> &dyn Sink {
        &self.sink
    }
    fn points(&self) -> &dyn PointReader {
        &self.points
    }

    async fn append(&self, at: &TopicPartition, records: &[Record]) -> OffsetRange {
        let bytes = batch(records).encode();
        let base = block_in_place(|| self.client.produce(at.topic.as_str(), at.partition, &bytes));
        let base = Offset(base.expect("a plain batch is appended"));
        OffsetRange::new(base, base + records.len() as i64)
    }

    async fn begin(&self, at: &TopicPartition, records: &[Record]) -> Box<dyn OpenTransaction> {
        block_in_place(|| {
            let producer = self.client.producer(Some(&unique("conformance"))).expect("a transactional producer");
            // A transaction borrows its producer, and both live as long as the suite wants.
            let mut transaction = Box::leak(Box::new(producer)).begin();
            transaction
                .send(at.topic.as_str(), at.partition, &batch(records))
                .expect("a batch of a transaction is appended");
            Box::new(Open { transaction, client: self.client, at: at.clone() }) as Box<dyn OpenTransaction>
        })
    }

    async fn delete_records(&self, at: &TopicPartition, to: Offset) {
        block_in_place(|| self.client.delete_records(at.topic.as_str(), at.partition, to.0))
            .expect("records are deleted");
    }
}

struct Open {
    transaction: Transaction<'static, 'static>,
    client: &'static Client,
    at: TopicPartition,
}

#[async_trait]
impl OpenTransaction for Open {
    async fn end(self: Box<Self>, commit: bool) {
        block_in_place(|| {
            let (topic, partition) = (self.at.topic.as_str(), self.at.partition);
            let end = || self.client.bounds(topic, partition).expect("the partition has an end").1;
            let before = end();
            let ended = if commit { self.transaction.commit() } else { self.transaction.abort() };
            ended.expect("a transaction is ended");
            // The coordinator answers before its marker is in the log.
            support::until(std::time::Duration::from_secs(30), "the marker is in the log", || end() > before);
        });
    }
}

fn batch(records: &[Record]) -> Batch {
    let bytes = |field: &Option<bytes::Bytes>| field.as_ref().map(|bytes| bytes.to_vec());
    let records = records.iter().map(|r| record::Record {
        timestamp: r.timestamp_ms,
        key: bytes(&r.key),
        value: bytes(&r.value),
        headers: Vec::new(),
    });
    Batch::of(records.collect(), Codec::None)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batches_plane_reads_as_every_source_must() {
    reading::all(&Wire::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batches_plane_writes_as_every_sink_must() {
    writing::all(&Wire::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_records_plane_writes_as_every_sink_must() {
    writing::all(&Opened::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_batches_plane_looks_at_places_as_every_point_reader_must() {
    points::all(&Wire::new()).await;
}

fn access() -> ClusterAccess {
    let (alias, bootstrap) = ("paris".to_owned(), shared_source().bootstrap());
    ClusterAccess { alias, bootstrap, security: Security::default(), tokens: None }
}

/// An unused ledger.
async fn new_ledger(cluster: &Cluster) -> RdLedgerStore {
    let link = LinkName::from(unique("conformance"));
    for spec in topics::specs(&link, 1) {
        cluster.create_topic(&spec).await.expect("a topic of the ledger is created");
    }
    RdLedgerStore::new(access(), &link)
}

#[tokio::test(flavor = "multi_thread")]
async fn librdkafka_keeps_a_ledger_as_every_store_must() {
    let cluster = Wire::new().cluster;
    let new = || new_ledger(&cluster);
    let (a, b, c, d, e) = (new().await, new().await, new().await, new().await, new().await);
    ledger::all(&[&a, &b, &c, &d, &e]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wire_hears_commits_as_every_feed_must() {
    let (cluster, topic) = (Wire::new().cluster, unique("commits"));
    block_in_place(|| shared_source().client().create_topic(&topic, 1, &[])).unwrap();
    let (feed, at) = (Commits::new(cluster.clone(), TaskScope::new()), TopicPartition::new(&topic, 0));
    commits::all(&commits::CommitStage { feed: &feed, catalog: &cluster, groups: &cluster, at }).await;
}
