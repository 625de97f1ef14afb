//! How far a topic has come: its end offsets, all partitions in one request.

use std::collections::HashMap;

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::protocol::StrBytes;

use super::support::raw::Client;

/// Brokers count from 1.
const ONLY: i32 = 1;

/// Sum of the high watermarks of partitions `0..partitions` on a cluster of one broker; 0 while the topic is not there.
pub fn total(client: &Client, topic: &str, partitions: i32) -> u64 {
    let each = each(client, &[topic], partitions);
    each.into_values().sum()
}

/// The same for several topics that are alike, by name; those that are not there are left out.
pub fn each(client: &Client, topics: &[&str], partitions: i32) -> HashMap<String, u64> {
    let which = |partition| {
        ListOffsetsPartition::default().with_partition_index(partition).with_current_leader_epoch(-1).with_timestamp(-1)
    };
    let which = |topic: &&str| {
        ListOffsetsTopic::default()
            .with_name(TopicName::from(StrBytes::from_string((*topic).to_owned())))
            .with_partitions((0..partitions).map(which).collect())
    };
    let topics = topics.iter().map(which).collect();
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(topics);
    let Ok(answer) = client.ask_broker(ONLY, &request, 6) else { return HashMap::new() };
    let of = |partitions: &[ListOffsetsPartitionResponse]| {
        partitions.iter().filter(|p| p.error_code == 0).map(|p| p.offset.max(0) as u64).sum()
    };
    answer.topics.iter().map(|topic| (topic.name.to_string(), of(&topic.partitions))).collect()
}
