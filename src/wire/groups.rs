//! The group contracts: groups listed on every broker, positions read in bulk per coordinator, written one group a
//! request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ApiKey, GroupId as WireGroup, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
    TopicName as WireName,
};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{
    CommittedOffset, Error, ErrorKind, GroupInfo, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, ReadOffsets,
    Result,
};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};
use crate::wire::admin::shortest_setting;
use crate::wire::brokers::Cluster;
use crate::wire::connection::{Connection, DEFAULT_TIMEOUT};
use crate::wire::coordinators;
use crate::wire::fault::{error_needing, error_of};

/// First OffsetFetch version that takes many groups.
const MANY_GROUPS: i16 = 8;
/// Groups whose positions are asked for in one request.
const AT_ONCE: usize = 2_000;
/// States of a group that has members, classic ones and those of KIP-848 and KIP-932.
const IN_USE: [&str; 5] = ["PreparingRebalance", "CompletingRebalance", "Stable", "Assigning", "Reconciling"];
/// The coordinator is loading, unknown, or another one.
const MOVED: [i16; 3] = [14, 15, 16];

#[async_trait]
impl GroupReader for Cluster {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        list(self, &[]).await
    }

    async fn groups_in_use(&self) -> Result<Vec<GroupInfo>> {
        list(self, &IN_USE).await
    }

    async fn group_offsets(&self, of: &[GroupId]) -> Vec<Result<ReadOffsets>> {
        let mut answers: HashMap<GroupId, Result<ReadOffsets>> = HashMap::with_capacity(of.len());
        let mut open = of.to_vec();
        for last_try in [false, true] {
            let mut by_broker: HashMap<i32, Vec<GroupId>> = HashMap::new();
            for (group, broker) in coordinators::find(self, &open).await {
                match broker {
                    Ok(broker) => by_broker.entry(broker).or_default().push(group),
                    Err(error) => drop(answers.insert(group, Err(error))),
                }
            }
            let asked = by_broker.iter().map(|(broker, groups)| offsets_at(self, *broker, groups));
            let mut moved = Vec::new();
            for (group, told) in join_all(asked).await.into_iter().flatten() {
                if told.moved {
                    self.forget_coordinator(&group);
                    moved.push(group.clone());
                }
                answers.insert(group, told.answer);
            }
            if last_try || moved.is_empty() {
                break;
            }
            open = moved;
        }
        let unanswered =
            |group| Error::new(ErrorKind::Protocol, format!("cluster {}: no word on {group}", self.alias()));
        of.iter().map(|group| answers.get(group).cloned().unwrap_or_else(|| Err(unanswered(group)))).collect()
    }
}

#[async_trait]
impl GroupWriter for Cluster {
    async fn commit_offsets(&self, group: &GroupId, offsets: &GroupOffsets) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        match commit(self, group, offsets).await {
            // The coordinator moved: the new one is asked once.
            Err(Uncommitted { moved: true, .. }) => commit(self, group, offsets).await.map_err(|e| e.error),
            outcome => outcome.map_err(|e| e.error),
        }
    }

    async fn offsets_retention(&self) -> Result<Duration> {
        let minutes = shortest_setting(self, &["offsets.retention.minutes"]).await?;
        Ok(Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60))
    }
}

