//! Whether the process lives, and whether it does what it was configured to do.
//!
//! A halted partition does not make the process unready: it waits for a person, whom a restart or a detour around this
//! process does not replace, and its neighbours move on. It is named in the answer and in `twinlog_halted_partitions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::Served;
use crate::model::PartitionState;

/// The answer of `/health/ready`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether every configured link runs or is paused.
    pub ready: bool,
    /// Why not: one sentence per link that does not.
    pub reasons: Vec<String>,
    /// Partitions that wait for an operator, as `link topic/partition REASON`; they do not count against readiness.
    pub halted: Vec<String>,
}

pub(super) async fn live() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "live": true }))
}

pub(super) async fn ready(State(served): State<Arc<Served>>) -> (StatusCode, Json<Readiness>) {
    let mut readiness = Readiness { ready: true, reasons: Vec::new(), halted: Vec::new() };
    for (name, link) in served.links.all() {
        let Some(link) = link else {
            readiness.reasons.push(format!("link {name} has not been started yet"));
            continue;
        };
        let report = link.report();
        if !matches!(report.state.as_str(), "running" | "paused") {
            readiness.reasons.push(format!("link {name} is not running: {}", report.state));
        }
        for partition in &report.partitions {
            if let PartitionState::Halted(halt) = &partition.state {
                readiness.halted.push(format!("{name} {} {}", partition.target, halt.reason));
            }
        }
    }
    readiness.ready = readiness.reasons.is_empty();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}
