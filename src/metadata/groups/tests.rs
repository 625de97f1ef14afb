//! The group pass against two clusters in memory: what is written when, and what a crash in between leaves.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::groups::{GroupState, GroupVerdict, Groups, Mirrored, PositionVerdict};
use crate::endpoint::memory::{Call, MemoryCluster};
use crate::endpoint::{ErrorKind, GroupProtocol};
use crate::ledger::record::GroupRecord;
use crate::ledger::{Acquiring, Claimant, Clusters, ControlRecord, Ledger};
use crate::model::{LeaderEpoch, Offset, OffsetRange, Run, TopicPartition};
use crate::offsets::OffsetMap;
use crate::policy::selection::Selection;
use crate::runtime::tasks::TaskScope;

fn at() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

/// Source offsets 10..20 and 23..30 lie at target offsets 0..17; the mirror begins at 10 and has come to 30.
fn mirrored() -> Mirrored {
    let mut map = OffsetMap::new(Offset(10), Offset(0));
    let runs = [Run { start: Offset(10), length: 10 }, Run { start: Offset(23), length: 7 }];
    map.extend(OffsetRange::new(Offset(10), Offset(30)), &runs, Offset(0), LeaderEpoch(0));
    Mirrored::from([(at(), (at(), Some(Arc::new(Mutex::new(map)))))])
}

struct Twin {
    source: MemoryCluster,
    target: MemoryCluster,
    ledger: Ledger,
    groups: Groups,
}

impl Twin {
    async fn new() -> Self {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        let clusters = Clusters { source: "paris-id".into(), target: "lyon-id".into() };
        let (store, progress) = (Arc::new(target.ledger("dr")), watch::Sender::new(Acquiring::Reading));
        let scope = TaskScope::new();
        let ledger = Ledger::acquire(store, &Claimant::new("dr".into()), clusters, &scope, &progress)
            .await
            .expect("a new ledger is free");
        let groups = groups(&source, &target, &ledger);
        Self { source, target, ledger, groups }
    }

    /// A process that knows only what the ledger and the clusters know.
    fn restart(&mut self) {
        self.groups = groups(&self.source, &self.target, &self.ledger);
    }

    async fn pass(&mut self) -> Vec<GroupState> {
        self.groups.pass(&mirrored()).await.expect("both clusters answer")
    }

    async fn verdict(&mut self) -> GroupVerdict {
        self.pass().await.remove(0).verdict
    }

    fn record(&self) -> GroupRecord {
        self.ledger.view().group(&"billing".into()).map(|record| (*record).clone()).unwrap_or_default()
    }

    fn there(&self) -> Option<Offset> {
        self.target.position_of("billing", &at())
    }
}

fn groups(source: &MemoryCluster, target: &MemoryCluster, ledger: &Ledger) -> Groups {
    let selection = Selection::new(&[".*".to_owned()], &[]).expect("a valid pattern");
    let to = Arc::new(target.clone());
    Groups::new(Arc::new(source.clone()), to.clone(), to, ledger.clone(), selection)
}

fn position(offset: i64) -> crate::policy::group::Positions {
    [(at(), Offset(offset))].into()
}

#[tokio::test(start_paused = true)]
async fn positions_land_on_the_first_record_not_read() {
    for (committed, lands) in [(10, 0), (15, 5), (20, 10), (22, 10), (23, 10), (24, 11), (30, 17)] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(committed));
        assert_eq!(twin.verdict().await, GroupVerdict::Synced);
        assert_eq!(twin.there(), Some(Offset(lands)), "source position {committed}");
        assert_eq!(twin.record(), GroupRecord { confirmed: position(lands), ..GroupRecord::default() });
    }
}

#[tokio::test(start_paused = true)]
async fn a_position_off_the_mirror_is_named_and_not_written() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(31));
    assert_eq!(twin.verdict().await, GroupVerdict::WaitingForTheMirror);
    twin.source.commit("billing", &at(), Offset(4));
    assert_eq!(twin.pass().await[0].partitions[0].translated, PositionVerdict::BeforeTheMirror(6));
    twin.source.commit("billing", &TopicPartition::new("elsewhere", 0), Offset(4));
    assert_eq!(twin.pass().await[0].partitions[0].translated, PositionVerdict::NotMirrored);
    assert_eq!((twin.there(), twin.record()), (None, GroupRecord::default()));
}

