//! A daemon with a link that answers from a script and remembers what it was told, for the tests of both faces.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::{Links, Server};
use crate::endpoint::Secret;
use crate::link::report::{
    CostReport, GroupPartitionReport, GroupReport, GroupsReport, LinkReport, PartitionReport, TranslateReport,
};
use crate::link::{LinkControl, Order};
use crate::model::{Halt, HaltReason, Offset, PartitionState, Plane, ProtectionLevel, TopicPartition};
use crate::runtime::tasks::TaskScope;
use crate::telemetry::metrics::Exporter;

/// A link as [`report`] and [`groups`] say, whose verbs succeed unless `refusal` says otherwise.
pub(crate) struct FakeLink {
    pub(crate) report: Mutex<LinkReport>,
    pub(crate) refusal: Option<String>,
    /// What it was told, in order.
    pub(crate) told: Mutex<Vec<Order>>,
}

impl FakeLink {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { report: Mutex::new(report()), refusal: None, told: Mutex::default() })
    }

    pub(crate) fn refusing(message: &str) -> Arc<Self> {
        Arc::new(Self { report: Mutex::new(report()), refusal: Some(message.to_owned()), told: Mutex::default() })
    }

    pub(crate) fn told(&self) -> Vec<Order> {
        self.told.lock().unwrap().clone()
    }
}

#[async_trait]
impl LinkControl for FakeLink {
    fn report(&self) -> LinkReport {
        self.report.lock().unwrap().clone()
    }

    fn groups(&self) -> Result<Vec<GroupReport>, String> {
        Ok(groups())
    }

    /// Offsets from 100 up to 1,000 of `orders/*` are mapped, 5 further on the target.
    fn translate(&self, at: &TopicPartition, offset: Offset, reverse: bool) -> Result<TranslateReport, String> {
        let shift = if reverse { -5 } else { 5 };
        Ok(match offset.0 {
            _ if at.topic.as_str() != "orders" => TranslateReport::Unknown,
            ..100 => TranslateReport::BeforeTheMirror { first: Offset(100) },
            100..=1000 => TranslateReport::Exact { partition: at.clone(), offset: offset + shift },
            _ => TranslateReport::Ahead { end: Offset(1000) },
        })
    }

    async fn obey(&self, order: &Order) -> Result<String, String> {
        self.told.lock().unwrap().push(order.clone());
        self.refusal.clone().map_or(Ok(format!("{order:?} is obeyed")), Err)
    }
}

fn partition(topic: &str, number: i32, state: PartitionState) -> PartitionReport {
    let at = TopicPartition::new(topic, number);
    PartitionReport {
        source: at.clone(),
        target: at,
        state,
        position: Some(Offset(1000)),
        target_end: Some(Offset(1005)),
        lag_records: Some(0),
        unstable_records: Some(0),
        lag_seconds: Some(0.0),
        records: 1000,
        bytes: 2000,
        plane: Plane::Batches,
        plane_reason: None,
        altered_records: 0,
        unflushed_records: 0,
        unanchored: false,
        ways_out: Vec::new(),
    }
}

