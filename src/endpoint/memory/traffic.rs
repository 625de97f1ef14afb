//! What applications do to the cluster: write records, alone and in transactions.

use crate::batch::{BatchBuilder, Codec, Marker, RawBatch, Record};
use crate::endpoint::TopicSpec;
use crate::endpoint::memory::{MemoryCluster, State};
use crate::model::{Offset, OffsetRange, ProducerIdentity, TopicId, TopicName, TopicPartition};

impl MemoryCluster {
    /// Creates a topic with some settings of its own.
    ///
    /// # Panics
    /// When it exists.
    pub fn create(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> TopicId {
        let configs = configs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let name = TopicName::from(name);
        let spec = TopicSpec { name: name.clone(), partitions, replication: 1, configs };
        self.change(|s| {
            assert!(s.create(&spec), "topic {name} exists already");
            s.topics[&name].id
        })
    }

    /// An ordinary application's write: one uncompressed batch. The records' own offsets are replaced; returns the
    /// offsets they got.
    ///
    /// # Panics
    /// When the partition does not exist or there is no record.
    pub fn append(&self, at: &TopicPartition, records: &[Record]) -> OffsetRange {
        self.append_compressed(at, records, Codec::None)
    }

    /// The same with a codec.
    pub fn append_compressed(&self, at: &TopicPartition, records: &[Record], codec: Codec) -> OffsetRange {
        self.append_batch(at, &batch(BatchBuilder::new(Offset(0)).codec(codec), records))
    }

    /// Stores a batch as it is, under the partition's next offset and epoch: control batches, odd attributes, another
    /// producer's, a stranger's on the target.
    pub fn append_batch(&self, at: &TopicPartition, batch: &RawBatch) -> OffsetRange {
        self.change(|s| {
            let log = s.log_mut(at).expect("the test writes to a partition that exists");
            let base = log.append(batch);
            OffsetRange::new(base, log.end())
        })
    }

    /// Begins a transaction of a producer of its own. Dropping it leaves it open, as a hanging application does.
    pub fn transaction(&self) -> Transaction {
        let producer = self.change(State::next_producer);
        Transaction { cluster: self.clone(), producer, touched: Vec::new() }
    }
}

impl State {
    pub(super) fn next_producer(&mut self) -> ProducerIdentity {
        self.producer_ids_given += 1;
        ProducerIdentity { id: self.producer_ids_given, epoch: 0 }
    }
}

/// A transaction of an application, open until it is committed or aborted.
pub struct Transaction {
    cluster: MemoryCluster,
    producer: ProducerIdentity,
    touched: Vec<TopicPartition>,
}

impl Transaction {
    /// Writes one batch within the transaction.
    pub fn append(&mut self, at: &TopicPartition, records: &[Record]) -> OffsetRange {
        if !self.touched.contains(at) {
            self.touched.push(at.clone());
        }
        // Sequences matter to no reader; brokers take batches of the log as they are.
        let builder = BatchBuilder::new(Offset(0)).transactional().producer(self.producer, 0);
        self.cluster.append_batch(at, &batch(builder, records))
    }

    /// Ends it: the records stand. One marker in each partition written.
    pub fn commit(self) {
        self.end(Marker::Commit);
    }

    /// Ends it: the records are void. One marker in each partition written.
    pub fn abort(self) {
        self.end(Marker::Abort);
    }

    fn end(self, marker: Marker) {
        for at in &self.touched {
            let batch = marker.batch(Offset(0), crate::model::LeaderEpoch::UNKNOWN, self.producer, 0);
            self.cluster.append_batch(at, &batch);
        }
    }
}

fn batch(mut builder: BatchBuilder, records: &[Record]) -> RawBatch {
    for (index, record) in records.iter().enumerate() {
        builder.push(&Record { offset: Offset(index as i64), ..record.clone() });
    }
    builder.build()
}
