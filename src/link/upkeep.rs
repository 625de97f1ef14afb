//! The timers of a session: topics, source ends, map flush; groups have [their own](crate::link::groups). Each runs on its
//! own, so that a slow one delays none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::endpoint::{Bounds, Result};
use crate::ledger::ControlRecord;
use crate::ledger::record::{SourceEnd, SourceEnds, WantedConfigs};
use crate::link::groups;
use crate::link::session::Session;
use crate::metadata::neighbours::{Neighbours, Side};
use crate::metadata::topics::Topics;
use crate::model::{Offset, PartitionState, TopicName, TopicPartition};
use crate::runtime::tasks::TaskScope;
use crate::telemetry::metrics::PassMetrics;

/// The map may lag behind the data because starting attaches; beyond this nothing more is sent.
const UNFLUSHED_MAX: Duration = Duration::from_secs(10);
/// Likewise, in bytes of copied batches.
const UNFLUSHED_BYTES_MAX: u64 = 64 << 20;
/// What must survive the source's death is at most this old in the ledger (DESIGN §6).
pub(super) const OBSERVED_INTERVAL: Duration = Duration::from_secs(5);

/// Pause between looks at target partitions that stand still; a bulk request per broker.
const WATCH_INTERVAL: Duration = Duration::from_secs(5);

/// Pause between looks at both log starts; retention works in minutes.
const TRIM_INTERVAL: Duration = Duration::from_secs(15);

/// Starts the timers of a session in `scope`.
pub(super) fn start(session: &Arc<Session>, scope: &TaskScope) {
    scope.spawn_until_stopped(keep_topics(session.clone()));
    scope.spawn_until_stopped(keep_bounds(session.clone()));
    scope.spawn_until_stopped(keep_watch(session.clone()));
    scope.spawn_until_stopped(keep_trimmed(session.clone()));
    scope.spawn_until_stopped(keep_map(session.clone()));
    scope.spawn_until_stopped(groups::keep(session.clone()));
}

pub(super) fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn keep_topics(session: Arc<Session>) {
    let (source, target) = (session.source.clone(), session.target.clone());
    let rules = session.settings.topics.clone();
    let (from, to) = session.clusters.clone();
    let neighbours = Neighbours::new(
        session.settings.name.clone(),
        Side { alias: source.alias.clone(), cluster: from.id, ledgers: source.ledgers.clone() },
        Side { alias: target.alias.clone(), cluster: to.id, ledgers: target.ledgers.clone() },
    );
    let born = session.ledger.view().routes().iter().map(|born| born.route.source.topic.clone()).collect();
    let (catalogs, admin) = ((source.catalog.clone(), target.catalog.clone()), target.admin.clone());
    let mut topics = Topics::new(catalogs, admin, neighbours, rules, born);
    let metrics = PassMetrics::new(&session.settings.name, "topics");
    let mut ticks = every(session.settings.topics_interval);
    loop {
        let began = ticks.tick().await;
        let outcome = async {
            let report = topics.pass().await?;
            session.set_problems("topics", report.problems);
            let view = session.ledger.view();
            let is_news =
                |topic: &_, wanted: &_| view.wanted_configs(topic).is_none_or(|known| known.configs != *wanted);
            let news = report.after_hand_over.into_iter().filter(|(topic, wanted)| is_news(topic, wanted));
            let news: Vec<_> =
                news.map(|(topic, configs)| ControlRecord::Wanted(topic, WantedConfigs { configs })).collect();
            if !news.is_empty() {
                session.ledger.append(news).await?;
            }
            *session.notices.lock().expect("no panic while held") = report.notices;
            session.publish(report.sources, report.routes).await?;
            Ok(report.more)
        };
        let outcome: Result<bool> = outcome.await;
        metrics.ended(began.elapsed(), outcome.is_ok());
        if let Ok(true) = outcome {
            ticks.reset_immediately();
        }
        complain(&session, "topic pass", outcome.err());
    }
}

pub(super) fn complain(session: &Session, pass: &'static str, error: Option<crate::endpoint::Error>) {
    session.set_problems(pass, error.map(|e| format!("{pass} failed: {e}")).into_iter().collect());
}

async fn keep_bounds(session: Arc<Session>) {
    let metrics = PassMetrics::new(&session.settings.name, "bounds");
    let mut ticks = every(session.settings.bounds_interval);
    let mut record_at = Instant::now();
    loop {
        let began = ticks.tick().await;
        let monitors = session.supervisor.monitors();
        if monitors.is_empty() {
            continue;
        }
        let fresh = session.settings.bounds_interval;
        let (heard, unheard): (Vec<_>, Vec<_>) =
            monitors.iter().partition(|monitor| monitor.heard_bounds(session.started, fresh));
        let partitions: Vec<TopicPartition> = unheard.iter().map(|m| m.route().source.clone()).collect();
        let answers = session.source.catalog.bounds(&partitions).await;
        let now = session.started.elapsed();
        let (mut read, mut failed) = (heard, None);
        for (monitor, answer) in unheard.into_iter().zip(answers) {
            match answer {
                Ok(bounds) => {
                    monitor.saw_bounds(now, bounds);
                    read.push(monitor);
                }
                Err(error) => failed = Some(error),
            }
        }
        let all_read = failed.is_none();
        metrics.ended(began.elapsed(), all_read);
        complain(&session, "reading source ends", failed);
        if Instant::now() >= record_at {
            let at_ms = unix_ms();
            let mut ends: BTreeMap<&TopicName, BTreeMap<i32, SourceEnd>> = BTreeMap::new();
            for monitor in read {
                let at = &monitor.route().source;
                if let Some(bounds) = monitor.bounds() {
                    ends.entry(&at.topic).or_default().insert(at.partition, end_of(bounds));
                }
            }
            let mut records: Vec<ControlRecord> = Vec::new();
            for (topic, partitions) in ends {
                // What is not answered for now, as while its broker dies, keeps its last known end.
                let known = session.ledger.view().source_ends(topic);
                let mut all = known.as_ref().map(|known| known.partitions.clone()).unwrap_or_default();
                all.extend(partitions);
                if known.is_none_or(|known| known.partitions != all) {
                    records.push(ControlRecord::Ends(topic.clone(), SourceEnds { at_ms, partitions: all }));
                }
            }
            if all_read {
                records.push(session.observed(|o| o.ends_at_ms = Some(at_ms)));
            }
            let outcome = session.ledger.append(records).await;
            complain(&session, "recording source ends", outcome.err());
            record_at = Instant::now() + OBSERVED_INTERVAL;
        }
    }
}

