//! Where share groups (KIP-932) begin, read for many at once.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup;
use kafka_protocol::messages::describe_share_group_offsets_response::DescribeShareGroupOffsetsResponseGroup;
use kafka_protocol::messages::{DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse};

use crate::endpoint::Result;
use crate::model::{GroupId, Offset, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::coordinators::{self, Told};
use crate::wire::fault::{error_needing, in_their_words};
use crate::wire::groups::bulk::{self, Question};
use crate::wire::groups::{GROUP_ID_NOT_FOUND, wire_group};

/// Reads the start offsets of share groups from their coordinators.
pub(super) async fn read(cluster: &Cluster, of: &[GroupId]) -> Vec<Result<BTreeMap<TopicPartition, Offset>>> {
    coordinators::ask(cluster, of, |at, groups| async move { bulk::ask::<ShareStarts>(&at, &groups).await }).await
}

struct ShareStarts;

impl Question for ShareStarts {
    type Request = DescribeShareGroupOffsetsRequest;
    type Group = DescribeShareGroupOffsetsResponseGroup;
    type Answer = BTreeMap<TopicPartition, Offset>;
    const WHAT: &'static str = "start offsets";
    const AT_ONCE: usize = 200;

    fn request(groups: &[GroupId]) -> DescribeShareGroupOffsetsRequest {
        let groups = groups.iter().map(|group| {
            DescribeShareGroupOffsetsRequestGroup::default().with_group_id(wire_group(group)).with_topics(None)
        });
        DescribeShareGroupOffsetsRequest::default().with_groups(groups.collect())
    }

    fn groups(
        response: DescribeShareGroupOffsetsResponse,
    ) -> impl Iterator<Item = (String, DescribeShareGroupOffsetsResponseGroup)> {
        response.groups.into_iter().map(|told| (told.group_id.to_string(), told))
    }

    fn read(group: &GroupId, what: &str, told: DescribeShareGroupOffsetsResponseGroup) -> Told<Self::Answer> {
        if told.error_code == GROUP_ID_NOT_FOUND {
            return Told::settled(Ok(BTreeMap::new()));
        }
        if let Some(error) = error_needing(format_args!("Describe on group {group}"), told.error_code, what) {
            return Told::refused(told.error_code, in_their_words(error, told.error_message.as_deref()));
        }
        let mut starts = BTreeMap::new();
        for topic in told.topics {
            let name = TopicName::from(topic.topic_name.as_str());
            for partition in topic.partitions {
                let at = TopicPartition { topic: name.clone(), partition: partition.partition_index };
                let right = format_args!("Describe on topic {name}");
                if let Some(error) = error_needing(right, partition.error_code, format_args!("{what} on {at}")) {
                    let error = in_their_words(error, partition.error_message.as_deref());
                    return Told::refused(partition.error_code, error);
                }
                // −1 = the group has not begun on this partition.
                if partition.start_offset >= 0 {
                    starts.insert(at, Offset(partition.start_offset));
                }
            }
        }
        Told::settled(Ok(starts))
    }
}
