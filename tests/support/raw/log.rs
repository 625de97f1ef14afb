//! Record batches in and out as bytes, and where a log begins and ends.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest, ListOffsetsRequest, ProduceRequest};

use super::{Client, Failure, Result, accepted, name_of, text};

/// What a reader may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything up to the high watermark.
    Uncommitted = 0,
    /// Up to the last stable offset, with the list of aborted transactions.
    Committed = 1,
}

/// One answer to a fetch: batches as stored, and the ends of the log at that moment.
#[derive(Debug, Clone)]
pub struct Section {
    /// Whole batches, the first may begin before the offset asked for, the last may be torn.
    pub bytes: Bytes,
    /// Exclusive end of what is replicated.
    pub high_watermark: i64,
    /// Exclusive end of what is decided.
    pub last_stable: i64,
    /// First offset kept.
    pub log_start: i64,
    /// Aborted transactions that touch this section: producer id, first offset.
    pub aborted: Vec<(i64, i64)>,
}

impl Client {
    /// Appends batches (bytes as given) to a partition with acks=all; returns the first offset.
    ///
    /// Tried again only where the broker said that it has not written: a broken connection is the caller's to judge.
    pub fn produce(&self, topic: &str, partition: i32, batch: &[u8]) -> Result<i64> {
        self.produce_as(None, topic, partition, batch)
    }

    /// The same within a transaction of `transactional`.
    pub fn produce_as(&self, transactional: Option<&str>, topic: &str, partition: i32, batch: &[u8]) -> Result<i64> {
        let records = Some(Bytes::copy_from_slice(batch));
        let data = PartitionProduceData::default().with_index(partition).with_records(records);
        let data = TopicProduceData::default().with_name(name_of(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(transactional.map(name_of))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![data]);
        let mut outcome = Ok(0);
        self.again(|| {
            self.leader(topic, partition)?;
            outcome = self.ask_leader(topic, partition, &request, 9).and_then(|answer| {
                let mut partitions = answer.responses.iter().flat_map(|t| &t.partition_responses);
                let answer = partitions.next().ok_or_else(|| Failure::Broken("no partition in the answer".into()))?;
                let message = answer.error_message.as_deref().unwrap_or_default();
                accepted(answer.error_code, format_args!("produce to {topic}/{partition} {message}"))?;
                Ok(answer.base_offset)
            });
            match &outcome {
                // Not the leader (any more), unknown here yet, too few replicas before the append: nothing was written.
                Err(refused @ Failure::Refused(3 | 5 | 6 | 19 | 51, _)) => {
                    self.forget_leader(topic, partition);
                    Err(refused.clone())
                }
                _ => Ok(()),
            }
        })?;
        outcome
    }

    /// Batches from `offset` on, as stored; waits up to 100 ms for data.
    pub fn fetch(&self, topic: &str, partition: i32, offset: i64, isolation: Isolation) -> Result<Section> {
        let told = self.fetch_all(topic, &[(partition, offset)], isolation)?;
        let section = told.into_iter().next().map(|(_, section)| section);
        section.ok_or_else(|| Failure::Broken("no partition in the answer".into()))
    }

    /// The same for several partitions that have one leader, each with its offset, in one request: each that was answered,
    /// with what came.
    pub fn fetch_all(&self, topic: &str, from: &[(i32, i64)], isolation: Isolation) -> Result<Vec<(i32, Section)>> {
        let which = |&(partition, offset): &(i32, i64)| {
            FetchPartition::default()
                .with_partition(partition)
                .with_fetch_offset(offset)
                .with_current_leader_epoch(-1)
                .with_partition_max_bytes(8 << 20)
        };
        let which = FetchTopic::default().with_topic(name_of(topic)).with_partitions(from.iter().map(which).collect());
        let request = FetchRequest::default()
            .with_replica_id((-1).into())
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(16 << 20)
            .with_isolation_level(isolation as i8)
            .with_session_epoch(-1)
            .with_rack_id(text(""))
            .with_topics(vec![which]);
        self.again(|| {
            let answer = self.ask_leader(topic, from[0].0, &request, 12)?;
            accepted(answer.error_code, "fetch")?;
            let section = |data: PartitionData| {
                let partition = data.partition_index;
                let checked = accepted(data.error_code, format_args!("fetch {topic}/{partition} of {from:?}"));
                checked.inspect_err(|_| self.forget_leader(topic, partition))?;
                let aborted = data.aborted_transactions.unwrap_or_default();
                let section = Section {
                    bytes: data.records.unwrap_or_default(),
                    high_watermark: data.high_watermark,
                    last_stable: data.last_stable_offset,
                    log_start: data.log_start_offset,
                    aborted: aborted.iter().map(|t| (t.producer_id.0, t.first_offset)).collect(),
                };
                Ok((partition, section))
            };
            answer.responses.into_iter().flat_map(|topic| topic.partitions).map(section).collect()
        })
    }

    /// First offset kept and exclusive end (the high watermark) of a partition.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let uncommitted = Isolation::Uncommitted;
        Ok((self.offset_at(topic, partition, -2, uncommitted)?, self.offset_at(topic, partition, -1, uncommitted)?))
    }

    /// ListOffsets: the offset for a timestamp in ms, or −2 for the first, −1 for the end under this isolation.
    pub fn offset_at(&self, topic: &str, partition: i32, timestamp: i64, isolation: Isolation) -> Result<i64> {
        let which = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp);
        let which = ListOffsetsTopic::default().with_name(name_of(topic)).with_partitions(vec![which]);
        let request = ListOffsetsRequest::default()
            .with_replica_id((-1).into())
            .with_isolation_level(isolation as i8)
            .with_topics(vec![which]);
        self.again(|| {
            let answer = self.ask_leader(topic, partition, &request, 6)?;
            let mut partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            let found = partitions.next().ok_or_else(|| Failure::Broken("no partition in the answer".into()))?;
            let checked = accepted(found.error_code, format_args!("offset of {topic}/{partition} at {timestamp}"));
            checked.inspect_err(|_| self.forget_leader(topic, partition))?;
            Ok(found.offset)
        })
    }

    /// Removes what is before `offset`; returns the new first offset.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64> {
        let which = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let which = DeleteRecordsTopic::default().with_name(name_of(topic)).with_partitions(vec![which]);
        let request = DeleteRecordsRequest::default().with_topics(vec![which]).with_timeout_ms(30_000);
        self.again(|| {
            let answer = self.ask_leader(topic, partition, &request, 2)?;
            let mut partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            let done = partitions.next().ok_or_else(|| Failure::Broken("no partition in the answer".into()))?;
            accepted(done.error_code, format_args!("delete of {topic}/{partition} before {offset}"))?;
            Ok(done.low_watermark)
        })
    }
}
