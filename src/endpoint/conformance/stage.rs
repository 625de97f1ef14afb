//! What a suite needs of the cluster it runs against, and how it speaks to it.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use crate::batch::{BatchBuilder, RawBatch, Record, content_hash, pass, records};
use crate::endpoint::{Catalog, PointReader, Sink, Source, TopicAdmin, TopicSpec};
use crate::model::{Batch, EncodedBatch, Offset, OffsetRange, Payload, Route, TopicPartition};

/// A cluster with one adapter's contracts and, beside them, an application that writes to it.
#[async_trait]
pub trait Stage: Send + Sync {
    /// The adapter's catalog.
    fn catalog(&self) -> &dyn Catalog;
    /// The adapter's administration.
    fn admin(&self) -> &dyn TopicAdmin;
    /// The adapter's source.
    fn source(&self) -> &dyn Source;
    /// The adapter's sink.
    fn sink(&self) -> &dyn Sink;
    /// The adapter's point reader.
    fn points(&self) -> &dyn PointReader;
    /// An application writes one batch outside any transaction; the offsets it got (the records' own do not count).
    async fn append(&self, at: &TopicPartition, records: &[Record]) -> OffsetRange;
    /// An application writes one batch in a new transaction and leaves that open.
    async fn begin(&self, at: &TopicPartition, records: &[Record]) -> Box<dyn OpenTransaction>;
    /// DeleteRecords: moves the log start to `to`.
    async fn delete_records(&self, at: &TopicPartition, to: Offset);
}

/// A transaction that [`Stage::begin`] left open.
#[async_trait]
pub trait OpenTransaction: Send {
    /// Commits or aborts it; its marker is in the log on return.
    async fn end(self: Box<Self>, commit: bool);
}

/// Every wait of a suite ends: within this time, or the truth named is broken.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn within<T>(truth: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("nothing came within {PATIENCE:?} where {truth}"))
}

/// A new topic of one partition, as a route onto itself.
pub(super) async fn new_topic(stage: &dyn Stage, configs: &[(&str, &str)]) -> Route {
    let name = format!("conformance-{}", Uuid::new_v4());
    let configs: BTreeMap<_, _> = configs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let spec = TopicSpec { name: name.as_str().into(), partitions: 1, replication: 1, configs };
    stage.admin().create_topic(&spec).await.expect("a new topic is created");
    let described = async {
        loop {
            let mut told = stage.catalog().describe_topics(std::slice::from_ref(&spec.name)).await;
            match told.pop().expect("one answer per topic") {
                Ok(info) => return info.id,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let id = within("a topic that was created is described", described).await;
    let at = TopicPartition::new(name, 0);
    Route { source: at.clone(), source_id: id, target: at, target_id: id }
}

/// `count` records that differ from all others.
pub(super) fn some_records(count: usize) -> Vec<Record> {
    let record = |index| {
        let value = format!("record {index} {}", Uuid::new_v4());
        Record::new(
            Offset(0),
            1_700_000_000_000 + index as i64,
            Some(format!("key {index}").into()),
            Some(value.into()),
        )
    };
    (0..count).map(record).collect()
}

/// A batch as a source would hand it over.
pub(super) fn encoded(records: &[Record]) -> EncodedBatch {
    let mut builder = BatchBuilder::new(Offset(0));
    for (index, record) in records.iter().enumerate() {
        builder.push(&Record { offset: Offset(index as i64), ..record.clone() });
    }
    pass(&builder.build())
}

/// Source offset and content of each record.
pub(super) type Contents = Vec<(Offset, u64)>;

/// What `records` are at `range`.
pub(super) fn contents(range: OffsetRange, records: &[Record]) -> Contents {
    assert_eq!(range.span(), records.len() as i64, "the stage tells the offsets of what it appended");
    records.iter().enumerate().map(|(index, record)| (range.start + index as i64, content_hash(record))).collect()
}

/// The records a batch brings, held against what it says of itself.
pub(super) fn contents_of(batch: &Batch) -> Contents {
    let Payload::Batches(encoded) = &batch.payload else { return Vec::new() };
    let raw = RawBatch::parse(encoded.bytes.clone()).expect("the payload is one whole batch");
    assert!(raw.header.is_dense(), "the payload's records are dense");
    let records = records(&raw).expect("the payload can be opened");
    let offsets: Vec<Offset> =
        encoded.runs.iter().flat_map(|run| (0..i64::from(run.length)).map(|i| run.start + i)).collect();
    assert_eq!(offsets.len(), records.len(), "the runs count the payload's records");
    assert_eq!(encoded.records as usize, records.len(), "the batch counts its records");
    assert!(offsets.iter().all(|offset| batch.range.contains(*offset)), "{offsets:?} lie within {}", batch.range);
    offsets.into_iter().zip(records.iter().map(content_hash)).collect()
}
