//! The replicator's truths (DESIGN §5 and §6), held against two clusters in memory on tokio's paused clock.
//!
//! The adapters are the clusters themselves, or those of the wire where model brokers serve the clusters.

mod adapters;
mod anchors;
mod attach;
mod decisions;
mod flow;
mod joining;
mod planes;
mod simulation;
mod supervision;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::batch::{Record, encode_headers};
use crate::endpoint::memory::{MemoryCluster, ModelBrokers};
use crate::endpoint::{Catalog, LedgerStore};
use crate::ledger::record::ResolutionRecord;
use crate::ledger::{Acquiring, Claimant, Clusters, ControlRecord, Ledger, RouteMap, View};
use crate::model::{
    Halt, HaltReason, Offset, OffsetRange, PartitionState, ProducerIdentity, ProtectionLevel, Resolution, Route,
    TopicPartition,
};
use crate::offsets::{OffsetMap, Translation};
use crate::policy::plane::PlaneRule;
use crate::policy::priority::Priorities;
use crate::policy::resolution::RetentionOvertook;
use crate::policy::start::Start;
use crate::replication::monitor::RouteMonitor;
use crate::replication::planes::Planes;
use crate::replication::replicator::{Ends, Replicator, unix_ms};
use crate::runtime::limit::ByteRate;
use crate::runtime::tasks::TaskScope;
use adapters::Adapters;

pub(super) const TOPIC: &str = "orders";
const LINK: &str = "dr";
const OURS: ProducerIdentity = ProducerIdentity { id: 7000, epoch: 0 };
const STRANGER: ProducerIdentity = ProducerIdentity { id: 8000, epoch: 0 };
/// Virtual time after which a truth that was waited for is broken.
const PATIENCE: Duration = Duration::from_secs(180);

/// Looks again and again, on the paused clock, until there is an answer.
pub(super) async fn until<T>(truth: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(answer) = look() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("it never came true that {truth}"))
}

