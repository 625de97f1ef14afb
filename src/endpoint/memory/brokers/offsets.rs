//! Ends of logs and of leader epochs, and what a log remembers of producers.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProducerId,
};

use crate::endpoint::memory::State;
use crate::endpoint::memory::brokers::{Asked, Shared, code, place};
use crate::model::{LeaderEpoch, Offset, TopicPartition};

/// Timestamps of ListOffsets with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const EARLIEST_LOCAL: i64 = -4;
/// The debugging replica is answered with the log end, by followers too (`facts/raw-batches` §3.4).
const DEBUGGER: i32 = -2;
/// No term is claimed.
const ANY_TERM: i32 = -1;

impl Shared {
    pub(super) fn list_offsets(&self, asked: &Asked, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let mut state = self.cluster.state();
        let (replica, committed) = (request.replica_id.0, request.isolation_level == 1);
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let at = place(&topic.name, partition.partition_index);
                let told = ListOffsetsPartitionResponse::default().with_partition_index(partition.partition_index);
                match self.offset(asked, &mut state, &at, partition, replica, committed) {
                    Ok((offset, epoch)) => told.with_offset(offset).with_leader_epoch(epoch.0),
                    Err(code) => told.with_error_code(code),
                }
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        ListOffsetsResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_topics(topics)
    }

    /// The offset asked for (−1: there is none) and the term it is told under.
    fn offset(
        &self,
        asked: &Asked,
        state: &mut State,
        at: &TopicPartition,
        partition: &ListOffsetsPartition,
        replica: i32,
        committed: bool,
    ) -> Result<(i64, LeaderEpoch), i16> {
        let term = partition.current_leader_epoch;
        let log = match replica {
            DEBUGGER => self.held(asked, state, at, term)?,
            _ => self.led(asked, state, at, term)?,
        };
        let bounds = log.bounds();
        let offset = match partition.timestamp {
            LATEST if log.is_catching_up() => return Err(code::OFFSET_NOT_AVAILABLE),
            LATEST if replica == DEBUGGER && self.leader(at, log) == asked.node => log.end(),
            LATEST if committed => bounds.last_stable,
            LATEST => bounds.high_watermark,
            EARLIEST | EARLIEST_LOCAL => bounds.log_start,
            time => log.first_since(time).unwrap_or(Offset(-1)),
        };
        Ok((offset.0, bounds.leader_epoch))
    }

    pub(super) fn epoch_ends(
        &self,
        asked: &Asked,
        request: OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let mut state = self.cluster.state();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let at = place(&topic.topic, partition.partition);
                let told = EpochEndOffset::default().with_partition(partition.partition);
                match self.led(asked, &mut state, &at, partition.current_leader_epoch) {
                    Ok(log) => {
                        let end = log.epoch_end(LeaderEpoch(partition.leader_epoch));
                        told.with_leader_epoch(end.epoch.0).with_end_offset(end.end.0)
                    }
                    Err(code) => told.with_error_code(code),
                }
            });
            let partitions = partitions.collect();
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        OffsetForLeaderEpochResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_topics(topics)
    }

    pub(super) fn describe_producers(
        &self,
        asked: &Asked,
        request: DescribeProducersRequest,
    ) -> DescribeProducersResponse {
        let mut state = self.cluster.state();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                let told = PartitionResponse::default().with_partition_index(*index);
                match self.held(asked, &mut state, &place(&topic.name, *index), ANY_TERM) {
                    Ok(log) => {
                        let active = log.producers.all().map(|(id, epoch, last_sequence)| {
                            ProducerState::default()
                                .with_producer_id(ProducerId(id))
                                .with_producer_epoch(epoch.into())
                                .with_last_sequence(last_sequence)
                        });
                        told.with_active_producers(active.collect())
                    }
                    Err(code) => told.with_error_code(code),
                }
            });
            let partitions = partitions.collect();
            TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        DescribeProducersResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_topics(topics)
    }
}
