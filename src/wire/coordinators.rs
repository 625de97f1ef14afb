//! Which broker coordinates a group; remembered until a broker says otherwise.

use std::collections::HashMap;

use futures::future::join_all;
use kafka_protocol::messages::{ApiKey, FindCoordinatorRequest};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::GroupId;
use crate::wire::brokers::Cluster;
use crate::wire::connection::{Connection, DEFAULT_TIMEOUT};
use crate::wire::fault::{error_needing, in_their_words};

/// First version that takes many groups at once.
const BATCHED: i16 = 4;
/// Groups among the kinds of things that have coordinators.
const GROUP: i8 = 0;
/// Groups looked up in one request.
const AT_ONCE: usize = 5_000;

/// Finds the coordinators of groups that are not known already.
pub(super) async fn find(cluster: &Cluster, groups: &[GroupId]) -> HashMap<GroupId, Result<i32>> {
    let mut found: HashMap<GroupId, Result<i32>> = HashMap::with_capacity(groups.len());
    let mut unknown = Vec::new();
    for group in groups {
        match cluster.coordinator(group) {
            Some(broker) => drop(found.insert(group.clone(), Ok(broker))),
            None => unknown.push(group),
        }
    }
    if unknown.is_empty() {
        return found;
    }
    let connection = match cluster.any().await {
        Ok(connection) => connection,
        Err(error) => {
            found.extend(unknown.into_iter().map(|group| (group.clone(), Err(error.clone()))));
            return found;
        }
    };
    let batched = connection.version(ApiKey::FindCoordinator).is_ok_and(|version| version >= BATCHED);
    for some in unknown.chunks(AT_ONCE) {
        let told = if batched { many(&connection, some).await } else { one_by_one(&connection, some).await };
        for (group, broker) in told {
            if let Ok(broker) = broker {
                cluster.remember_coordinator(&group, broker);
            }
            found.insert(group, broker);
        }
    }
    found
}

async fn many(connection: &Connection, groups: &[&GroupId]) -> Vec<(GroupId, Result<i32>)> {
    let keys = groups.iter().map(|group| text(group)).collect();
    let request = FindCoordinatorRequest::default().with_key_type(GROUP).with_coordinator_keys(keys);
    let told = match connection.call(request).await {
        Ok(answer) => answer.coordinators,
        Err(error) => return groups.iter().map(|group| ((*group).clone(), Err(error.clone()))).collect(),
    };
    let mut told: HashMap<_, _> = told.into_iter().map(|c| (c.key.to_string(), c)).collect();
    let answers = groups.iter().map(|group| {
        let answer = match told.remove(group.as_str()) {
            Some(c) => verdict(connection, group, c.error_code, c.error_message.as_ref(), c.node_id.0),
            None => Err(Error::new(ErrorKind::Protocol, format!("{}: no word on group {group}", connection.peer()))),
        };
        ((*group).clone(), answer)
    });
    answers.collect()
}

/// Brokers before 3.0; the requests are pipelined.
async fn one_by_one(connection: &Connection, groups: &[&GroupId]) -> Vec<(GroupId, Result<i32>)> {
    let asked = groups.iter().map(|group| {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        let answer = connection.start(request, DEFAULT_TIMEOUT);
        async move {
            let answer = answer
                .await
                .and_then(|c| verdict(connection, group, c.error_code, c.error_message.as_ref(), c.node_id.0));
            ((*group).clone(), answer)
        }
    });
    join_all(asked.collect::<Vec<_>>()).await
}

fn verdict(at: &Connection, group: &GroupId, code: i16, words: Option<&StrBytes>, broker: i32) -> Result<i32> {
    let what = format!("{}: find the coordinator of group {group}", at.peer());
    match error_needing(format_args!("Describe on group {group}"), code, what) {
        Some(error) => Err(in_their_words(error, words.map(|w| w.as_str()))),
        None => Ok(broker),
    }
}

fn text(group: &GroupId) -> StrBytes {
    StrBytes::from_string(group.as_str().to_owned())
}
