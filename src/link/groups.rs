//! The timer of a session's groups: full passes at their interval, and passes over what was heard of in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::endpoint::Result;
use crate::ledger::record::SeenPositions;
use crate::ledger::{ControlRecord, RouteMap};
use crate::link::session::Session;
use crate::link::upkeep::{OBSERVED_INTERVAL, complain, every, unix_ms};
use crate::link::{SourceSide, TargetSide};
use crate::metadata::groups::{Extent, Groups, Mirrored, MirroredRoute, Sides};
use crate::model::{Halt, HaltReason, PartitionState};
use crate::policy::cut::{Hindrance, Progress};
use crate::replication::RouteMonitor;
use crate::telemetry::metrics::PassMetrics;

/// From the first commit heard of to the pass over it: others made meanwhile share its requests.
const GATHER: Duration = Duration::from_millis(15);
/// Pause between passes over what was heard of: each costs a transaction of the ledger, however many groups it is over.
const REST: Duration = Duration::from_millis(75);
/// The same for each route, if that is longer: each pass asks for the ends of all of them.
const REST_PER_ROUTE: Duration = Duration::from_micros(100);
/// Pause between looks whether the mirror has passed what waits for it.
const WAITING: Duration = Duration::from_millis(10);

/// Runs until dropped.
pub(super) async fn keep(session: Arc<Session>) {
    let mut groups = begin(&session).await;
    let metrics = PassMetrics::new(&session.settings.name, "groups");
    let mut ticks = every(session.settings.groups_interval);
    let mut mirrored = Mirrored::default();
    let (mut record_at, mut rested_at) = (Instant::now(), Instant::now());
    let mut recorded_at = None;
    let mut due: Option<Instant> = None;
    loop {
        if groups.has_news() {
            due.get_or_insert_with(|| rested_at.max(Instant::now() + GATHER));
        }
        let is_waiting = groups.is_waiting();
        let extent = tokio::select! {
            biased;
            _ = ticks.tick() => Extent::Full,
            () = sleep_until(due.unwrap_or(rested_at)), if due.is_some() => Extent::Heard,
            () = groups.heard(), if due.is_none() => continue,
            () = sleep(WAITING), if is_waiting => Extent::Waiting,
        };
        let began = Instant::now();
        if extent != Extent::Waiting {
            mirrored = routes(&session);
            due = None;
        }
        let outcome = groups.pass(&mirrored, extent, unix_ms()).await;
        if extent != Extent::Waiting {
            rested_at = Instant::now() + REST.max(REST_PER_ROUTE * mirrored.routes().len() as u32);
        }
        if extent != Extent::Full {
            if let Err(error) = outcome {
                tracing::debug!(link = %session.settings.name, %error, "pass over groups that were heard of");
            }
            continue;
        }
        metrics.ended(began.elapsed(), outcome.is_ok());
        complain(&session, "group pass", outcome.err());
        if Instant::now() >= record_at && !mirrored.routes().is_empty() {
            let outcome = record_seen(&session, recorded_at).await;
            if outcome.is_ok() {
                recorded_at = Some(began);
            }
            complain(&session, "recording group positions", outcome.err());
            record_at = Instant::now() + OBSERVED_INTERVAL;
        }
    }
}

async fn begin(session: &Session) -> Groups {
    loop {
        let sides = sides(&session.source, &session.target);
        let rules = session.settings.groups.clone();
        match Groups::new(sides, session.ledger.clone(), rules, session.groups.clone()).await {
            Ok(groups) => {
                complain(session, "group pass", None);
                return groups;
            }
            Err(error) => complain(session, "group pass", Some(error)),
        }
        sleep(session.settings.groups_interval).await;
    }
}

/// What groups need of both sides.
pub(super) fn sides(source: &SourceSide, target: &TargetSide) -> Sides {
    Sides {
        source: source.groups.clone(),
        catalog: source.catalog.clone(),
        feed: source.commits.clone(),
        target: target.groups.clone(),
        writer: target.group_writer.clone(),
    }
}

/// The routes as they stand.
pub(super) fn routes(session: &Session) -> Mirrored {
    let monitors = session.supervisor.monitors();
    monitors.iter().map(|monitor| (monitor.route().source.clone(), route(session, monitor))).collect()
}

fn route(session: &Session, monitor: &RouteMonitor) -> MirroredRoute {
    let (lag, behind) = match monitor.lag(session.started.elapsed()) {
        None => (monitor.since.elapsed(), Hindrance::Attaching),
        Some(lag) if lag.records > 0 && lag.records == lag.unstable => (lag.time, Hindrance::OpenTransaction),
        Some(lag) => (lag.time, Hindrance::Lagging),
    };
    let halted = matches!(monitor.state(), PartitionState::Halted(_));
    MirroredRoute {
        target: monitor.route().target.clone(),
        map: trusted_map(monitor),
        source_start: monitor.bounds().map(|bounds| bounds.log_start),
        target_start: monitor.target_start(),
        progress: Progress { halted, lag, behind },
        attachment: monitor.attachments.load(Ordering::Relaxed),
    }
}

/// A route's map, unless the route halted because one of the logs is no longer the one that was mapped.
fn trusted_map(monitor: &RouteMonitor) -> Option<RouteMap> {
    use HaltReason::{SourceRecreated, SourceRewritten, SourceTruncated, TargetRecreated, TargetRewritten};
    match monitor.state() {
        PartitionState::Halted(Halt {
            reason: SourceRecreated | SourceRewritten | SourceTruncated | TargetRecreated | TargetRewritten,
            ..
        }) => None,
        _ => monitor.map(),
    }
}

/// Keeps in the ledger what the source's groups have reached since, for when it is gone.
async fn record_seen(session: &Session, since: Option<Instant>) -> Result<()> {
    let at_ms = unix_ms();
    let (read, all_read) = session.groups.lock().expect("no panic while held").seen(since);
    let mut records = Vec::new();
    for (id, read) in read {
        // What is not told now, as while a transaction is open on it, keeps its last known position.
        let known = session.ledger.view().seen(&id);
        let hidden = known.as_ref().map(|known| known.positions.iter().filter(|(at, _)| read.pending.contains(*at)));
        let hidden = hidden.into_iter().flatten().map(|(at, offset)| (at.clone(), *offset));
        let told = read.offsets.iter().map(|(at, committed)| (at.clone(), committed.offset));
        let positions: BTreeMap<_, _> = hidden.chain(told).collect();
        if known.is_none_or(|known| known.positions != positions) {
            records.push(ControlRecord::Seen(id, SeenPositions { at_ms, positions }));
        }
    }
    if all_read {
        records.push(session.observed(|o| o.positions_at_ms = Some(at_ms)));
    }
    session.ledger.append(records).await
}
