//! Attach: what every start and every recovery does. The target's true end is learnt and held against the map, both logs
//! are held against the anchor, and what a crash left behind the map's end is taken over or named (DESIGN §6).
//!
//! Nothing here writes records; what it appends to the ledger (birth, an obeyed decision) is durable before it is used.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::endpoint::{Bounds, EpochEnd, Error, ErrorKind, Opened, View, Writer};
use crate::ledger::record::Born;
use crate::ledger::{ControlKey, ControlRecord, RouteMap};
use crate::model::{
    Halt, HaltReason, LeaderEpoch, Offset, OffsetRange, PartitionState, ProtectionLevel, Resolution, Route,
};
use crate::offsets::{MapRun, OffsetMap};
use crate::policy::resolution::RetentionOvertook;
use crate::policy::tail::REMEMBERED_MAX;
use crate::replication::anchor::{self, Anchored};
use crate::replication::replicator::{Ended, Replicator};
use crate::replication::tail::{Cursor, TailReport, take_over};

/// Turns bound the requests that many attaching routes make at a time. A route that waits for a cluster longer than this
/// makes next to none, and lets others pass.
const TURN: Duration = Duration::from_secs(2);

/// The ends of the target's log as the writer's opening proved them.
#[derive(Clone, Copy)]
struct TargetLog {
    end: Offset,
    log_start: Offset,
}

/// A route ready to move records.
pub(super) struct Attached {
    pub(super) writer: Box<dyn Writer>,
    pub(super) map: RouteMap,
    /// Source offset to read next.
    pub(super) position: Offset,
    /// Target offset the next record must get.
    pub(super) expected: Offset,
    /// Source epoch of the last copied record.
    pub(super) last_epoch: LeaderEpoch,
    pub(super) level: ProtectionLevel,
}

impl Replicator {
    pub(super) async fn attach(&self) -> Result<Attached, Ended> {
        self.monitor.enter(PartitionState::Attaching);
        self.monitor.metrics.attached();
        let turn = self.ends.attach_turns.acquire().await.expect("the semaphore is never closed");
        let mut attaching = std::pin::pin!(self.attach_in_turn());
        match tokio::time::timeout(TURN, &mut attaching).await {
            Ok(attached) => attached,
            Err(_) => {
                drop(turn);
                attaching.await
            }
        }
    }

    async fn attach_in_turn(&self) -> Result<Attached, Ended> {
        let decision = self.ends.ledger.view().resolution(&self.route().target).map(|r| r.decision);
        if decision.is_some() {
            self.route_is_current().await?;
        }
        let Opened { writer, end, log_start, level, .. } = self.open_target().await?;
        let target = TargetLog { end, log_start };
        let bounds = self.source_bounds().await?;
        let map = self.map_of_route(target, bounds, decision).await?;
        // The map is worked on as a copy: other tasks read it while both clusters are asked.
        let mut draft = map.lock().expect("no panic while held").clone();
        self.reconcile(&mut draft, target, bounds, decision).await?;
        let (position, last_epoch) = (draft.position(), draft.last_epoch());
        self.monitor.set_map(&map, draft);
        self.settle(decision).await?;
        Ok(Attached { writer, map, position, expected: target.end, last_epoch, level })
    }

    async fn open_target(&self) -> Result<Opened, Ended> {
        let opened = self.ends.planes.sink(self.monitor.plane().plane).open(self.route(), self.ends.producer).await;
        opened.map_err(|e| match e.kind {
            ErrorKind::Recreated => halt(HaltReason::TargetRecreated, e.message),
            _ => Ended::from(e),
        })
    }

    /// A decision is for the topics as they are now: while this route still names a deleted topic's id, it waits for the
    /// route that follows.
    async fn route_is_current(&self) -> Result<(), Ended> {
        let Route { source, source_id, .. } = self.route();
        let topic = std::slice::from_ref(&source.topic);
        let now = self.ends.catalog.describe_topics(topic).await.pop().expect("one answer per topic asked for")?;
        if now.id == *source_id {
            return Ok(());
        }
        let message = format!("waiting for the route to {} as it was created again", source.topic);
        Err(Ended::Failed(Error::new(ErrorKind::Retryable, message)))
    }

    async fn source_bounds(&self) -> Result<Bounds, Ended> {
        let source = &self.route().source;
        let mut answers = self.ends.catalog.bounds(std::slice::from_ref(source)).await;
        Ok(answers.pop().expect("one answer per partition asked for")?)
    }

