//! One fetch from one leader of `__consumer_offsets`, and what it rings for.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::batch::{Malformed, Piece, records, split};
use crate::endpoint::{COMMITS_TOPIC, Error, ErrorKind, Result};
use crate::model::Offset;
use crate::wire::brokers::Cluster;
use crate::wire::commits::Listening;
use crate::wire::commits::bell::Bell;
use crate::wire::commits::key::group_of;
use crate::wire::connection::Connection;
use crate::wire::fault::{error_needing, error_of};
use crate::wire::metadata::Leader;

/// How long a leader may wait for the first record: it answers as soon as there is one.
const WAIT: Duration = Duration::from_millis(500);
/// How long a broker that is alive may take besides.
const SLOWEST_ANSWER: Duration = Duration::from_secs(10);
/// Bytes of one answer; records are small.
const ANSWER_BYTES: i32 = 1 << 20;
const PARTITION_BYTES: i32 = 64 << 10;
/// First Fetch version that names topics by id.
const BY_ID: i16 = 13;

/// A partition to ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) partition: i32,
    pub(super) from: Offset,
    pub(super) leader: Leader,
}

/// A fetch to be made.
pub(super) struct Round {
    pub(super) cluster: Cluster,
    pub(super) leader: i32,
    pub(super) connection: Option<Connection>,
    pub(super) asked: Vec<Asked>,
}

/// Why an answer brought nothing.
pub(super) enum Trouble {
    /// It passes: the leader is looked for again.
    Passing,
    /// Nothing more can be heard from where the tail is.
    Lasting(Error),
}

/// What came of it.
pub(super) struct Answer {
    pub(super) asked: Vec<i32>,
    /// To ask on again.
    pub(super) connection: Option<Connection>,
    pub(super) outcome: Result<FetchResponse>,
}

impl Round {
    pub(super) async fn run(mut self) -> Answer {
        let asked = self.asked.iter().map(|asked| asked.partition).collect();
        let outcome = self.fetch().await;
        Answer { asked, connection: self.connection.filter(|connection| !connection.is_closed()), outcome }
    }

    async fn fetch(&mut self) -> Result<FetchResponse> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.cluster.dial(self.leader).await?,
        };
        let offered = connection.version(ApiKey::Fetch)?;
        let ids_known = self.asked.iter().all(|asked| asked.leader.topic_id.is_some());
        let version = if ids_known { offered } else { offered.min(BY_ID - 1) };
        let request = self.request(version);
        let answer = connection.start_version(request, version, WAIT + SLOWEST_ANSWER).await?;
        let failed = error_of(answer.error_code, format_args!("{}: fetch of {COMMITS_TOPIC}", connection.peer()));
        self.connection = Some(connection);
        failed.map_or(Ok(answer), Err)
    }

    fn request(&self, version: i16) -> FetchRequest {
        let partitions = self.asked.iter().map(|asked| {
            FetchPartition::default()
                .with_partition(asked.partition)
                .with_current_leader_epoch(asked.leader.epoch.0)
                .with_fetch_offset(asked.from.0)
                .with_partition_max_bytes(PARTITION_BYTES)
        });
        let topic = match self.asked.first().and_then(|asked| asked.leader.topic_id) {
            Some(id) if version >= BY_ID => FetchTopic::default().with_topic_id(id.uuid()),
            _ => FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str(COMMITS_TOPIC))),
        };
        FetchRequest::default()
            .with_max_wait_ms(WAIT.as_millis() as i32)
            .with_min_bytes(1)
            .with_max_bytes(ANSWER_BYTES)
            .with_isolation_level(0)
            .with_topics(vec![topic.with_partitions(partitions.collect())])
    }
}

impl Listening {
    /// Rings for what an answer holds, and moves on. Answers how long the broker wants to be left alone.
    pub(super) fn take(&mut self, answer: Result<FetchResponse>) -> Result<Duration, Trouble> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_retryable() => return Err(Trouble::Passing),
            Err(error) => return Err(Trouble::Lasting(error)),
        };
        let mut outcome = Ok(Duration::from_millis(answer.throttle_time_ms.max(0) as u64));
        for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            match self.take_partition(data) {
                Ok(()) => {}
                // It keeps none of the others from being heard.
                Err(Trouble::Passing) => outcome = Err(Trouble::Passing),
                Err(lasting) => return Err(lasting),
            }
        }
        outcome
    }

    fn take_partition(&mut self, mut data: PartitionData) -> Result<(), Trouble> {
        const OFFSET_OUT_OF_RANGE: i16 = 1;
        let partition = data.partition_index;
        let Some(next) = self.next.get_mut(&partition) else { return Ok(()) };
        let what =
            format!("cluster {}: hearing of commits from {COMMITS_TOPIC}/{partition} at {next}", self.cluster.alias());
        let lasting = |why: String| Trouble::Lasting(Error::new(ErrorKind::Retryable, why));
        match error_needing(format_args!("Read on topic {COMMITS_TOPIC}"), data.error_code, &what) {
            None => {}
            Some(error) if error.kind == ErrorKind::Denied => return Err(Trouble::Lasting(error)),
            Some(error) if data.error_code == OFFSET_OUT_OF_RANGE => return Err(lasting(error.message)),
            // A broker speaks for itself only: whether the topic is gone, or the leader another one, metadata say.
            Some(_) => return Err(Trouble::Passing),
        }
        let section = data.records.take().unwrap_or_default();
        *next = heard(section, *next, &self.bell).map_err(|why| lasting(format!("{what}: {why}")))?;
        Ok(())
    }
}

/// Rings for the records of a section from `next` on; answers where it ends.
fn heard(section: Bytes, mut next: Offset, bell: &Bell) -> Result<Offset, Malformed> {
    for piece in split(section) {
        let piece = piece?;
        if piece.next_offset() <= next {
            continue;
        }
        let opened = match &piece {
            Piece::Batch(batch) if batch.header.attributes.is_control() => Vec::new(),
            Piece::Batch(batch) => records(batch)?,
            Piece::Legacy(set) => set.records()?,
        };
        for record in opened.iter().filter(|record| record.offset >= next) {
            match group_of(record.key.as_deref().unwrap_or_default()) {
                Ok(Some(group)) => bell.ring(group),
                Ok(None) => {}
                Err(_) => tracing::debug!(topic = COMMITS_TOPIC, offset = %record.offset, "a key that cannot be read"),
            }
        }
        next = piece.next_offset();
    }
    Ok(next)
}