/// Lists the groups in any of these states, or in whatever state for none.
async fn list(cluster: &Cluster, states: &[&'static str]) -> Result<Vec<GroupInfo>> {
    let brokers = cluster.brokers().await?;
    let told = try_join_all(brokers.into_iter().map(|id| groups_at(cluster, id, states))).await?;
    // While a coordinator moves, two brokers may list a group.
    let mut groups: BTreeMap<GroupId, GroupInfo> = BTreeMap::new();
    for group in told.into_iter().flatten() {
        let (has_members, had_members) = (group.has_members, group.had_members);
        let known = groups.entry(group.id.clone()).or_insert(group);
        known.has_members |= has_members;
        known.had_members |= had_members;
    }
    Ok(groups.into_values().collect())
}

async fn groups_at(cluster: &Cluster, broker: i32, states: &[&'static str]) -> Result<Vec<GroupInfo>> {
    let connection = cluster.broker(broker).await?;
    let states = states.iter().map(|state| StrBytes::from_static_str(state)).collect();
    let answer = connection.call(ListGroupsRequest::default().with_states_filter(states)).await?;
    match error_needing(
        "Describe on the cluster",
        answer.error_code,
        format_args!("{}: list groups", connection.peer()),
    ) {
        Some(error) => Err(error),
        None => Ok(answer.groups.iter().map(group_info).collect()),
    }
}

fn group_info(told: &ListedGroup) -> GroupInfo {
    // Brokers before 3.8 do not tell the type, and have classic groups only. Consumers, and tools that only commit,
    // leave "consumer" or nothing as protocol type.
    let consumes = matches!(told.protocol_type.as_str(), "consumer" | "");
    let protocol = match told.group_type.to_ascii_lowercase().as_str() {
        "" | "classic" if consumes => GroupProtocol::Classic,
        "consumer" => GroupProtocol::Consumer,
        "share" => GroupProtocol::Share,
        _ => GroupProtocol::Other,
    };
    let has_members = !matches!(told.group_state.as_str(), "Empty" | "Dead");
    // A classic group gets its protocol type from its first member and keeps it.
    let had_members = protocol == GroupProtocol::Classic && !told.protocol_type.is_empty();
    GroupInfo { id: GroupId::from(told.group_id.as_str()), protocol, has_members, had_members }
}

/// A coordinator's word on a group.
struct Told {
    answer: Result<ReadOffsets>,
    moved: bool,
}

impl Told {
    fn failed(error: Error) -> Self {
        Told { moved: false, answer: Err(error) }
    }
}

async fn offsets_at(cluster: &Cluster, broker: i32, groups: &[GroupId]) -> Vec<(GroupId, Told)> {
    let connection = match cluster.broker(broker).await {
        Ok(connection) => connection,
        // A broker that is gone no longer coordinates.
        Err(error) => {
            let failed = |group: &GroupId| (group.clone(), Told { moved: true, answer: Err(error.clone()) });
            return groups.iter().map(failed).collect();
        }
    };
    match connection.version(ApiKey::OffsetFetch) {
        Ok(version) if version >= MANY_GROUPS => {
            let asked = groups.chunks(AT_ONCE).map(|some| offsets_of_many(&connection, some));
            join_all(asked).await.into_iter().flatten().collect()
        }
        Ok(_) => join_all(groups.iter().map(|group| offsets_of_one(&connection, group))).await,
        Err(error) => groups.iter().map(|group| (group.clone(), Told::failed(error.clone()))).collect(),
    }
}

async fn offsets_of_many(connection: &Arc<Connection>, groups: &[GroupId]) -> Vec<(GroupId, Told)> {
    match connection.call(many_groups(groups)).await {
        Ok(answer) => by_group(connection, groups, answer),
        // One name or metadata text that is not UTF-8 spoils the answer for all: alone each spoils only its own.
        Err(error) if error.kind == ErrorKind::Protocol && groups.len() > 1 && !connection.is_closed() => {
            let alone = groups.iter().map(|group| {
                let group = std::slice::from_ref(group);
                let answer = connection.start(many_groups(group), DEFAULT_TIMEOUT);
                async move {
                    match answer.await {
                        Ok(answer) => by_group(connection, group, answer),
                        Err(error) => vec![(group[0].clone(), Told::failed(error))],
                    }
                }
            });
            join_all(alone.collect::<Vec<_>>()).await.into_iter().flatten().collect()
        }
        Err(error) => {
            let moved = error.is_retryable();
            groups.iter().map(|group| (group.clone(), Told { moved, answer: Err(error.clone()) })).collect()
        }
    }
}

fn many_groups(groups: &[GroupId]) -> OffsetFetchRequest {
    let groups = groups.iter().map(|group| {
        OffsetFetchRequestGroup::default().with_group_id(wire_group(group)).with_member_epoch(-1).with_topics(None)
    });
    OffsetFetchRequest::default().with_groups(groups.collect()).with_require_stable(true)
}

fn by_group(connection: &Connection, groups: &[GroupId], answer: OffsetFetchResponse) -> Vec<(GroupId, Told)> {
    let mut told: HashMap<_, _> = answer.groups.into_iter().map(|g| (g.group_id.to_string(), g)).collect();
    let answers = groups.iter().map(|group| {
        let what = format!("{}: positions of group {group}", connection.peer());
        let Some(g) = told.remove(group.as_str()) else {
            let unsaid = Error::new(ErrorKind::Protocol, format!("{what}: the broker left them out of its answer"));
            return (group.clone(), Told::failed(unsaid));
        };
        let positions = g.topics.into_iter().flat_map(|topic| {
            let name = TopicName::from(topic.name.as_str());
            let partitions = topic.partitions.into_iter();
            partitions.map(move |p| Position {
                at: TopicPartition { topic: name.clone(), partition: p.partition_index },
                offset: p.committed_offset,
                metadata: p.metadata,
                error_code: p.error_code,
            })
        });
        (group.clone(), told_of(group, &what, g.error_code, positions))
    });
    answers.collect()
}

/// Brokers before 3.0; the requests are pipelined by the caller.
async fn offsets_of_one(connection: &Arc<Connection>, group: &GroupId) -> (GroupId, Told) {
    let request =
        OffsetFetchRequest::default().with_group_id(wire_group(group)).with_topics(None).with_require_stable(true);
    let answer = match connection.call(request).await {
        Ok(answer) => answer,
        Err(error) => return (group.clone(), Told { moved: error.is_retryable(), answer: Err(error) }),
    };
    let what = format!("{}: positions of group {group}", connection.peer());
    let positions = answer.topics.into_iter().flat_map(|topic| {
        let name = TopicName::from(topic.name.as_str());
        let partitions = topic.partitions.into_iter();
        partitions.map(move |p| Position {
            at: TopicPartition { topic: name.clone(), partition: p.partition_index },
            offset: p.committed_offset,
            metadata: p.metadata,
            error_code: p.error_code,
        })
    });
    (group.clone(), told_of(group, &what, answer.error_code, positions))
}

/// A committed position as either form of the answer carries it.
struct Position {
    at: TopicPartition,
    offset: i64,
    metadata: Option<StrBytes>,
    error_code: i16,
}

fn told_of(group: &GroupId, what: &str, code: i16, positions: impl Iterator<Item = Position>) -> Told {
    const GROUP_ID_NOT_FOUND: i16 = 69;
    // An open transaction may yet replace the position. A busy transactional application has some partition like that at
    // almost any time: the others are told.
    const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    if code == GROUP_ID_NOT_FOUND {
        return Told { moved: false, answer: Ok(ReadOffsets::default()) };
    }
    if let Some(error) = error_needing(format_args!("Describe on group {group}"), code, what) {
        return Told { moved: MOVED.contains(&code), answer: Err(error) };
    }
    let mut read = ReadOffsets::default();
    for position in positions {
        let Position { at, offset, metadata, error_code } = position;
        if error_code == UNSTABLE_OFFSET_COMMIT {
            read.pending.insert(at);
            continue;
        }
        if let Some(error) = error_of(error_code, format_args!("{what} on {at}")) {
            return Told::failed(error);
        }
        // −1 = no position.
        if offset >= 0 {
            let metadata = metadata.map(StrBytes::into_bytes).unwrap_or_default();
            read.offsets.insert(at, CommittedOffset { offset: Offset(offset), metadata });
        }
    }
    Told { moved: false, answer: Ok(read) }
}

/// Why a commit failed, and whether another coordinator may take it.
struct Uncommitted {
    error: Error,
    moved: bool,
}

impl From<Error> for Uncommitted {
    fn from(error: Error) -> Self {
        Self { error, moved: false }
    }
}

async fn commit(cluster: &Cluster, group: &GroupId, offsets: &GroupOffsets) -> Result<(), Uncommitted> {
    let mut found = coordinators::find(cluster, std::slice::from_ref(group)).await;
    let lost = || Error::new(ErrorKind::Protocol, format!("cluster {}: no word on group {group}", cluster.alias()));
    let broker = found.remove(group).unwrap_or_else(|| Err(lost()))?;
    let moved = |error: Error| {
        cluster.forget_coordinator(group);
        Uncommitted { moved: error.is_retryable(), error }
    };
    let connection = cluster.broker(broker).await.map_err(moved)?;
    let answer = connection.call(commit_request(group, offsets)?).await.map_err(moved)?;
    for topic in &answer.topics {
        for partition in &topic.partitions {
            let at = format!("{}/{}", topic.name.as_str(), partition.partition_index);
            let what = format!("{}: commit of group {group} on {at}", connection.peer());
            let right = format!("Read on group {group} and on topic {}", topic.name.as_str());
            if let Some(error) = error_needing(right, partition.error_code, what) {
                return Err(if MOVED.contains(&partition.error_code) { moved(error) } else { error.into() });
            }
        }
    }
    Ok(())
}

fn commit_request(group: &GroupId, offsets: &GroupOffsets) -> Result<OffsetCommitRequest> {
    let mut topics: BTreeMap<&TopicName, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (at, position) in offsets {
        let metadata = StrBytes::from_utf8(position.metadata.clone()).map_err(|_| {
            let why = format!("group {group}: the metadata of its position on {at} is not text; no broker stores that");
            Error::new(ErrorKind::Refused, why)
        })?;
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(at.partition)
            .with_committed_offset(position.offset.0)
            .with_committed_leader_epoch(-1)
            .with_committed_metadata(Some(metadata));
        topics.entry(&at.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let name = WireName(StrBytes::from_string(name.as_str().to_owned()));
        OffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions)
    });
    Ok(OffsetCommitRequest::default()
        .with_group_id(wire_group(group))
        .with_generation_id_or_member_epoch(-1)
        .with_retention_time_ms(-1)
        .with_topics(topics.collect()))
}

fn wire_group(group: &GroupId) -> WireGroup {
    WireGroup(StrBytes::from_string(group.as_str().to_owned()))
}