#[tokio::test(start_paused = true)]
async fn a_route_that_has_not_attached_keeps_its_groups_waiting() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    let states = twin.groups.pass(&Mirrored::from([(at(), (at(), None))])).await.expect("both clusters answer");
    assert_eq!(states[0].verdict, GroupVerdict::WaitingForTheMirror);
    assert_eq!((twin.there(), twin.record()), (None, GroupRecord::default()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_committed_before_its_intent_is_durable() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.fail_next(Call::LedgerAppend, 1, ErrorKind::Retryable);
    assert!(twin.groups.pass(&mirrored()).await.is_err());
    assert_eq!(twin.there(), None);
    twin.pass().await;
    assert_eq!(twin.there(), Some(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn an_intent_stays_ours_while_its_partition_is_not_wanted() {
    let mut twin = Twin::new().await;
    let other = TopicPartition::new("orders", 1);
    let map_of = |mirrored: Mirrored| mirrored[&at()].1.clone();
    let both =
        || Mirrored::from([(at(), (at(), map_of(mirrored()))), (other.clone(), (other.clone(), map_of(mirrored())))]);
    twin.source.commit("billing", &at(), Offset(12));
    twin.source.commit("billing", &other, Offset(13));
    // A process that ended between its commit and the confirmation of it.
    let intent = crate::policy::group::Positions::from([(at(), Offset(2)), (other.clone(), Offset(3))]);
    for (at, offset) in &intent {
        twin.target.commit("billing", at, *offset);
    }
    let record = GroupRecord { intent, ..GroupRecord::default() };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), record)]).await.unwrap();
    // The next one: one route is not attached yet, the group moves on on the other.
    twin.source.commit("billing", &at(), Offset(14));
    twin.groups.pass(&mirrored()).await.expect("both clusters answer");
    twin.source.commit("billing", &other, Offset(15));
    let states = twin.groups.pass(&both()).await.expect("both clusters answer");
    assert_eq!(states[0].verdict, GroupVerdict::Synced);
    assert_eq!(twin.target.position_of("billing", &other), Some(Offset(5)));
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_commit_leaves_an_intent_that_the_next_process_fulfils() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    assert!(matches!(twin.verdict().await, GroupVerdict::Failed(_)));
    assert_eq!(twin.record(), GroupRecord { intent: position(2), ..GroupRecord::default() });
    twin.restart();
    assert_eq!(twin.verdict().await, GroupVerdict::Synced);
    assert_eq!((twin.there(), twin.record().confirmed), (Some(Offset(2)), position(2)));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_commit_and_confirmation_is_no_take_over() {
    let mut twin = Twin::new().await;
    let intended = GroupRecord { intent: position(5), confirmed: position(3) };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), intended)]).await.expect("appended");
    twin.target.commit("billing", &at(), Offset(5));
    twin.source.commit("billing", &at(), Offset(17));
    assert_eq!(twin.verdict().await, GroupVerdict::Synced);
    assert_eq!(twin.there(), Some(Offset(7)));
}

#[tokio::test(start_paused = true)]
async fn a_second_crash_before_the_next_commit_is_no_take_over_either() {
    let mut twin = Twin::new().await;
    let intended = GroupRecord { intent: position(5), confirmed: position(3) };
    twin.ledger.append(vec![ControlRecord::Group("billing".into(), intended)]).await.expect("appended");
    twin.target.commit("billing", &at(), Offset(5));
    twin.source.commit("billing", &at(), Offset(17));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    twin.pass().await;
    assert_eq!((twin.there(), twin.record().intent), (Some(Offset(5)), position(7)));
    twin.restart();
    assert_eq!(twin.verdict().await, GroupVerdict::Synced, "what an earlier intent wrote was taken for a stranger's");
    assert_eq!(twin.there(), Some(Offset(7)));
}

#[tokio::test(start_paused = true)]
async fn a_group_in_use_on_the_target_is_left_alone_until_it_leaves() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.target.set_members("billing", true);
    assert_eq!(twin.verdict().await, GroupVerdict::TakenOver);
    assert_eq!(twin.there(), None);
    twin.target.set_members("billing", false);
    assert_eq!(twin.verdict().await, GroupVerdict::Synced);
    // It joins between our look and our commit.
    twin.source.commit("billing", &at(), Offset(13));
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::GroupBusy);
    assert_eq!(twin.verdict().await, GroupVerdict::TakenOver);
    assert_eq!(twin.there(), Some(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn a_position_somebody_else_set_on_the_target_is_never_overwritten() {
    for theirs in [1, 9] {
        let mut twin = Twin::new().await;
        twin.source.commit("billing", &at(), Offset(15));
        twin.pass().await;
        twin.target.commit("billing", &at(), Offset(theirs));
        twin.source.commit("billing", &at(), Offset(17));
        assert_eq!(twin.verdict().await, GroupVerdict::TakenOver);
        assert_eq!(twin.there(), Some(Offset(theirs)));
    }
}

#[tokio::test(start_paused = true)]
async fn positions_never_go_backwards() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(18));
    twin.pass().await;
    twin.source.commit("billing", &at(), Offset(11));
    assert_eq!(twin.verdict().await, GroupVerdict::Synced);
    assert_eq!(twin.there(), Some(Offset(8)));
}

#[tokio::test(start_paused = true)]
async fn one_group_that_fails_keeps_no_other_from_its_position() {
    let mut twin = Twin::new().await;
    for group in ["audit", "billing", "search"] {
        twin.source.commit(group, &at(), Offset(12));
    }
    twin.source.set_pending("audit", true);
    twin.target.fail_next(Call::CommitGroup, 1, ErrorKind::Retryable);
    let verdicts: Vec<GroupVerdict> = twin.pass().await.into_iter().map(|state| state.verdict).collect();
    assert_eq!(
        twin.target.position_of("audit", &at()),
        None,
        "what an open transaction may replace is not carried over"
    );
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == GroupVerdict::Synced).count(), 2, "{verdicts:?}");
    twin.source.set_pending("audit", false);
    assert!(twin.pass().await.iter().all(|state| state.verdict == GroupVerdict::Synced));
    let everybody = ["audit", "billing", "search"].map(|group| twin.target.position_of(group, &at()));
    assert_eq!(everybody, [Some(Offset(2)); 3]);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_group_costs_the_target_nothing() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.pass().await;
    for call in [Call::ReadGroups, Call::CommitGroup, Call::LedgerAppend] {
        twin.target.fail_next(call, 1, ErrorKind::Protocol);
    }
    assert_eq!(twin.verdict().await, GroupVerdict::Synced, "the target was asked");
}

#[tokio::test(start_paused = true)]
async fn share_groups_are_listed_and_our_own_are_not() {
    let mut twin = Twin::new().await;
    twin.source.commit("billing", &at(), Offset(12));
    twin.source.set_protocol("billing", GroupProtocol::Share);
    twin.source.commit("twinlog.dr", &at(), Offset(12));
    let states = twin.pass().await;
    assert_eq!((states.len(), &states[0].verdict), (1, &GroupVerdict::ShareGroup));
    assert_eq!(twin.there(), None);
}
