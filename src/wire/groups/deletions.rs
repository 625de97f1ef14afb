//! Positions deleted from outside, all of one group in one request.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;

use crate::model::{GroupId, TopicName, TopicPartition};
use crate::wire::connection::Connection;
use crate::wire::coordinators::Told;
use crate::wire::fault::error_needing;
use crate::wire::groups::{GROUP_ID_NOT_FOUND, wire_group};

/// The request that deletes the positions on these partitions.
pub(super) fn request(group: &GroupId, of: &BTreeSet<TopicPartition>) -> OffsetDeleteRequest {
    let mut topics: BTreeMap<&TopicName, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for at in of {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(at.partition);
        topics.entry(&at.topic).or_default().push(partition);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        let name = WireName(StrBytes::from_string(name.as_str().to_owned()));
        OffsetDeleteRequestTopic::default().with_name(name).with_partitions(partitions)
    });
    OffsetDeleteRequest::default().with_group_id(wire_group(group)).with_topics(topics.collect())
}

/// Sends it to the group's coordinator.
pub(super) async fn delete(
    at: Arc<Connection>,
    group: &GroupId,
    request: OffsetDeleteRequest,
) -> Vec<(GroupId, Told<()>)> {
    vec![(group.clone(), deleted(&at, group, request).await)]
}

async fn deleted(at: &Connection, group: &GroupId, request: OffsetDeleteRequest) -> Told<()> {
    // A broker deletes the positions on a topic with the topic.
    const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    let answer = match at.call(request).await {
        Ok(answer) => answer,
        Err(error) => return Told::unheard(error),
    };
    let what = format!("{}: delete positions of group {group}", at.peer());
    if answer.error_code == GROUP_ID_NOT_FOUND {
        return Told::settled(Ok(()));
    }
    if let Some(error) = error_needing(format_args!("Delete on group {group}"), answer.error_code, &what) {
        return Told::refused(answer.error_code, error);
    }
    for topic in &answer.topics {
        let name = topic.name.as_str();
        for partition in topic.partitions.iter().filter(|p| p.error_code != UNKNOWN_TOPIC_OR_PARTITION) {
            let what = format_args!("{what} on {name}/{}", partition.partition_index);
            if let Some(error) = error_needing(format_args!("Read on topic {name}"), partition.error_code, what) {
                return Told::refused(partition.error_code, error);
            }
        }
    }
    Told::settled(Ok(()))
}
