//! Ends of partitions in bulk: one ListOffsets per question and leader, answers in the order asked.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use futures::future::join_all;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, ListOffsetsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{LeaderEpoch, Offset, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::fault::error_needing;
use crate::wire::metadata::Leader;

/// A leader that says nothing for this long does not hold up the others' answers any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a leader is asked about each partition.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    /// First offset still there.
    LogStart,
    /// First offset in the leader's own log; below it the log is in remote storage (KIP-405). ListOffsets v8 on.
    LocalStart,
    /// Last stable offset.
    LastStable,
    /// High watermark.
    HighWatermark,
    /// First offset with a record at or after this time, milliseconds.
    AtTime(i64),
}

/// A leader's answer about one partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The offset; −1 when no record is as late as asked.
    pub(super) offset: Offset,
    /// The leader's term; `UNKNOWN` where the broker does not tell.
    pub(super) epoch: LeaderEpoch,
}

impl Question {
    fn timestamp(self) -> i64 {
        match self {
            Question::LogStart => -2,
            Question::LocalStart => -4,
            Question::LastStable | Question::HighWatermark => -1,
            Question::AtTime(at) => at,
        }
    }

    /// 1 = read_committed.
    fn isolation(self) -> i8 {
        i8::from(matches!(self, Question::LastStable))
    }
}

/// Asks the leaders; each partition gets one answer per question. A leader answers the questions in their order, so that
/// values that only grow stay in order. Moved leaders are looked up again once.
pub(super) async fn ask(
    cluster: &Cluster,
    of: &[TopicPartition],
    questions: &[Question],
) -> HashMap<TopicPartition, Result<Vec<Found>>> {
    let mut answers = HashMap::with_capacity(of.len());
    let mut open: Vec<TopicPartition> = of.iter().cloned().collect::<HashSet<_>>().into_iter().collect();
    for last_try in [false, true] {
        let mut by_leader: HashMap<i32, Vec<(TopicPartition, Leader)>> = HashMap::new();
        for (at, leader) in open.iter().zip(cluster.leaders(&open).await) {
            match leader {
                Ok(leader) => by_leader.entry(leader.broker_id).or_default().push((at.clone(), leader)),
                Err(error) => drop(answers.insert(at.clone(), Err(error))),
            }
        }
        let asked = by_leader.iter().map(|(broker, asked)| ask_leader(cluster, *broker, asked, questions));
        let mut moved = Vec::new();
        for (at, verdict) in join_all(asked).await.into_iter().flatten() {
            match verdict {
                Verdict::Moved(_) if !last_try => moved.push(at),
                Verdict::Moved(error) => drop(answers.insert(at, Err(error))),
                Verdict::Answered(answer) => drop(answers.insert(at, answer)),
            }
        }
        if moved.is_empty() || cluster.refresh().await.is_err() {
            let unanswered = |at: &TopicPartition| {
                Error::new(ErrorKind::Retryable, format!("cluster {}: {at}: the leader is moving", cluster.alias()))
            };
            moved.into_iter().for_each(|at| {
                let error = unanswered(&at);
                answers.insert(at, Err(error));
            });
            break;
        }
        open = moved;
    }
    answers
}

enum Verdict {
    Answered(Result<Vec<Found>>),
    /// Another broker leads, by this one's word.
    Moved(Error),
}

async fn ask_leader(
    cluster: &Cluster,
    broker: i32,
    asked: &[(TopicPartition, Leader)],
    questions: &[Question],
) -> Vec<(TopicPartition, Verdict)> {
    let failed = |error: &Error| {
        let all = asked.iter().map(|(at, _)| (at.clone(), Verdict::Answered(Err(error.clone()))));
        all.collect()
    };
    let connection = match cluster.broker(broker).await {
        Ok(connection) => connection,
        // A broker that is gone no longer leads.
        Err(error) if error.is_retryable() => {
            return asked.iter().map(|(at, _)| (at.clone(), Verdict::Moved(error.clone()))).collect();
        }
        Err(error) => return failed(&error),
    };
    let started: Vec<_> = questions.iter().map(|q| connection.start(request(asked, *q), PATIENCE)).collect();
    let mut told = Vec::with_capacity(started.len());
    for answer in started {
        match answer.await {
            Ok(answer) => told.push(by_partition(answer)),
            Err(error) => return failed(&error),
        }
    }
    asked.iter().map(|(at, _)| (at.clone(), verdict(cluster, broker, at, &told))).collect()
}

fn request(asked: &[(TopicPartition, Leader)], question: Question) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&TopicName, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (at, leader) in asked {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(at.partition)
            .with_current_leader_epoch(leader.epoch.0)
            .with_timestamp(question.timestamp());
        topics.entry(&at.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let name = WireName(StrBytes::from_string(name.as_str().to_owned()));
        ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(question.isolation())
        .with_topics(topics.collect())
}

type Told = HashMap<TopicPartition, (i16, Found)>;

fn by_partition(answer: ListOffsetsResponse) -> Told {
    let mut told = HashMap::new();
    for topic in answer.topics {
        let name = TopicName::from(topic.name.as_str());
        for p in topic.partitions {
            let found = Found { offset: Offset(p.offset), epoch: LeaderEpoch(p.leader_epoch) };
            told.insert(TopicPartition { topic: name.clone(), partition: p.partition_index }, (p.error_code, found));
        }
    }
    told
}

fn verdict(cluster: &Cluster, broker: i32, at: &TopicPartition, told: &[Told]) -> Verdict {
    let what = format!("cluster {}: {at}: offsets from broker {broker}", cluster.alias());
    let mut found = Vec::with_capacity(told.len());
    for answer in told {
        let Some((code, one)) = answer.get(at) else {
            let why = format!("{what}: the broker left the partition out of its answer");
            return Verdict::Answered(Err(Error::new(ErrorKind::Protocol, why)));
        };
        match (error_needing(format_args!("Describe on topic {}", at.topic), *code, &what), *code) {
            (None, _) => found.push(*one),
            // Said by a broker about itself: only metadata speak for the cluster.
            (Some(error), 3 | 5 | 6 | 9 | 56 | 74) => {
                return Verdict::Moved(Error::new(ErrorKind::Retryable, error.message));
            }
            (Some(error), _) => return Verdict::Answered(Err(error)),
        }
    }
    Verdict::Answered(Ok(found))
}
