//! The cluster half of attach: a partition's true, stable end and what its leader remembers of our producer, learnt on
//! the one connection that will carry the writes.

use std::time::Duration;

use kafka_protocol::messages::describe_producers_request::{DescribeProducersRequest, TopicRequest};
use kafka_protocol::messages::describe_producers_response::DescribeProducersResponse;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsResponse;
use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::sleep;

use super::sequence::ProducerState;
use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{LeaderEpoch, Offset, ProducerIdentity, TopicPartition};
use crate::wire::{Connection, error_of};

/// Asks as consumers do: answered by the leader only, and with the high watermark for the latest offset.
const CONSUMER: i32 = -1;
/// The debugging replica: answered with the log end, which lies above the high watermark until replicas have caught up.
const DEBUGGER: i32 = -2;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// First ListOffsets version that carries the leader epoch (KIP-320).
const FIRST_WITH_EPOCH: i16 = 4;
/// Between two readings of the high watermark where it stands in for the log end.
const BETWEEN_READINGS: Duration = Duration::from_millis(50);

/// A partition at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    /// Log end and high watermark.
    pub end: Offset,
    /// First offset still there.
    pub log_start: Offset,
    /// What the leader remembers of our producer id; `None` also where brokers cannot tell.
    pub state: Option<ProducerState>,
}

/// What one look found.
#[derive(Debug)]
pub(super) enum Look {
    /// The truth.
    Stable(Ends),
    /// Not yet: why, for people, and whether metadata is to be asked again.
    Wait {
        /// A sentence beginning with "waiting".
        reason: String,
        /// The leader moved.
        metadata_is_stale: bool,
    },
}

/// One partition seen through one connection under one leader epoch.
#[derive(Clone, Copy)]
pub(super) struct Sight<'a> {
    /// The connection writes will go through.
    pub connection: &'a Connection,
    /// Alias of the cluster, for messages.
    pub alias: &'a str,
    /// The partition.
    pub at: &'a TopicPartition,
    /// The leader epoch every answer must be given under.
    pub epoch: LeaderEpoch,
    /// Whose state is asked for.
    pub producer: ProducerIdentity,
    /// How long each answer may take.
    pub timeout: Duration,
}

/// Why a look ended early.
enum Early {
    Wait { reason: String, metadata_is_stale: bool },
    Failed(Error),
}

impl From<Error> for Early {
    fn from(error: Error) -> Self {
        Early::Failed(error)
    }
}

