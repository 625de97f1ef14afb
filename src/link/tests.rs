//! A whole link over two clusters in memory, on the paused clock.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::batch::Record;
use crate::endpoint::memory::{Call, MemoryCluster};
use crate::endpoint::{CommitFeed, CommitTail, ErrorKind, TopicAdmin};
use crate::metadata::groups::GroupRules;
use crate::metadata::topics::TopicRules;
use crate::model::{HaltReason, PartitionState};
use crate::policy::group::{Consistency, Deletions, NoPosition};
use crate::policy::naming::Naming;
use crate::policy::plane::PlaneRule;
use crate::policy::priority::Priorities;
use crate::policy::resolution::RetentionOvertook;
use crate::policy::selection::{Patterns, Selection};
use crate::policy::start::Start;
use crate::policy::topic_config::Retention;
use crate::runtime::memory::MemoryBudget;

struct Twin {
    source: MemoryCluster,
    target: MemoryCluster,
    start: Start,
}

struct Running {
    link: Arc<Link>,
    stop: CancellationToken,
    task: JoinHandle<crate::endpoint::Result<()>>,
}

impl Twin {
    fn new() -> Self {
        let twin = Self {
            source: MemoryCluster::new("paris-id"),
            target: MemoryCluster::new("lyon-id"),
            start: Start::Earliest,
        };
        twin.source.create("orders", 1, &[]);
        twin
    }

    fn target_side(&self) -> TargetSide {
        let to = Arc::new(self.target.clone());
        TargetSide {
            alias: "lyon".into(),
            catalog: to.clone(),
            admin: to.clone(),
            batches: to.clone(),
            records: to.clone(),
            points: to.clone(),
            groups: to.clone(),
            group_writer: to.clone(),
            ledgers: to,
            ledger: Arc::new(self.target.ledger("dr")),
        }
    }

    fn run(&self) -> Running {
        self.run_hearing_by(Arc::new(self.source.clone()))
    }

    fn run_hearing_by(&self, commits: Arc<dyn CommitFeed>) -> Running {
        let everything = || Selection::new(&[".*".to_owned()], &[]).expect("a valid pattern");
        let topics = TopicRules {
            selection: everything(),
            naming: Naming::Identity,
            replication: None,
            retention: Retention::Same,
            exclude_configs: Patterns::default(),
            deletion_grace: Duration::from_secs(30),
        };
        let settings = LinkSettings {
            name: "dr".into(),
            topics,
            groups: GroupRules {
                selection: everything(),
                consistency: Consistency::Cut { lag_max: Duration::from_secs(10) },
                no_position: NoPosition::Leave,
                deletions: Deletions::Report,
                deletion_grace: Duration::from_secs(30),
            },
            start: self.start,
            retention_overtook: RetentionOvertook::Halt,
            plane: PlaneRule::Auto,
            rate_limit_bytes: None,
            priorities: Priorities::default(),
            topics_interval: Duration::from_secs(2),
            groups_interval: Duration::from_secs(1),
            flush_interval: Duration::from_millis(500),
            bounds_interval: Duration::from_millis(500),
        };
        let from = Arc::new(self.source.clone());
        let source = SourceSide {
            alias: "paris".into(),
            catalog: from.clone(),
            records: from.clone(),
            points: from.clone(),
            groups: from.clone(),
            commits,
            ledgers: from,
        };
        let target = self.target_side();
        let link = Arc::new(Link::new(settings, source, target, MemoryBudget::new(1 << 20)));
        let stop = CancellationToken::new();
        let task = {
            let (link, stop) = (link.clone(), stop.clone());
            tokio::spawn(async move { link.run(stop).await })
        };
        Running { link, stop, task }
    }

    fn produce(&self, partition: i32, numbers: Range<i64>) {
        let now_ms = super::upkeep::unix_ms();
        let record = |n| Record::new(Offset(0), now_ms, Some(format!("k{n}").into()), Some(format!("v{n}").into()));
        self.source.append(&at(partition), &numbers.map(record).collect::<Vec<_>>());
    }

