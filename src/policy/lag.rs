//! Lag in seconds: how long ago the source's end was where our position is now.
//!
//! Keeps a bounded history of (time, source end) samples; when full, every second sample is dropped, so old times get
//! coarser and memory stays flat.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::Offset;

const SAMPLES_MAX: usize = 64;

/// History of one partition's source end. Times are any monotonic clock's.
#[derive(Debug, Default)]
pub struct LagClock {
    /// Times at which the end was first seen at an offset; both strictly increasing.
    samples: VecDeque<(Duration, Offset)>,
}

impl LagClock {
    /// Notes the source's end as seen at `now`.
    pub fn saw_end(&mut self, now: Duration, end: Offset) {
        match self.samples.back() {
            Some(&(_, last)) if end == last => return,
            // The source was truncated: older samples say nothing any more.
            Some(&(_, last)) if end < last => self.samples.clear(),
            _ => {}
        }
        self.samples.push_back((now, end));
        if self.samples.len() > SAMPLES_MAX {
            let mut index = 0;
            self.samples.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            // The newest sample is the one later ends are compared with.
            if self.samples.back().map(|s| s.1) != Some(end) {
                self.samples.push_back((now, end));
            }
        }
    }

    /// Time since the source's end passed `position`; zero when level with the newest end seen.
    pub fn lag(&mut self, now: Duration, position: Offset) -> Duration {
        while self.samples.len() > 1 && self.samples[0].1 <= position {
            self.samples.pop_front();
        }
        match self.samples.front() {
            Some(&(since, end)) if end > position => now.saturating_sub(since),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lag_counts_from_when_the_end_passed_the_position() {
        let mut clock = LagClock::default();
        clock.saw_end(s(0), Offset(10));
        clock.saw_end(s(5), Offset(20));
        clock.saw_end(s(9), Offset(30));
        assert_eq!(clock.lag(s(10), Offset(10)), s(5));
        assert_eq!(clock.lag(s(10), Offset(25)), s(1));
        assert_eq!(clock.lag(s(10), Offset(30)), s(0));
    }

    #[test]
    fn memory_stays_flat_and_the_oldest_lag_survives() {
        let mut clock = LagClock::default();
        for t in 0..10_000 {
            clock.saw_end(s(t), Offset(t as i64 + 1));
        }
        assert!(clock.samples.len() <= SAMPLES_MAX);
        assert_eq!(clock.lag(s(10_000), Offset(0)), s(10_000));
        assert_eq!(clock.lag(s(10_000), Offset(10_000)), s(0));
    }
}
