//! What goes wrong on demand: calls that fail or take long, writes whose request or answer is lost or held back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::endpoint::memory::MemoryCluster;
use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{LeaderEpoch, Offset, TopicPartition};

/// Calls that can be made to fail or wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// Any of [`Catalog`](crate::endpoint::Catalog).
    Catalog,
    /// Any of [`TopicAdmin`](crate::endpoint::TopicAdmin).
    Admin,
    /// [`Reader::next`](crate::endpoint::Reader::next), also one that waits already.
    Read,
    /// [`PointReader::read`](crate::endpoint::PointReader::read).
    PointRead,
    /// [`Sink::open`](crate::endpoint::Sink::open).
    Attach,
    /// The answer to a write; can only be delayed (see [`Disturbance`] for the rest).
    Ack,
    /// Any of [`GroupReader`](crate::endpoint::GroupReader).
    ReadGroups,
    /// [`GroupWriter::commit_offsets`](crate::endpoint::GroupWriter::commit_offsets).
    CommitGroup,
    /// [`CommitTail::next`](crate::endpoint::CommitTail::next), also one that waits already.
    HearCommits,
    /// [`GroupWriter::delete_offsets`](crate::endpoint::GroupWriter::delete_offsets).
    DeleteOffsets,
    /// [`LedgerFollower::next`](crate::endpoint::LedgerFollower::next), also one that waits already.
    Follow,
    /// [`LedgerStore::claim`](crate::endpoint::LedgerStore::claim).
    Claim,
    /// [`LedgerAppender::append`](crate::endpoint::LedgerAppender::append): fails before anything is appended.
    LedgerAppend,
}

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disturbance {
    /// The broker refuses it; nothing is appended.
    Refuse(ErrorKind),
    /// It never arrives.
    LoseRequest,
    /// It is appended, but the answer and everything behind it on the connection is lost.
    LoseAck,
    /// It and what follows on its connection stay on the way until [`MemoryCluster::release_held`], even if the writer
    /// is gone by then.
    Hold,
}

#[derive(Default)]
pub(super) struct Faults {
    failures: Vec<Failure>,
    delays: BTreeMap<Call, Duration>,
    disturbances: BTreeMap<TopicPartition, VecDeque<Option<Disturbance>>>,
    pub frozen: bool,
    pub held: Vec<Request>,
}

struct Failure {
    call: Call,
    at: Option<TopicPartition>,
    times_left: usize,
    kind: ErrorKind,
}

/// A write on its way to the leader.
pub(super) struct Request {
    pub connection: u64,
    pub at: TopicPartition,
    /// The leader it was meant for.
    pub leader_epoch: LeaderEpoch,
    pub bytes: Bytes,
    pub answer: oneshot::Sender<Result<Offset>>,
}

impl Faults {
    /// Uses up a failure planned for such a call.
    pub fn due(&mut self, call: Call) -> Result<()> {
        self.fail(call, None)
    }

    /// Uses up a failure planned for such a call about `at`.
    pub fn due_at(&mut self, call: Call, at: &TopicPartition) -> Result<()> {
        self.fail(call, Some(at))
    }

    fn fail(&mut self, call: Call, at: Option<&TopicPartition>) -> Result<()> {
        let planned = self.failures.iter_mut().find(|f| f.call == call && f.times_left > 0 && f.at.as_ref() == at);
        let Some(failure) = planned else { return Ok(()) };
        failure.times_left -= 1;
        let place = at.map_or_else(String::new, |at| format!(" of {at}"));
        Err(Error::new(failure.kind, format!("{call:?}{place} fails as the test wishes")))
    }

    /// What is to happen to the next write at `at`.
    pub fn disturbance(&mut self, at: &TopicPartition, connection: u64) -> Option<Disturbance> {
        if self.frozen || self.held.iter().any(|request| request.connection == connection) {
            return Some(Disturbance::Hold);
        }
        self.disturbances.get_mut(at).and_then(VecDeque::pop_front).flatten()
    }
}

impl MemoryCluster {
    /// The next `times` calls fail with `kind`, whatever they are about.
    pub fn fail_next(&self, call: Call, times: usize, kind: ErrorKind) {
        self.change(|s| s.faults.failures.push(Failure { call, at: None, times_left: times, kind }));
    }

    /// The next `times` calls about one partition fail with `kind`.
    pub fn fail_at(&self, at: &TopicPartition, call: Call, times: usize, kind: ErrorKind) {
        let at = Some(at.clone());
        self.change(|s| s.faults.failures.push(Failure { call, at, times_left: times, kind }));
    }

    /// From now on each such call takes this long.
    pub fn delay(&self, call: Call, by: Duration) {
        self.change(|s| s.faults.delays.insert(call, by));
    }

    /// Disturbs the write at `at` that comes after the next `skipping` ones.
    pub fn disturb(&self, at: &TopicPartition, skipping: usize, with: Disturbance) {
        self.change(|s| {
            let queue = s.faults.disturbances.entry(at.clone()).or_default();
            queue.resize(queue.len().max(skipping + 1), None);
            queue[skipping] = Some(with);
        });
    }

    /// Forgets planned failures, delays and disturbances; what is held stays held.
    pub fn heal(&self) {
        self.change(|s| {
            let (frozen, held) = (s.faults.frozen, std::mem::take(&mut s.faults.held));
            s.faults = Faults { frozen, held, ..Faults::default() };
        });
    }

    /// Writes that are held back now.
    pub fn held(&self) -> usize {
        self.state().faults.held.len()
    }

    /// What was held back arrives, in order.
    pub fn release_held(&self) {
        self.change(|s| {
            for request in std::mem::take(&mut s.faults.held) {
                s.arrive(request);
            }
        });
    }

    /// What was held back never arrives.
    pub fn lose_held(&self) {
        self.change(|s| s.faults.held.clear());
    }

    /// The brokers stop answering (SIGSTOP): calls wait, writes pile up on their way.
    pub fn freeze(&self) {
        self.change(|s| s.faults.frozen = true);
    }

    /// The brokers go on where they stopped; what had piled up arrives.
    pub fn thaw(&self) {
        self.change(|s| s.faults.frozen = false);
        self.release_held();
    }

    /// What every call goes through first: waits while frozen and for the call's delay, then fails if planned.
    pub(super) async fn enter(&self, call: Call) -> Result<()> {
        let delay = self.wait_for(|s| (!s.faults.frozen).then(|| s.faults.delays.get(&call).copied())).await;
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        self.state().faults.due(call)
    }

    /// The same for a call about one partition.
    pub(super) async fn enter_at(&self, call: Call, at: &TopicPartition) -> Result<()> {
        self.enter(call).await?;
        self.state().faults.due_at(call, at)
    }

    /// How long the answer to a write takes.
    pub(super) fn ack_delay(&self) -> Duration {
        self.state().faults.delays.get(&Call::Ack).copied().unwrap_or_default()
    }
}
