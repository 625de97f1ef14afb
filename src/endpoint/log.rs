//! Contracts about records: reading a source partition, writing a target partition, looking at single places.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::endpoint::{Bounds, Result};
use crate::model::{
    Batch, EncodedBatch, LeaderEpoch, Offset, OffsetRange, ProducerIdentity, ProtectionLevel, Route, TopicPartition,
};

/// A cluster that can be read continuously.
pub trait Source: Send + Sync {
    /// Joins the shared fetch at `from` for committed records only (LSO, aborted data removed). No I/O happens here:
    /// errors appear in [`Reader::next`]. `last_epoch` is the source leader epoch of the record right below `from`, with
    /// which the broker detects that its log diverged from what was copied; `UNKNOWN` if there is none, or a hole lies
    /// there: an epoch older than the hole's would be answered as a divergence that never was (KIP-595).
    fn open(&self, route: &Route, from: Offset, last_epoch: LeaderEpoch) -> Box<dyn Reader>;
}

/// Reads one source partition. Dropping it leaves the shared fetch and frees its bytes.
#[async_trait]
pub trait Reader: Send {
    /// The next batch. The first starts exactly at `from`; each next one starts where the last ended. Waits while there
    /// is nothing; cancel-safe. After an error the reader is spent.
    async fn next(&mut self) -> Result<Batch>;
    /// How many batches (empty ranges included) [`next`](Self::next) would answer now without waiting.
    fn waiting(&self) -> usize;
    /// Where the partition's ends can be had without asking for them; outlives the reader. `None` where no fetch hears them.
    fn ends(&self) -> Option<Arc<dyn EndsByFetch>> {
        None
    }
}

/// A partition's ends as its leader tells them beside its records.
pub trait EndsByFetch: Send + Sync {
    /// The ends as last told; `None` before the first time, and when the reader has gone or has ended with an error.
    fn last_told(&self) -> Option<FetchedEnds>;
}

/// Ends that were told beside records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchedEnds {
    /// The ends.
    pub bounds: Bounds,
    /// When the leader's answer came that told them, or the last that told they are unchanged. A fetch that is stuck, or
    /// reads from elsewhere than the leader, leaves it behind.
    pub at: Instant,
}

/// A cluster that can be written by compare-and-append.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Learns the partition's true, stable end on a connection that has proven leadership, and opens a writer there
    /// (`facts/live-measurements` §3b: what an engine must do). Not cancel-safe in effect but harmless: nothing is
    /// written.
    async fn open(&self, route: &Route, producer: ProducerIdentity) -> Result<Opened>;
}

/// A writer and what the target said when it was opened.
pub struct Opened {
    /// True end of the target log, equal to its high watermark when read: the offset the next record will get.
    pub end: Offset,
    /// First offset still there.
    pub log_start: Offset,
    /// Leader epoch of the target under which this was learnt.
    pub leader_epoch: LeaderEpoch,
    /// `Guarded` when the leader holds producer state for our identity, `ProbeOnly` without (then nothing is refused, so
    /// the writer keeps one batch in flight until its first ack); `DetectOnly` where nothing is ever refused.
    pub level: ProtectionLevel,
    /// The writer.
    pub writer: Box<dyn Writer>,
}

/// A promise that resolves once the batch is durable on all in-sync replicas, with the target offset its first record
/// got, or with the reason why that is refused or unknown. Dropping it forgets the outcome, not the write.
pub type Delivery = Pin<Box<dyn Future<Output = Result<Offset>> + Send>>;

/// Writes one target partition, in order.
#[async_trait]
pub trait Writer: Send {
    /// Accepts a batch for sending and waits only for that (back-pressure). `expected` is the target offset its first
    /// record must get; the writer checks its own count against it. Deliveries resolve in the order of sends; after the
    /// first failed one all later ones fail too. Cancel-safe: a dropped future has accepted nothing.
    async fn send(&mut self, batch: EncodedBatch, expected: Offset) -> Result<Delivery>;
    /// Keeps one batch in flight (`probe only`: producer state may expire, so nothing may be repeated blindly), or as
    /// many as the writer is set up for. Takes effect with the next batch; a writer that never has more than one in
    /// flight has nothing to do. Whatever is set, one is in flight until the first ack after opening.
    fn limit_in_flight(&mut self, _to_one: bool) {}
    /// Most bytes of a batch joined from tiny ones, so that the target takes it whole; `None` when that is not known, or
    /// nothing is gained because batches are opened anyway.
    fn joined_bytes_max(&self) -> Option<usize> {
        None
    }
    /// How many records accepted since the last call were given another timestamp, because the plane cannot carry theirs.
    fn take_altered(&mut self) -> u64 {
        0
    }
    /// Ends the writer: afterwards nothing of it can still be *newly* sent; what was on the wire is covered by
    /// compare-and-append.
    async fn close(self: Box<Self>);
}

/// Which records a point read shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Committed records only, up to the last stable offset.
    Committed,
    /// All data records up to the high watermark, whatever became of their transaction.
    Log,
}

/// A record reduced to where it is and what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordDigest {
    /// Its offset.
    pub offset: Offset,
    /// Leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
    /// Hash of key, value, headers and timestamp as stored (`batch::content_hash`).
    pub hash: u64,
}

/// What a point read saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Surviving records in order, all within `range`.
    pub records: Vec<RecordDigest>,
    /// Offsets proven: every data record of the view in this range is in `records`.
    pub range: OffsetRange,
}

/// Looks at one place of one partition, raw, apart from the shared fetch.
#[async_trait]
pub trait PointReader: Send + Sync {
    /// Digests of the records from `range.start` on. Covers at least one offset of a non-empty `range`, at most
    /// `range`, and reads about `max_bytes`; call again from the returned end for more. A range that reaches beyond
    /// what the view shows is cut there (and may then be empty).
    async fn read(&self, at: &TopicPartition, range: OffsetRange, view: View, max_bytes: u32) -> Result<Window>;
}
