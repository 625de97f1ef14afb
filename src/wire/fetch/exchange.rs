//! One Fetch request and its response: cursors in, each partition's answer out.

use std::collections::HashMap;
use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{self, TopicId};
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::session::Session;
use crate::wire::{ApiKey, Connection};

/// Isolation level of the committed view: brokers serve up to the last stable offset and name aborted transactions.
const READ_COMMITTED: i8 = 1;
/// First version that names topics by id.
pub(super) const BY_ID: i16 = 13;
/// First version with sessions.
const WITH_SESSIONS: i16 = 7;
/// First version that names our rack.
const WITH_RACK: i16 = 11;

/// How much to ask for.
#[derive(Debug, Clone)]
pub(super) struct Measure {
    /// Bytes of the whole response; only its first batch may exceed them (KIP-74).
    pub(super) response_bytes: u32,
    /// Bytes for one partition.
    pub(super) partition_bytes: u32,
    /// How long the broker may wait for the first byte.
    pub(super) wait: Duration,
    /// Our rack; empty to be served by the leader itself, unless the brokers choose by other means.
    pub(super) rack: StrBytes,
}

/// How long a broker that is alive may take besides what it may wait.
const SLOWEST_ANSWER: Duration = Duration::from_secs(10);
/// Bytes per second that a path to a broker must carry.
const SLOWEST_PATH: f64 = 256.0 * 1024.0;

impl Measure {
    /// When to give the broker up: a frozen one is to be left soon after another leads its partitions.
    fn timeout(&self) -> Duration {
        self.wait + SLOWEST_ANSWER + Duration::from_secs_f64(f64::from(self.response_bytes) / SLOWEST_PATH)
    }
}

/// What a response says.
pub(super) struct Answers {
    /// Per partition: its place in what was asked, in that order; partitions the broker left out are missing.
    pub(super) partitions: Vec<(usize, PartitionData)>,
    /// Whether the broker read them in that order, so that the first section begins with a whole batch (KIP-74) and an
    /// empty one in front of it found room.
    pub(super) in_order: bool,
    /// Whether it says of the partitions it leaves out that they have nothing new. One that is throttled says nothing.
    pub(super) left_out_unchanged: bool,
    /// How long the broker wants to be left alone.
    pub(super) throttle: Duration,
    /// Bytes of the response, about.
    pub(super) bytes: u64,
    /// Bytes of the record sections alone.
    pub(super) record_bytes: u64,
}

/// Bytes of a response besides its records, about: for the whole frame and for each partition.
const FRAME_BYTES: u64 = 64;
const PARTITION_BYTES: u64 = 96;

/// Bytes to reserve for a response.
pub(super) fn frame_bytes(partitions: usize, record_bytes: u64) -> u64 {
    FRAME_BYTES + PARTITION_BYTES * partitions as u64 + record_bytes
}

/// Fetches once for all `asked`, in that order: the request says everything, so that the order is ours. After an error
/// the connection is not to be used any more.
pub(super) async fn fetch(connection: &Connection, asked: &[&Cursor], measure: Measure) -> Result<Answers> {
    let version = version_for(connection, asked)?;
    let request = measured(&measure, version).with_topics(topics(asked, &measure, version));
    let response = connection.start_version(request, version, measure.timeout()).await?;
    refusal(connection, response.error_code)?;
    believed(connection, answers(response, asked, version, true))
}

/// The same by a session: only what has changed since the last time is said. The order is the broker's. Where the broker
/// has lost the session, the answer is empty; after an error the session begins anew.
pub(super) async fn fetch_by_session(
    connection: &Connection,
    session: &mut Session,
    asked: &[&Cursor],
    measure: Measure,
) -> Result<Answers> {
    let version = version_for(connection, asked)?;
    if version < WITH_SESSIONS {
        return fetch(connection, asked, measure).await;
    }
    let (told, request) = session.tell(asked, version, measured(&measure, version));
    let request = request.with_topics(topics(&told, &measure, version));
    let response = connection.start_version(request, version, measure.timeout()).await?;
    if session.is_lost(response.error_code) {
        return answers(FetchResponse::default(), asked, version, false);
    }
    refusal(connection, response.error_code)?;
    let continues = session.answered(response.session_id);
    let mut answers = believed(connection, answers(response, asked, version, false))?;
    answers.left_out_unchanged = continues && answers.throttle.is_zero();
    Ok(answers)
}

