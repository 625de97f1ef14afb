//! The daemon's face for machines: metrics, health, status and verbs over HTTP/1.1, with JSON bodies.
//!
//! | request | answer |
//! |---|---|
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /health/live` | 200 while the process answers at all; never depends on a cluster |
//! | `GET /health/ready` | 200 once every configured link runs or is paused, else 503 with the reasons |
//! | `GET /v1/links` | every link's [`crate::link::report::LinkReport`] |
//! | `GET /v1/links/{link}` | one of them |
//! | `GET /v1/links/{link}/groups` | its [`crate::link::report::GroupReport`]s |
//! | `GET /v1/links/{link}/translate?topic=&partition=&offset=&reverse=` | [`crate::link::report::TranslateReport`] |
//! | `POST /v1/links/{link}/pause`, `…/resume` | [`Done`] |
//! | `POST /v1/links/{link}/limit` with [`LimitRequest`] | [`Done`] |
//! | `POST /v1/links/{link}/resolve` with [`ResolveRequest`] | [`Done`] |
//! | `POST /v1/links/{link}/groups/resync` with [`ResyncRequest`] | [`Done`] |
//!
//! Anything else answers with [`Failure`], a sentence. A `POST` is served to whoever has the bearer token, or, where none
//! is configured, to anybody on a loopback listener; never to a web page.

mod answer;
mod authority;
#[cfg(test)]
pub(crate) mod fake;
mod gauges;
mod health;
mod links;
mod registry;
#[cfg(test)]
mod tests;
mod verbs;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tokio::net::TcpListener;

pub use answer::{Done, Failure};
pub use health::Readiness;
pub use links::TranslateQuery;
pub use registry::Links;
pub use verbs::{LimitRequest, ResolveRequest, ResyncRequest};

use crate::endpoint::Secret;
use crate::telemetry::metrics::Exporter;

/// No request has a body longer than a few names.
const LONGEST_BODY_BYTES: usize = 64 << 10;

/// The HTTP server of the process, listening but not yet serving.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Served,
}

/// What every handler sees.
#[derive(Clone)]
struct Served {
    links: Links,
    exporter: Exporter,
    token: Option<Secret>,
    on_loopback: bool,
}

impl Server {
    /// Listens, so that a taken port is an error of the start and not of later. With a `token`, verbs ask for it.
    ///
    /// # Errors
    /// A sentence that names the address and the key.
    pub async fn bind(
        listen: SocketAddr,
        token: Option<Secret>,
        links: Links,
        exporter: Exporter,
    ) -> Result<Self, String> {
        let failed = |error| format!("cannot listen on {listen} (http.listen): {error}");
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let on_loopback = address.ip().is_loopback();
        let state = Served { links, exporter, token, on_loopback };
        Ok(Self { listener, address, state })
    }

    /// Where it listens; with port 0 in the configuration, the port the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` resolves, then finishes the requests under way and returns.
    ///
    /// # Errors
    /// A sentence, when the listener breaks.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        axum::serve(self.listener, router(self.state))
            .with_graceful_shutdown(stop)
            .await
            .map_err(|error| format!("the HTTP server on {} failed: {error}", self.address))
    }
}

fn router(state: Served) -> Router {
    let verbs = Router::new()
        .route("/v1/links/{link}/pause", post(verbs::pause))
        .route("/v1/links/{link}/resume", post(verbs::resume))
        .route("/v1/links/{link}/limit", post(verbs::limit))
        .route("/v1/links/{link}/resolve", post(verbs::resolve))
        .route("/v1/links/{link}/groups/resync", post(verbs::resync))
        .route_layer(from_fn_with_state(state.clone(), authority::check));
    Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/v1/links", get(links::all))
        .route("/v1/links/{link}", get(links::one))
        .route("/v1/links/{link}/groups", get(links::groups))
        .route("/v1/links/{link}/translate", get(links::translate))
        .merge(verbs)
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(LONGEST_BODY_BYTES))
        .with_state(Arc::new(state))
}

async fn metrics(State(served): State<Arc<Served>>) -> impl IntoResponse {
    let gauges = gauges::of(&served.links, served.exporter.keeps_partitions());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], served.exporter.render(&gauges))
}
