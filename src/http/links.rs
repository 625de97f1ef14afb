//! Status: what links say about themselves, from memory.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Served;
use super::answer::Refusal;
use crate::link::LinkControl;
use crate::link::report::{GroupReport, LinkReport, TranslateReport};
use crate::model::{LinkName, Offset, TopicName, TopicPartition};

/// What to translate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranslateQuery {
    /// The topic as it is called on the side asked about.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
    /// The offset on the side asked about.
    pub offset: Offset,
    /// From the target to the source, instead of from the source to the target.
    #[serde(default)]
    pub reverse: bool,
}

/// The link `name`, once it has been started.
pub(super) fn find(served: &Served, name: &LinkName) -> Result<Arc<dyn LinkControl>, Refusal> {
    match served.links.get(name) {
        Some(Some(link)) => Ok(link),
        Some(None) => {
            Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, format!("link {name} has not been started yet; ask again")))
        }
        None => {
            let known: Vec<_> = served.links.all().iter().map(|(name, _)| name.to_string()).collect();
            Err(Refusal(StatusCode::NOT_FOUND, format!("no link is called {name:?}; there is: {}", known.join(", "))))
        }
    }
}

pub(super) async fn all(State(served): State<Arc<Served>>) -> Json<Vec<LinkReport>> {
    Json(served.links.started().iter().map(|(_, link)| link.report()).collect())
}

pub(super) async fn one(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
) -> Result<Json<LinkReport>, Refusal> {
    Ok(Json(find(&served, &link)?.report()))
}

pub(super) async fn groups(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
) -> Result<Json<Vec<GroupReport>>, Refusal> {
    find(&served, &link)?.groups().map(Json).map_err(not_now)
}

/// What a link cannot answer at the moment; the sentence is the link's.
fn not_now(message: String) -> Refusal {
    Refusal(StatusCode::CONFLICT, message)
}

pub(super) async fn translate(
    State(served): State<Arc<Served>>,
    Path(link): Path<LinkName>,
    query: Result<Query<TranslateQuery>, QueryRejection>,
) -> Result<Json<TranslateReport>, Refusal> {
    let Query(query) = query.map_err(|rejection| Refusal::bad_request(rejection.body_text()))?;
    if query.offset < Offset(0) {
        return Err(Refusal::bad_request(format!("offset {} is below 0", query.offset)));
    }
    let at = TopicPartition { topic: query.topic, partition: query.partition };
    find(&served, &link)?.translate(&at, query.offset, query.reverse).map(Json).map_err(not_now)
}