fn version_for(connection: &Connection, asked: &[&Cursor]) -> Result<i16> {
    let offered = connection.version(ApiKey::Fetch)?;
    let ids_known = asked.iter().all(|cursor| cursor.leader.topic_id.is_some());
    Ok(if ids_known { offered } else { offered.min(BY_ID - 1) })
}

fn refusal(connection: &Connection, code: i16) -> Result<()> {
    crate::wire::error_of(code, format_args!("{}: fetch", connection.peer())).map_or(Ok(()), Err)
}

/// Of a broker that answers what was not asked, nothing more is believed.
fn believed(connection: &Connection, answers: Result<Answers>) -> Result<Answers> {
    answers.map_err(|error| error.context(connection.peer())).inspect_err(|error| connection.condemn(error.clone()))
}

/// A request without partitions, outside any session.
fn measured(measure: &Measure, version: i16) -> FetchRequest {
    let rack = if version >= WITH_RACK { measure.rack.clone() } else { StrBytes::default() };
    FetchRequest::default()
        .with_rack_id(rack)
        .with_max_wait_ms(measure.wait.as_millis() as i32)
        .with_min_bytes(1)
        .with_max_bytes(clamped(measure.response_bytes))
        .with_isolation_level(READ_COMMITTED)
}

fn topics(asked: &[&Cursor], measure: &Measure, version: i16) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut previous = None;
    for cursor in asked {
        if previous != Some(&cursor.at.topic) {
            let (id, name) = named(&cursor.at.topic, cursor.leader.topic_id, version);
            topics.push(FetchTopic::default().with_topic_id(id).with_topic(name));
            previous = Some(&cursor.at.topic);
        }
        let mut partition = FetchPartition::default()
            .with_partition(cursor.at.partition)
            .with_current_leader_epoch(cursor.leader.epoch.0)
            .with_fetch_offset(cursor.next.0)
            .with_partition_max_bytes(clamped(measure.partition_bytes));
        if version >= 12 {
            partition.last_fetched_epoch = cursor.epoch.0;
        }
        topics.last_mut().expect("a topic was pushed for it").partitions.push(partition);
    }
    topics
}

/// How a request of this version names a topic: by the id, or by the name.
pub(super) fn named(topic: &model::TopicName, id: Option<TopicId>, version: i16) -> (Uuid, TopicName) {
    match id {
        Some(id) if version >= BY_ID => (id.uuid(), TopicName::default()),
        _ => (Uuid::nil(), TopicName(StrBytes::from_string(topic.to_string()))),
    }
}

fn clamped(bytes: u32) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}

/// How a response names a topic.
#[derive(PartialEq, Eq, Hash)]
enum Named<'a> {
    ById(Uuid),
    ByName(&'a str),
}

fn answers(mut response: FetchResponse, asked: &[&Cursor], version: i16, in_order: bool) -> Result<Answers> {
    let throttle = Duration::from_millis(response.throttle_time_ms.max(0) as u64);
    let mut partitions = Vec::new();
    // Of thousands of idle partitions, nothing is the usual answer.
    let asked = if response.responses.is_empty() { &[] } else { asked };
    let mut places: HashMap<(Named<'_>, i32), usize> = HashMap::with_capacity(asked.len());
    for (place, cursor) in asked.iter().enumerate() {
        let named = match cursor.leader.topic_id {
            Some(id) if version >= BY_ID => Named::ById(id.uuid()),
            _ => Named::ByName(cursor.at.topic.as_str()),
        };
        places.insert((named, cursor.at.partition), place);
    }
    for topic in &mut response.responses {
        let answered = std::mem::take(&mut topic.partitions);
        let topic = &*topic;
        for data in answered {
            let named = if version >= BY_ID { Named::ById(topic.topic_id) } else { Named::ByName(&topic.topic) };
            // Removing also refuses a second answer for the same partition.
            let Some(place) = places.remove(&(named, data.partition_index)) else {
                let what = format!("{} {}/{}", topic.topic_id, topic.topic.as_str(), data.partition_index);
                let sentence = format!("the fetch answer names a partition that was not asked for, or twice: {what}");
                return Err(Error::new(ErrorKind::Protocol, sentence));
            };
            partitions.push((place, data));
        }
    }
    partitions.sort_by_key(|(place, _)| *place);
    let record_bytes = partitions.iter().filter_map(|(_, data)| data.records.as_ref()).map(|r| r.len() as u64).sum();
    let bytes = frame_bytes(partitions.len(), record_bytes);
    Ok(Answers { bytes, record_bytes, throttle, partitions, in_order, left_out_unchanged: false })
}
