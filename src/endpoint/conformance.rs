//! What every adapter must do, as suites that run against any cluster: the one in memory and real brokers alike.
//!
//! Each suite is an async function that panics with the truth that was broken. Compiled for tests and with the feature
//! `test-util` only.

pub mod commits;
pub mod ledger;
pub mod points;
pub mod reading;
mod stage;
pub mod writing;

pub use stage::{OpenTransaction, Stage};

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::batch::Record;
    use crate::endpoint::memory::{MemoryCluster, Transaction};
    use crate::endpoint::{Catalog, PointReader, Sink, Source, TopicAdmin};
    use crate::model::{Offset, OffsetRange, TopicPartition};

    #[async_trait]
    impl Stage for MemoryCluster {
        fn catalog(&self) -> &dyn Catalog {
            self
        }
        fn admin(&self) -> &dyn TopicAdmin {
            self
        }
        fn source(&self) -> &dyn Source {
            self
        }
        fn sink(&self) -> &dyn Sink {
            self
        }
        fn points(&self) -> &dyn PointReader {
            self
        }
        async fn append(&self, at: &TopicPartition, records: &[Record]) -> OffsetRange {
            MemoryCluster::append(self, at, records)
        }
        async fn begin(&self, at: &TopicPartition, records: &[Record]) -> Box<dyn OpenTransaction> {
            let mut transaction = self.transaction();
            transaction.append(at, records);
            Box::new(transaction)
        }
        async fn delete_records(&self, at: &TopicPartition, to: Offset) {
            MemoryCluster::delete_records(self, at, to);
        }
    }

    #[async_trait]
    impl OpenTransaction for Transaction {
        async fn end(self: Box<Self>, commit: bool) {
            if commit { self.commit() } else { self.abort() }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_in_memory_reads_as_every_source_must() {
        reading::all(&MemoryCluster::new("memory")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_in_memory_writes_as_every_sink_must() {
        writing::all(&MemoryCluster::new("memory")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_in_memory_looks_at_places_as_every_point_reader_must() {
        points::all(&MemoryCluster::new("memory")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_in_memory_keeps_a_ledger_as_every_store_must() {
        let cluster = MemoryCluster::new("memory");
        let stores = ["a", "b", "c", "d", "e"].map(|link| cluster.ledger(link));
        ledger::all(&stores.each_ref().map(|store| store as _)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_cluster_in_memory_is_heard_as_every_feed_must() {
        let cluster = MemoryCluster::new("memory");
        cluster.create("orders", 1, &[]);
        let at = TopicPartition::new("orders", 0);
        commits::all(&commits::CommitStage { feed: &cluster, catalog: &cluster, groups: &cluster, at }).await;
    }
}
