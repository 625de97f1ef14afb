//! What one route shows of itself: written by its replicator, read by flush, status and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::endpoint::{Bounds, EndsByFetch};
use crate::ledger::RouteMap;
use crate::model::{LinkName, Offset, PartitionState, Plane, Route};
use crate::offsets::OffsetMap;
use crate::policy::lag::LagClock;
use crate::replication::anchor::AnchorSlot;
use crate::replication::planes::PlaneInUse;
use crate::telemetry::metrics::RouteMetrics;

/// One route's face; shared.
pub struct RouteMonitor {
    route: Route,
    /// Since when there is such a route.
    pub since: Instant,
    state: watch::Sender<PartitionState>,
    map: Mutex<Option<RouteMap>>,
    pub(super) anchor: Mutex<AnchorSlot>,
    ends: Mutex<Ends>,
    plane: Mutex<PlaneInUse>,
    /// Records copied by this process.
    pub records: AtomicU64,
    /// Bytes of record batches copied by this process.
    pub bytes: AtomicU64,
    /// Records that this process wrote with another timestamp, because their plane cannot carry theirs.
    pub altered: AtomicU64,
    /// How often the map's content was replaced: the same source offset may lie elsewhere then.
    pub attachments: AtomicU64,
    /// Whether the last attach had nothing to hold against both logs: every anchor was compacted or has expired.
    pub unanchored: AtomicBool,
    pub(super) metrics: RouteMetrics,
    /// Woken when the target was seen to end elsewhere than the map says.
    pub(super) doubted: Notify,
    /// Woken when an operator decided about this route.
    pub(super) decided: Notify,
}

#[derive(Default)]
struct Ends {
    lag: LagClock,
    bounds: Option<Bounds>,
    /// When they were read.
    seen_at: Duration,
    /// Where they are heard of in between.
    by_fetch: Option<Arc<dyn EndsByFetch>>,
    target_start: Option<Offset>,
}

/// Lag of a route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LagReport {
    /// Source offsets up to the high watermark not yet on the target.
    pub records: i64,
    /// Of these, behind the last stable offset.
    pub unstable: i64,
    /// Time since the source's end was where our position is.
    pub time: Duration,
    /// Time since the source's ends were read.
    pub age: Duration,
}

impl RouteMonitor {
    /// A route that does not run yet.
    pub fn new(link: &LinkName, route: Route) -> Self {
        Self {
            metrics: RouteMetrics::new(link, &route.target),
            route,
            since: Instant::now(),
            state: watch::channel(PartitionState::Stopped).0,
            map: Mutex::default(),
            anchor: Mutex::default(),
            ends: Mutex::default(),
            plane: Mutex::new(PlaneInUse { plane: Plane::Batches, why: None }),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            altered: AtomicU64::new(0),
            attachments: AtomicU64::new(0),
            unanchored: AtomicBool::new(false),
            doubted: Notify::new(),
            decided: Notify::new(),
        }
    }

    /// The route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// What the partition is doing.
    pub fn state(&self) -> PartitionState {
        self.state.borrow().clone()
    }

    /// The plane it travels on.
    pub fn plane(&self) -> PlaneInUse {
        self.plane.lock().expect("no panic while held").clone()
    }

    pub(super) fn set_plane(&self, plane: PlaneInUse) {
        *self.plane.lock().expect("no panic while held") = plane;
    }

    pub(super) fn altered(&self, records: u64) {
        if records > 0 {
            self.metrics.altered(records);
            self.altered.fetch_add(records, Ordering::Relaxed);
        }
    }

    /// Follows the partition's state.
    pub fn watch(&self) -> watch::Receiver<PartitionState> {
        self.state.subscribe()
    }

    pub(super) fn enter(&self, state: PartitionState) {
        self.state.send_if_modified(|now| {
            let changed = *now != state;
            if changed {
                tracing::debug!(route = %self.route, ?state, "partition state");
                *now = state;
            }
            changed
        });
    }

