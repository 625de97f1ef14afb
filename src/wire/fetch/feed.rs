//! What lies between one partition's reader and the fetch that serves it: batches not read yet, bounded by bytes.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::endpoint::{Bounds, EndsByFetch, Error, FetchedEnds, Reader, Result};
use crate::model::{Batch, LeaderEpoch, Offset, Payload, Run};

/// A queue that grew past this many entries gives its memory back once it is empty.
const ROOMY: usize = 64;

/// Bytes a batch takes besides its payload; they count, or many tiny batches would hide behind their size.
pub(super) const OVERHEAD_BYTES: u64 = (size_of::<Unread>() + size_of::<Run>()) as u64;

/// A batch on its way to the reader.
#[derive(Debug)]
pub(super) struct Unread {
    /// The batch.
    pub(super) batch: Batch,
    /// Leader epoch of what lies right below it, so that fetching can begin here again.
    pub(super) epoch_below: LeaderEpoch,
}

impl Unread {
    /// Payload and overhead, bytes.
    fn bytes(&self) -> u64 {
        match &self.batch.payload {
            Payload::Batches(encoded) => encoded.bytes.len() as u64 + OVERHEAD_BYTES,
            Payload::Empty => OVERHEAD_BYTES,
        }
    }
}

/// Whether a partition may be fetched now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// There is room.
    Open,
    /// Its unread bytes are at the cap, or were given back and nobody asks yet. Its reader rings when that changes.
    Full {
        /// Whether its reader read within the last second, so that room is to be expected soon.
        lively: bool,
    },
    /// Its reader has gone, or was told an error.
    Left,
}

/// The queue between the fetch (one at a time) and the reader.
#[derive(Debug)]
pub(super) struct Feed {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    unread: VecDeque<Unread>,
    unread_bytes: u64,
    end: Option<Error>,
    left: bool,
    /// Whether the reader has wanted more since unread bytes were last given back.
    asks: bool,
    read_at: Instant,
    /// The partition's ends as its leader last told them beside the records.
    ends: Option<FetchedEnds>,
    /// Rung when there is room again, set while the partition is passed over for want of it.
    bell: Option<(Arc<Notify>, u64)>,
}

impl Feed {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            unread: VecDeque::new(),
            unread_bytes: 0,
            end: None,
            left: false,
            asks: true,
            read_at: Instant::now(),
            ends: None,
            bell: None,
        };
        Arc::new(Self { state: Mutex::new(state), news: Notify::new() })
    }

    /// The one reader of this feed.
    pub(super) fn reader(self: &Arc<Self>) -> Box<dyn Reader> {
        Box::new(FeedReader(self.clone()))
    }

    /// Appends batches that continue the range; neighbouring empty ranges become one.
    pub(super) fn push(&self, batches: impl IntoIterator<Item = Unread>) {
        let mut state = self.lock();
        if state.is_over() {
            return;
        }
        for unread in batches {
            if let (Payload::Empty, Some(Unread { batch: Batch { range, payload: Payload::Empty, .. }, .. })) =
                (&unread.batch.payload, state.unread.back_mut())
            {
                range.end = unread.batch.range.end;
                continue;
            }
            state.unread_bytes += unread.bytes();
            state.unread.push_back(unread);
        }
        drop(state);
        self.news.notify_one();
    }

    /// Ends the reader with an error, which it sees behind what is still unread.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.end.get_or_insert(error);
        drop(state);
        self.news.notify_one();
    }

    /// Notes the partition's ends as an answer told them.
    pub(super) fn told_ends(&self, ends: FetchedEnds) {
        self.lock().ends = Some(ends);
    }

    /// Notes that the ends told before were the ends at `at` too, if they are such.
    pub(super) fn ends_held(&self, at: Instant, such: impl FnOnce(&Bounds) -> bool) {
        if let Some(ends) = self.lock().ends.as_mut().filter(|ends| such(&ends.bounds)) {
            ends.at = at;
        }
    }

    /// Whether more may be fetched while unread bytes are below `cap`. When not, `bell` is rung once that changes.
    pub(super) fn standing(&self, cap: u64, bell: &Arc<Notify>) -> Standing {
        let mut state = self.lock();
        if state.is_over() {
            return Standing::Left;
        }
        if state.asks && state.unread_bytes < cap {
            state.bell = None;
            return Standing::Open;
        }
        // Half the cap: being fetched for a few bytes at a time would be dear.
        state.bell = Some((bell.clone(), cap / 2));
        Standing::Full { lively: state.read_at.elapsed() < Duration::from_secs(1) }
    }

    /// Whether nobody reads any more.
    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Gives unread bytes back when nobody has read for `idle`: answers where fetching must begin again and the leader
    /// epoch below. Fetching resumes when the reader asks.
    pub(super) fn give_back(&self, idle: Duration) -> Option<(Offset, LeaderEpoch)> {
        let mut state = self.lock();
        if state.read_at.elapsed() < idle {
            return None;
        }
        let again = state.unread.front().map(|first| (first.batch.range.start, first.epoch_below))?;
        state.clear();
        state.asks = false;
        Some(again)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds a feed")
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.left || self.end.is_some()
    }

    fn clear(&mut self) {
        self.unread = VecDeque::new();
        self.unread_bytes = 0;
    }

    fn pop(&mut self) -> Option<Batch> {
        let unread = self.unread.pop_front()?;
        self.unread_bytes -= unread.bytes();
        if self.unread.is_empty() && self.unread.capacity() > ROOMY {
            self.clear();
        }
        Some(unread.batch)
    }

    fn ring(&mut self) {
        if self.bell.as_ref().is_some_and(|(_, below)| self.left || (self.asks && self.unread_bytes <= *below)) {
            let (bell, _) = self.bell.take().expect("it was looked at just now");
            bell.notify_one();
        }
    }
}

