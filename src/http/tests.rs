//! The HTTP face over real loopback sockets, before links that answer from a script.

use std::net::SocketAddr;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, request};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::fake::{FakeDaemon, FakeLink};
use crate::link::Order;
use crate::model::{Resolution, TopicPartition};

/// Sends one request to `address`; the body as text.
async fn send(address: SocketAddr, request: request::Builder, body: &str) -> (StatusCode, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = request.header("host", "test").body(Body::from(body.to_owned())).unwrap();
    let asked = async move {
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    tokio::join!(asked, connection).0
}

async fn get(daemon: &FakeDaemon, path: &str) -> (u16, Value) {
    let (status, body) = send(daemon.address, Request::get(path), "").await;
    (status.as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn post(daemon: &FakeDaemon, path: &str, body: &str) -> (u16, Value) {
    post_with(daemon, path, body, &[]).await
}

async fn post_with(daemon: &FakeDaemon, path: &str, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let mut request = Request::post(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    // From this machine, also where the daemon listens on every address.
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.address.port()));
    let (status, body) = send(address, request, body).await;
    (status.as_u16(), serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

fn error(sentence: &str) -> Value {
    json!({ "error": sentence })
}

#[tokio::test]
async fn it_lives_before_any_link_does() {
    let daemon = FakeDaemon::serve("127.0.0.1:0", None).await;
    assert_eq!(get(&daemon, "/health/live").await, (200, json!({ "live": true })));
    let (status, readiness) = get(&daemon, "/health/ready").await;
    assert_eq!(status, 503);
    assert_eq!(readiness, json!({ "ready": false, "reasons": ["link dr has not been started yet"], "halted": [] }));
    assert_eq!(get(&daemon, "/v1/links").await, (200, json!([])));
    let (_, page) = get(&daemon, "/metrics").await;
    assert!(page.as_str().unwrap().contains("twinlog_link_state{link=\"dr\",state=\"starting\"} 1\n"), "{page}");
    assert_eq!(get(&daemon, "/v1/links/dr").await, (503, error("link dr has not been started yet; ask again")));
    assert_eq!(get(&daemon, "/v1/links/x").await, (404, error("no link is called x; there is: dr")));
}

#[tokio::test]
async fn it_is_ready_when_every_link_runs_or_is_paused_whatever_is_halted() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::with(link.clone()).await;
    for (state, expected) in [
        ("running", 200),
        ("paused", 200),
        ("starting", 503),
        ("waiting for the lease", 503),
        ("stopping", 503),
        ("failed: the ledger is of another cluster", 503),
    ] {
        link.report.lock().unwrap().state = state.to_owned();
        let (status, readiness) = get(&daemon, "/health/ready").await;
        assert_eq!(status, expected, "{state}");
        assert_eq!(readiness["halted"], json!(["dr payments/0 FOREIGN_WRITE"]));
        let reasons = if expected == 200 { json!([]) } else { json!([format!("link dr is not running: {state}")]) };
        assert_eq!(readiness["reasons"], reasons);
    }
}

#[tokio::test]
async fn a_link_reports_itself_and_its_groups() {
    let daemon = FakeDaemon::with(FakeLink::new()).await;
    let (status, report) = get(&daemon, "/v1/links/dr").await;
    assert_eq!(status, 200);
    assert_eq!(report["partitions"][1]["state"], "replicating");
    assert_eq!(report["partitions"][1]["level"], "probe_only");
    assert_eq!(report["partitions"][3]["reason"], "FOREIGN_WRITE");
    assert_eq!(get(&daemon, "/v1/links").await, (200, json!([report])));
    let (status, groups) = get(&daemon, "/v1/links/dr/groups").await;
    assert_eq!((status, &groups[0]["group"]), (200, &json!("billing")));
}

#[tokio::test]
async fn offsets_are_translated_both_ways() {
    let daemon = FakeDaemon::with(FakeLink::new()).await;
    let translate = async |query: &str| get(&daemon, &format!("/v1/links/dr/translate?{query}")).await;
    assert_eq!(
        translate("topic=orders&partition=3&offset=200").await,
        (200, json!({ "answer": "exact", "partition": { "topic": "orders", "partition": 3 }, "offset": 205 }))
    );
    assert_eq!(translate("topic=orders&partition=3&offset=205&reverse=true").await.1["offset"], 200);
    assert_eq!(
        translate("topic=orders&partition=3&offset=5").await.1,
        json!({ "answer": "before_the_mirror", "first": 100 })
    );
    assert_eq!(translate("topic=x&partition=0&offset=5").await.1, json!({ "answer": "unknown" }));
    for bad in [
        "topic=orders&partition=3",
        "topic=orders&partition=x&offset=1",
        "topic=orders&partition=0&offset=-1",
        "topic=o&partition=0&offset=1&revers=true",
    ] {
        let (status, answer) = translate(bad).await;
        assert_eq!(status, 400, "{bad}");
        assert!(answer["error"].is_string(), "{bad}: {answer}");
    }
}

#[tokio::test]
async fn verbs_reach_the_link() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::with(link.clone()).await;
    assert_eq!(post(&daemon, "/v1/links/dr/pause", "").await.0, 200);
    assert_eq!(post(&daemon, "/v1/links/dr/resume", "null").await, (200, json!({ "done": "Resume is obeyed" })));
    let limited = post(&daemon, "/v1/links/dr/limit", r#"{"bytes_per_second":1048576}"#).await;
    assert_eq!(limited, (200, json!({ "done": "Limit(Some(1048576)) is obeyed" })));
    assert_eq!(post(&daemon, "/v1/links/dr/limit", r#"{"bytes_per_second":null}"#).await.0, 200);
    let resolve = r#"{"target":{"topic":"payments","partition":0},"decision":"skip-loss"}"#;
    assert_eq!(post(&daemon, "/v1/links/dr/resolve", resolve).await.0, 200);
    let (target, decision) = (TopicPartition::new("payments", 0), Resolution::SkipLoss);
    let resolve = Order::Resolve { target, decision };
    let told = [Order::Pause, Order::Resume, Order::Limit(Some(1 << 20)), Order::Limit(None), resolve];
    assert_eq!(link.told(), told);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_changes_nothing() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::with(link.clone()).await;
    for (path, body) in [
        ("limit", ""),
        ("limit", "{}"),
        ("limit", r#"{"bytes_per_second":0}"#),
        ("limit", r#"{"bytes_per_second":-1}"#),
        ("limit", r#"{"bytes_per_second":1,"x":1}"#),
        ("resolve", r#"{"target":{"topic":"payments","partition":0},"decision":"guess"}"#),
        ("resolve", r#"{"decision":"adopt"}"#),
    ] {
        let (status, answer) = post(&daemon, &format!("/v1/links/dr/{path}"), body).await;
        assert_eq!(status, 400, "{path} {body}: {answer}");
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(post(&daemon, "/v1/links/x/pause", "").await, (404, error("no link is called x; there is: dr")));
    assert_eq!(get(&daemon, "/v1/nothing").await, (404, error("there is nothing at /v1/nothing")));
    assert_eq!(get(&daemon, "/v1/links/dr/pause").await, (405, error("/v1/links/dr/pause does not take GET")));
    assert_eq!(link.told(), []);
}

#[tokio::test]
async fn what_a_link_refuses_is_told_in_its_words() {
    let daemon = FakeDaemon::with(FakeLink::refusing("payments/0 is not halted")).await;
    assert_eq!(post(&daemon, "/v1/links/dr/pause", "").await, (409, error("payments/0 is not halted")));
}

#[tokio::test]
async fn verbs_need_the_token_where_one_is_set() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::serve("127.0.0.1:0", Some("s3cret")).await;
    daemon.links.insert("dr".into(), link.clone());
    let pause = async |headers: &[(&str, &str)]| post_with(&daemon, "/v1/links/dr/pause", "", headers).await;
    assert_eq!(pause(&[]).await, (401, error("verbs need the bearer token of http.token")));
    for wrong in ["Bearer s3cre", "Bearer s3cret2", "Bearer ", "Basic s3cret"] {
        let (status, answer) = pause(&[("authorization", wrong)]).await;
        assert_eq!(status, 401, "{wrong}");
        assert!(!answer.to_string().contains("s3cret"), "{answer}");
    }
    assert_eq!(link.told(), []);
    assert_eq!(pause(&[("authorization", "Bearer s3cret")]).await.0, 200);
    assert_eq!(get(&daemon, "/v1/links").await.0, 200);
}

#[tokio::test]
async fn without_a_token_verbs_are_for_loopback_and_never_for_web_pages() {
    let link = FakeLink::new();
    let open = FakeDaemon::serve("0.0.0.0:0", None).await;
    open.links.insert("dr".into(), link.clone());
    assert_eq!(
        post(&open, "/v1/links/dr/pause", "").await,
        (403, error("verbs need a token here: set http.token, or listen on a loopback address"))
    );
    let loopback = FakeDaemon::with(link.clone()).await;
    let from_a_page = post_with(&loopback, "/v1/links/dr/pause", "", &[("origin", "http://127.0.0.1")]).await;
    assert_eq!(from_a_page, (403, error("verbs are not served to web pages")));
    assert_eq!(link.told(), []);
}

#[tokio::test]
async fn metrics_say_how_things_stand_now() {
    let link = FakeLink::new();
    let daemon = FakeDaemon::with(link.clone()).await;
    let (_, page) = get(&daemon, "/metrics").await;
    let page = page.as_str().unwrap();
    for line in [
        "twinlog_link_state{link=\"dr\",state=\"running\"} 1",
        "twinlog_link_state{link=\"dr\",state=\"failed\"} 0",
        "twinlog_link_problems{link=\"dr\"} 1",
        "twinlog_partitions{link=\"dr\",state=\"replicating\"} 2",
        "twinlog_partitions{link=\"dr\",state=\"backing_off\"} 0",
        "twinlog_replicating_partitions{link=\"dr\",level=\"probe_only\"} 1",
        "twinlog_halted_partitions{link=\"dr\",reason=\"FOREIGN_WRITE\"} 1",
        "twinlog_lag_records{link=\"dr\",topic=\"orders\"} 12345",
        "twinlog_lag_bytes{link=\"dr\",topic=\"orders\"} 24690",
        "twinlog_lag_seconds{link=\"dr\",topic=\"orders\"} 72.4",
        "twinlog_lag_seconds{link=\"dr\",topic=\"payments\"} 0",
        "twinlog_unstable_records{link=\"dr\",topic=\"orders\"} 45",
        "twinlog_map_unflushed_records{link=\"dr\",topic=\"orders\"} 7",
        "twinlog_memory_used_bytes 1048576",
        "twinlog_memory_budget_bytes 16777216",
        "twinlog_groups{link=\"dr\",verdict=\"taken over\"} 1",
    ] {
        assert!(page.lines().any(|shown| shown == line), "{line} is missing from\n{page}");
    }
    assert!(!page.contains("twinlog_rate_limit_bytes{"), "{page}");
    {
        let mut report = link.report.lock().unwrap();
        report.partitions.clear();
        report.rate_limit_bytes = Some(4096);
    }
    let (_, page) = get(&daemon, "/metrics").await;
    let page = page.as_str().unwrap();
    assert!(!page.contains("topic="), "a partition that is gone is still shown:\n{page}");
    assert!(page.contains("twinlog_rate_limit_bytes{link=\"dr\"} 4096\n"), "{page}");
}

#[tokio::test]
async fn stopping_ends_the_server_and_frees_its_port() {
    let daemon = FakeDaemon::with(FakeLink::new()).await;
    let address = daemon.address;
    daemon.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_key() {
    let daemon = FakeDaemon::with(FakeLink::new()).await;
    let (_recorder, exporter) = crate::telemetry::metrics::Exporter::new(false);
    let refused = super::Server::bind(daemon.address, None, super::Links::default(), exporter).await.err().unwrap();
    assert!(refused.starts_with(&format!("cannot listen on {} (http.listen): ", daemon.address)), "{refused}");
}