    /// Makes `now`, worked out from an earlier copy of `map`, its content. Anchors of what was there before must not reach
    /// it, so none is settled meanwhile.
    pub(super) fn set_map(&self, map: &RouteMap, mut now: OffsetMap) {
        let mut anchor = self.anchor.lock().expect("no panic while held");
        anchor.clear();
        let mut content = map.lock().expect("no panic while held");
        // Segments trimmed meanwhile, and deleted from the ledger, are needed again.
        let deleted: Vec<u32> = now.stored_segments().difference(&content.stored_segments()).copied().collect();
        now.store_again(deleted);
        *content = now;
        *self.map.lock().expect("no panic while held") = Some(map.clone());
        self.attachments.fetch_add(1, Ordering::Relaxed);
    }

    /// The route's map, once it has one.
    pub fn map(&self) -> Option<RouteMap> {
        self.map.lock().expect("no panic while held").clone()
    }

    /// Exclusive end of what the target durably holds: source position and target end.
    pub fn position(&self) -> Option<(Offset, Offset)> {
        let map = self.map()?;
        let map = map.lock().expect("no panic while held");
        Some((map.position(), map.target_end()))
    }

    pub(super) fn copied(&self, records: u64, bytes: u64, took: Duration) {
        self.metrics.copied(records, bytes, took);
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes the source's ends as read at `now` (any monotonic clock).
    pub fn saw_bounds(&self, now: Duration, bounds: Bounds) {
        let mut ends = self.ends.lock().expect("no panic while held");
        // What was asked for meanwhile is newer than what was heard before.
        if now < ends.seen_at {
            return;
        }
        ends.lag.saw_end(now, bounds.high_watermark);
        ends.bounds = Some(bounds);
        ends.seen_at = now;
    }

    /// The source's ends are heard of here from now on.
    pub(super) fn hear_ends(&self, by_fetch: Option<Arc<dyn EndsByFetch>>) {
        self.ends.lock().expect("no panic while held").by_fetch = by_fetch;
    }

    /// Notes the source's ends as the fetch last heard of them, by a clock that began at `clock`. Answers whether that was
    /// within `fresh`, so that nobody need ask for them.
    pub fn heard_bounds(&self, clock: Instant, fresh: Duration) -> bool {
        let by_fetch = self.ends.lock().expect("no panic while held").by_fetch.clone();
        let Some(heard) = by_fetch.and_then(|by_fetch| by_fetch.last_told()) else { return false };
        let is_fresh = heard.at.elapsed() <= fresh;
        if is_fresh {
            self.saw_bounds(heard.at.saturating_duration_since(clock), heard.bounds);
        }
        is_fresh
    }

    /// Notes the first offset that the target still has.
    pub fn saw_target_start(&self, log_start: Offset) {
        self.ends.lock().expect("no panic while held").target_start = Some(log_start);
    }

    /// First offset that the target still has, as last read.
    pub fn target_start(&self) -> Option<Offset> {
        self.ends.lock().expect("no panic while held").target_start
    }

    /// The source's ends as last read.
    pub fn bounds(&self) -> Option<Bounds> {
        self.ends.lock().expect("no panic while held").bounds
    }

    /// Lag at `now` (the same clock); `None` until ends and position are known.
    pub fn lag(&self, now: Duration) -> Option<LagReport> {
        let (position, _) = self.position()?;
        let mut ends = self.ends.lock().expect("no panic while held");
        let bounds = ends.bounds?;
        Some(LagReport {
            records: (bounds.high_watermark - position).max(0),
            unstable: (bounds.high_watermark - bounds.last_stable.max(position)).max(0),
            time: ends.lag.lag(now, position),
            age: now.saturating_sub(ends.seen_at),
        })
    }

    /// Wakes a halted partition: an operator decided.
    pub fn decide(&self) {
        self.decided.notify_one();
    }

    /// Makes a replicating partition attach again: the target ends elsewhere than where we left it.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Puts the newest anchor into the map; called right before its changes are taken for a flush.
    pub fn settle_anchor(&self) {
        let mut slot = self.anchor.lock().expect("no panic while held");
        if let (Some(anchor), Some(map)) = (slot.take(), self.map()) {
            let mut map = map.lock().expect("no panic while held");
            // A truncation may have overtaken the anchor since it was made.
            if anchor.target < map.target_end() {
                map.set_anchor(anchor);
            }
        }
    }
}
