//! The byte rate limit of a link, changeable while it runs, and how those who share it take turns.
//!
//! governor counts whole nanoseconds per cell, which distorts byte cells above some 100 MB/s: cells here are KiB. It says
//! when the next slice may pass; whose slice that is, is decided only then, by a fair queue over shares (topics).

mod fair;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arc_swap::ArcSwapOption;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use fair::{FairQueue, Place};

const CELL_BYTES: u64 = 1024;
/// Most cells that pass at a time.
const SLICE_CELLS: u64 = 64;

/// Bytes per second shared by all partitions of a link. Clones share the limit.
#[derive(Clone)]
pub struct ByteRate(Arc<Shared>);

struct Shared {
    limiter: ArcSwapOption<Limiter>,
    gate: Mutex<Gate>,
}

struct Limiter {
    bytes_per_second: u64,
    cells: DefaultDirectRateLimiter,
    burst_cells: u32,
}

/// Who waits for what the limiter grants.
struct Gate {
    queue: FairQueue<Arc<Turn>>,
    /// Granted and not passed yet: less than the first in the queue needs.
    granted_cells: u64,
    /// Whether one of those who wait asks the limiter on behalf of all.
    is_kept: bool,
}

#[derive(Debug, Default)]
struct Turn {
    has_come: AtomicBool,
    news: Notify,
}

impl ByteRate {
    /// A rate without a limit.
    pub fn unlimited() -> Self {
        let gate = Gate { queue: FairQueue::new(), granted_cells: 0, is_kept: false };
        Self(Arc::new(Shared { limiter: ArcSwapOption::empty(), gate: Mutex::new(gate) }))
    }

    /// Sets the limit in bytes per second (rounded up to 1 KiB/s), or removes it. Takes effect with the next slice; a
    /// new limit starts drained, so changing it grants no burst.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        self.0.limiter.store(bytes_per_second.map(|rate| Arc::new(Limiter::new(rate))));
        self.gate().granted_cells = 0;
    }

    /// The limit in force, bytes per second.
    pub fn get(&self) -> Option<u64> {
        self.0.limiter.load().as_ref().map(|l| l.bytes_per_second)
    }

    /// A share of the rate. Shares of one name are one share, which passes in proportion to its weight (at least 1) while
    /// others wait too.
    pub fn share(&self, name: &str, weight: u32) -> Share {
        Share { rate: self.clone(), name: name.into(), weight }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().expect("nothing panics while it holds the gate")
    }
}

/// A share of a rate; see [`ByteRate::share`].
#[derive(Clone)]
pub struct Share {
    rate: ByteRate,
    name: Arc<str>,
    weight: u32,
}

impl Share {
    /// Bytes that are to pass; none where there is no limit now.
    pub fn toll(&self, bytes: u64) -> Toll {
        let cells = if self.rate.0.limiter.load().is_some() { bytes.div_ceil(CELL_BYTES) } else { 0 };
        Toll { share: self.clone(), cells, waiting: None }
    }
}

/// Bytes that wait to pass. It keeps its place in the queue until it is dropped.
pub struct Toll {
    share: Share,
    cells: u64,
    waiting: Option<Waiting>,
}

struct Waiting {
    place: Place,
    cells: u64,
    turn: Arc<Turn>,
}

impl Toll {
    /// Whether all has passed.
    pub fn is_paid(&self) -> bool {
        self.cells == 0
    }

    /// Waits until all has passed. Cancel-safe: what has passed stays so, and the place in the queue is kept.
    pub async fn pay(&mut self) {
        let rate = self.share.rate.clone();
        while self.cells > 0 {
            let Some(limiter) = rate.0.limiter.load_full() else {
                self.cells = 0;
                self.leave();
                return;
            };
            let turn = match &self.waiting {
                None => self.enter(limiter.slice_cells()),
                Some(waiting) if waiting.turn.has_come.load(Ordering::Acquire) => {
                    self.cells -= waiting.cells;
                    self.waiting = None;
                    continue;
                }
                Some(waiting) => waiting.turn.clone(),
            };
            match Keeper::of(&rate) {
                Some(keeper) => {
                    keeper.admit_one(&limiter).await;
                    // Whoever passed shall be back in the queue, if there is more of it, before the next one passes.
                    tokio::task::yield_now().await;
                }
                None => turn.news.notified().await,
            }
        }
    }

    fn enter(&mut self, most: u64) -> Arc<Turn> {
        let (cells, turn) = (self.cells.min(most), Arc::new(Turn::default()));
        let Share { rate, name, weight } = &self.share;
        let place = rate.gate().queue.enter(name, *weight, cells, turn.clone());
        self.waiting = Some(Waiting { place, cells, turn: turn.clone() });
        turn
    }

    fn leave(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let mut gate = self.share.rate.gate();
            gate.queue.leave(waiting.place);
            gate.call_keeper();
        }
    }
}

impl Drop for Toll {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Gate {
    /// Wakes one who can ask the limiter, when nobody does.
    fn call_keeper(&self) {
        if let Some((_, turn)) = self.queue.first().filter(|_| !self.is_kept) {
            turn.news.notify_one();
        }
    }
}

/// The one who asks the limiter. Dropped in the middle, somebody else is called.
struct Keeper<'a>(&'a ByteRate);

