//! While the source cannot be reached at a start: what stands on the target is kept from expiring.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::endpoint::Result;
use crate::link::absent::hold;
use crate::link::upkeep::unix_ms;
use crate::link::{LinkSettings, SourceSide, TargetSide, groups};
use crate::metadata::groups::{Board, Extent, Groups, Mirrored};
use crate::runtime::tasks::TaskScope;

/// Pause between attempts to reach the source.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Holds the link's lease and keeps its groups' positions, as they were written last, until the source answers or `stop`.
///
/// # Errors
/// The link has never run, another process holds its lease, or the target does not answer.
pub(super) async fn keep(
    settings: &Arc<LinkSettings>,
    source: &SourceSide,
    target: &TargetSide,
    stop: &CancellationToken,
) -> Result<()> {
    let scope = TaskScope::new();
    let ledger = match hold(&settings.name, target, &scope).await {
        Ok(ledger) => ledger,
        Err(error) => {
            scope.stop().await;
            return Err(error);
        }
    };
    let outcome = tokio::select! {
        () = stop.cancelled() => Ok(()),
        () = reached(source) => Ok(()),
        why = ledger.lease().lost() => Err(why),
        outcome = async {
            let sides = groups::sides(source, target);
            let mut groups = Groups::new(sides, ledger.clone(), settings.groups.clone(), Board::default()).await?;
            loop {
                groups.pass(&Mirrored::default(), Extent::Full, unix_ms()).await?;
                sleep(settings.groups_interval).await;
            }
        } => outcome,
    };
    // Not given back it would only be waited out.
    let _ = ledger.release().await;
    scope.stop().await;
    outcome
}

/// Resolves when the source answers.
async fn reached(source: &SourceSide) {
    loop {
        sleep(ASK_EVERY).await;
        if matches!(timeout(ASK_EVERY, source.catalog.cluster()).await, Ok(Ok(_))) {
            return;
        }
    }
}
