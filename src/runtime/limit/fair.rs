//! Who may pass next: start-time fair queueing (Goyal, Vin and Cheng, 1996) over shares, first come first served within one.
//!
//! Each slice is tagged with the virtual time at which it may start: behind the share's last one by its size over the
//! share's weight, but never long before the time that has come. So shares that wait divide what passes by their weights,
//! however many wait in each; and one that was idle begins about now, without credit for more than a moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Keeps tags whole: weights of up to some thousands divide a cell.
const SCALE: u128 = 1 << 32;

/// How far behind the time a share may begin, in cells of weight 1: who is away between two slices, to send the one and fetch
/// the other, has not been idle.
const GRACE: u128 = 256 * SCALE;

/// A place in the queue, in the order of passing; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    start: u128,
    arrival: u64,
}

/// Slices that wait, with whose they are.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    /// Tag of what passed last.
    time: u128,
    /// Where each share's last slice ends; as many as there ever were shares.
    finishes: HashMap<Arc<str>, u128>,
    waiting: BTreeMap<Place, (u64, T)>,
    arrivals: u64,
}

impl<T> FairQueue<T> {
    pub(super) fn new() -> Self {
        Self { time: 0, finishes: HashMap::new(), waiting: BTreeMap::new(), arrivals: 0 }
    }

    /// Joins the queue with a slice of so many cells. `weight` is at least 1.
    pub(super) fn enter(&mut self, share: &Arc<str>, weight: u32, cells: u64, who: T) -> Place {
        let finish = self.finishes.entry(share.clone()).or_default();
        let start = self.time.saturating_sub(GRACE).max(*finish);
        *finish = start + u128::from(cells) * SCALE / u128::from(weight.max(1));
        let place = Place { start, arrival: self.arrivals };
        self.arrivals += 1;
        self.waiting.insert(place, (cells, who));
        place
    }

    /// Gives up a place. Nothing happens when it has passed.
    pub(super) fn leave(&mut self, place: Place) {
        self.waiting.remove(&place);
    }

    /// Who is next, and with how many cells.
    pub(super) fn first(&self) -> Option<(u64, &T)> {
        self.waiting.first_key_value().map(|(_, (cells, who))| (*cells, who))
    }

    /// Lets the next one pass.
    pub(super) fn pass(&mut self) -> Option<T> {
        let (place, (_, who)) = self.waiting.pop_first()?;
        self.time = self.time.max(place.start);
        Some(who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waiters per share, its weight, and cells of a slice; each that passes waits again. Cells passed per share.
    fn passed(shares: &[(usize, u32, u64)], slices: usize) -> Vec<u64> {
        let names: Vec<Arc<str>> = (0..shares.len()).map(|n| n.to_string().into()).collect();
        let mut queue = FairQueue::new();
        for (n, (waiters, weight, cells)) in shares.iter().enumerate() {
            for _ in 0..*waiters {
                queue.enter(&names[n], *weight, *cells, n);
            }
        }
        let mut passed = vec![0; shares.len()];
        for _ in 0..slices {
            let n = queue.pass().expect("all wait again");
            let (_, weight, cells) = shares[n];
            passed[n] += cells;
            queue.enter(&names[n], weight, cells, n);
        }
        passed
    }

    #[test]
    fn shares_that_wait_divide_what_passes_by_their_weights() {
        // Waiters, weight, cells of a slice.
        for shares in [
            &[(1, 1, 64), (100, 1, 64)][..],
            &[(1, 10, 64), (1, 1, 64)],
            &[(1, 10, 64), (100, 1, 64)],
            &[(100, 10, 64), (1, 1, 3)],
            &[(7, 3, 1), (2, 2, 64), (1, 1, 17), (40, 1000, 64)],
        ] {
            let weights: u32 = shares.iter().map(|(_, weight, _)| weight).sum();
            let passed = passed(shares, 200_000);
            let all: u64 = passed.iter().sum();
            for ((_, weight, _), passed) in shares.iter().zip(&passed) {
                let (is, ought) = (*passed as f64 / all as f64, f64::from(*weight) / f64::from(weights));
                assert!((is / ought - 1.0).abs() < 0.03, "{shares:?}: {is:.4} instead of {ought:.4}");
            }
        }
    }

    #[test]
    fn nobody_starves_beside_a_thousand_times_the_weight() {
        assert!(passed(&[(100, 1000, 64), (1, 1, 64)], 1_100)[1] > 0);
    }

    #[test]
    fn who_is_away_between_two_slices_loses_nothing_by_it() {
        let (mut queue, heavy, light) = (FairQueue::new(), Arc::from("heavy"), Arc::from("light"));
        let mut passed = [0, 0];
        queue.enter(&heavy, 3, 64, 0);
        for _ in 0..4 {
            queue.enter(&light, 1, 64, 1);
        }
        for turn in 0..4000 {
            let who = queue.pass().expect("somebody waits");
            passed[who] += 1;
            match who {
                // Every eighth time another slice passes before it is back.
                0 if turn % 8 == 0 => {
                    passed[queue.pass().expect("the light ones wait")] += 1;
                    queue.enter(&light, 1, 64, 1);
                    queue.enter(&heavy, 3, 64, 0);
                }
                0 => _ = queue.enter(&heavy, 3, 64, 0),
                _ => _ = queue.enter(&light, 1, 64, 1),
            }
        }
        assert!((28..=32).contains(&(passed[0] * 10 / passed[1])), "{passed:?}");
    }

    #[test]
    fn within_a_share_who_came_first_passes_first() {
        let (mut queue, share) = (FairQueue::new(), Arc::from("orders"));
        let places: Vec<_> = (0..5).map(|n| queue.enter(&share, 2, 10, n)).collect();
        queue.leave(places[1]);
        assert_eq!(queue.first(), Some((10, &0)));
        let passed: Vec<_> = std::iter::from_fn(|| queue.pass()).collect();
        assert_eq!(passed, [0, 2, 3, 4]);
    }

    #[test]
    fn an_idle_share_has_saved_no_more_than_a_moment_and_owes_nothing() {
        let (mut queue, busy, idle) = (FairQueue::new(), Arc::from("busy"), Arc::from("idle"));
        for _ in 0..1000 {
            queue.enter(&busy, 1, 64, "busy");
            queue.pass();
        }
        for _ in 0..20 {
            queue.enter(&busy, 1, 64, "busy");
            queue.enter(&idle, 1, 64, "idle");
        }
        let passed: Vec<_> = std::iter::from_fn(|| queue.pass()).collect();
        let ahead = passed.iter().take_while(|who| **who == "idle").count();
        let both = &passed[ahead..ahead + 20];
        assert!(ahead <= 5 && both.windows(2).all(|two| two[0] != two[1]), "{passed:?}");
    }
}
