//! Orders to a link that no daemon runs: recorded under a lease of a moment, for its next start.

use tokio::sync::watch;
use tokio::time::timeout;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::ledger::{Acquiring, Claimant, Clusters, LEASE, Ledger, View};
use crate::link::TargetSide;
use crate::link::order::{self, Order};
use crate::model::LinkName;
use crate::runtime::tasks::TaskScope;

/// Takes the lease of `link`, records the order and gives the lease back. Asks the target only: the source may be gone.
///
/// # Errors
/// A sentence: the link has never run, another process holds its lease, or the order cannot be obeyed.
pub async fn obey(link: &LinkName, target: &TargetSide, order: &Order) -> Result<String, String> {
    let scope = TaskScope::new();
    let outcome = match hold(link, target, &scope).await {
        Ok(ledger) => {
            let outcome = order::record(order, link, &ledger).await;
            // Not given back it would only be waited out.
            let _ = ledger.release().await;
            outcome
        }
        Err(error) => Err(format!("link {link}: {error}")),
    };
    scope.stop().await;
    outcome
}

async fn hold(link: &LinkName, target: &TargetSide, scope: &TaskScope) -> Result<Ledger> {
    let never = || {
        let message = format!("it has never run, so nothing is recorded of it on {}: start it first", target.alias);
        Error::new(ErrorKind::UnknownTopic, message)
    };
    let view = match View::read_control(&*target.ledger).await {
        Err(error) if error.kind == ErrorKind::UnknownTopic => return Err(never()),
        view => view?,
    };
    let known = view.link().ok_or_else(never)?;
    let clusters = Clusters { source: known.source_cluster_id, target: target.catalog.cluster().await?.id };
    let (progress, seen) = watch::channel(Acquiring::Reading);
    let claimant = Claimant::new(link.clone());
    let acquired = Ledger::acquire(target.ledger.clone(), &claimant, clusters, scope, &progress);
    // A holder that is gone is waited out once; one that lives renews, and would be waited for without end.
    timeout(3 * LEASE, acquired).await.unwrap_or_else(|_| {
        let why = match &*seen.borrow() {
            Acquiring::Waiting { holder, .. } => format!("{holder} runs it: ask the daemon there"),
            Acquiring::Retrying { error } => error.clone(),
            _ => format!("cluster {} does not answer", target.alias),
        };
        Err(Error::new(ErrorKind::Retryable, why))
    })
}