    /// The route's map: loaded, or born now. A birth is durable before anything is sent, so that a crash before the first
    /// map flush cannot skip records.
    async fn map_of_route(
        &self,
        target: TargetLog,
        bounds: Bounds,
        decision: Option<Resolution>,
    ) -> Result<RouteMap, Ended> {
        let route = self.route();
        let view = self.ends.ledger.view();
        if let Some(born) = view.born(&route.target) {
            let unlike = |a: Option<_>, b: Option<_>| matches!((a, b), (Some(a), Some(b)) if a != b);
            let forgotten = match decision {
                Some(Resolution::Resend) => Some(bounds.log_start),
                Some(Resolution::SkipLoss) if self.halted_for(HaltReason::SourceTruncated) => {
                    Some(self.new_history(&born, bounds).await?)
                }
                _ => None,
            };
            if let Some(first_source) = forgotten {
                return self.bear(first_source, target.end).await;
            }
            if unlike(born.route.source_id, route.source_id) {
                let detail =
                    format!("{} was deleted and created again: its id is no longer the one copied", route.source);
                return Err(halt(HaltReason::SourceRecreated, detail));
            }
            if unlike(born.route.target_id, route.target_id) {
                let detail =
                    format!("{} was deleted and created again: its id is no longer the one written", route.target);
                return Err(halt(HaltReason::TargetRecreated, detail));
            }
            return self.stored_map(&born);
        }
        if target.end > target.log_start {
            match decision {
                Some(Resolution::Adopt) => return self.bear(bounds.log_start, target.log_start).await,
                Some(Resolution::Resend) => return self.bear(bounds.log_start, target.end).await,
                _ => {
                    let held = target.end - target.log_start;
                    let detail = format!("{} already holds {held} offsets this link has no map for", route.target);
                    return Err(halt(HaltReason::TargetNotEmpty, detail));
                }
            }
        }
        let at_time = match self.start {
            crate::policy::start::Start::Time(ms) => self.ends.catalog.offset_at_time(&route.source, ms).await?,
            _ => None,
        };
        let first_source = self.start.first_offset(bounds.log_start, bounds.high_watermark, at_time);
        self.bear(first_source, target.end).await
    }

    /// Where a truncated source stops being the one that was copied: at the latest where the last copied record ends.
    async fn new_history(&self, born: &Born, bounds: Bounds) -> Result<Offset, Ended> {
        let (copied_end, last) = {
            let map = self.stored_map(born)?;
            let map = map.lock().expect("no panic while held");
            (copied_end(&map), map.last_run())
        };
        let told = self.end_of_epoch(last).await?;
        let first = told.map_or(copied_end, |told| copied_end.min(told.end));
        Ok(first.min(bounds.high_watermark).max(bounds.log_start))
    }

    /// Where the source's brokers say that the leader epoch of the last copied record ended; `None` where they, or the
    /// record, do not know of epochs.
    async fn end_of_epoch(&self, last: Option<MapRun>) -> Result<Option<EpochEnd>, Ended> {
        let Some(last) = last.filter(|run| run.epoch != LeaderEpoch::UNKNOWN) else { return Ok(None) };
        let told = self.ends.catalog.epoch_end(&self.route().source, last.epoch).await?;
        Ok((told.epoch != LeaderEpoch::UNKNOWN).then_some(told))
    }

    async fn bear(&self, first_source: Offset, target_start: Offset) -> Result<RouteMap, Ended> {
        let born = Born { route: self.route().clone(), first_source, target_start };
        self.ends.ledger.append(vec![ControlRecord::Born(born)]).await?;
        Ok(self.ends.ledger.set_map(&self.route().target, OffsetMap::new(first_source, target_start)))
    }

    /// The map as stored. None, or one of an earlier birth: the process ended between birth and first flush.
    fn stored_map(&self, born: &Born) -> Result<RouteMap, Ended> {
        let target = &self.route().target;
        let birth = (born.first_source, born.target_start);
        match self.ends.ledger.map(target)? {
            Some(map) if map.lock().expect("no panic while held").born() == birth => Ok(map),
            _ => Ok(self.ends.ledger.set_map(target, OffsetMap::new(birth.0, birth.1))),
        }
    }

