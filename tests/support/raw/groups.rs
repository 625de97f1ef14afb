//! Committed positions of consumer groups, written and read without joining.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::{DeleteGroupsRequest, OffsetCommitRequest, OffsetFetchRequest};

use super::{Client, Result, accepted, name_of, text};

impl Client {
    /// Commits positions of a group that has no members, with this metadata text.
    pub fn commit_offsets(&self, group: &str, at: &[(&str, i32, i64)], metadata: &str) -> Result<()> {
        let topic = |(topic, partition, offset): &(&str, i32, i64)| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
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
        let request = OffsetFetchRequest::default().with_group_id(name_of(group)).with_topics(None);
        self.again(|| {
            let answer = self.ask_coordinator(0, group, &request, 7)?;
            accepted(answer.error_code, format_args!("positions of {group}"))?;
            let mut all = BTreeMap::new();
            for topic in answer.topics {
                for partition in topic.partitions.into_iter().filter(|p| p.committed_offset >= 0) {
                    accepted(partition.error_code, format_args!("positions of {group}"))?;
                    let metadata = partition.metadata.map(|m| m.to_string()).unwrap_or_default();
                    let at = (topic.name.to_string(), partition.partition_index);
                    all.insert(at, (partition.committed_offset, metadata));
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
}
