//! Which broker coordinates a group, remembered until a broker says otherwise; groups asked about where they are
//! coordinated.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

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
/// The coordinator is loading, unknown, or another one.
const MOVED: [i16; 3] = [14, 15, 16];

/// A coordinator's word on a group.
pub(super) struct Told<T> {
    answer: Result<T>,
    /// Whether another broker may be the coordinator by now.
    moved: bool,
}

impl<T> Told<T> {
    /// What no other broker would say otherwise.
    pub(super) fn settled(answer: Result<T>) -> Self {
        Told { answer, moved: false }
    }

    /// The broker was not heard: one that is gone no longer coordinates.
    pub(super) fn unheard(error: Error) -> Self {
        Told { moved: error.is_retryable(), answer: Err(error) }
    }

    /// The broker answered with this code, which the error puts into words.
    pub(super) fn refused(code: i16, error: Error) -> Self {
        Told { moved: MOVED.contains(&code), answer: Err(error) }
    }
}

/// Asks the coordinators of groups, each about all of its own; where a group's coordinator has moved, the new one is
/// asked once. One answer per group in the same order.
pub(super) async fn ask<T, F>(
    cluster: &Cluster,
    of: &[GroupId],
    question: impl Fn(Arc<Connection>, Vec<GroupId>) -> F,
) -> Vec<Result<T>>
where
    T: Clone,
    F: Future<Output = Vec<(GroupId, Told<T>)>>,
{
    let mut answers: HashMap<GroupId, Result<T>> = HashMap::with_capacity(of.len());
    let mut open = of.to_vec();
    open.sort_unstable();
    open.dedup();
    for last_try in [false, true] {
        let mut by_broker: HashMap<i32, Vec<GroupId>> = HashMap::new();
        for (group, broker) in find(cluster, &open).await {
            match broker {
                Ok(broker) => by_broker.entry(broker).or_default().push(group),
                Err(error) => drop(answers.insert(group, Err(error))),
            }
        }
        let asked = by_broker.into_iter().map(|(broker, groups)| ask_broker(cluster, broker, groups, &question));
        let mut moved = Vec::new();
        for (group, told) in join_all(asked).await.into_iter().flatten() {
            if told.moved {
                cluster.forget_coordinator(&group);
                moved.push(group.clone());
            }
            answers.insert(group, told.answer);
        }
        if last_try || moved.is_empty() {
            break;
        }
        open = moved;
    }
    let unanswered =
        |group| Error::new(ErrorKind::Protocol, format!("cluster {}: no word on {group}", cluster.alias()));
    of.iter().map(|group| answers.get(group).cloned().unwrap_or_else(|| Err(unanswered(group)))).collect()
}

async fn ask_broker<T, F>(
    cluster: &Cluster,
    broker: i32,
    groups: Vec<GroupId>,
    question: impl Fn(Arc<Connection>, Vec<GroupId>) -> F,
) -> Vec<(GroupId, Told<T>)>
where
    F: Future<Output = Vec<(GroupId, Told<T>)>>,
{
    match cluster.broker(broker).await {
        Ok(connection) => question(connection, groups).await,
        Err(error) => groups.into_iter().map(|group| (group, Told::unheard(error.clone()))).collect(),
    }
}

/// Finds the coordinators of groups that are not known already.
async fn find(cluster: &Cluster, groups: &[GroupId]) -> HashMap<GroupId, Result<i32>> {
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