impl Sight<'_> {
    /// Looks once. Writes nothing.
    ///
    /// The consumer's question proves leadership, because only a leader answers it; the debugging replica's and
    /// DescribeProducers are answered by followers too, so they carry the same epoch or stand between two readings that
    /// do. All are sent at once: a broker handles one request per connection at a time, in order.
    pub async fn look(&self) -> Result<Look> {
        let found = match self.log_end().await {
            Ok(Some(ends)) => Ok(ends),
            Ok(None) => Box::pin(self.high_watermark_only()).await,
            Err(early) => Err(early),
        };
        match found {
            Ok(ends) => Ok(Look::Stable(ends)),
            Err(Early::Wait { reason, metadata_is_stale }) => Ok(Look::Wait { reason, metadata_is_stale }),
            Err(Early::Failed(error)) => Err(error),
        }
    }

    /// The look by log end; `None` where the broker does not know the debugging replica.
    async fn log_end(&self) -> Result<Option<Ends>, Early> {
        let leadership = self.offset(CONSUMER, LATEST);
        let before = self.offset(DEBUGGER, LATEST);
        let state = self.producer_state();
        let after = self.offset(DEBUGGER, LATEST);
        let log_start = self.offset(CONSUMER, EARLIEST);

        let high_watermark = leadership.await?;
        let (before, state, after) = match (before.await, state.await, after.await) {
            (Err(Early::Failed(error)), ..) if is_unknown_replica(&error) => return Ok(None),
            (before, state, after) => (before?, state?, after?),
        };
        let log_start = log_start.await?;
        let end = stable_end(high_watermark, before, after).map_err(|what| self.wait(&what))?;
        Ok(Some(Ends { end, log_start, state }))
    }

    /// The look where nobody tells the log end: two equal readings of the high watermark.
    async fn high_watermark_only(&self) -> Result<Ends, Early> {
        let before = self.offset(CONSUMER, LATEST).await?;
        sleep(BETWEEN_READINGS).await;
        let state = self.producer_state();
        let after = self.offset(CONSUMER, LATEST);
        let log_start = self.offset(CONSUMER, EARLIEST);
        let (state, after, log_start) = (state.await?, after.await?, log_start.await?);
        let end = stable_end(after, before, after).map_err(|what| self.wait(&what))?;
        Ok(Ends { end, log_start, state })
    }

    fn wait(&self, what: &str) -> Early {
        let Sight { alias, at, epoch, .. } = self;
        let reason = format!("waiting for {what} ({alias}: {at}, leader epoch {epoch})");
        Early::Wait { reason, metadata_is_stale: false }
    }

    /// Sends one ListOffsets question now; the future only waits for its answer.
    fn offset(&self, replica: i32, timestamp: i64) -> impl Future<Output = Result<Offset, Early>> + use<'_> {
        let takes_epoch = self.connection.version(ApiKey::ListOffsets).is_ok_and(|version| version >= FIRST_WITH_EPOCH);
        let epoch = if takes_epoch { self.epoch } else { LeaderEpoch::UNKNOWN };
        let partition = ListOffsetsPartition::default()
            .with_partition_index(self.at.partition)
            .with_current_leader_epoch(epoch.0)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(self.topic()).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id(replica.into()).with_topics(vec![topic]);
        let answer = self.connection.start(request, self.timeout);
        async move {
            let (code, offset) = answered_offset(answer.await?, self.at).map_err(|error| self.by_peer(error))?;
            self.check(code, "asking for offsets", "Describe")?;
            if offset < 0 {
                return Err(self.by_peer(protocol(self.at, "answered no offset")).into());
            }
            Ok(Offset(offset))
        }
    }

    /// Asks now what the leader remembers of our producer id; nothing where it cannot be asked (brokers before 2.8).
    fn producer_state(&self) -> impl Future<Output = Result<Option<ProducerState>, Early>> + use<'_> {
        let topic = TopicRequest::default().with_name(self.topic()).with_partition_indexes(vec![self.at.partition]);
        let answer =
            self.connection.version(ApiKey::DescribeProducers).is_ok().then(|| {
                self.connection.start(DescribeProducersRequest::default().with_topics(vec![topic]), self.timeout)
            });
        async move {
            let Some(answer) = answer else { return Ok(None) };
            let answered = answered_state(answer.await?, self.at, self.producer);
            let (code, state) = answered.map_err(|error| self.by_peer(error))?;
            self.check(code, "asking for producer state", "Read")?;
            Ok(state)
        }
    }

    /// The same error with who gave cause for it.
    fn by_peer(&self, error: Error) -> Error {
        error.context(self.connection.peer())
    }

    fn topic(&self) -> TopicName {
        TopicName(StrBytes::from_string(self.at.topic.to_string()))
    }

    /// Reads an error code; `right` is what the question needs on the topic.
    fn check(&self, code: i16, asking: &str, right: &str) -> Result<(), Early> {
        let Sight { alias, at, .. } = self;
        match code {
            0 => Ok(()),
            // What elections, reassignments and young topics answer.
            3 | 5 | 6 | 7 | 8 | 9 | 13 | 56 | 72 | 74 | 75 | 78 | 100 | 103 => Err(Early::Wait {
                reason: format!("waiting for the leader of {at} ({alias}: {asking} was answered with code {code})"),
                metadata_is_stale: true,
            }),
            29 => Err(Early::Failed(Error::new(
                ErrorKind::Denied,
                format!("{alias}: {at}: {asking} is not allowed: grant {right} on topic {}", at.topic),
            ))),
            _ => match error_of(code, format_args!("{alias}: {at}: {asking}")) {
                Some(error) => Err(Early::Failed(error)),
                None => Ok(()),
            },
        }
    }
}

