//! Committed positions of consumer groups, written, read and deleted without joining, and how their coordinator sees them.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition;
use kafka_protocol::messages::{
    DeleteGroupsRequest, FindCoordinatorRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest,
};

use super::{Client, Result, accepted, name_of, text};

impl Client {
    /// Commits positions of a group that has no members, with this metadata text.
    pub fn commit_offsets(&self, group: &str, at: &[(&str, i32, i64)], metadata: &str) -> Result<()> {
        self.commit_offsets_of_epoch(-1, group, at, metadata)
    }

    /// The same, as consumers do that know the leader epoch of the last record they have read.
    pub fn commit_offsets_of_epoch(
        &self,
        epoch: i32,
        group: &str,
        at: &[(&str, i32, i64)],
        metadata: &str,
    ) -> Result<()> {
        let topic = |(topic, partition, offset): &(&str, i32, i64)| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_leader_epoch(epoch)
                .with_committed_metadata(Some(text(metadata)));
            OffsetCommitRequestTopic::default().with_name(name_of(topic)).with_partitions(vec![partition])
        };
        let request = OffsetCommitRequest::default()
            .with_group_id(name_of(group))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(at.iter().map(topic).collect());
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 8)?;
            let mut partitions = answer.topics.iter().flat_map(|t| &t.partitions);
            partitions.try_for_each(|p| accepted(p.error_code, format_args!("commit of {group}")))
        })
    }

    /// Every committed position of a group with its metadata, by topic and partition; empty when it has none.
    pub fn committed(&self, group: &str) -> Result<BTreeMap<(String, i32), (i64, String)>> {
        self.positions(group, false, |p| (p.committed_offset, p.metadata.map(|m| m.to_string()).unwrap_or_default()))
    }

    /// Every committed offset of a group without pending ones, as of now also right after its coordinator has moved: until
    /// a new one knows how far its log is replicated, it answers other readers with what stood there some time ago.
    pub fn committed_for_good(&self, group: &str) -> Result<BTreeMap<(String, i32), i64>> {
        self.positions(group, true, |p| p.committed_offset)
    }

    /// Leader epochs committed beside a group's positions; −1 where the committer told none.
    pub fn committed_epochs(&self, group: &str) -> Result<BTreeMap<(String, i32), i32>> {
        self.positions(group, false, |p| p.committed_leader_epoch)
    }

    fn positions<T>(
        &self,
        group: &str,
        stable: bool,
        what: impl Fn(OffsetFetchResponsePartition) -> T,
    ) -> Result<BTreeMap<(String, i32), T>> {
        let request = OffsetFetchRequest::default().with_group_id(name_of(group)).with_topics(None);
        let request = request.with_require_stable(stable);
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 7)?;
            accepted(answer.error_code, format_args!("positions of {group}"))?;
            let mut all = BTreeMap::new();
            for topic in answer.topics {
                for partition in topic.partitions.into_iter().filter(|p| p.committed_offset >= 0) {
                    accepted(partition.error_code, format_args!("positions of {group}"))?;
                    all.insert((topic.name.to_string(), partition.partition_index), what(partition));
                }
            }
            Ok(all)
        })
    }

    /// Deletes a group without members.
    pub fn delete_group(&self, group: &str) -> Result<()> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![name_of(group)]);
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 2)?;
            answer.results.iter().try_for_each(|g| accepted(g.error_code, format_args!("delete {group}")))
        })
    }

    /// Deletes one position of a group without members.
    pub fn delete_offset(&self, group: &str, topic: &str, partition: i32) -> Result<()> {
        let which = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let which = OffsetDeleteRequestTopic::default().with_name(name_of(topic)).with_partitions(vec![which]);
        let request = OffsetDeleteRequest::default().with_group_id(name_of(group)).with_topics(vec![which]);
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 0)?;
            let codes = answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code);
            let mut codes = std::iter::once(answer.error_code).chain(codes);
            codes.try_for_each(|code| accepted(code, format_args!("delete {topic}/{partition} of {group}")))
        })
    }

    /// The state of a group as its coordinator lists it (`Empty`, `Stable`, …); `None` when there is no such group.
    pub fn group_state(&self, group: &str) -> Result<Option<String>> {
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &ListGroupsRequest::default(), 4)?;
            accepted(answer.error_code, "list of groups")?;
            Ok(answer.groups.iter().find(|g| g.group_id.as_str() == group).map(|g| g.group_state.to_string()))
        })
    }

    /// The broker that coordinates a group.
    pub fn coordinator(&self, group: &str) -> Result<i32> {
        let find = FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0);
        self.again(|| {
            let found = self.ask_any(&find, 3)?;
            accepted(found.error_code, format_args!("coordinator of {group}"))?;
            Ok(found.node_id.0)
        })
    }
}
