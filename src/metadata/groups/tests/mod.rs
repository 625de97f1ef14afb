//! Passes over groups between two clusters in memory: what is written when, and what a crash in between leaves.

mod cut;
mod latch;
mod life;
mod survey;
mod writing;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::watch;

use super::*;
use crate::endpoint::memory::MemoryCluster;
use crate::ledger::record::GroupRecord;
use crate::ledger::{Acquiring, Claimant, Clusters, ControlRecord, Ledger, RouteMap};
use crate::model::{LeaderEpoch, OffsetRange, Run};
use crate::offsets::OffsetMap;
use crate::policy::cut::{Hindrance, Progress};
use crate::policy::group::Positions;
use crate::runtime::tasks::TaskScope;

const SECOND: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(30);

fn at() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn beside() -> TopicPartition {
    TopicPartition::new("orders", 1)
}

/// Source offsets 10..20 and 23..30 lie at target offsets 0..17; the mirror begins at 10 and has come to 30.
fn map() -> RouteMap {
    let mut map = OffsetMap::new(Offset(10), Offset(0));
    let runs = [Run { start: Offset(10), length: 10 }, Run { start: Offset(23), length: 7 }];
    map.extend(OffsetRange::new(Offset(10), Offset(30)), &runs, Offset(0), LeaderEpoch(0));
    Arc::new(Mutex::new(map))
}

fn route(target: TopicPartition, map: Option<RouteMap>) -> MirroredRoute {
    let progress = Progress { halted: false, lag: Duration::ZERO, behind: Hindrance::Lagging };
    MirroredRoute { target, map, source_start: None, target_start: None, progress, attachment: 1 }
}

fn mirrored() -> Mirrored {
    [(at(), route(at(), Some(map())))].into_iter().collect()
}

fn rules() -> GroupRules {
    GroupRules {
        selection: Selection::new(&[".*".to_owned()], &[]).expect("a valid pattern"),
        consistency: Consistency::Latest,
        no_position: NoPosition::Leave,
        deletions: Deletions::Report,
        deletion_grace: GRACE,
    }
}

fn positions(offset: i64) -> Positions {
    [(at(), Offset(offset))].into()
}

struct Twin {
    source: MemoryCluster,
    target: MemoryCluster,
    ledger: Ledger,
    rules: GroupRules,
    board: Board,
    groups: Groups,
    mirrored: Mirrored,
    began: Instant,
}

impl Twin {
    async fn new() -> Self {
        Self::with(rules()).await
    }

    async fn with(rules: GroupRules) -> Self {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        let clusters = Clusters { source: "paris-id".into(), target: "lyon-id".into() };
        let (store, progress) = (Arc::new(target.ledger("dr")), watch::Sender::new(Acquiring::Reading));
        let scope = TaskScope::new();
        let ledger = Ledger::acquire(store, &Claimant::new("dr".into()), clusters, &scope, &progress)
            .await
            .expect("a new ledger is free");
        let board = Board::default();
        let groups = groups(&source, &target, &ledger, &rules, &board).await;
        Self { source, target, ledger, rules, board, groups, mirrored: mirrored(), began: Instant::now() }
    }

    /// A process that knows only what the ledger and the clusters know.
    async fn restart(&mut self) {
        self.board = Board::default();
        self.groups = groups(&self.source, &self.target, &self.ledger, &self.rules, &self.board).await;
    }

    fn now_ms(&self) -> i64 {
        1_000_000 + self.began.elapsed().as_millis() as i64
    }

    async fn try_pass(&mut self, extent: Extent) -> Result<()> {
        let now_ms = self.now_ms();
        self.groups.pass(&self.mirrored, extent, now_ms).await
    }

    /// A full pass that has heard whatever there was to hear.
    async fn pass(&mut self) {
        let _ = self.groups.heard().now_or_never();
        self.try_pass(Extent::Full).await.expect("both clusters answer");
    }

    /// Full passes, a second apart.
    async fn passes_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.pass().await;
            tokio::time::sleep(SECOND).await;
        }
    }

    fn states(&self) -> Vec<GroupState> {
        let board = self.board.lock().expect("no panic while held");
        let view = self.ledger.view();
        board.groups().map(|(id, group)| account(id, group, &board.record(id, view), &self.mirrored)).collect()
    }

    fn state(&self, group: &str) -> GroupState {
        let found = self.states().into_iter().find(|state| state.id.as_str() == group);
        found.unwrap_or_else(|| panic!("nothing is known of {group}"))
    }

    /// The verdict on `billing` after a pass.
    async fn verdict(&mut self) -> &'static str {
        self.pass().await;
        self.state("billing").verdict.words()
    }

    fn record(&self) -> GroupRecord {
        self.ledger.view().group(&"billing".into()).map(|record| (*record).clone()).unwrap_or_default()
    }

    fn there(&self) -> Option<Offset> {
        self.target.position_of("billing", &at())
    }
}

async fn groups(
    source: &MemoryCluster,
    target: &MemoryCluster,
    ledger: &Ledger,
    rules: &GroupRules,
    board: &Board,
) -> Groups {
    let (from, to) = (Arc::new(source.clone()), Arc::new(target.clone()));
    let sides = Sides { source: from.clone(), catalog: from.clone(), feed: from, target: to.clone(), writer: to };
    Groups::new(sides, ledger.clone(), rules.clone(), board.clone()).await.expect("the target answers")
}
