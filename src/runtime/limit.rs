//! The byte rate limit of a link, changeable while it runs.
//!
//! governor counts whole nanoseconds per cell, which distorts byte cells above some 100 MB/s: cells here are KiB.

use std::num::NonZeroU32;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

const CELL_BYTES: u64 = 1024;

/// Bytes per second shared by all partitions of a link. Clones share the limit.
#[derive(Clone, Default)]
pub struct ByteRate {
    limiter: Arc<ArcSwapOption<Limiter>>,
}

struct Limiter {
    bytes_per_second: u64,
    cells: DefaultDirectRateLimiter,
    burst_cells: u32,
}

impl ByteRate {
    /// A rate without a limit.
    pub fn unlimited() -> Self {
        Self::default()
    }

    /// Sets the limit in bytes per second (rounded up to 1 KiB/s), or removes it. Takes effect with the next batch; a
    /// new limit starts drained, so changing it grants no burst.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        self.limiter.store(bytes_per_second.map(|rate| Arc::new(Limiter::new(rate))));
    }

    /// The limit in force, bytes per second.
    pub fn get(&self) -> Option<u64> {
        self.limiter.load().as_ref().map(|l| l.bytes_per_second)
    }

    /// Waits until the bytes `owed` may pass and counts them down to 0. Cancel-safe: what was granted stays counted in
    /// `owed`, so calling again waits only for the rest.
    pub async fn pass(&self, owed: &mut u64) {
        while *owed > 0 {
            let Some(limiter) = self.limiter.load_full() else {
                *owed = 0;
                return;
            };
            // Equal slices: governor's waiting is not fair between large and small askers.
            let cells = owed.div_ceil(CELL_BYTES).min(u64::from(limiter.burst_cells.min(64)));
            let asked = NonZeroU32::new(cells as u32).expect("at least one cell is owed and the burst is above zero");
            limiter.cells.until_n_ready(asked).await.expect("a slice never exceeds the burst");
            *owed = owed.saturating_sub(cells * CELL_BYTES);
        }
    }
}

impl Limiter {
    fn new(bytes_per_second: u64) -> Self {
        let cells_per_second = u32::try_from(bytes_per_second.div_ceil(CELL_BYTES)).unwrap_or(u32::MAX).max(1);
        let per_second = NonZeroU32::new(cells_per_second).expect("at least one cell");
        // A tenth of a second of burst keeps the flow smooth; at least one slice must fit.
        let burst_cells = (cells_per_second / 10).max(1);
        let burst = NonZeroU32::new(burst_cells).expect("at least one cell");
        let cells = RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst));
        let _ = cells.check_n(burst);
        Self { bytes_per_second, cells, burst_cells }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn bytes_pass_no_faster_than_the_rate() {
        let rate = ByteRate::unlimited();
        rate.set(Some(1024 * 1024));
        let start = Instant::now();
        rate.pass(&mut (256 * 1024)).await;
        assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
        rate.set(None);
        rate.pass(&mut u64::MAX.clone()).await;
        assert_eq!(rate.get(), None);
    }
}
