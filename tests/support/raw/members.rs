//! Members of groups of every kind, as bytes on the wire: no client library would join as some of these do.

use bytes::Bytes;
use kafka_protocol::messages::alter_share_group_offsets_request::{
    AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, JoinGroupRequest, LeaveGroupRequest, ShareGroupHeartbeatRequest, SyncGroupRequest,
};

use super::{Client, Result, accepted, name_of, text};

/// How long a member that says nothing is thought alive.
const SESSION_MS: i32 = 120_000;
/// The member epoch of one that leaves.
const LEAVING: i32 = -1;

impl Client {
    /// Joins a classic group of any protocol type as its only member and leader, which assigns itself these bytes.
    /// Returns the member's id; it stays for two minutes without a heartbeat.
    pub fn join_group(&self, group: &str, protocol_type: &str, assignment: &[u8]) -> Result<String> {
        let protocol = JoinGroupRequestProtocol::default().with_name(text("any")).with_metadata(Bytes::new());
        let join = JoinGroupRequest::default()
            .with_group_id(name_of(group))
            .with_session_timeout_ms(SESSION_MS)
            .with_rebalance_timeout_ms(SESSION_MS)
            .with_protocol_type(text(protocol_type))
            .with_protocols(vec![protocol]);
        let joined = self.again(|| {
            // From version 4 on a member joins twice, for its id first.
            let answer = self.ask_coordinator(0, group, &join, 3)?;
            accepted(answer.error_code, format_args!("join {group}")).map(|()| answer)
        })?;
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(joined.member_id.clone())
            .with_assignment(Bytes::copy_from_slice(assignment));
        let sync = SyncGroupRequest::default()
            .with_group_id(name_of(group))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        let answer = self.ask_coordinator(0, group, &sync, 2)?;
        accepted(answer.error_code, format_args!("assign {group}"))?;
        Ok(joined.member_id.to_string())
    }

    /// Leaves a classic group.
    pub fn leave_group(&self, group: &str, member: &str) -> Result<()> {
        let leave = LeaveGroupRequest::default().with_group_id(name_of(group)).with_member_id(text(member));
        let answer = self.ask_coordinator(0, group, &leave, 2)?;
        accepted(answer.error_code, format_args!("leave {group}"))
    }

    /// Joins a share group as a member that reads these topics. Returns the member's id; it stays for as long as the
    /// broker waits for a heartbeat (45 s).
    pub fn join_share_group(&self, group: &str, topics: &[&str]) -> Result<String> {
        let member = uuid::Uuid::new_v4().to_string();
        let topics = topics.iter().map(|topic| name_of(topic)).collect();
        let join = ShareGroupHeartbeatRequest::default()
            .with_group_id(name_of(group))
            .with_member_id(text(&member))
            .with_subscribed_topic_names(Some(topics));
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &join, 1)?;
            let words = answer.error_message.as_deref().unwrap_or_default();
            accepted(answer.error_code, format_args!("join share group {group} {words}"))
        })?;
        Ok(member)
    }

    /// Leaves a share group.
    pub fn leave_share_group(&self, group: &str, member: &str) -> Result<()> {
        let leave = ShareGroupHeartbeatRequest::default()
            .with_group_id(name_of(group))
            .with_member_id(text(member))
            .with_member_epoch(LEAVING);
        let answer = self.ask_coordinator(0, group, &leave, 1)?;
        accepted(answer.error_code, format_args!("leave share group {group}"))
    }

    /// Sets where a share group without members begins on a partition.
    pub fn set_share_start(&self, group: &str, topic: &str, partition: i32, start: i64) -> Result<()> {
        let which =
            AlterShareGroupOffsetsRequestPartition::default().with_partition_index(partition).with_start_offset(start);
        let which =
            AlterShareGroupOffsetsRequestTopic::default().with_topic_name(name_of(topic)).with_partitions(vec![which]);
        let request = AlterShareGroupOffsetsRequest::default().with_group_id(name_of(group)).with_topics(vec![which]);
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 0)?;
            let what = format!("start of {group} on {topic}/{partition}");
            accepted(
                answer.error_code,
                format_args!("{what} {}", answer.error_message.as_deref().unwrap_or_default()),
            )?;
            let mut partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
            partitions.try_for_each(|p| {
                accepted(p.error_code, format_args!("{what} {}", p.error_message.as_deref().unwrap_or_default()))
            })
        })
    }
}
