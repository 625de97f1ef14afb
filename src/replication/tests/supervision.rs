//! Routes come, go, pause and fail one by one; neighbours do not notice.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::endpoint::{Reader, Source};
use crate::model::LeaderEpoch;
use crate::replication::{Assigned, Supervisor};

async fn assigned(twin: &Twin, partitions: Range<i32>) -> Vec<Assigned> {
    let mut routes = Vec::new();
    for partition in partitions {
        routes.push(Assigned { route: twin.route(partition).await, start: Start::Earliest });
    }
    routes
}

async fn copied(supervisor: &Supervisor, partition: i32, end: i64) {
    let place = Some((Offset(end), Offset(end)));
    let monitor = supervisor.monitor(&at(partition)).expect("the route is known");
    until(&format!("{partition} is copied to {end}"), || (monitor.position() == place).then_some(())).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_that_goes_is_drained_and_its_neighbour_neither_stops_nor_attaches_again() {
    let twin = Twin::new();
    let run = twin.prepare().await;
    let supervisor = Supervisor::new(run.ends.clone());
    let routes = assigned(&twin, 0..2).await;
    supervisor.apply(&routes, false).await;
    for partition in 0..2 {
        twin.source.append(&at(partition), &[fresh(0)]);
    }
    copied(&supervisor, 0, 1).await;
    copied(&supervisor, 1, 1).await;
    let neighbour = supervisor.monitor(&at(1)).expect("the route is known");
    let mut states = neighbour.watch();
    states.mark_unchanged();
    let gone = supervisor.monitor(&at(0)).expect("the route is known");
    supervisor.apply(&routes[1..], false).await;
    assert_eq!(gone.state(), PartitionState::Stopped);
    assert!(supervisor.monitor(&at(0)).is_none());
    twin.source.append(&at(0), &[fresh(1)]);
    twin.source.append(&at(1), &[fresh(1)]);
    copied(&supervisor, 1, 2).await;
    supervisor.apply(&routes, false).await;
    copied(&supervisor, 0, 2).await;
    assert!(Arc::ptr_eq(&neighbour, &supervisor.monitor(&at(1)).expect("the route is known")));
    assert!(!states.has_changed().expect("the monitor lives"), "the neighbour was touched");
}

#[tokio::test(start_paused = true)]
async fn pausing_drains_and_stands_still_and_resuming_goes_on_exactly_there() {
    let twin = Twin::new();
    let run = twin.prepare().await;
    let supervisor = Supervisor::new(run.ends.clone());
    let routes = assigned(&twin, 0..1).await;
    supervisor.apply(&routes, false).await;
    twin.produce(0..2);
    copied(&supervisor, 0, 2).await;
    supervisor.apply(&routes, true).await;
    let monitor = supervisor.monitor(&at(0)).expect("a paused route keeps its face");
    assert_eq!(monitor.state(), PartitionState::Paused);
    twin.produce(2..4);
    meanwhile(60).await;
    supervisor.apply(&routes, true).await;
    assert_eq!((twin.target.log_end(&at(0)), monitor.state()), (Offset(2), PartitionState::Paused));
    supervisor.apply(&routes, false).await;
    copied(&supervisor, 0, 4).await;
    supervisor.stop().await;
    assert_eq!(monitor.state(), PartitionState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn one_stalled_partition_does_not_disturb_its_neighbour() {
    let twin = Twin::new();
    let run = twin.prepare().await;
    let supervisor = Supervisor::new(run.ends.clone());
    supervisor.apply(&assigned(&twin, 0..2).await, false).await;
    twin.target.hold_followers(&at(0));
    for n in 0..200 {
        for partition in 0..2 {
            twin.source.append(&at(partition), &[fresh(n)]);
        }
    }
    copied(&supervisor, 1, 200).await;
    let stalled = supervisor.monitor(&at(0)).expect("the route is known");
    assert_eq!(stalled.position(), Some((Offset(0), Offset(0))));
    twin.target.release_followers(&at(0));
    copied(&supervisor, 0, 200).await;
}

#[tokio::test(start_paused = true)]
async fn a_route_whose_topic_has_a_new_id_starts_anew_under_it() {
    let twin = Twin::new();
    let run = twin.prepare().await;
    let supervisor = Supervisor::new(run.ends.clone());
    supervisor.apply(&assigned(&twin, 0..1).await, false).await;
    twin.produce(0..2);
    copied(&supervisor, 0, 2).await;
    let former = supervisor.monitor(&at(0)).expect("the route is known");
    twin.source.recreate_topic(TOPIC);
    supervisor.apply(&assigned(&twin, 0..1).await, false).await;
    let now = supervisor.monitor(&at(0)).expect("the route is known");
    assert_eq!((former.state(), now.route()), (PartitionState::Stopped, &twin.route(0).await));
    let halted = || matches!(now.state(), PartitionState::Halted(h) if h.reason == HaltReason::SourceRecreated);
    until("the new id is noticed", || halted().then_some(())).await;
}

/// A source with a bug: its first opening panics.
struct Buggy(MemoryCluster, AtomicBool);

impl Source for Buggy {
    fn open(&self, route: &Route, from: Offset, last_epoch: LeaderEpoch) -> Box<dyn Reader> {
        assert!(self.1.swap(true, Ordering::Relaxed), "a bug (as this test wishes)");
        self.0.open(route, from, last_epoch)
    }
}

#[tokio::test(start_paused = true)]
async fn a_replicator_that_died_of_a_bug_is_started_again() {
    let twin = Twin::new();
    let mut run = twin.prepare().await;
    let ends = Arc::get_mut(&mut run.ends).expect("nothing runs yet");
    ends.source = Arc::new(Buggy(twin.source.clone(), AtomicBool::new(false)));
    let supervisor = Supervisor::new(run.ends.clone());
    let routes = assigned(&twin, 0..1).await;
    supervisor.apply(&routes, false).await;
    twin.produce(0..2);
    meanwhile(1).await;
    assert_eq!(twin.target.log_end(&at(0)), Offset(0));
    supervisor.apply(&routes, false).await;
    copied(&supervisor, 0, 2).await;
}
