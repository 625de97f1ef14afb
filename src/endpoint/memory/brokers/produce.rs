//! Produce: each batch is appended if the log's rules allow it, and acknowledged once all replicas have it.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use tokio::time::timeout;

use crate::endpoint::memory::State;
use crate::endpoint::memory::brokers::fetch::BY_ID;
use crate::endpoint::memory::brokers::{Asked, Shared, code, wire_name};
use crate::model::{LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};

/// What became of a batch at the leader.
struct Placed {
    base: Offset,
    end: Offset,
    term: LeaderEpoch,
}

/// A batch's partition and outcome, in the order of the request.
type Outcome = (TopicPartition, Result<Placed, i16>);

impl Shared {
    pub(super) async fn produce(&self, asked: &Asked, request: ProduceRequest) -> ProduceResponse {
        let mut outcomes = self.cluster.change(|state| self.append_all(asked, state, &request));
        let patience = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or_default());
        let replicated = self.cluster.wait_for(|state| replicated(state, &mut outcomes).then_some(()));
        if timeout(patience, replicated).await.is_err() {
            let state = self.cluster.state();
            for (at, outcome) in &mut outcomes {
                if outcome.as_ref().is_ok_and(|placed| awaits_replicas(&state, at, placed)) {
                    *outcome = Err(code::REQUEST_TIMED_OUT);
                }
            }
        }
        self.answered(asked, outcomes, &request)
    }

    fn append_all(&self, asked: &Asked, state: &mut State, request: &ProduceRequest) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for topic in &request.topic_data {
            let name = match asked.version >= BY_ID {
                true => TopicId::known(topic.topic_id).and_then(|id| state.name_of(id)),
                false => Some(TopicName::from(topic.name.as_str())),
            };
            for data in &topic.partition_data {
                let at = TopicPartition::new(name.clone().unwrap_or_else(|| "".into()), data.index);
                let outcome = match &name {
                    Some(_) => self.append(asked, state, &at, data.records.clone().unwrap_or_default()),
                    None => Err(code::UNKNOWN_TOPIC_ID),
                };
                outcomes.push((at, outcome));
            }
        }
        outcomes
    }

    fn append(&self, asked: &Asked, state: &mut State, at: &TopicPartition, bytes: Bytes) -> Result<Placed, i16> {
        let limits = state.topic(&at.topic).map(|topic| topic.limits());
        let log = self.led(asked, state, at, -1)?;
        let limits = limits.map_err(|_| code::UNKNOWN_TOPIC_OR_PARTITION)?;
        let appended = log.produce(bytes, limits).map_err(|refusal| refusal.code)?;
        Ok(Placed { base: appended.start, end: appended.end, term: log.leader_epoch() })
    }

    fn answered(&self, asked: &Asked, outcomes: Vec<Outcome>, request: &ProduceRequest) -> ProduceResponse {
        let state = self.cluster.state();
        let mut outcomes = outcomes.into_iter();
        let topics = request.topic_data.iter().map(|topic| {
            let answered = outcomes.by_ref().take(topic.partition_data.len());
            let partitions = answered.map(|(at, outcome)| {
                let told = PartitionProduceResponse::default().with_index(at.partition).with_base_offset(-1);
                match (outcome, state.log(&at)) {
                    (Ok(placed), _) => told.with_base_offset(placed.base.0),
                    (Err(code::NOT_LEADER_OR_FOLLOWER), Ok(log)) if asked.version >= 10 => {
                        let leader = LeaderIdAndEpoch::default()
                            .with_leader_id(BrokerId(self.leader(&at, log)))
                            .with_leader_epoch(log.leader_epoch().0);
                        told.with_error_code(code::NOT_LEADER_OR_FOLLOWER).with_current_leader(leader)
                    }
                    (Err(code), _) => told.with_error_code(code),
                }
            });
            let told = TopicProduceResponse::default().with_partition_responses(partitions.collect());
            match asked.version >= BY_ID {
                true => told.with_topic_id(topic.topic_id),
                false => told.with_name(wire_name(&topic.name.as_str().into())),
            }
        });
        let topics = topics.collect();
        ProduceResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_responses(topics)
    }
}

/// Whether every batch has come to an end: on all replicas, or given up because its leader is another one now.
fn replicated(state: &State, outcomes: &mut [Outcome]) -> bool {
    for (at, outcome) in &mut *outcomes {
        let Ok(placed) = outcome else { continue };
        match state.log(at) {
            Ok(log) if log.leader_epoch() == placed.term => {}
            _ => *outcome = Err(code::NOT_LEADER_OR_FOLLOWER),
        }
    }
    !outcomes.iter().any(|(at, outcome)| outcome.as_ref().is_ok_and(|placed| awaits_replicas(state, at, placed)))
}

fn awaits_replicas(state: &State, at: &TopicPartition, placed: &Placed) -> bool {
    state.log(at).is_ok_and(|log| log.bounds().high_watermark < placed.end)
}
