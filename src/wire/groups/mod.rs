//! The group contracts: groups listed on every broker, read in bulk per coordinator, written one a request.

mod bulk;
mod commits;
mod listing;
mod positions;

use std::slice;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::messages::GroupId as WireGroup;
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{GroupInfo, GroupOffsets, GroupReader, GroupWriter, ReadOffsets, Result};
use crate::model::GroupId;
use crate::wire::admin::shortest_setting;
use crate::wire::brokers::Cluster;
use crate::wire::coordinators;

/// The group is not known to its coordinator.
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

    async fn offsets_retention(&self) -> Result<Duration> {
        let minutes = shortest_setting(self, &["offsets.retention.minutes"]).await?;
        Ok(Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60))
    }
}

fn wire_group(group: &GroupId) -> WireGroup {
    WireGroup(StrBytes::from_string(group.as_str().to_owned()))
}