/// The end between two readings of it, once it rests and everything below it is on all in-sync replicas: what lies above
/// the high watermark can vanish even by a clean election. Otherwise what is waited for.
fn stable_end(high_watermark: Offset, before: Offset, after: Offset) -> Result<Offset, String> {
    if before != after {
        Err(format!("the log end to rest, it went from {before} to {after}: somebody else writes"))
    } else if high_watermark < after {
        Err(format!("the high watermark {high_watermark} to reach the log end {after}: replicas are behind"))
    } else {
        Ok(after)
    }
}

fn protocol(at: &TopicPartition, what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("{at}: the broker {what}"))
}

/// What brokers that never heard of the debugging replica may answer to it.
fn is_unknown_replica(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::Unsupported | ErrorKind::Protocol)
}

fn answered_offset(response: ListOffsetsResponse, at: &TopicPartition) -> Result<(i16, i64)> {
    response
        .topics
        .iter()
        .filter(|topic| *topic.name.0 == *at.topic.as_str())
        .flat_map(|topic| &topic.partitions)
        .find(|partition| partition.partition_index == at.partition)
        .map(|partition| (partition.error_code, partition.offset))
        .ok_or_else(|| protocol(at, "did not answer for the partition (ListOffsets)"))
}

fn answered_state(
    response: DescribeProducersResponse,
    at: &TopicPartition,
    producer: ProducerIdentity,
) -> Result<(i16, Option<ProducerState>)> {
    let partition = response
        .topics
        .iter()
        .filter(|topic| *topic.name.0 == *at.topic.as_str())
        .flat_map(|topic| &topic.partitions)
        .find(|partition| partition.partition_index == at.partition)
        .ok_or_else(|| protocol(at, "did not answer for the partition (DescribeProducers)"))?;
    let state = partition
        .active_producers
        .iter()
        .find(|active| active.producer_id.0 == producer.id)
        .map(|active| ProducerState { epoch: active.producer_epoch, last_sequence: active.last_sequence });
    Ok((partition.error_code, state))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_producers_response::{self, PartitionResponse, TopicResponse};
    use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};

    use super::*;

    #[test]
    fn an_end_counts_only_when_it_rests_at_the_high_watermark() {
        let end = |high_watermark, before, after| stable_end(Offset(high_watermark), Offset(before), Offset(after));
        assert_eq!(end(10, 10, 10), Ok(Offset(10)));
        assert!(end(8, 10, 10).unwrap_err().contains("high watermark 8 to reach the log end 10"));
        assert!(end(11, 10, 11).unwrap_err().contains("from 10 to 11"));
    }

    #[test]
    fn only_the_answer_for_our_partition_and_our_producer_is_read() {
        let at = TopicPartition::new("orders", 3);
        let name = |name| TopicName(StrBytes::from_static_str(name));
        let partition =
            |index, offset| ListOffsetsPartitionResponse::default().with_partition_index(index).with_offset(offset);
        let topic =
            |topic, partitions| ListOffsetsTopicResponse::default().with_name(name(topic)).with_partitions(partitions);
        let offsets = ListOffsetsResponse::default().with_topics(vec![
            topic("pay", vec![partition(3, 1)]),
            topic("orders", vec![partition(0, 2), partition(3, 7)]),
        ]);
        assert_eq!(answered_offset(offsets, &at).unwrap(), (0, 7));
        let foreign = ListOffsetsResponse::default().with_topics(vec![topic("pay", vec![partition(3, 1)])]);
        assert_eq!(answered_offset(foreign, &at).unwrap_err().kind, ErrorKind::Protocol);

        let active = |id: i64, sequence| {
            describe_producers_response::ProducerState::default()
                .with_producer_id(id.into())
                .with_producer_epoch(2)
                .with_last_sequence(sequence)
        };
        let partition = PartitionResponse::default()
            .with_partition_index(3)
            .with_active_producers(vec![active(5, 50), active(6, 60)]);
        let topic = TopicResponse::default().with_name(name("orders")).with_partitions(vec![partition]);
        let response = DescribeProducersResponse::default().with_topics(vec![topic]);
        let state = |id| answered_state(response.clone(), &at, ProducerIdentity { id, epoch: 2 }).unwrap().1;
        assert_eq!(state(6), Some(ProducerState { epoch: 2, last_sequence: 60 }));
        assert_eq!(state(7), None);
    }
}