/// Lets virtual time pass in which something must *not* happen; what runs gets all the turns it wants.
pub(super) async fn meanwhile(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

/// A record that producer state protects: produced now.
pub(super) fn fresh(number: i64) -> Record {
    at_time(number, unix_ms())
}

/// A record older than any producer state.
pub(super) fn old(number: i64) -> Record {
    at_time(number, 1_000 + number)
}

fn at_time(number: i64, timestamp_ms: i64) -> Record {
    let headers = encode_headers(&[(b"trace", Some(&number.to_be_bytes())), (b"trace", None)]);
    let (key, value) = (format!("key {number}").into(), format!("value {number}").into());
    Record { headers, ..Record::new(Offset(0), timestamp_ms, Some(key), Some(value)) }
}

/// The place of the route that most tests are about.
pub(super) fn at(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

/// Two clusters with the same topic, and what a link was told.
pub(super) struct Twin {
    pub(super) source: MemoryCluster,
    pub(super) target: MemoryCluster,
    pub(super) start: Start,
    pub(super) retention_overtook: RetentionOvertook,
    pub(super) attach_turns: usize,
    pub(super) plane: PlaneRule,
    /// Brokers of source and target, where they are reached through sockets.
    pub(super) brokers: Option<(ModelBrokers, ModelBrokers)>,
}

impl Twin {
    pub(super) fn new() -> Self {
        Self::with_settings(&[])
    }

    /// A twin whose source topic has settings of its own.
    pub(super) fn with_settings(settings: &[(&str, &str)]) -> Self {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        source.create(TOPIC, 2, settings);
        target.create(TOPIC, 2, &[]);
        let (start, retention_overtook) = (Start::Earliest, RetentionOvertook::Halt);
        Self { source, target, start, retention_overtook, attach_turns: 64, plane: PlaneRule::Auto, brokers: None }
    }

    /// A twin of clusters with so many brokers each.
    pub(super) async fn over_sockets(source_brokers: usize, target_brokers: usize) -> Self {
        let twin = Self::new();
        let brokers = (twin.source.serve(source_brokers).await, twin.target.serve(target_brokers).await);
        Self { brokers: Some(brokers), ..twin }
    }

    /// An application writes one batch at the source.
    pub(super) fn produce(&self, numbers: Range<i64>) -> OffsetRange {
        self.source.append(&at(0), &numbers.map(fresh).collect::<Vec<_>>())
    }

    /// The same, each record in a batch of its own.
    pub(super) fn produce_singly(&self, numbers: Range<i64>) {
        for number in numbers {
            self.produce(number..number + 1);
        }
    }

    /// Copies `0..end`, each record in a batch of its own, flushes, and dies.
    pub(super) async fn crash_after_copying(&self, end: i64) {
        self.produce_singly(0..end);
        let run = self.run().await;
        run.reaches(end, end).await;
        run.flush().await;
        run.crash().await;
    }

    /// The route of a partition with the ids its topics have now.
    pub(super) async fn route(&self, partition: i32) -> Route {
        let id = async |cluster: &MemoryCluster| {
            // A planned failure may come first.
            loop {
                if let Some(Ok(told)) = cluster.describe_topics(&[TOPIC.into()]).await.pop() {
                    return told.id;
                }
            }
        };
        Route {
            source: at(partition),
            source_id: id(&self.source).await,
            target: at(partition),
            target_id: id(&self.target).await,
        }
    }

    /// Takes the ledger and prepares the data path; nothing is copied yet.
    pub(super) async fn prepare(&self) -> Run {
        let scope = TaskScope::new();
        let store: Arc<dyn LedgerStore> = Arc::new(self.target.ledger(LINK));
        let clusters = Clusters { source: "paris-id".into(), target: "lyon-id".into() };
        let progress = watch::Sender::new(Acquiring::Reading);
        let ledger = Ledger::acquire(store, &Claimant::new(LINK.into()), clusters, &scope, &progress)
            .await
            .expect("the ledger is free or waited for");
        let map_stalled = watch::Sender::new(false);
        let rate = ByteRate::unlimited();
        let (source, target) = match &self.brokers {
            None => (Adapters::of(&self.source), Adapters::of(&self.target)),
            Some((source, target)) => {
                (Adapters::through(source, "paris", &scope), Adapters::through(target, "lyon", &scope))
            }
        };
        let ends = Ends {
            link: LINK.into(),
            catalog: source.catalog,
            source: source.source,
            source_points: source.points,
            planes: Planes { rule: self.plane, batches: target.sink, records: Arc::new(self.target.clone()) },
            target_points: target.points,
            ledger: ledger.clone(),
            producer: OURS,
            producer_expiration: Duration::from_secs(86_400),
            rate: rate.clone(),
            priorities: Priorities::default(),
            retention_overtook: self.retention_overtook,
            map_stalled: map_stalled.subscribe(),
            attach_turns: Semaphore::new(self.attach_turns),
            tail_turns: Semaphore::new(1),
        };
        Run { ends: Arc::new(ends), ledger, scope, map_stalled, rate, start: self.start, copying: Vec::new() }
    }

    /// Runs the first partition's replicator.
    pub(super) async fn run(&self) -> Run {
        let mut run = self.prepare().await;
        run.copy(self.route(0).await);
        run
    }

    /// The ledger as a stranger to this process reads it.
    pub(super) async fn durable(&self) -> View {
        View::read(&self.target.ledger(LINK)).await.expect("the ledger is readable")
    }

    /// Both sides hold the same records in the same order, and every offset translates exactly.
    pub(super) fn assert_exact(&self, run: &Run, what: &str) {
        let (source, target) = (self.source.committed(&at(0)), self.target.committed(&at(0)));
        let map = run.map();
        let map = map.lock().expect("no panic while held");
        let copied: Vec<Record> = source.into_iter().filter(|r| r.offset >= map.born().0).collect();
        assert_same(&copied, &target, what);
        assert_translates(&map, &copied, &target, what);
    }
}

/// The same content in the same order; offsets may differ.
pub(super) fn assert_same(source: &[Record], target: &[Record], what: &str) {
    let placed = |records: &[Record]| -> Vec<Record> {
        records.iter().map(|record| Record { offset: Offset(0), ..record.clone() }).collect()
    };
    assert_eq!(placed(target), placed(source), "{what}: the target's records are not the source's");
}

/// Every offset of both sides translates as the records themselves say.
pub(super) fn assert_translates(map: &OffsetMap, source: &[Record], target: &[Record], what: &str) {
    let (born, end, target_end) = (map.born().0, map.position(), map.target_end());
    let pairs: Vec<(Offset, Offset)> = source.iter().zip(target).map(|(s, t)| (s.offset, t.offset)).collect();
    for asked in (born.0..=end.0).map(Offset) {
        let exact = pairs.iter().find(|(s, _)| *s >= asked).map_or(target_end, |(_, t)| *t);
        assert_eq!(map.translate(asked), Translation::Exact(exact), "{what}: source offset {asked}");
    }
    for asked in (map.born().1.0..=target_end.0).map(Offset) {
        let exact = pairs.iter().find(|(_, t)| *t >= asked).map_or(end, |(s, _)| *s);
        assert_eq!(map.translate_back(asked), Translation::Exact(exact), "{what}: target offset {asked}");
    }
}

/// One tenure of the link's data path: what a process holds, and loses when it is killed.
pub(super) struct Run {
    pub(super) ends: Arc<Ends>,
    pub(super) ledger: Ledger,
    scope: TaskScope,
    pub(super) map_stalled: watch::Sender<bool>,
    pub(super) rate: ByteRate,
    start: Start,
    copying: Vec<Copying>,
}

struct Copying {
    monitor: Arc<RouteMonitor>,
    stop: CancellationToken,
    /// Taken when its end was seen.
    task: Option<JoinHandle<()>>,
}

impl Run {
    /// A replicator for the route, not started.
    pub(super) fn replicator(&self, route: Route, stop: CancellationToken) -> Replicator {
        let monitor = Arc::new(RouteMonitor::new(&self.ends.link, route));
        Replicator { ends: self.ends.clone(), monitor, start: self.start, stop }
    }

    pub(super) fn copy(&mut self, route: Route) {
        let stop = CancellationToken::new();
        let replicator = self.replicator(route, stop.clone());
        let monitor = replicator.monitor.clone();
        self.copying.push(Copying { monitor, stop, task: Some(tokio::spawn(replicator.run())) });
    }

    pub(super) fn monitor(&self) -> &RouteMonitor {
        &self.copying[0].monitor
    }

    pub(super) fn monitor_of(&self, index: usize) -> &RouteMonitor {
        &self.copying[index].monitor
    }

    pub(super) fn map(&self) -> RouteMap {
        self.monitor().map().expect("the route has attached")
    }

    pub(super) async fn replicating(&self) -> ProtectionLevel {
        until("the partition replicates", || match self.monitor().state() {
            PartitionState::Replicating { level } => Some(level),
            _ => None,
        })
        .await
    }

    pub(super) async fn reaches(&self, source: i64, target: i64) {
        tokio::select! {
            () = self.comes_to(source, target) => {}
            halt = self.halted() => panic!("halted before {source} was at target {target}: {halt:?}"),
        }
    }

    /// The same, through halts.
    pub(super) async fn comes_to(&self, source: i64, target: i64) {
        let place = Some((Offset(source), Offset(target)));
        let truth = format!("source {source} is at target {target}");
        until(&truth, || (self.monitor().position() == place).then_some(())).await;
    }

    pub(super) async fn halted(&self) -> Halt {
        until("the partition halts", || match self.monitor().state() {
            PartitionState::Halted(halt) => Some(halt),
            _ => None,
        })
        .await
    }

    pub(super) async fn halts_as(&self, reason: HaltReason) -> String {
        let halt = self.halted().await;
        assert_eq!(halt.reason, reason, "{}", halt.detail);
        let recorded = self.ledger.view().halt(&at(0)).expect("a halt is on record before it is shown");
        assert_eq!(recorded.halt, halt);
        halt.detail
    }

    /// What `twinlog resolve` does.
    pub(super) async fn decide(&self, decision: Resolution) {
        let record = ResolutionRecord { decision, at_ms: unix_ms() };
        self.ledger.append(vec![ControlRecord::Resolution(at(0), record)]).await.expect("the decision is recorded");
        self.monitor().decide();
        let halted = || matches!(self.monitor().state(), PartitionState::Halted(_));
        let pending = || self.ledger.view().resolution(&at(0)).is_some();
        until("the decision is obeyed or void", || (!halted() || !pending()).then_some(())).await;
    }

    pub(super) async fn flush(&self) {
        self.monitor().settle_anchor();
        self.ledger.flush_maps(&[at(0)]).await.expect("the map is flushed");
    }

    /// `kill -9`: nothing is drained, flushed or released.
    pub(super) async fn crash(self) {
        for task in self.copying.into_iter().filter_map(|copying| copying.task) {
            task.abort();
            assert!(!task.await.is_err_and(|e| e.is_panic()), "a replicator panicked");
        }
        self.scope.stop().await;
    }

    /// SIGTERM: drained, flushed, released. Answers with how long draining took.
    pub(super) async fn stop(mut self) -> Duration {
        let drained = self.drain().await;
        self.flush().await;
        self.ledger.release().await.expect("the lease is released");
        self.scope.stop().await;
        drained
    }

    pub(super) async fn drain(&mut self) -> Duration {
        let began = tokio::time::Instant::now();
        for copying in &mut self.copying {
            copying.stop.cancel();
            if let Some(task) = copying.task.take() {
                task.await.expect("a replicator does not panic");
            }
        }
        began.elapsed()
    }
}
