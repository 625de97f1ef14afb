//! The conformance suites over the wire against model brokers; `tests/conformance.rs` runs the same against real ones,
//! which keeps the model honest.

use async_trait::async_trait;

use super::Wired;
use crate::batch::Record;
use crate::endpoint::conformance::{OpenTransaction, Stage, points, reading, writing};
use crate::endpoint::{Catalog, PointReader, Sink, Source, TopicAdmin};
use crate::model::{Offset, OffsetRange, TopicPartition};

#[async_trait]
impl Stage for Wired {
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
        self.memory.append(at, records)
    }
    async fn begin(&self, at: &TopicPartition, records: &[Record]) -> Box<dyn OpenTransaction> {
        Stage::begin(&self.memory, at, records).await
    }
    async fn delete_records(&self, at: &TopicPartition, to: Offset) {
        self.memory.delete_records(at, to);
    }
}

#[tokio::test]
async fn model_brokers_are_read_as_every_source_must() {
    for brokers in [1, 3] {
        reading::all(&Wired::new(brokers).await).await;
    }
}

#[tokio::test]
async fn model_brokers_that_tell_no_topic_ids_are_read_and_written_all_the_same() {
    let wired = Wired::new(2).await;
    wired.memory.tell_no_topic_ids();
    reading::all(&wired).await;
    writing::all(&wired).await;
    points::all(&wired).await;
}

#[tokio::test]
async fn model_brokers_are_written_as_every_sink_must() {
    for brokers in [1, 3] {
        writing::all(&Wired::new(brokers).await).await;
    }
}

#[tokio::test]
async fn places_of_model_brokers_are_looked_at_as_every_point_reader_must() {
    for brokers in [1, 3] {
        points::all(&Wired::new(brokers).await).await;
    }
}
