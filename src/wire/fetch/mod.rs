//! The shared fetch of the batches plane: any number of readers over one connection and one request per broker.
//!
//! A [`Reader`] is a queue. The *desk* finds its partition's leader; that broker's *shuttle* fetches for all partitions
//! the broker leads; a partition with a problem goes back to the desk, or to a second look, and never stops the others.

mod appetite;
mod bounds;
mod cursor;
mod desk;
mod examine;
mod exchange;
mod feed;
mod harvest;
mod plan;
mod session;
mod shuttle;
mod slice;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::endpoint::{Reader, Source};
use crate::model::{LeaderEpoch, Offset, Route};
use crate::runtime::memory::MemoryBudget;
use crate::runtime::tasks::TaskScope;
use crate::wire::Cluster;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::desk::{Desk, Mail};
use crate::wire::fetch::feed::Feed;

/// Sizes and times of the shared fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// Sizes where a broker answers soon.
    pub near: FetchSizes,
    /// Sizes where it is so far away that a fetch takes mostly the round trip (see `appetite`).
    pub far: FetchSizes,
    /// How long a broker holds a fetch while it has nothing; a partition that joins waits as long at most.
    pub wait: Duration,
    /// Where we are: brokers that choose replicas by rack (KIP-392) send us to one there.
    pub rack: Option<String>,
}

/// How much of a broker's partitions is fetched at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSizes {
    /// Most bytes of a response; a single batch above that comes whole all the same. One fetch per broker is in flight,
    /// and less is asked for while less comes.
    pub response_bytes: u32,
    /// Least bytes for a partition in a response, where several share it.
    pub partition_bytes: u32,
    /// Unread bytes of all partitions of a broker; one that has its part of them is not fetched.
    pub buffered_bytes: u64,
}

/// Brokers cap a response by `fetch.max.bytes`, 55 MiB by default.
const LARGEST_RESPONSE: u64 = 48 << 20;

impl FetchSettings {
    /// Settings that fit a memory budget: in a quarter of it a response, so that fetching, reading and writing overlap; from
    /// far away in half of it, and the next one is asked for before anything of the last is read, as memory returns.
    pub fn for_budget(budget_bytes: u64) -> Self {
        Self {
            near: FetchSizes::of(budget_bytes / 4, budget_bytes / 4),
            far: FetchSizes::of(budget_bytes / 2, budget_bytes / 4 * 3),
            wait: Duration::from_millis(500),
            rack: None,
        }
    }
}

impl FetchSizes {
    fn of(response_bytes: u64, buffered_bytes: u64) -> Self {
        let response_bytes = response_bytes.clamp(64 << 10, LARGEST_RESPONSE) as u32;
        Self { response_bytes, partition_bytes: (response_bytes / 6).max(32 << 10), buffered_bytes }
    }
}

/// Reads partitions of a cluster, committed records only, as unopened batches.
///
/// All its tasks live in the scope it was made with and end with that; readers then end with an error.
pub struct FetchSource {
    shared: Arc<Shared>,
}

/// What desk, shuttles and examinations share.
struct Shared {
    cluster: Cluster,
    budget: MemoryBudget,
    settings: FetchSettings,
    scope: TaskScope,
    post: mpsc::UnboundedSender<Mail>,
}

impl FetchSource {
    /// A source over a cluster. Memory is reserved from `budget` before each fetch and travels with the batches.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(cluster: Cluster, budget: MemoryBudget, scope: TaskScope, settings: FetchSettings) -> Self {
        let (post, letters) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { cluster, budget, settings, scope, post });
        shared.scope.spawn_until_stopped(Desk::new(shared.clone(), letters).run());
        Self { shared }
    }
}

impl Source for FetchSource {
    fn open(&self, route: &Route, from: Offset, last_epoch: LeaderEpoch) -> Box<dyn Reader> {
        let feed = Feed::new();
        let reader = feed.reader();
        self.shared.mail(Mail::Seeking(Cursor::new(route, from, last_epoch, feed)));
        reader
    }
}

impl Shared {
    /// Sends a letter to the desk. When the desk has ended, the cursor is dropped with it, which its reader notices.
    fn mail(&self, letter: Mail) {
        let _ = self.post.send(letter);
    }
}
