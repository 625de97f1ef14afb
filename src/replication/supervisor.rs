//! Routes × desired state → running replicators: one task per route, each started and stopped alone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::model::{PartitionState, Route, TopicPartition};
use crate::policy::start::Start;
use crate::replication::monitor::RouteMonitor;
use crate::replication::replicator::{Ends, Replicator};
use crate::runtime::tasks::TaskScope;

/// A route that should run, and where its copying starts if it is not born yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The route.
    pub route: Route,
    /// Its start rule.
    pub start: Start,
}

/// Runs the replicators of a link.
pub struct Supervisor {
    ends: Arc<Ends>,
    scope: TaskScope,
    running: Mutex<BTreeMap<TopicPartition, Running>>,
}

struct Running {
    monitor: Arc<RouteMonitor>,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// A supervisor without routes.
    pub fn new(ends: Arc<Ends>) -> Self {
        Self { ends, scope: TaskScope::new(), running: Mutex::default() }
    }

    /// Makes what runs equal to what is assigned, touching no route that stays as it is. A route whose ids changed is
    /// stopped and started anew. `paused` routes keep their monitor but run nothing.
    pub async fn apply(&self, assigned: &[Assigned], paused: bool) {
        let wanted: BTreeMap<_, _> = assigned.iter().map(|a| (a.route.target.clone(), a)).collect();
        let mut ended = Vec::new();
        {
            let mut running = self.running.lock().expect("no panic while held");
            running.retain(|target, run| {
                let stays = wanted.get(target).is_some_and(|a| a.route == *run.monitor.route());
                if !stays || paused {
                    run.stop.cancel();
                    ended.extend(run.task.take().map(|task| (task, run.monitor.clone())));
                }
                stays
            });
        }
        for (task, monitor) in ended {
            if task.await.is_ok() && paused {
                monitor.enter(PartitionState::Paused);
            }
        }
        let mut running = self.running.lock().expect("no panic while held");
        for (target, assigned) in wanted {
            let run = running.entry(target).or_insert_with(|| Running {
                monitor: Arc::new(RouteMonitor::new(&self.ends.link, assigned.route.clone())),
                stop: self.scope.stopping().child_token(),
                task: None,
            });
            if paused {
                run.monitor.enter(PartitionState::Paused);
            } else if run.task.as_ref().is_none_or(JoinHandle::is_finished) {
                // Finished without being told to: a bug made it panic, which costs this partition alone a fresh start.
                run.stop = self.scope.stopping().child_token();
                let replicator = Replicator {
                    ends: self.ends.clone(),
                    monitor: run.monitor.clone(),
                    start: assigned.start,
                    stop: run.stop.clone(),
                };
                run.task = Some(self.scope.spawn(replicator.run()));
            }
        }
    }

    /// The faces of all routes, in order of the target partition.
    pub fn monitors(&self) -> Vec<Arc<RouteMonitor>> {
        self.running.lock().expect("no panic while held").values().map(|r| r.monitor.clone()).collect()
    }

    /// The face of one route.
    pub fn monitor(&self, target: &TopicPartition) -> Option<Arc<RouteMonitor>> {
        self.running.lock().expect("no panic while held").get(target).map(|r| r.monitor.clone())
    }

    /// Stops all replicators; each drains what it has in flight.
    pub async fn stop(&self) {
        self.scope.stop().await;
    }
}
