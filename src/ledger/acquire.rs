//! Coming to hold the ledger: read, wait, claim, read again, take the lease.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::{LedgerAppender, LedgerStore, Result};
use crate::ledger::lease::Lease;
use crate::ledger::owner::Clusters;
use crate::ledger::record::LeaseRecord;
use crate::ledger::view::View;
use crate::model::LinkName;

/// How far an acquisition has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquiring {
    /// Reading the ledger to its end.
    Reading,
    /// Waiting for another holder's lease to run out.
    Waiting {
        /// Who holds it, for people.
        holder: String,
        /// When it is over, unless it is renewed.
        until: Instant,
    },
    /// Fencing earlier holders.
    Claiming,
    /// A passing failure; tries again.
    Retrying {
        /// What failed.
        error: String,
    },
    /// The ledger is ours.
    Held,
}

pub(super) struct Acquired {
    pub view: View,
    pub appender: Arc<dyn LedgerAppender>,
    pub lease: Lease,
    pub record: LeaseRecord,
}

pub(super) async fn acquire(
    store: &dyn LedgerStore,
    link: &LinkName,
    clusters: &Clusters,
    progress: &watch::Sender<Acquiring>,
) -> Result<Acquired> {
    let _ = (store, link, clusters, progress);
    std::future::pending().await
}
