//! The group contracts: groups listed on every broker, read in bulk per coordinator, written one a request.

mod assignments;
mod bulk;
mod commits;
mod deletions;
mod listing;
mod positions;
mod shares;
mod stir;

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::messages::GroupId as WireGroup;
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{GroupInfo, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, ReadOffsets, Result};
use crate::model::{GroupId, Offset, TopicPartition};
use crate::wire::admin::shortest_setting;
use crate::wire::brokers::Cluster;
use crate::wire::coordinators;

/// The group is not known to its coordinator, or not as one of the kind asked for.
const GROUP_ID_NOT_FOUND: i16 = 69;

#[async_trait]
impl GroupReader for Cluster {
    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        listing::list(self, &[]).await
    }

    async fn groups_in_use(&self) -> Result<Vec<GroupInfo>> {
        listing::list(self, &listing::IN_USE).await
    }

    async fn group_offsets(&self, of: &[GroupId]) -> Vec<Result<ReadOffsets>> {
        positions::read(self, of).await
    }

    async fn assignments(&self, of: &[(GroupId, GroupProtocol)]) -> Vec<Result<BTreeSet<TopicPartition>>> {
        assignments::read(self, of).await
    }

    async fn share_starts(&self, of: &[GroupId]) -> Vec<Result<BTreeMap<TopicPartition, Offset>>> {
        shares::read(self, of).await
    }
}

#[async_trait]
impl GroupWriter for Cluster {
    async fn commit_offsets(&self, group: &GroupId, offsets: &GroupOffsets) -> Result<()> {
        if offsets.is_empty() {
            return Ok(());
        }
        let request = commits::request(group, offsets)?;
        let asked = slice::from_ref(group);
        coordinators::ask(self, asked, |at, _| commits::commit(at, group, request.clone())).await.swap_remove(0)
    }

    async fn delete_offsets(&self, group: &GroupId, of: &BTreeSet<TopicPartition>) -> Result<()> {
        if of.is_empty() {
            return Ok(());
        }
        let request = deletions::request(group, of);
        let asked = slice::from_ref(group);
        coordinators::ask(self, asked, |at, _| deletions::delete(at, group, request.clone())).await.swap_remove(0)
    }

    async fn stir(&self, group: &GroupId, at: &TopicPartition) -> Result<()> {
        stir::stir(self, group, at).await
    }

    async fn offsets_retention(&self) -> Result<Duration> {
        let minutes = shortest_setting(self, &["offsets.retention.minutes"]).await?;
        Ok(Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60))
    }
}

fn wire_group(group: &GroupId) -> WireGroup {
    WireGroup(StrBytes::from_string(group.as_str().to_owned()))
}

#[cfg(test)]
mod tests;