struct FeedReader(Arc<Feed>);

#[async_trait]
impl Reader for FeedReader {
    async fn next(&mut self) -> Result<Batch> {
        loop {
            {
                let mut state = self.0.lock();
                state.read_at = Instant::now();
                let batch = state.pop();
                state.asks |= batch.is_none();
                state.ring();
                if let Some(batch) = batch {
                    return Ok(batch);
                }
                if let Some(error) = &state.end {
                    return Err(error.clone());
                }
            }
            // A push between the look and this wait has left its permit.
            self.0.news.notified().await;
        }
    }

    fn waiting(&self) -> usize {
        self.0.lock().unread.len()
    }

    fn ends(&self) -> Option<Arc<dyn EndsByFetch>> {
        Some(self.0.clone())
    }
}

impl EndsByFetch for Feed {
    fn last_told(&self) -> Option<FetchedEnds> {
        let state = self.lock();
        state.ends.filter(|_| !state.is_over())
    }
}

impl Drop for FeedReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.left = true;
        state.clear();
        state.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ErrorKind;
    use crate::model::{EncodedBatch, OffsetRange};
    use crate::runtime::memory::MemoryBudget;

    fn range(start: i64, end: i64) -> OffsetRange {
        OffsetRange::new(Offset(start), Offset(end))
    }

    fn empty(start: i64, end: i64) -> Unread {
        let batch = Batch { range: range(start, end), payload: Payload::Empty, permit: None };
        Unread { batch, epoch_below: LeaderEpoch(start as i32) }
    }

    async fn data(start: i64, bytes: usize, budget: &MemoryBudget) -> Unread {
        let encoded = EncodedBatch {
            bytes: vec![0; bytes].into(),
            records: 1,
            runs: vec![Run { start: Offset(start), length: 1 }],
            leader_epoch: LeaderEpoch(0),
            max_timestamp_ms: 0,
        };
        let permit = Some(budget.reserve(bytes as u64).await.settle(bytes as u64));
        let batch = Batch { range: range(start, start + 1), payload: Payload::Batches(encoded), permit };
        Unread { batch, epoch_below: LeaderEpoch(start as i32) }
    }

    #[tokio::test]
    async fn neighbouring_empty_ranges_arrive_as_one_and_an_error_behind_what_was_read() {
        let feed = Feed::new();
        let mut reader = feed.reader();
        feed.push([empty(0, 3), empty(3, 4)]);
        feed.push([empty(4, 9)]);
        feed.fail(Error::new(ErrorKind::Corrupt, "damaged"));
        feed.push([empty(9, 10)]);
        assert_eq!(reader.next().await.expect("a range").range, range(0, 9));
        assert_eq!(reader.next().await.expect_err("the end").kind, ErrorKind::Corrupt);
        assert_eq!(reader.next().await.expect_err("spent").kind, ErrorKind::Corrupt);
    }

    #[tokio::test]
    async fn a_dropped_reader_frees_its_bytes_at_once_and_rings() {
        let (budget, bell) = (MemoryBudget::new(1 << 20), Arc::new(Notify::new()));
        let feed = Feed::new();
        let reader = feed.reader();
        feed.push([data(0, 4096, &budget).await]);
        assert_eq!(feed.standing(1000, &bell), Standing::Full { lively: true });
        assert!(budget.used_bytes() >= 4096);
        drop(reader);
        assert_eq!(budget.used_bytes(), 0);
        bell.notified().await;
        assert_eq!(feed.standing(1000, &bell), Standing::Left);
    }

    #[tokio::test]
    async fn reading_down_to_half_the_cap_rings() {
        let (budget, bell) = (MemoryBudget::new(1 << 20), Arc::new(Notify::new()));
        let feed = Feed::new();
        let mut reader = feed.reader();
        feed.push([data(0, 4096, &budget).await, data(1, 4096, &budget).await, data(2, 4096, &budget).await]);
        assert_eq!(feed.standing(10_000, &bell), Standing::Full { lively: true });
        reader.next().await.expect("the first");
        assert!(tokio::time::timeout(Duration::ZERO, bell.notified()).await.is_err(), "8 of 10 KB are unread");
        reader.next().await.expect("the second");
        bell.notified().await;
        assert_eq!(feed.standing(10_000, &bell), Standing::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_reads_is_given_back_and_fetched_again_only_when_asked_for() {
        let (budget, bell) = (MemoryBudget::new(1 << 20), Arc::new(Notify::new()));
        let feed = Feed::new();
        let mut reader = feed.reader();
        feed.push([data(7, 4096, &budget).await, data(8, 4096, &budget).await]);
        assert_eq!(feed.give_back(Duration::from_secs(1)), None);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(feed.give_back(Duration::from_secs(1)), Some((Offset(7), LeaderEpoch(7))));
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(feed.standing(1 << 20, &bell), Standing::Full { lively: false });
        let asked = tokio::spawn(async move { reader.next().await.map(|batch| batch.range) });
        bell.notified().await;
        assert_eq!(feed.standing(1 << 20, &bell), Standing::Open);
        feed.push([data(7, 4096, &budget).await]);
        assert_eq!(asked.await.expect("it ran").expect("a batch"), range(7, 8));
    }
}