    fn arrived(&self, partition: i32) -> usize {
        self.target.committed(&at(partition)).len()
    }
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("a clean end");
    }

    fn state(&self) -> String {
        self.link.report().state
    }

    fn partition(&self, index: usize) -> Option<report::PartitionReport> {
        self.link.report().partitions.into_iter().nth(index)
    }

    async fn copied(&self, partition: usize, end: i64) {
        let position = || self.partition(partition).and_then(|p| p.position);
        until(&format!("{partition} is copied to {end}"), || position() == Some(Offset(end))).await;
    }
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

async fn until(truth: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(120), waiting).await;
    assert!(waited.is_ok(), "it never came true that {truth}");
}

#[tokio::test(start_paused = true)]
async fn a_link_carries_topics_records_and_groups_and_goes_on_at_once_after_a_clean_stop() {
    let twin = Twin::new();
    twin.produce(0, 0..5);
    twin.source.commit("billing", &at(0), Offset(3));
    let running = twin.run();
    running.copied(0, 5).await;
    until("the group has followed", || twin.target.position_of("billing", &at(0)) == Some(Offset(3))).await;
    running.stop().await;
    twin.produce(0, 5..7);
    let began = tokio::time::Instant::now();
    let running = twin.run();
    running.copied(0, 7).await;
    assert!(began.elapsed() < Duration::from_secs(1), "a released lease was waited for: {:?}", began.elapsed());
    assert_eq!(twin.arrived(0), 7);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pause_and_limit_survive_a_restart() {
    let twin = Twin::new();
    let running = twin.run();
    until("it runs", || running.state() == "running" && running.partition(0).is_some()).await;
    running.link.obey(&Order::Pause).await.expect("paused");
    running.link.obey(&Order::Limit(Some(1 << 20))).await.expect("limited");
    running.stop().await;
    twin.produce(0, 0..2);
    let running = twin.run();
    until("it is paused", || running.state() == "paused" && running.partition(0).is_some()).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((twin.arrived(0), running.link.report().rate_limit_bytes), (0, Some(1 << 20)));
    running.link.obey(&Order::Limit(None)).await.expect("lifted");
    running.link.obey(&Order::Resume).await.expect("resumed");
    running.copied(0, 2).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn orders_need_no_daemon_but_never_go_past_one() {
    let twin = Twin::new();
    let order = async |order: Order| absent::obey(&"dr".into(), &twin.target_side(), &order).await;
    assert!(order(Order::Pause).await.unwrap_err().contains("never run"), "nothing is recorded for a misspelt link");
    let running = twin.run();
    until("it runs", || running.state() == "running" && running.partition(0).is_some()).await;
    let refused = order(Order::Pause).await.unwrap_err();
    assert!(refused.contains("runs it"), "{refused}");
    assert_eq!(running.state(), "running");
    running.stop().await;

    assert!(order(Order::Pause).await.unwrap().contains("is paused"));
    order(Order::Limit(Some(4096))).await.expect("recorded");
    let at = TopicPartition::new("orders", 0);
    let resolve = Order::Resolve { target: at, decision: crate::model::Resolution::Adopt };
    assert!(order(resolve).await.unwrap_err().contains("not halted"));
    let running = twin.run();
    until("it is paused", || running.state() == "paused" && running.partition(0).is_some()).await;
    assert_eq!(running.link.report().rate_limit_bytes, Some(4096));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_that_fails_behind_its_claim_does_not_keep_itself_out() {
    let twin = Twin::new();
    let running = twin.run();
    until("it runs", || running.state() == "running").await;
    running.stop().await;
    // The first thing asked of the admin, once the ledger exists, comes behind the claim.
    twin.target.fail_next(Call::Admin, 1, ErrorKind::Retryable);
    let running = twin.run();
    until("the failed start was noticed", || running.state().starts_with("interrupted")).await;
    until("it runs", || running.state() == "running").await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn from_latest_on_topics_and_partitions_that_came_later_are_copied_from_their_first_record() {
    let twin = Twin { start: Start::Latest, ..Twin::new() };
    twin.produce(0, 0..5);
    let running = twin.run();
    running.copied(0, 5).await;
    twin.source.grow_topic(&"orders".into(), 2).await.expect("grown");
    twin.produce(1, 0..3);
    running.copied(1, 3).await;
    assert_eq!((twin.arrived(0), twin.arrived(1)), (0, 3));
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_does_not_answer_stalls_the_map_by_name_and_the_flow_with_it() {
    let twin = Twin::new();
    let running = twin.run();
    until("it runs", || running.partition(0).is_some_and(|p| p.position.is_some())).await;
    twin.target.delay(Call::LedgerAppend, Duration::from_secs(60));
    twin.produce(0, 0..2);
    let halted = || match running.partition(0).map(|p| p.state) {
        Some(PartitionState::Halted(halt)) => halt.reason == HaltReason::MapStalled,
        _ => false,
    };
    until("the stall is named", halted).await;
    let arrived = twin.arrived(0);
    twin.produce(0, 2..4);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(twin.arrived(0), arrived, "sent although the map cannot be kept");
    twin.target.heal();
    running.copied(0, 4).await;
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_start_rule_holds_for_topics_that_the_first_pass_could_not_create() {
    let twin = Twin { start: Start::Latest, ..Twin::new() };
    twin.produce(0, 0..5);
    // Slow enough for the failure to be in place before the first pass asks for the topic.
    twin.target.delay(Call::Catalog, Duration::from_millis(100));
    let running = twin.run();
    until("the ledger is claimed", || running.state() == "running").await;
    twin.target.fail_next(Call::Admin, 1, ErrorKind::Denied);
    let failed = || running.link.report().problems.iter().any(|p| p.contains("could not be created"));
    until("the first pass could not create it", failed).await;
    running.copied(0, 5).await;
    twin.produce(0, 5..7);
    running.copied(0, 7).await;
    assert_eq!(twin.arrived(0), 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_link_that_starts_without_its_source_keeps_positions_and_goes_on_when_it_answers() {
    let twin = Twin::new();
    twin.source.fail_next(Call::Catalog, usize::MAX, ErrorKind::Retryable);
    let running = twin.run();
    until("a link that never ran says what hinders it", || running.state().starts_with("interrupted")).await;
    twin.source.heal();
    twin.produce(0, 0..5);
    twin.source.commit("billing", &at(0), Offset(3));
    let stands = || twin.target.position_of("billing", &at(0)) == Some(Offset(3));
    until("the group has followed", stands).await;
    running.stop().await;
    twin.source.fail_next(Call::Catalog, usize::MAX, ErrorKind::Retryable);
    let running = twin.run();
    until("it says what it waits for", || running.state().starts_with("waiting for the source")).await;
    twin.target.delete_group("billing");
    until("the position is back", stands).await;
    twin.source.heal();
    twin.produce(0, 5..7);
    running.copied(0, 7).await;
    twin.source.fail_next(Call::Catalog, usize::MAX, ErrorKind::Retryable);
    running.stop().await;
    let running = twin.run();
    until("it stands in again", || running.state().starts_with("waiting for the source")).await;
    running.stop().await;
}

/// A bug that shows once, in the timer of the groups.
struct Buggy {
    feed: MemoryCluster,
    has_shown: AtomicBool,
}

impl CommitFeed for Buggy {
    fn listen(&self, from: &[(i32, Offset)]) -> crate::endpoint::Result<Box<dyn CommitTail>> {
        assert!(self.has_shown.swap(true, Ordering::Relaxed), "a bug (as this test wishes)");
        self.feed.listen(from)
    }
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_panics_ends_its_session_and_another_begins() {
    let twin = Twin::new();
    twin.produce(0, 0..10);
    twin.source.commit("billing", &at(0), Offset(3));
    let running = twin.run_hearing_by(Arc::new(Buggy { feed: twin.source.clone(), has_shown: AtomicBool::new(false) }));
    until("the groups are followed", || running.link.report().groups.way.starts_with("following")).await;
    twin.produce(0, 10..20);
    running.copied(0, 20).await;
    assert_eq!(twin.arrived(0), 20);
    running.stop().await;
}
