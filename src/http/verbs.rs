//! What an operator can make a link do; durable before it is answered.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Served;
use super::answer::{Done, Refusal};
use super::links::find;
use crate::link::Order;
use crate::link::report::Resolution;
use crate::model::{GroupId, LinkName, TopicPartition};

/// Body of `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Bytes per second, above 0; `null` lifts the limit. It has to be said: there is no default.
    #[serde(deserialize_with = "Option::deserialize")]
    pub bytes_per_second: Option<u64>,
}

/// Body of `resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveRequest {
    /// The halted partition, as at the target.
    pub target: TopicPartition,
    /// What to do about it.
    pub decision: Resolution,
}

/// Body of `groups/resync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResyncRequest {
    /// The group to take back.
    pub group: GroupId,
    /// Only say what that would change.
    #[serde(default)]
    pub dry_run: bool,
}

type Answer = Result<Json<Done>, Refusal>;

async fn obey(served: &Served, link: &LinkName, order: Order) -> Answer {
    let obeyed = find(served, link)?.obey(&order).await;
    // What a link could not do; the sentence is the link's.
    obeyed.map(|done| Json(Done { done })).map_err(|message| Refusal(StatusCode::CONFLICT, message))
}

fn body<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, Refusal> {
    body.map(|Json(body)| body).map_err(|rejection| Refusal::bad_request(rejection.body_text()))
}

pub(super) async fn pause(State(served): State<Arc<Served>>, Path(link): Path<LinkName>) -> Answer {
    obey(&served, &link, Order::Pause).await
}

pub(super) async fn resume(State(served): State<Arc<Served>>, Path(link): Path<LinkName>) -> Answer {
    obey(&served, &link, Order::Resume).await
}

pub(super) async fn limit(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
    request: Result<Json<LimitRequest>, JsonRejection>,
) -> Answer {
    find(&served, &link)?;
    let rate = body(request)?.bytes_per_second;
    if rate == Some(0) {
        return Err(Refusal::bad_request("a limit of 0 would stop the link without saying so: pause it instead"));
    }
    obey(&served, &link, Order::Limit(rate)).await
}

pub(super) async fn resolve(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
    request: Result<Json<ResolveRequest>, JsonRejection>,
) -> Answer {
    find(&served, &link)?;
    let ResolveRequest { target, decision } = body(request)?;
    obey(&served, &link, Order::Resolve { target, decision }).await
}

pub(super) async fn resync(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
    request: Result<Json<ResyncRequest>, JsonRejection>,
) -> Answer {
    find(&served, &link)?;
    let ResyncRequest { group, dry_run } = body(request)?;
    obey(&served, &link, Order::Resync { group, dry_run }).await
}
