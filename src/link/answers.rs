//! What a session knows, put into the words of [`report`](crate::link::report): from memory, without asking a cluster.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::link::report::{PartitionReport, TranslateReport};
use crate::link::session::Session;
use crate::model::{Offset, PartitionState, TopicPartition};
use crate::offsets::Translation;
use crate::policy::resolution::ways_out;
use crate::replication::RouteMonitor;

pub(super) fn partitions(session: &Session) -> Vec<PartitionReport> {
    session.supervisor.monitors().iter().map(|monitor| partition(session, monitor)).collect()
}

/// A lag is told for so long after the source's ends were read, or for three intervals of reading them.
const ENDS_FRESH: Duration = Duration::from_secs(15);

fn partition(session: &Session, monitor: &RouteMonitor) -> PartitionReport {
    let route = monitor.route();
    let state = monitor.state();
    let position = monitor.position();
    // What a source that has gone silent had last says nothing of how far behind we are.
    let fresh = ENDS_FRESH.max(3 * session.settings.bounds_interval);
    let lag = monitor.lag(session.started.elapsed()).filter(|lag| lag.age <= fresh);
    let ways_out = match &state {
        PartitionState::Halted(halt) => ways_out(&session.settings.name, &route.target, halt.reason),
        _ => Vec::new(),
    };
    let unflushed = monitor.map().map_or(0, |map| map.lock().expect("no panic while held").unflushed_records());
    let plane = monitor.plane();
    PartitionReport {
        source: route.source.clone(),
        target: route.target.clone(),
        state,
        plane: plane.plane,
        plane_reason: plane.why,
        position: position.map(|p| p.0),
        target_end: position.map(|p| p.1),
        lag_records: lag.map(|l| l.records),
        unstable_records: lag.map(|l| l.unstable),
        lag_seconds: lag.map(|l| l.time.as_secs_f64()),
        records: monitor.records.load(Ordering::Relaxed),
        bytes: monitor.bytes.load(Ordering::Relaxed),
        altered_records: monitor.altered.load(Ordering::Relaxed),
        unflushed_records: unflushed,
        unanchored: monitor.unanchored.load(Ordering::Relaxed),
        ways_out,
    }
}

pub(super) fn translate(
    session: &Session,
    at: &TopicPartition,
    offset: Offset,
    reverse: bool,
) -> Result<TranslateReport, String> {
    let monitors = session.supervisor.monitors();
    let route = monitors.iter().find(|m| at == if reverse { &m.route().target } else { &m.route().source });
    let Some(monitor) = route else { return Ok(TranslateReport::Unknown) };
    let map = monitor.map().ok_or_else(|| format!("the map of {} is not loaded yet: try again", monitor.route()))?;
    let map = map.lock().expect("no panic while held");
    let (answer, partition) = if reverse {
        (map.translate_back(offset), &monitor.route().source)
    } else {
        (map.translate(offset), &monitor.route().target)
    };
    Ok(match answer {
        Translation::Exact(offset) => TranslateReport::Exact { partition: partition.clone(), offset },
        Translation::BeforeTheMirror { first } => TranslateReport::BeforeTheMirror { first },
        Translation::Ahead { end } => TranslateReport::Ahead { end },
    })
}
