//! The holder's ledger: appending, flushing maps, giving it back.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::endpoint::{LedgerAppender, LedgerStore, LedgerTopic, Result};
use crate::ledger::acquire::{self, Acquired, Acquiring};
use crate::ledger::claimant::Claimant;
use crate::ledger::control::ControlRecord;
use crate::ledger::lease::Lease;
use crate::ledger::mapping;
use crate::ledger::queue::Queue;
use crate::ledger::record::LeaseRecord;
use crate::ledger::renewal;
use crate::ledger::view::{RouteMap, View};
use crate::model::{ClusterId, TopicPartition};
use crate::offsets::{MapChanges, OffsetMap};
use crate::runtime::tasks::TaskScope;

/// The two clusters as they report themselves now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    /// `cluster.id` of the source.
    pub source: ClusterId,
    /// `cluster.id` of the target.
    pub target: ClusterId,
}

/// The ledger in the hands of its one holder. Cheap to clone. It is held until [`Ledger::release`], until the scope it
/// was acquired in stops, or until [`Lease::lost`].
#[derive(Clone)]
pub struct Ledger {
    held: Arc<Held>,
}

struct Held {
    view: View,
    lease: Lease,
    appender: Arc<dyn LedgerAppender>,
    queue: Queue,
    last_lease: watch::Receiver<LeaseRecord>,
    tasks: TaskScope,
    renewing: TaskScope,
}

impl Ledger {
    /// Reads the ledger to its end, waits until the lease permits, claims it and keeps renewing the lease in a child of
    /// `scope`. Passing errors (target away, its coordinator still starting) are retried, shown in `progress`; dropping
    /// the future gives up, at worst leaving an earlier holder fenced.
    ///
    /// # Errors
    /// `Denied` when the ledger belongs to other clusters than `clusters` or a right is missing; `Unsupported` when a
    /// newer Twinlog wrote it; `Corrupt` when something else did.
    pub async fn acquire(
        store: Arc<dyn LedgerStore>,
        claimant: &Claimant,
        clusters: Clusters,
        scope: &TaskScope,
        progress: &watch::Sender<Acquiring>,
    ) -> Result<Ledger> {
        let Acquired { view, appender, lease, record } =
            acquire::acquire(&*store, claimant, &clusters, progress).await?;
        let (tasks, renewing) = (scope.child(), scope.child());
        let queue = Queue::start(&claimant.link, appender.clone(), view.clone(), lease.clone(), &tasks);
        let last_lease = renewal::start(record, queue.clone(), lease.clone(), &renewing);
        Ok(Ledger { held: Arc::new(Held { view, lease, appender, queue, last_lease, tasks, renewing }) })
    }

    /// What the ledger says; shows an append as soon as it is durable.
    pub fn view(&self) -> &View {
        &self.held.view
    }

    /// Our right to the ledger.
    pub fn lease(&self) -> &Lease {
        &self.held.lease
    }

    /// Appends all records in one transaction, in order; durable, and in the view, on return. Calls made at the same time
    /// share a transaction. A dropped future may or may not have appended.
    ///
    /// # Errors
    /// `Retryable`: nothing was appended, repeat the call. `Fenced`: a successor claimed, the lease is lost.
    pub async fn append(&self, records: Vec<ControlRecord>) -> Result<()> {
        self.held.queue.append(records).await
    }

    /// Makes `map` the map of the route to `target`, in place of any other, and shares it with all readers. Durable with
    /// the next flush, which deletes what is stored of the other.
    pub fn set_map(&self, target: &TopicPartition, mut map: OffsetMap) -> RouteMap {
        map.store_again(self.held.view.stored_segments(target));
        let map = Arc::new(Mutex::new(map));
        self.held.view.own_map(target, map.clone());
        map
    }

    /// The map of the route to `target` as stored, now ours to extend; `None` when none was ever flushed.
    ///
    /// # Errors
    /// As [`View::map`].
    pub fn map(&self, target: &TopicPartition) -> Result<Option<RouteMap>> {
        let map = self.held.view.map(target)?;
        if let Some(map) = &map {
            self.held.view.own_map(target, map.clone());
        }
        Ok(map)
    }

    /// Stores what changed in the maps of the routes to `targets`, in one transaction; durable on return. On failure the
    /// changes are put back and go with the next flush. A dropped future completes in the background.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub async fn flush_maps(&self, targets: &[TopicPartition]) -> Result<()> {
        let mut taken = Vec::new();
        for target in targets {
            // A map that cannot be read has no changes of ours, and is no reason to keep the others from the ledger.
            let Ok(Some(map)) = self.held.view.map(target) else { continue };
            let changes = map.lock().unwrap_or_else(PoisonError::into_inner).take_changes();
            if !changes.is_empty() {
                taken.push(Taken { target: target.clone(), map, changes });
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let held = self.held.clone();
        let flush = async move {
            let entries = taken.iter().flat_map(|t| mapping::to_entries(&t.target, &t.changes)).collect();
            let stored = held.appender.append(LedgerTopic::Map, entries).await;
            if let Err(error) = &stored {
                for Taken { map, changes, .. } in taken {
                    map.lock().unwrap_or_else(PoisonError::into_inner).restore_changes(changes);
                }
                held.lease.note(error);
            }
            stored
        };
        self.held.tasks.spawn(flush).await.expect("a flush neither panics nor is aborted")
    }

    /// Gives the ledger back, so that a successor need not wait: stops renewing and marks the lease released. Call it
    /// after the last append and flush, and before stopping the scope the ledger was acquired in.
    ///
    /// # Errors
    /// As [`Ledger::append`]; a successor then waits the lease out.
    pub async fn release(self) -> Result<()> {
        self.held.renewing.stop().await;
        let last = self.held.last_lease.borrow().clone();
        let released = LeaseRecord { released: true, ..last };
        let result = self.held.queue.append(vec![ControlRecord::Lease(released)]).await;
        self.held.lease.give_up();
        self.held.tasks.stop().await;
        result
    }
}

struct Taken {
    target: TopicPartition,
    map: RouteMap,
    changes: MapChanges,
}
