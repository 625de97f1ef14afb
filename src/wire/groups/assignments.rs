//! Which partitions the members of groups are assigned, read for many groups at once.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};
use futures::future::join;
use kafka_protocol::messages::consumer_group_describe_response::DescribedGroup as ConsumerGroup;
use kafka_protocol::messages::describe_groups_response::DescribedGroup as ClassicGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment, DescribeGroupsRequest,
    DescribeGroupsResponse,
};
use kafka_protocol::protocol::{Decodable, Message};

use crate::endpoint::{Error, ErrorKind, GroupProtocol, Result};
use crate::model::{GroupId, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::coordinators::{self, Told};
use crate::wire::fault::{error_needing, in_their_words};
use crate::wire::groups::bulk::{self, Question};
use crate::wire::groups::{GROUP_ID_NOT_FOUND, wire_group};
use crate::wire::shape::Kind::{Blob, FixedArray, Structs, Text};
use crate::wire::shape::{Field, field, walk};

type Assigned = BTreeSet<TopicPartition>;

/// What the leader of a classic group writes for each member, behind its version: topics with their partitions, and
/// bytes of the application's own.
const ASSIGNMENT: &[Field] = &[field(Structs(&[field(Text), field(FixedArray(4))])), field(Blob)];

/// Reads the assignments of groups from their coordinators.
pub(super) async fn read(cluster: &Cluster, of: &[(GroupId, GroupProtocol)]) -> Vec<Result<Assigned>> {
    let (classic, consumer) = (of_kind(of, GroupProtocol::Classic), of_kind(of, GroupProtocol::Consumer));
    let (classic, consumer) = join(
        coordinators::ask(cluster, &classic, |at, groups| async move { bulk::ask::<ByMembers>(&at, &groups).await }),
        coordinators::ask(cluster, &consumer, |at, groups| async move { bulk::ask::<ByBroker>(&at, &groups).await }),
    )
    .await;
    let (mut classic, mut consumer) = (classic.into_iter(), consumer.into_iter());
    let answers = of.iter().map(|(group, protocol)| {
        let answer = match protocol {
            GroupProtocol::Classic => classic.next(),
            GroupProtocol::Consumer => consumer.next(),
            GroupProtocol::Share | GroupProtocol::Other => None,
        };
        answer.unwrap_or_else(|| {
            let alias = cluster.alias();
            let why = format!("cluster {alias}: group {group} is no group of consumers: its members own no partitions");
            Err(Error::new(ErrorKind::Unsupported, why))
        })
    });
    answers.collect()
}

fn of_kind(groups: &[(GroupId, GroupProtocol)], kind: GroupProtocol) -> Vec<GroupId> {
    groups.iter().filter(|(_, protocol)| *protocol == kind).map(|(group, _)| group.clone()).collect()
}

/// Classic groups: one of the members assigns, in bytes that brokers do not look into.
struct ByMembers;

impl Question for ByMembers {
    type Request = DescribeGroupsRequest;
    type Group = ClassicGroup;
    type Answer = Assigned;
    const WHAT: &'static str = "assignments";
    const AT_ONCE: usize = 200;

    fn request(groups: &[GroupId]) -> DescribeGroupsRequest {
        DescribeGroupsRequest::default().with_groups(groups.iter().map(wire_group).collect())
    }

    fn groups(response: DescribeGroupsResponse) -> impl Iterator<Item = (String, ClassicGroup)> {
        response.groups.into_iter().map(|told| (told.group_id.to_string(), told))
    }

    fn read(group: &GroupId, what: &str, told: ClassicGroup) -> Told<Assigned> {
        if told.error_code == GROUP_ID_NOT_FOUND {
            return Told::settled(Ok(Assigned::new()));
        }
        match error_needing(format_args!("Describe on group {group}"), told.error_code, what) {
            Some(error) => Told::refused(told.error_code, in_their_words(error, told.error_message.as_deref())),
            None => Told::settled(assigned_by_members(what, told)),
        }
    }
}

fn assigned_by_members(what: &str, told: ClassicGroup) -> Result<Assigned> {
    let failed = |kind, why: &str| Err(Error::new(kind, format!("{what}: {why}")));
    if told.members.is_empty() {
        return Ok(Assigned::new());
    }
    if told.protocol_type.as_str() != "consumer" {
        let why = format!("its members speak `{}`, which does not tell partitions", told.protocol_type.as_str());
        return failed(ErrorKind::Unsupported, &why);
    }
    // Brokers leave the assignments out of any other state: that is not the same as none.
    if told.group_state.as_str() != "Stable" {
        return failed(ErrorKind::Retryable, "the group is rebalancing, so who will read what is not settled");
    }
    let mut assigned = Assigned::new();
    for member in told.members {
        match decode(member.member_assignment) {
            Ok(partitions) => assigned.extend(partitions),
            Err(why) => {
                let why = format!("that of member {} makes no sense: {why}", member.member_id.as_str());
                return failed(ErrorKind::Corrupt, &why);
            }
        }
    }
    Ok(assigned)
}

/// Any application can write here: the outline is walked before the decoder believes a length.
fn decode(mut bytes: Bytes) -> Result<Vec<TopicPartition>, String> {
    // A member that got nothing, not even an empty list.
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let version = bytes.try_get_i16().map_err(|_| "it has no version")?;
    if version < 0 {
        return Err(format!("version {version}"));
    }
    // Later versions only add fields behind those known.
    let version = version.min(ConsumerProtocolAssignment::VERSIONS.max);
    walk(ASSIGNMENT, version, false, &bytes).map_err(|why| why.to_string())?;
    let told = ConsumerProtocolAssignment::decode(&mut bytes, version).map_err(|why| why.to_string())?;
    let mut assigned = Vec::new();
    for topic in told.assigned_partitions {
        let name = TopicName::from(topic.topic.as_str());
        for partition in topic.partitions {
            if partition < 0 {
                return Err(format!("partition {partition} of topic {name}"));
            }
            assigned.push(TopicPartition { topic: name.clone(), partition });
        }
    }
    Ok(assigned)
}

/// KIP-848 groups: the broker assigns.
struct ByBroker;

impl Question for ByBroker {
    type Request = ConsumerGroupDescribeRequest;
    type Group = ConsumerGroup;
    type Answer = Assigned;
    const WHAT: &'static str = "assignments";
    const AT_ONCE: usize = 200;

    fn request(groups: &[GroupId]) -> ConsumerGroupDescribeRequest {
        ConsumerGroupDescribeRequest::default().with_group_ids(groups.iter().map(wire_group).collect())
    }

    fn groups(response: ConsumerGroupDescribeResponse) -> impl Iterator<Item = (String, ConsumerGroup)> {
        response.groups.into_iter().map(|told| (told.group_id.to_string(), told))
    }

    fn read(group: &GroupId, what: &str, told: ConsumerGroup) -> Told<Assigned> {
        if told.error_code == GROUP_ID_NOT_FOUND {
            return Told::settled(Ok(Assigned::new()));
        }
        let right = format!("Describe on group {group} and on the topics its members read");
        if let Some(error) = error_needing(right, told.error_code, what) {
            return Told::refused(told.error_code, in_their_words(error, told.error_message.as_deref()));
        }
        let topics = told.members.into_iter().flat_map(|member| member.assignment.topic_partitions);
        let assigned = topics.flat_map(|topic| {
            let name = TopicName::from(topic.topic_name.as_str());
            let partitions = topic.partitions.into_iter();
            partitions.map(move |partition| TopicPartition { topic: name.clone(), partition })
        });
        Told::settled(Ok(assigned.collect()))
    }
}

#[cfg(test)]
#[path = "assignments_tests.rs"]
mod tests;