impl<'a> Keeper<'a> {
    fn of(rate: &'a ByteRate) -> Option<Self> {
        let was_kept = std::mem::replace(&mut rate.gate().is_kept, true);
        // Made only then: a second one, dropped at once, would end the first one's office.
        (!was_kept).then(|| Self(rate))
    }

    /// Waits for about as many cells as the first one needs; whoever is first then passes, if they are enough.
    async fn admit_one(self, limiter: &Limiter) {
        let missing = {
            let gate = self.0.gate();
            gate.queue.first().map_or(0, |(cells, _)| cells.saturating_sub(gate.granted_cells))
        };
        let missing = missing.min(limiter.burst_cells.into());
        if let Some(cells) = u32::try_from(missing).ok().and_then(NonZeroU32::new) {
            limiter.cells.until_n_ready(cells).await.expect("what is asked for never exceeds the burst");
        }
        let mut gate = self.0.gate();
        gate.granted_cells += missing;
        let needed = gate.queue.first().map(|(cells, _)| cells).filter(|cells| *cells <= gate.granted_cells);
        if let Some(cells) = needed {
            gate.granted_cells -= cells;
            let turn = gate.queue.pass().expect("there is a first one");
            turn.has_come.store(true, Ordering::Release);
            turn.news.notify_one();
        }
    }
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        let mut gate = self.0.gate();
        gate.is_kept = false;
        gate.call_keeper();
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

    fn slice_cells(&self) -> u64 {
        SLICE_CELLS.min(self.burst_cells.into())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::{Duration, Instant};

    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn bytes_pass_no_faster_than_the_rate() {
        let rate = ByteRate::unlimited();
        rate.set(Some(1024 * 1024));
        let start = Instant::now();
        let mut toll = rate.share("orders", 1).toll(256 * 1024);
        toll.pay().await;
        assert!(toll.is_paid() && start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_owed_and_lifting_it_frees_all_who_wait() {
        let rate = ByteRate::unlimited();
        assert!(rate.share("orders", 1).toll(u64::MAX).is_paid());
        rate.set(Some(1024));
        let mut tolls: Vec<_> = (0..3).map(|n| rate.share("orders", n).toll(1 << 40)).collect();
        assert!(tolls.iter_mut().all(|toll| toll.pay().now_or_never().is_none()));
        rate.set(None);
        for toll in &mut tolls {
            toll.pay().await;
        }
        assert_eq!(rate.get(), None);
    }

    /// Bytes that pass for each share while all want more than there is; one that gives up again and again among them.
    async fn passed(shares: &'static [(&str, u32, usize)]) -> Vec<u64> {
        let rate = ByteRate::unlimited();
        rate.set(Some(20 << 20));
        let counts: Vec<Arc<AtomicU64>> = shares.iter().map(|_| Arc::default()).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for ((name, weight, waiters), count) in shares.iter().zip(&counts) {
            for _ in 0..*waiters {
                let (share, count) = (rate.share(name, *weight), count.clone());
                tasks.spawn(async move {
                    loop {
                        let mut toll = share.toll(64 << 10);
                        // Cancelled in the middle, as a replicator does whenever an ack comes.
                        while tokio::time::timeout(Duration::from_millis(2), toll.pay()).await.is_err() {}
                        count.fetch_add(64, Ordering::Relaxed);
                    }
                });
            }
        }
        let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        while sum() < 8 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tasks.shutdown().await;
        counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    #[tokio::test]
    async fn many_partitions_of_a_topic_get_no_more_than_one_of_another() {
        let passed = passed(&[("many", 1, 50), ("one", 1, 1)]).await;
        assert!(passed[1] * 3 > passed[0] * 2, "{passed:?} KiB");
    }

    #[tokio::test]
    async fn weights_divide_the_rate() {
        let passed = passed(&[("payments", 4, 2), ("logs", 1, 20)]).await;
        assert!((2..=6).contains(&(passed[0] / passed[1].max(1))), "{passed:?} KiB");
    }

    #[tokio::test]
    async fn weights_divide_the_rate_also_where_one_partition_is_away_between_two_batches() {
        let rate = ByteRate::unlimited();
        rate.set(Some(4 << 20));
        let mut tasks = tokio::task::JoinSet::new();
        let counts: Vec<Arc<AtomicU64>> = (0..2).map(|_| Arc::default()).collect();
        for (name, weight, waiters, count) in [("heavy", 3, 1, &counts[0]), ("light", 1, 4, &counts[1])] {
            for _ in 0..waiters {
                let (share, count) = (rate.share(name, weight), count.clone());
                tasks.spawn(async move {
                    loop {
                        let mut toll = share.toll(98 << 10);
                        toll.pay().await;
                        count.fetch_add(98, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                });
            }
        }
        let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        while sum() < 8 << 10 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tasks.shutdown().await;
        let passed: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        assert!((2..=4).contains(&(passed[0] / passed[1].max(1))), "{passed:?} KiB");
    }

    #[tokio::test]
    async fn who_leaves_while_asking_for_all_holds_up_nobody() {
        let rate = ByteRate::unlimited();
        rate.set(Some(64 << 10));
        let mut tolls: Vec<_> = (0..4).map(|_| rate.share("orders", 1).toll(4096)).collect();
        assert!(tolls.iter_mut().all(|toll| toll.pay().now_or_never().is_none()));
        while let Some(mut toll) = tolls.pop() {
            tolls.truncate(tolls.len().saturating_sub(1));
            toll.pay().await;
        }
    }
}