/// Two partitions that move, one that waits for its first answer, one that waits for an operator.
pub(crate) fn report() -> LinkReport {
    let mut behind = partition("orders", 1, PartitionState::Replicating { level: ProtectionLevel::ProbeOnly });
    behind.lag_records = Some(12_345);
    behind.unstable_records = Some(45);
    behind.lag_seconds = Some(72.4);
    (behind.unflushed_records, behind.unanchored) = (7, true);
    let mut fresh = partition("orders", 2, PartitionState::Waiting { reason: "the high watermark is 3 short".into() });
    fresh.source = TopicPartition::new("old-orders", 2);
    (fresh.position, fresh.target_end, fresh.lag_records) = (None, None, None);
    (fresh.unstable_records, fresh.lag_seconds, fresh.records, fresh.bytes) = (None, None, 0, 0);
    let halt = Halt {
        reason: HaltReason::ForeignWrite,
        detail: "payments/0 holds a record at 1005 that this link never wrote".into(),
    };
    let mut halted = partition("payments", 0, PartitionState::Halted(halt));
    halted.ways_out = vec!["twinlog resolve dr payments/0 --adopt: takes 1005..1006 as ours".into()];
    LinkReport {
        link: "dr".into(),
        source: "paris (a1)".into(),
        target: "lyon (b2)".into(),
        state: "running".into(),
        rate_limit_bytes: None,
        priorities: [("payments".to_owned(), 10)].into(),
        memory_used_bytes: 1 << 20,
        memory_budget_bytes: 16 << 20,
        problems: vec!["topic audit cannot be created: the target refuses 3 replicas; set replication_factor".into()],
        notices: vec![
            "message.timestamp.type is LogAppendTime at the source but CreateTime on the target: audit".into(),
        ],
        groups: GroupsReport {
            way: "following __consumer_offsets".into(),
            verdicts: [
                ("synced".to_owned(), 11),
                ("waiting for the mirror".to_owned(), 1),
                ("taken over".to_owned(), 1),
            ]
            .into(),
            cut_without: vec!["payments/0 (halted)".into()],
            cost: CostReport { re_read_records: 3, skip_records: 2, at_risk_records: 40, lost_records: 2 },
        },
        partitions: vec![
            partition("orders", 0, PartitionState::Replicating { level: ProtectionLevel::Guarded }),
            behind,
            fresh,
            halted,
        ],
    }
}

/// A group that waits in one partition, and one that was taken over.
pub(crate) fn groups() -> Vec<GroupReport> {
    let position = |number, offset: i64, target: Option<i64>, verdict: &str| GroupPartitionReport {
        source: TopicPartition::new("orders", number),
        source_offset: Some(Offset(offset)),
        target_offset: target.map(Offset),
        verdict: verdict.into(),
        re_read_records: 3 * i64::from(number),
        skip_records: 0,
    };
    let cost = CostReport { re_read_records: 3, ..CostReport::default() };
    vec![
        GroupReport {
            group: "billing".into(),
            verdict: "waiting for the mirror".into(),
            detail: None,
            cut_without: vec!["payments/0".into()],
            cost: Some(cost),
            partitions: vec![position(0, 500, Some(505), "synced"), position(1, 1001, None, "waiting for the mirror")],
        },
        GroupReport {
            group: "odd group/1".into(),
            verdict: "taken over".into(),
            detail: Some("it has members on the target".into()),
            cut_without: Vec::new(),
            cost: None,
            partitions: vec![position(0, 600, Some(605), "taken over")],
        },
    ]
}

/// A served daemon with the link `dr` (once started) that is stopped with its scope.
pub(crate) struct FakeDaemon {
    pub(crate) address: SocketAddr,
    pub(crate) links: Links,
    scope: TaskScope,
}

impl FakeDaemon {
    /// Serves on `listen` (port 0: any) without a link started.
    pub(crate) async fn serve(listen: &str, token: Option<&str>) -> Self {
        let links = Links::expecting(["dr".into()]);
        let (_recorder, exporter) = Exporter::new(false);
        let listen = listen.parse().unwrap();
        let server = Server::bind(listen, token.map(Secret::new), links.clone(), exporter).await.unwrap();
        let (address, scope) = (server.address(), TaskScope::new());
        let stopping = scope.stopping().clone();
        scope.spawn(async move { server.serve(stopping.cancelled_owned()).await.unwrap() });
        Self { address, links, scope }
    }

    /// Serves on a loopback port with `link` as `dr`.
    pub(crate) async fn with(link: Arc<FakeLink>) -> Self {
        let daemon = Self::serve("127.0.0.1:0", None).await;
        daemon.links.insert("dr".into(), link);
        daemon
    }

    /// Returns once the server has finished.
    pub(crate) async fn stop(self) {
        self.scope.stop().await;
    }
}