fn end_of(bounds: Bounds) -> SourceEnd {
    SourceEnd { last_stable: bounds.last_stable, high_watermark: bounds.high_watermark }
}

/// The wall clock, milliseconds since 1970, for people and the ledger.
pub(super) fn unix_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Looks again at target partitions that stand still: an unclean election or a stranger there is otherwise noticed only by
/// the next ack (facts/live-measurements §3b.4).
async fn keep_watch(session: Arc<Session>) {
    let mut ticks = every(WATCH_INTERVAL);
    let mut left_at: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
    loop {
        ticks.tick().await;
        let mut still = Vec::new();
        let mut ends = BTreeMap::new();
        for monitor in session.supervisor.monitors() {
            let target = monitor.route().target.clone();
            let Some((_, end)) = monitor.position() else { continue };
            if left_at.get(&target) == Some(&end) && matches!(monitor.state(), PartitionState::Replicating { .. }) {
                still.push((monitor, end));
            }
            ends.insert(target, end);
        }
        left_at = ends;
        let partitions: Vec<TopicPartition> = still.iter().map(|(m, _)| m.route().target.clone()).collect();
        let answers = session.target.catalog.high_watermarks(&partitions).await;
        for ((monitor, end), answer) in still.into_iter().zip(answers) {
            let unmoved = monitor.position().is_some_and(|(_, now)| now == end);
            if unmoved && answer.is_ok_and(|now| now != end) {
                monitor.doubt();
            }
        }
    }
}

/// Forgets the part of each map that lies below both log starts: no group can ask for it any more.
async fn keep_trimmed(session: Arc<Session>) {
    let mut ticks = every(TRIM_INTERVAL);
    loop {
        ticks.tick().await;
        let monitors = session.supervisor.monitors();
        let targets: Vec<TopicPartition> = monitors.iter().map(|m| m.route().target.clone()).collect();
        let answers = session.target.catalog.log_starts(&targets).await;
        for (monitor, answer) in monitors.iter().zip(answers) {
            let Ok(theirs) = answer else { continue };
            monitor.saw_target_start(theirs);
            // A source that is silent has its log start from before: of the map more stays than need be.
            if let (Some(ours), Some(map)) = (monitor.bounds(), monitor.map()) {
                map.lock().expect("no panic while held").trim(ours.log_start, theirs);
            }
        }
    }
}

async fn keep_map(session: Arc<Session>) {
    let metrics = PassMetrics::new(&session.settings.name, "flush");
    let mut ticks = every(session.settings.flush_interval);
    let mut flushed_at = Instant::now();
    let mut flushed_bytes = 0;
    loop {
        let began = ticks.tick().await;
        let copied: u64 = copied_bytes(&session);
        let mut flushing = std::pin::pin!(flush(&session));
        let outcome = loop {
            tokio::select! {
                outcome = &mut flushing => break outcome,
                // A ledger that does not answer stalls the map as one that refuses does.
                () = sleep(session.settings.flush_interval) => note_stall(&session, flushed_at, flushed_bytes),
            }
        };
        metrics.ended(began.elapsed(), outcome.is_ok());
        match outcome {
            Ok(()) => {
                (flushed_at, flushed_bytes) = (Instant::now(), copied);
                complain(&session, "map flush", None);
            }
            Err(error) => complain(&session, "map flush", Some(error)),
        }
        note_stall(&session, flushed_at, flushed_bytes);
    }
}

fn note_stall(session: &Session, flushed_at: Instant, flushed_bytes: u64) {
    let behind = copied_bytes(session).saturating_sub(flushed_bytes);
    let stalled = flushed_at.elapsed() > UNFLUSHED_MAX
        || (flushed_at.elapsed() > 2 * session.settings.flush_interval && behind > UNFLUSHED_BYTES_MAX);
    session.map_stalled.send_if_modified(|now| std::mem::replace(now, stalled) != stalled);
}

fn copied_bytes(session: &Session) -> u64 {
    session.supervisor.monitors().iter().map(|m| m.bytes.load(std::sync::atomic::Ordering::Relaxed)).sum()
}

/// Makes the maps of all routes durable in one transaction.
pub(super) async fn flush(session: &Session) -> Result<()> {
    let mut targets = Vec::new();
    for monitor in session.supervisor.monitors() {
        monitor.settle_anchor();
        targets.push(monitor.route().target.clone());
    }
    session.ledger.flush_maps(&targets).await
}