    /// Holds the map against both logs and mends what may be mended; everything else halts with its name.
    async fn reconcile(
        &self,
        map: &mut OffsetMap,
        target: TargetLog,
        bounds: Bounds,
        decision: Option<Resolution>,
    ) -> Result<(), Ended> {
        let route = self.route();
        if target.end < map.target_end() {
            self.lost_tail(map, target)?;
        }
        self.source_still_holds(map, bounds).await?;
        let anchored = anchor::verify(
            map.anchors(),
            route,
            &*self.ends.source_points,
            bounds.log_start,
            &*self.ends.target_points,
            target.log_start,
        );
        let anchored = anchored.await?;
        self.monitor.unanchored.store(anchored == Anchored::Unanchored, Ordering::Relaxed);
        match anchored {
            Anchored::Proven => {}
            Anchored::Unanchored => tracing::warn!(%route, "unanchored: every anchor was compacted or has expired"),
            Anchored::SourceDiffers(at) => {
                let detail = format!("{} at offset {} is not the record that was copied", route.source, at.source);
                return Err(halt(HaltReason::SourceRewritten, detail));
            }
            Anchored::TargetDiffers(at) => {
                let detail = format!("{} at offset {} is not the record that was written", route.target, at.target);
                return Err(halt(HaltReason::TargetRewritten, detail));
            }
        }
        if target.end > map.target_end() {
            self.take_over_tail(map, target, bounds, decision).await?;
        }
        self.retention(map, bounds, decision)
    }

    /// The target ends below what we know it held: an unclean election took acknowledged records. They are copied again.
    fn lost_tail(&self, map: &mut OffsetMap, target: TargetLog) -> Result<(), Ended> {
        let route = self.route();
        let lost = map.target_end() - target.end;
        if route.target_id.is_none() && map.anchors().iter().all(|a| a.target >= target.end) {
            let detail = format!(
                "{} ends at {} where {} were written, its brokers do not tell whether it is the same topic, and no anchor \
                 is left to tell by",
                route.target,
                target.end,
                map.target_end()
            );
            return Err(halt(HaltReason::TargetRecreated, detail));
        }
        map.truncate_target(target.end);
        tracing::error!(
            %route, lost, end = %target.end, position = %map.position(),
            "the target lost acknowledged records (unclean election): copying them again"
        );
        Ok(())
    }

    /// The source must still hold what was copied from it, by its ends and by its epoch history, and nothing where nothing
    /// was to be copied.
    async fn source_still_holds(&self, map: &OffsetMap, bounds: Bounds) -> Result<(), Ended> {
        let source = &self.route().source;
        let position = map.position();
        // Of neither end a leader tells before it has come to where its predecessor was (KIP-207). A start may have been
        // chosen above the stable one; what was passed since was stable.
        let stable_to = if position > map.born().0 { bounds.last_stable } else { position };
        for (end, name) in [(bounds.high_watermark, "ends at"), (stable_to, "is stable only up to")] {
            if end < position {
                let detail = format!("{source} {name} {end}, but everything below {position} was copied");
                return Err(halt(HaltReason::SourceTruncated, detail));
            }
        }
        let copied_end = copied_end(map);
        let last = map.last_run().filter(|_| copied_end > bounds.log_start);
        if let (Some(last), Some(told)) = (last, self.end_of_epoch(last).await?) {
            if told.epoch < last.epoch || told.end < copied_end {
                let detail = format!(
                    "{source} ended leader epoch {} at {}, but offsets up to {copied_end} of epoch {} were copied",
                    told.epoch, told.end, last.epoch
                );
                return Err(halt(HaltReason::SourceTruncated, detail));
            }
            if told.end >= position {
                return Ok(());
            }
        }
        self.source_is_still_void(OffsetRange::new(copied_end.max(bounds.log_start).min(position), position)).await
    }

    /// A hole behind the last copied record was passed in a leader epoch that nobody wrote down. Records never appear in
    /// one, but when the log was cut in it and written anew.
    async fn source_is_still_void(&self, passed: OffsetRange) -> Result<(), Ended> {
        let source = &self.route().source;
        let mut hole = Cursor::new(&*self.ends.source_points, source, View::Committed, passed);
        let Some(record) = hole.peek().await? else { return Ok(()) };
        let detail = format!(
            "{source} holds a record at offset {}, where there was none when {passed} was passed: its end was cut off and \
             written anew",
            record.offset
        );
        Err(halt(HaltReason::SourceTruncated, detail))
    }

