//! How far a topic has come: its end offsets, all partitions in one request.

use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::protocol::StrBytes;

use super::support::raw::Client;

/// Sum of the high watermarks of partitions `0..partitions` on a cluster of one broker; 0 while the topic is not there.
pub fn total(client: &Client, topic: &str, partitions: i32) -> u64 {
    let which = |partition| {
        ListOffsetsPartition::default().with_partition_index(partition).with_current_leader_epoch(-1).with_timestamp(-1)
    };
    let which = ListOffsetsTopic::default()
        .with_name(TopicName::from(StrBytes::from_string(topic.to_owned())))
        .with_partitions((0..partitions).map(which).collect());
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![which]);
    let Ok(answer) = client.ask_leader(topic, 0, &request, 6) else { return 0 };
    let partitions = answer.topics.iter().flat_map(|t| &t.partitions);
    partitions.filter(|p| p.error_code == 0).map(|p| p.offset.max(0) as u64).sum()
}
