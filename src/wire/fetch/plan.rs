//! Which partitions go into the next fetch, so that a thousand idle ones cost nearly nothing and none waits long.
//!
//! A few partitions are simply all asked for. Among many, most fetches ask only for busy ones; a sweep asks for all of
//! them every 100 ms, and when none is busy every fetch is a sweep. Nothing of that is state in the broker, as fetch
//! sessions (KIP-227) would be.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::feed::Standing;

/// So many partitions are all asked for each time, and more than so many never, except in a sweep.
const FEW: usize = 64;
/// How long an idle partition among many is not asked for.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// The next fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Places in the ring, ascending.
    pub(super) asked: Vec<usize>,
    /// Whether a partition is left out that will soon have room.
    pub(super) left_out_lively: bool,
    /// When the answer is needed because idle partitions are due.
    pub(super) until: Option<Instant>,
}

/// Makes the plans of one shuttle.
#[derive(Debug)]
pub(super) struct Planner {
    unread_cap: u64,
    next_sweep: Instant,
}

impl Planner {
    /// Partitions are left out while their unread bytes are at the cap.
    pub(super) fn new(unread_cap: u64) -> Self {
        Self { unread_cap, next_sweep: Instant::now() }
    }

    /// Plans the next fetch, and lets go of cursors that nobody reads. `bell` is rung when one that is left out for want
    /// of room has room again.
    pub(super) fn plan(&mut self, ring: &mut VecDeque<Box<Cursor>>, bell: &Arc<Notify>, now: Instant) -> Plan {
        let is_crowded = ring.len() > FEW;
        if is_crowded && now < self.next_sweep {
            let plan = Plan { until: Some(self.next_sweep), ..self.among(ring, bell, |c| c.is_busy(now), FEW) };
            if !plan.asked.is_empty() {
                return plan;
            }
        }
        ring.retain(|cursor| !cursor.feed.is_over());
        self.among(ring, bell, |_| true, usize::MAX)
    }

    /// Notes that a planned fetch was answered, at `now`.
    pub(super) fn done(&mut self, plan: &Plan, now: Instant) {
        if plan.until.is_none() {
            self.next_sweep = now + SWEEP_EVERY;
        }
    }

    fn among(
        &self,
        ring: &VecDeque<Box<Cursor>>,
        bell: &Arc<Notify>,
        wanted: impl Fn(&Cursor) -> bool,
        most: usize,
    ) -> Plan {
        let mut plan = Plan { asked: Vec::new(), left_out_lively: false, until: None };
        for (place, cursor) in ring.iter().enumerate().filter(|(_, cursor)| wanted(cursor)) {
            match cursor.feed.standing(self.unread_cap, bell) {
                Standing::Open => plan.asked.push(place),
                Standing::Full { lively } => plan.left_out_lively |= lively,
                Standing::Left => {}
            }
            if plan.asked.len() >= most {
                break;
            }
        }
        plan
    }
}
