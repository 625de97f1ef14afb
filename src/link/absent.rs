//! Orders to a link that no daemon runs: recorded under a lease of a moment, for its next start.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::ledger::{Acquiring, Claimant, Clusters, LEASE, Ledger, View};
use crate::link::TargetSide;
use crate::link::order::{self, Order};
use crate::model::LinkName;
use crate::runtime::tasks::TaskScope;

/// How long the control topic, which is small, may take to be read.
const SILENCE: Duration = Duration::from_secs(30);

/// Takes the lease of `link`, records the order and gives the lease back. Asks the target only: the source may be gone.
///
/// # Errors
/// A sentence: the link has never run, another process holds its lease, or the order cannot be obeyed.
pub async fn obey(link: &LinkName, target: &TargetSide, order: &Order) -> Result<String, String> {
    let scope = TaskScope::new();
    let outcome = match hold(link, target, &scope).await {
        Ok(ledger) => {
            let outcome = order::record(order, link, &ledger, &*target.groups, None).await;
            // Not given back it would only be waited out.
            let _ = ledger.release().await;
            outcome
        }
        Err(error) => Err(format!("link {link}: {error}")),
    };
    scope.stop().await;
    outcome
}

/// Takes the lease of a link that has run before, if nobody holds it.
pub(super) async fn hold(link: &LinkName, target: &TargetSide, scope: &TaskScope) -> Result<Ledger> {
    let never = || {
        let message = format!("it has never run, so nothing is recorded of it on {}: start it first", target.alias);
        Error::new(ErrorKind::UnknownTopic, message)
    };
    let read = timeout(SILENCE, View::read_control(&*target.ledger)).await.unwrap_or_else(|_| {
        let message = format!("cluster {} did not answer within {SILENCE:?}", target.alias);
        Err(Error::new(ErrorKind::Retryable, message))
    });
    let view = match read {
        Err(error) if error.kind == ErrorKind::UnknownTopic => return Err(never()),
        view => view?,
    };
    let known = view.link().ok_or_else(never)?;
    let clusters = Clusters { source: known.source_cluster_id, target: target.catalog.cluster().await?.id };
    let (progress, seen) = watch::channel(Acquiring::Reading);
    let claimant = Claimant::new(link.clone());
    tokio::select! {
        acquired = Ledger::acquire(target.ledger.clone(), &claimant, clusters, scope, &progress) => acquired,
        why = in_vain(seen) => Err(Error::new(ErrorKind::Retryable, why)),
    }
}

/// Resolves, with the reason, when the ledger cannot be had by waiting: a holder that is gone is waited out once, one that
/// lives renews. How long reading takes depends on the map, and is no reason to give up.
async fn in_vain(mut seen: watch::Receiver<Acquiring>) -> String {
    let hindrance = |state: &Acquiring| match state {
        Acquiring::Waiting { holder, .. } => Some(format!("{holder} runs it: ask the daemon there")),
        Acquiring::Retrying { error } => Some(error.clone()),
        _ => None,
    };
    loop {
        let why = hindrance(&seen.borrow_and_update());
        match why {
            None => drop(seen.changed().await),
            Some(why) => {
                if timeout(3 * LEASE, seen.wait_for(|state| hindrance(state).is_none())).await.is_err() {
                    return why;
                }
            }
        }
    }
}
