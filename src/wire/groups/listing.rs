//! Groups as every broker lists those it coordinates.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use kafka_protocol::messages::ListGroupsRequest;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{GroupInfo, GroupProtocol, Result};
use crate::model::GroupId;
use crate::wire::brokers::Cluster;
use crate::wire::fault::error_needing;

/// States of a group that has members, classic ones and those of KIP-848 and KIP-932.
pub(super) const IN_USE: [&str; 5] =
    ["PreparingRebalance", "CompletingRebalance", "Stable", "Assigning", "Reconciling"];

/// Lists the groups in any of these states, or in whatever state for none.
pub(super) async fn list(cluster: &Cluster, states: &[&'static str]) -> Result<Vec<GroupInfo>> {
    let brokers = cluster.brokers().await?;
    let told = try_join_all(brokers.into_iter().map(|id| groups_at(cluster, id, states))).await?;
    // While a coordinator moves, two brokers may list a group.
    let mut groups: BTreeMap<GroupId, GroupInfo> = BTreeMap::new();
    for group in told.into_iter().flatten() {
        let (has_members, had_members) = (group.has_members, group.had_members);
        let known = groups.entry(group.id.clone()).or_insert(group);
        known.has_members |= has_members;
        known.had_members |= had_members;
    }
    Ok(groups.into_values().collect())
}

async fn groups_at(cluster: &Cluster, broker: i32, states: &[&'static str]) -> Result<Vec<GroupInfo>> {
    let connection = cluster.broker(broker).await?;
    let states = states.iter().map(|state| StrBytes::from_static_str(state)).collect();
    let answer = connection.call(ListGroupsRequest::default().with_states_filter(states)).await?;
    match error_needing(
        "Describe on the cluster",
        answer.error_code,
        format_args!("{}: list groups", connection.peer()),
    ) {
        Some(error) => Err(error),
        None => Ok(answer.groups.iter().map(group_info).collect()),
    }
}

fn group_info(told: &ListedGroup) -> GroupInfo {
    // Brokers before 3.8 do not tell the type, and have classic groups only. Consumers, and tools that only commit,
    // leave "consumer" or nothing as protocol type.
    let consumes = matches!(told.protocol_type.as_str(), "consumer" | "");
    let protocol = match told.group_type.to_ascii_lowercase().as_str() {
        "" | "classic" if consumes => GroupProtocol::Classic,
        "consumer" => GroupProtocol::Consumer,
        "share" => GroupProtocol::Share,
        _ => GroupProtocol::Other,
    };
    let has_members = !matches!(told.group_state.as_str(), "Empty" | "Dead");
    // A classic group gets its protocol type from its first member and keeps it.
    let had_members = protocol == GroupProtocol::Classic && !told.protocol_type.is_empty();
    GroupInfo { id: GroupId::from(told.group_id.as_str()), protocol, has_members, had_members }
}
