//! Keeping the lease: a renewal is an append, and counts from when it was sent.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::ledger::control::ControlRecord;
use crate::ledger::lease::{LEASE, Lease};
use crate::ledger::queue::Queue;
use crate::ledger::record::LeaseRecord;
use crate::runtime::retry::Pace;
use crate::runtime::tasks::TaskScope;

/// Time between renewals: two may fail before the lease is over.
const INTERVAL: Duration = Duration::from_millis(1500);

/// Starts renewing from `first` (just appended) on. Answers with the last lease record that was appended.
pub(super) fn start(first: LeaseRecord, queue: Queue, lease: Lease, scope: &TaskScope) -> watch::Receiver<LeaseRecord> {
    let (last, seen) = watch::channel(first);
    scope.spawn_until_stopped(run(last, queue, lease));
    seen
}

async fn run(last: watch::Sender<LeaseRecord>, queue: Queue, lease: Lease) {
    let mut pace = Pace::new(Duration::from_millis(50), INTERVAL);
    let mut pause = INTERVAL;
    while !lease.is_lost() {
        tokio::time::sleep(pause).await;
        let mut next = last.borrow().clone();
        next.renewal += 1;
        next.at_ms = crate::ledger::lease::wall_clock_ms();
        let sent = Instant::now();
        pause = match queue.append(vec![ControlRecord::Lease(next.clone())]).await {
            Ok(()) => {
                lease.renewed(sent + LEASE);
                last.send_replace(next);
                pace.reset();
                INTERVAL
            }
            Err(error) => {
                tracing::warn!(%error, "cannot renew the ledger's lease");
                pace.next_delay()
            }
        };
    }
}