    async fn take_over_tail(
        &self,
        map: &mut OffsetMap,
        target: TargetLog,
        bounds: Bounds,
        decision: Option<Resolution>,
    ) -> Result<(), Ended> {
        let route = self.route();
        let _turn = self.ends.tail_turns.acquire().await.expect("the semaphore is never closed");
        let vanished_below = if self.source_is_compacted().await? { bounds.last_stable } else { bounds.log_start };
        let unread = OffsetRange::new(map.position().max(bounds.log_start).min(bounds.last_stable), bounds.last_stable);
        let mut source = Cursor::new(&*self.ends.source_points, &route.source, View::Committed, unread);
        let tail_start = map.target_end().max(target.log_start);
        let tail = OffsetRange::new(tail_start, target.end);
        let mut written = Cursor::new(&*self.ends.target_points, &route.target, View::Log, tail);
        let remembered =
            Offset(tail_start.0 - REMEMBERED_MAX as i64).max(target.log_start).max(map.born().1).min(tail_start);
        let before = OffsetRange::new(remembered, tail_start);
        let mut before = Cursor::new(&*self.ends.target_points, &route.target, View::Log, before);
        let accept_foreign = decision == Some(Resolution::Adopt) && self.halted_for(HaltReason::ForeignWrite);
        let report = take_over(map, &mut source, &mut written, &mut before, vanished_below, accept_foreign).await?;
        self.monitor.metrics.duplicated(report.duplicated);
        self.monitor.metrics.unverifiable(report.unverifiable);
        let TailReport { matched, duplicated, unverifiable, foreign } = report;
        if let Some(at) = foreign {
            let detail = format!(
                "{} at offset {at} is not the next record of {} (offset {} on): somebody else wrote it",
                route.target,
                route.source,
                map.position()
            );
            return Err(halt(HaltReason::ForeignWrite, detail));
        }
        map.pass_target(target.end);
        tracing::info!(%route, matched, duplicated, unverifiable, "took over the target's tail");
        Ok(())
    }

    async fn source_is_compacted(&self) -> Result<bool, Ended> {
        let topic = std::slice::from_ref(&self.route().source.topic);
        let configs = self.ends.catalog.topic_configs(topic).await.pop().expect("one answer per topic asked for")?;
        Ok(configs.get("cleanup.policy").and_then(|e| e.value.as_deref()).is_some_and(|v| v.contains("compact")))
    }

    /// Records the source dropped before they were copied: lost, with the exact range.
    fn retention(&self, map: &mut OffsetMap, bounds: Bounds, decision: Option<Resolution>) -> Result<(), Ended> {
        if bounds.log_start <= map.position() {
            return Ok(());
        }
        let lost = OffsetRange::new(map.position(), bounds.log_start);
        let accepted =
            decision == Some(Resolution::SkipLoss) || self.ends.retention_overtook == RetentionOvertook::Continue;
        if !accepted {
            let detail = format!("{} no longer has offsets {lost}, which were not copied yet", self.route().source);
            return Err(halt(HaltReason::RetentionOvertook, detail));
        }
        tracing::error!(route = %self.route(), %lost, "retention removed records before they were copied: going on behind them");
        self.monitor.metrics.lost(lost.span() as u64);
        map.skip(lost);
        Ok(())
    }

    fn halted_for(&self, reason: HaltReason) -> bool {
        self.ends.ledger.view().halt(&self.route().target).is_some_and(|h| h.halt.reason == reason)
    }

    /// The route attached: an obeyed decision and the halt it answered are history, once what followed from it is durable.
    async fn settle(&self, decision: Option<Resolution>) -> Result<(), Ended> {
        let target = &self.route().target;
        if decision.is_some() {
            self.ends.ledger.flush_maps(std::slice::from_ref(target)).await?;
        }
        if decision.is_some() || self.ends.ledger.view().halt(target).is_some() {
            let answered = [ControlKey::Resolution(target.clone()), ControlKey::Halt(target.clone())];
            self.ends.ledger.append(answered.map(ControlRecord::Removed).to_vec()).await?;
        }
        Ok(())
    }
}

/// Exclusive end of the last copied record: from here to the position nothing survived.
fn copied_end(map: &OffsetMap) -> Offset {
    map.last_run().map_or(map.born().0, |run| run.source + run.length)
}

fn halt(reason: HaltReason, detail: String) -> Ended {
    Ended::Halted(Halt { reason, detail })
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Fenced => halt(HaltReason::Fenced, error.message),
            ErrorKind::Denied => halt(HaltReason::AccessDenied, error.message),
            ErrorKind::Corrupt => halt(HaltReason::Corrupt, error.message),
            ErrorKind::PlaneRefused => Ended::PlaneRefused(error),
            ErrorKind::TooLarge | ErrorKind::Refused => halt(HaltReason::RecordRefused, error.message),
            _ => Ended::Failed(error),
        }
    }
}
