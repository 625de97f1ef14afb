//! What operators, time and bad luck do to the cluster.

use crate::batch::{Marker, RawBatch, Record};
use crate::endpoint::memory::MemoryCluster;
use crate::endpoint::memory::log::{Log, opened};
use crate::model::{LeaderEpoch, Offset, ProducerIdentity, TopicId, TopicName, TopicPartition};

/// Each panics when its partition does not exist: a test names one that does.
impl MemoryCluster {
    /// Brokers too old to know topic ids: none is told from now on.
    pub fn tell_no_topic_ids(&self) {
        self.change(|s| s.tells_no_topic_ids = true);
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let name = TopicName::from(name);
        self.change(|s| s.topics.remove(&name)).expect("the test deletes a topic that exists");
    }

    /// Deletes a topic and creates it again, empty, with as many partitions and default settings. Returns its new id.
    pub fn recreate_topic(&self, name: &str) -> TopicId {
        let partitions = self.state().topics[&TopicName::from(name)].partitions.len();
        self.delete_topic(name);
        self.create(name, partitions as i32, &[])
    }

    /// Retention, or DeleteRecords: nothing below `to` is left.
    pub fn delete_records(&self, at: &TopicPartition, to: Offset) {
        self.at(at, |log| log.delete_before(to));
    }

    /// The log cleaner: each key's last record stays, holes between them.
    pub fn compact(&self, at: &TopicPartition) {
        self.at(at, Log::compact);
    }

    /// Removes data records as the cleaner does, but those the caller wants gone.
    pub fn remove_records(&self, at: &TopicPartition, gone: impl Fn(&Record) -> bool) {
        self.at(at, |log| log.thin(|record| !gone(record)));
    }

    /// Another leader that has everything: open writers must attach again.
    pub fn elect(&self, at: &TopicPartition) {
        self.at(at, Log::elect);
    }

    /// Another leader that lacks what lies at or above `to`, acknowledged or not (an unclean election).
    pub fn elect_without(&self, at: &TopicPartition, to: Offset) {
        self.at(at, |log| log.elect_without(to));
    }

    /// Another leader that lacks what lies above the high watermark, as clean elections may.
    pub fn elect_without_unreplicated(&self, at: &TopicPartition) {
        self.at(at, |log| log.elect_without(log.bounds().high_watermark));
    }

    /// A clean restart of the broker: of each producer's batches only the last is still recognised, and none where that
    /// is older than producers are remembered.
    pub fn restart(&self, at: &TopicPartition) {
        self.at(at, Log::restart);
    }

    /// Followers stop fetching: from now on the high watermark stays, and nothing is acknowledged.
    pub fn hold_followers(&self, at: &TopicPartition) {
        self.at(at, |log| log.replicating = false);
    }

    /// Followers catch up and keep up.
    pub fn release_followers(&self, at: &TopicPartition) {
        self.at(at, |log| {
            log.replicating = true;
            log.replicate();
        });
    }

    /// Producer state expires, as after a restart with old data.
    pub fn expire_producers(&self, at: &TopicPartition) {
        self.at(at, |log| log.producers.expire());
    }

    /// WriteTxnMarkers with this identity: takes one offset and fences lower epochs of the producer.
    pub fn fence(&self, at: &TopicPartition, producer: ProducerIdentity) {
        let marker = Marker::Commit.batch(Offset(0), LeaderEpoch::UNKNOWN, producer, 0);
        self.append_batch(at, &marker);
    }

    /// Everything a committed reader would see, in order: the oracle of tests.
    pub fn committed(&self, at: &TopicPartition) -> Vec<Record> {
        let state = self.state();
        let log = state.log(at).expect("the test names a partition that exists");
        let bounds = log.bounds();
        let data = log
            .batches_from(bounds.log_start)
            .filter(|batch| !batch.header.attributes.is_control() && !log.transactions.aborted(batch));
        let visible = |record: &Record| record.offset >= bounds.log_start && record.offset < bounds.last_stable;
        data.flat_map(opened).filter(visible).collect()
    }

    /// The last stable offset: the end of what a committed reader would see.
    pub fn committed_end(&self, at: &TopicPartition) -> Offset {
        self.state().log(at).expect("the test names a partition that exists").bounds().last_stable
    }

    /// Where the first batch ends, if there is one.
    pub fn first_batch_end(&self, at: &TopicPartition) -> Option<Offset> {
        let state = self.state();
        let log = state.log(at).expect("the test names a partition that exists");
        log.batches_from(Offset(0)).next().map(|batch| batch.header.next_offset())
    }

    /// How many batches with committed records the log holds.
    ///
    /// # Panics
    /// When the partition does not exist.
    pub fn batches(&self, at: &TopicPartition) -> usize {
        let state = self.state();
        let log = state.log(at).expect("the test asks for a partition that exists");
        let holds_data = |batch: &&RawBatch| {
            batch.header.count > 0 && !batch.header.attributes.is_control() && !log.transactions.aborted(batch)
        };
        log.batches_from(Offset(0)).filter(holds_data).count()
    }

    /// The log end, which lies above the high watermark while followers are held.
    pub fn log_end(&self, at: &TopicPartition) -> Offset {
        self.state().log(at).expect("the test names a partition that exists").end()
    }

    fn at<T>(&self, at: &TopicPartition, change: impl FnOnce(&mut Log) -> T) -> T {
        self.change(|s| change(s.log_mut(at).expect("the test names a partition that exists")))
    }
}
