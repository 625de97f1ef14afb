//! A cluster in memory, with the rules of a real one and faults on demand, behind the same contracts and, where wanted,
//! behind real sockets ([`ModelBrokers`]).
//!
//! It keeps real record batches, checks them as a broker does (`facts/live-measurements` §3) and forgets what a broker
//! forgets, but runs on tokio's paused clock and fails exactly where a test says. Compiled for tests and with the
//! feature `test-util` only.

mod brokers;
mod commits;
mod events;
mod faults;
mod groups;
mod ledger;
mod line;
mod log;
mod point;
mod producers;
mod sink;
mod source;
#[cfg(test)]
mod tests;
mod topics;
mod traffic;
mod transactions;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{ClusterId, GroupId, LinkName, TopicName, TopicPartition};
use crate::runtime::tasks::TaskScope;

pub use brokers::{Mishap, ModelBrokers};
pub use faults::{Call, Disturbance};
pub use ledger::MemoryLedger;
pub use traffic::Transaction;

use faults::Faults;
use groups::Group;
use ledger::LedgerState;
use log::Log;
use topics::Topic;

/// A cluster of one broker in memory. Cheap to clone; clones are the same cluster. It implements every contract of
/// [`endpoint`](crate::endpoint), and has methods for what applications, operators and bad luck do to a cluster.
#[derive(Clone)]
pub struct MemoryCluster {
    shared: Arc<Shared>,
}

struct Shared {
    id: ClusterId,
    state: Mutex<State>,
    /// Sent after every change of the state: who waits for something looks again.
    changed: watch::Sender<()>,
    /// What the broker does on its own: answering writes.
    tasks: TaskScope,
}

#[derive(Default)]
struct State {
    topics: BTreeMap<TopicName, Topic>,
    groups: BTreeMap<GroupId, Group>,
    ledgers: BTreeMap<LinkName, LedgerState>,
    coordinator_is_deaf: bool,
    faults: Faults,
    tells_no_topic_ids: bool,
    topics_created: u64,
    connections_opened: u64,
    producer_ids_given: i64,
}

impl MemoryCluster {
    /// An empty cluster with this `cluster.id`.
    pub fn new(id: impl Into<ClusterId>) -> Self {
        let (changed, _) = watch::channel(());
        let shared = Shared { id: id.into(), state: Mutex::default(), changed, tasks: TaskScope::new() };
        Self { shared: Arc::new(shared) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that fails while it holds the lock shall show its own failure, not a poisoned lock.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes who waits for that.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.shared.changed.send_replace(());
        changed
    }

    /// Looks at the state, now and after every change, until there is an answer. Cancel-safe.
    async fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let answer = look(&mut self.state());
            match answer {
                Some(answer) => return answer,
                None => changed.changed().await.expect("the cluster that waits keeps the sender"),
            }
        }
    }

    fn error(&self, kind: ErrorKind, what: impl std::fmt::Display) -> Error {
        Error::new(kind, format!("{}: {what}", self.shared.id))
    }
}

impl State {
    fn topic(&self, name: &TopicName) -> Result<&Topic> {
        self.topics.get(name).ok_or_else(|| unknown(name))
    }

    fn topic_mut(&mut self, name: &TopicName) -> Result<&mut Topic> {
        self.topics.get_mut(name).ok_or_else(|| unknown(name))
    }

    fn log(&self, at: &TopicPartition) -> Result<&Log> {
        let index = usize::try_from(at.partition).map_err(|_| unknown(at))?;
        self.topic(&at.topic)?.partitions.get(index).ok_or_else(|| unknown(at))
    }

    fn log_mut(&mut self, at: &TopicPartition) -> Result<&mut Log> {
        let index = usize::try_from(at.partition).map_err(|_| unknown(at))?;
        self.topic_mut(&at.topic)?.partitions.get_mut(index).ok_or_else(|| unknown(at))
    }
}

fn unknown(what: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::UnknownTopic, format!("{what} does not exist"))
}
