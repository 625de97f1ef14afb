//! Fetch: whole batches from an offset on, up to what the view shows; waits while there is nothing.

use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::FetchPartition;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use tokio::time::timeout;

use crate::endpoint::memory::State;
use crate::endpoint::memory::brokers::{Asked, Shared, code, wire_name};
use crate::endpoint::memory::log::Log;
use crate::model::{LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};

/// First version that names topics by id.
pub(super) const BY_ID: i16 = 13;
const READ_COMMITTED: i8 = 1;

/// What a response has room for, and whether it is to be waited for.
struct Response {
    room: usize,
    /// The very first batch comes whole, whatever its size (KIP-74).
    is_empty: bool,
    is_due: bool,
    committed: bool,
    bytes: usize,
}

impl Shared {
    /// Sessions (KIP-227) are refused, as a broker whose cache is full does it: each fetch says everything.
    pub(super) async fn fetch(&self, asked: &Asked, request: FetchRequest) -> FetchResponse {
        let told = FetchResponse::default().with_throttle_time_ms(asked.throttle_ms());
        if request.session_id != 0 {
            return told.with_error_code(code::FETCH_SESSION_ID_NOT_FOUND);
        }
        if !asked.throttle.is_zero() {
            return told;
        }
        let longest = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or_default());
        let enough = self.cluster.wait_for(|state| {
            let (answer, is_due) = self.look(asked, state, &request);
            is_due.then_some(answer)
        });
        match timeout(longest, enough).await {
            Ok(answer) => answer,
            Err(_) => self.look(asked, &mut self.cluster.state(), &request).0,
        }
    }

    fn look(&self, asked: &Asked, state: &mut State, request: &FetchRequest) -> (FetchResponse, bool) {
        let mut response = Response {
            room: usize::try_from(request.max_bytes).unwrap_or_default(),
            is_empty: true,
            is_due: request.topics.is_empty(),
            committed: request.isolation_level == READ_COMMITTED,
            bytes: 0,
        };
        let topics = request.topics.iter().map(|topic| {
            let name = match asked.version >= BY_ID {
                true => TopicId::known(topic.topic_id).and_then(|id| state.name_of(id)).ok_or(code::UNKNOWN_TOPIC_ID),
                false => Ok(TopicName::from(topic.topic.as_str())),
            };
            let partitions = topic.partitions.iter().map(|partition| {
                let data = PartitionData::default().with_partition_index(partition.partition);
                match &name {
                    Ok(name) => {
                        let at = TopicPartition { topic: name.clone(), partition: partition.partition };
                        self.read(asked, state, &at, partition, data, &mut response)
                    }
                    Err(code) => {
                        response.is_due = true;
                        data.with_error_code(*code)
                    }
                }
            });
            let partitions = partitions.collect();
            let told = FetchableTopicResponse::default().with_partitions(partitions);
            match name {
                _ if asked.version >= BY_ID => told.with_topic_id(topic.topic_id),
                Ok(name) => told.with_topic(wire_name(&name)),
                Err(_) => unreachable!("names are taken as they are"),
            }
        });
        let topics = topics.collect();
        let is_due = response.is_due || response.bytes >= usize::try_from(request.min_bytes).unwrap_or_default();
        (FetchResponse::default().with_responses(topics), is_due)
    }

    fn read(
        &self,
        asked: &Asked,
        state: &mut State,
        at: &TopicPartition,
        partition: &FetchPartition,
        data: PartitionData,
        response: &mut Response,
    ) -> PartitionData {
        let read = match self.led(asked, state, at, partition.current_leader_epoch) {
            Ok(log) => log.read(partition, data.clone(), response),
            Err(code) => Err(code),
        };
        read.unwrap_or_else(|code| {
            response.is_due = true;
            let data = data.with_error_code(code);
            // A client that came to the wrong broker, or with an old term, is told the right one (KIP-951).
            match state.log(at) {
                Ok(log) if matches!(code, code::NOT_LEADER_OR_FOLLOWER | code::FENCED_LEADER_EPOCH) => {
                    let leader = LeaderIdAndEpoch::default()
                        .with_leader_id(BrokerId(self.leader(at, log)))
                        .with_leader_epoch(log.leader_epoch().0);
                    data.with_current_leader(leader)
                }
                _ => data,
            }
        })
    }
}

impl Log {
    fn read(&self, asked: &FetchPartition, data: PartitionData, response: &mut Response) -> Result<PartitionData, i16> {
        let (bounds, from) = (self.bounds(), Offset(asked.fetch_offset));
        let data = data
            .with_high_watermark(bounds.high_watermark.0)
            .with_last_stable_offset(bounds.last_stable.0)
            .with_log_start_offset(bounds.log_start.0);
        if asked.last_fetched_epoch >= 0 {
            let told = self.epoch_end(LeaderEpoch(asked.last_fetched_epoch));
            if told.epoch == LeaderEpoch::UNKNOWN {
                return Err(code::OFFSET_OUT_OF_RANGE);
            }
            if told.epoch.0 < asked.last_fetched_epoch || told.end < from {
                response.is_due = true;
                let diverging = EpochEndOffset::default().with_epoch(told.epoch.0).with_end_offset(told.end.0);
                return Ok(data.with_diverging_epoch(diverging));
            }
        }
        if from < bounds.log_start || from > self.end() {
            return Err(code::OFFSET_OUT_OF_RANGE);
        }
        let shown = if response.committed { bounds.last_stable } else { bounds.high_watermark };
        let most = response.room.min(usize::try_from(asked.partition_max_bytes).unwrap_or_default());
        let mut section = BytesMut::new();
        let mut end = from;
        for batch in self.batches_from(from).take_while(|batch| batch.header.base_offset < shown.0) {
            // What does not fit is cut; only a batch that would come alone is left out.
            let fits = section.len() + batch.bytes.len() <= most || response.is_empty && section.is_empty();
            let cut = if fits { batch.bytes.len() } else { most.saturating_sub(section.len()) };
            if !fits && section.is_empty() {
                break;
            }
            section.extend_from_slice(&batch.bytes[..cut]);
            end = batch.header.next_offset();
            if !fits {
                break;
            }
        }
        response.room = response.room.saturating_sub(section.len());
        response.is_empty &= section.is_empty();
        response.bytes += section.len();
        let aborted = response.committed.then(|| {
            let listed = self.transactions.aborted_in(from, end);
            listed
                .map(|(id, first)| {
                    AbortedTransaction::default().with_producer_id(ProducerId(id)).with_first_offset(first.0)
                })
                .collect()
        });
        Ok(data.with_aborted_transactions(aborted).with_records(Some(section.freeze())))
    }
}
