//! Positions committed from outside, all of one group in one request.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{OffsetCommitRequest, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{Error, ErrorKind, GroupOffsets, Result};
use crate::model::{GroupId, TopicName};
use crate::wire::connection::Connection;
use crate::wire::coordinators::Told;
use crate::wire::fault::error_needing;
use crate::wire::groups::{GROUP_ID_NOT_FOUND, wire_group};

/// The request that commits these positions.
pub(super) fn request(group: &GroupId, offsets: &GroupOffsets) -> Result<OffsetCommitRequest> {
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

/// Sends it to the group's coordinator.
pub(super) async fn commit(
    at: Arc<Connection>,
    group: &GroupId,
    request: OffsetCommitRequest,
) -> Vec<(GroupId, Told<()>)> {
    vec![(group.clone(), committed(&at, group, request).await)]
}

async fn committed(at: &Connection, group: &GroupId, request: OffsetCommitRequest) -> Told<()> {
    let answer = match at.call(request).await {
        Ok(answer) => answer,
        Err(error) => return Told::unheard(error),
    };
    for topic in &answer.topics {
        let name = topic.name.as_str();
        for partition in &topic.partitions {
            let what = format!("{}: commit of group {group} on {name}/{}", at.peer(), partition.partition_index);
            let right = format!("Read on group {group} and on topic {name}");
            if partition.error_code == GROUP_ID_NOT_FOUND {
                // A group that is not known begins with its first commit.
                let why = format!("{what}: here that is a share group, which has no positions (GroupIdNotFound, 69)");
                return Told::settled(Err(Error::new(ErrorKind::Refused, why)));
            }
            if let Some(error) = error_needing(right, partition.error_code, what) {
                return Told::refused(partition.error_code, error);
            }
        }
    }
    Told::settled(Ok(()))
}
