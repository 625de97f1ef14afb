//! Which partitions go into the next fetch, so that a thousand idle ones cost nearly nothing and none waits long.
//!
//! A few partitions are simply all asked for. Among many, most fetches ask only for busy ones; a sweep asks for all of
//! them every 100 ms, and when none is busy every fetch is a sweep.

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

/// However many partitions there are, so many unread bytes each may have. Where too many stall at that, what is unread
/// is given back.
const LEAST_CAP: u64 = 64 * 1024;

/// The next fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Places in the ring, ascending.
    pub(super) asked: Vec<usize>,
    /// Whether a partition is left out that will soon have room.
    pub(super) left_out_lively: bool,
    /// When the answer is needed because idle partitions are due.
    pub(super) until: Option<Instant>,
    /// Whether it asks for all of many.
    pub(super) is_sweep: bool,
}

/// Makes the plans of one shuttle.
#[derive(Debug)]
pub(super) struct Planner {
    next_sweep: Instant,
}

impl Planner {
    pub(super) fn new() -> Self {
        Self { next_sweep: Instant::now() }
    }

    /// Plans the next fetch, and lets go of cursors that nobody reads. Left out is who has his part of `buffered_bytes`
    /// unread; `bell` is rung when such a one has room again.
    pub(super) fn plan(
        &mut self,
        ring: &mut VecDeque<Box<Cursor>>,
        buffered_bytes: u64,
        bell: &Arc<Notify>,
        now: Instant,
    ) -> Plan {
        let is_crowded = ring.len() > FEW;
        if is_crowded && now < self.next_sweep {
            let busy = among(ring, buffered_bytes, bell, |c| c.is_busy(now), FEW);
            let plan = Plan { until: Some(self.next_sweep), ..busy };
            if !plan.asked.is_empty() {
                return plan;
            }
        }
        ring.retain(|cursor| !cursor.feed.is_over());
        Plan { is_sweep: is_crowded, ..among(ring, buffered_bytes, bell, |_| true, usize::MAX) }
    }

    /// Notes that a planned fetch was answered, at `now`.
    pub(super) fn done(&mut self, plan: &Plan, now: Instant) {
        if plan.is_sweep {
            self.next_sweep = now + SWEEP_EVERY;
        }
    }
}

fn among(
    ring: &VecDeque<Box<Cursor>>,
    buffered_bytes: u64,
    bell: &Arc<Notify>,
    wanted: impl Fn(&Cursor) -> bool,
    most: usize,
) -> Plan {
    let mut plan = Plan { asked: Vec::new(), left_out_lively: false, until: None, is_sweep: false };
    let part = buffered_bytes / (ring.len().max(1) as u64);
    let cap = part.max(LEAST_CAP.min(buffered_bytes));
    for (place, cursor) in ring.iter().enumerate().filter(|(_, cursor)| wanted(cursor)) {
        match cursor.feed.standing(cap, bell) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{LeaderEpoch, Offset, Route, TopicPartition};
    use crate::wire::fetch::feed::Feed;

    #[tokio::test(start_paused = true)]
    async fn among_many_only_busy_partitions_are_asked_for_between_sweeps() {
        let feeds: Vec<_> = (0..200).map(|_| Feed::new()).collect();
        let mut readers: Vec<_> = feeds.iter().map(Feed::reader).collect();
        let cursors = feeds.iter().zip(0..).map(|(feed, partition)| {
            let at = TopicPartition::new("orders", partition);
            let route = Route { source: at.clone(), source_id: None, target: at, target_id: None };
            let mut cursor = Cursor::new(&route, Offset(9), LeaderEpoch(0), feed.clone());
            cursor.last_stable = Offset(if partition == 150 { 10 } else { 9 });
            cursor
        });
        let (mut ring, bell) = (cursors.collect::<VecDeque<_>>(), Arc::default());
        let mut planner = Planner::new();
        // Nobody is busy for having just begun.
        tokio::time::advance(Duration::from_secs(5)).await;
        let now = Instant::now();
        let sweep = planner.plan(&mut ring, 4 << 20, &bell, now);
        assert_eq!((sweep.asked.len(), sweep.is_sweep, sweep.until), (200, true, None));
        planner.done(&sweep, now);
        let between = planner.plan(&mut ring, 4 << 20, &bell, now);
        assert_eq!((between.asked.as_slice(), between.until), (&[150][..], Some(now + SWEEP_EVERY)));
        planner.done(&between, now);
        readers.truncate(190);
        let next = planner.plan(&mut ring, 4 << 20, &bell, now + SWEEP_EVERY);
        assert_eq!((next.asked.len(), ring.len()), (190, 190), "who left is let go");
        // When nobody is busy nothing is lost by asking for all.
        ring[150].last_stable = Offset(9);
        planner.done(&next, now + SWEEP_EVERY);
        assert_eq!(planner.plan(&mut ring, 4 << 20, &bell, now + SWEEP_EVERY).until, None);
    }
}
