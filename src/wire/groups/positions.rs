//! Committed positions, read for many groups at once.

use std::sync::Arc;

use futures::future::join_all;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponseGroup;
use kafka_protocol::messages::{ApiKey, OffsetFetchRequest, OffsetFetchResponse};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{CommittedOffset, ReadOffsets, Result};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::connection::Connection;
use crate::wire::coordinators::{self, Told};
use crate::wire::fault::{error_needing, error_of};
use crate::wire::groups::bulk::{self, Question};
use crate::wire::groups::{GROUP_ID_NOT_FOUND, wire_group};

/// First OffsetFetch version that takes many groups.
const MANY_GROUPS: i16 = 8;

/// Reads the positions of groups from their coordinators.
pub(super) async fn read(cluster: &Cluster, of: &[GroupId]) -> Vec<Result<ReadOffsets>> {
    coordinators::ask(cluster, of, read_at).await
}

async fn read_at(at: Arc<Connection>, groups: Vec<GroupId>) -> Vec<(GroupId, Told<ReadOffsets>)> {
    if at.version(ApiKey::OffsetFetch).is_ok_and(|version| version < MANY_GROUPS) {
        return join_all(groups.iter().map(|group| read_one(&at, group))).await;
    }
    bulk::ask::<Positions>(&at, &groups).await
}

struct Positions;

impl Question for Positions {
    type Request = OffsetFetchRequest;
    type Group = OffsetFetchResponseGroup;
    type Answer = ReadOffsets;
    const WHAT: &'static str = "positions";
    const AT_ONCE: usize = 2_000;

    fn request(groups: &[GroupId]) -> OffsetFetchRequest {
        let groups = groups.iter().map(|group| {
            OffsetFetchRequestGroup::default().with_group_id(wire_group(group)).with_member_epoch(-1).with_topics(None)
        });
        OffsetFetchRequest::default().with_groups(groups.collect()).with_require_stable(true)
    }

    fn groups(response: OffsetFetchResponse) -> impl Iterator<Item = (String, OffsetFetchResponseGroup)> {
        response.groups.into_iter().map(|told| (told.group_id.to_string(), told))
    }

    fn read(group: &GroupId, what: &str, told: OffsetFetchResponseGroup) -> Told<ReadOffsets> {
        let positions = told.topics.into_iter().flat_map(|topic| {
            let name = TopicName::from(topic.name.as_str());
            let partitions = topic.partitions.into_iter();
            partitions.map(move |p| Position {
                at: TopicPartition { topic: name.clone(), partition: p.partition_index },
                offset: p.committed_offset,
                metadata: p.metadata,
                error_code: p.error_code,
            })
        });
        told_of(group, what, told.error_code, positions)
    }
}

/// Brokers before 3.0; the requests are pipelined by the caller.
async fn read_one(at: &Connection, group: &GroupId) -> (GroupId, Told<ReadOffsets>) {
    let request =
        OffsetFetchRequest::default().with_group_id(wire_group(group)).with_topics(None).with_require_stable(true);
    let answer = match at.call(request).await {
        Ok(answer) => answer,
        Err(error) => return (group.clone(), Told::unheard(error)),
    };
    let what = format!("{}: {} of group {group}", at.peer(), Positions::WHAT);
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

fn told_of(group: &GroupId, what: &str, code: i16, positions: impl Iterator<Item = Position>) -> Told<ReadOffsets> {
    // An open transaction may yet replace the position. A busy transactional application has some partition like that at
    // almost any time: the others are told.
    const UNSTABLE_OFFSET_COMMIT: i16 = 88;
    if code == GROUP_ID_NOT_FOUND {
        return Told::settled(Ok(ReadOffsets::default()));
    }
    if let Some(error) = error_needing(format_args!("Describe on group {group}"), code, what) {
        return Told::refused(code, error);
    }
    let mut read = ReadOffsets::default();
    for position in positions {
        let Position { at, offset, metadata, error_code } = position;
        if error_code == UNSTABLE_OFFSET_COMMIT {
            read.pending.insert(at);
            continue;
        }
        if let Some(error) = error_of(error_code, format_args!("{what} on {at}")) {
            return Told::settled(Err(error));
        }
        // −1 = no position.
        if offset >= 0 {
            let metadata = metadata.map(StrBytes::into_bytes).unwrap_or_default();
            read.offsets.insert(at, CommittedOffset { offset: Offset(offset), metadata });
        }
    }
    Told::settled(Ok(read))
}
