//! A writer's outstanding batches: bounded in number, answered in order, all failed after the first failure.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::endpoint::memory::MemoryCluster;
use crate::endpoint::{Delivery, Error, ErrorKind, Result};
use crate::model::{LeaderEpoch, Offset, TopicPartition};

/// How many batches a writer keeps in flight once the first was acknowledged.
const IN_FLIGHT_MAX: usize = 5;

/// A batch that was sent.
pub(super) struct Pending {
    /// The leader's answer: where it was appended. Dropped without one: the connection broke.
    pub answered: oneshot::Receiver<Result<Offset>>,
    pub records: u32,
    pub place: Place,
}

/// The answering side of a connection.
pub(super) struct Line {
    pending: mpsc::UnboundedSender<(Pending, Instant, oneshot::Sender<Result<Offset>>)>,
    _closed: DropGuard,
}

impl Line {
    /// Opens a line to the leader of `at`, and the room of its writer. Dropping the line breaks it.
    pub fn start(cluster: MemoryCluster, at: TopicPartition, leader_epoch: LeaderEpoch) -> (Line, Room) {
        let (pending, mut queue) = mpsc::unbounded_channel::<(Pending, Instant, oneshot::Sender<_>)>();
        let (room, _) = watch::channel(Flights::default());
        let closed = CancellationToken::new();
        let tasks = cluster.shared.tasks.clone();
        let answering = {
            let (closed, room) = (closed.clone(), room.clone());
            async move {
                let answer_all = async {
                    while let Some((sent, at_time, promise)) = queue.recv().await {
                        let failed = room.borrow().failed.clone();
                        let outcome = match failed {
                            Some(error) => Err(error),
                            None => outcome(&cluster, &at, leader_epoch, sent.answered, sent.records, at_time).await,
                        };
                        room.send_modify(|r| match &outcome {
                            Ok(_) => r.proven = true,
                            Err(error) => r.failed = Some(error.clone()),
                        });
                        drop(sent.place);
                        let _ = promise.send(outcome);
                    }
                };
                closed.run_until_cancelled(answer_all).await;
            }
        };
        tasks.spawn(answering);
        (Line { pending, _closed: closed.drop_guard() }, Room(room))
    }

    /// The promise for a batch that was just sent.
    pub fn expect(&self, sent: Pending) -> Delivery {
        let (promise, outcome) = oneshot::channel();
        let queued = self.pending.send((sent, Instant::now(), promise));
        Box::pin(async move {
            let closed = || Error::new(ErrorKind::Attach, "the writer was closed before the batch's outcome was known");
            queued.map_err(|_| closed())?;
            outcome.await.map_err(|_| closed())?
        })
    }
}

/// What becomes of one batch: durable where the leader put it, once the high watermark has passed it.
async fn outcome(
    cluster: &MemoryCluster,
    at: &TopicPartition,
    leader_epoch: LeaderEpoch,
    answered: oneshot::Receiver<Result<Offset>>,
    records: u32,
    sent: Instant,
) -> Result<Offset> {
    let broken = |_| Error::new(ErrorKind::Attach, format!("{at}: the connection broke before the answer"));
    let base = answered.await.map_err(broken)?;
    let replicated = cluster.wait_for(|state| match state.log(at) {
        _ if state.faults.frozen => None,
        Err(error) => Some(Err(error)),
        Ok(log) if log.leader_epoch() != leader_epoch => {
            let what = format!("{at}: the leader moved before all replicas had the batch (NOT_LEADER_OR_FOLLOWER)");
            Some(Err(Error::new(ErrorKind::Attach, what)))
        }
        Ok(log) => match &base {
            Ok(base) => (log.bounds().high_watermark >= *base + i64::from(records)).then_some(Ok(())),
            Err(_) => Some(Ok(())),
        },
    });
    replicated.await?;
    tokio::time::sleep_until(sent + cluster.ack_delay()).await;
    base
}

/// How many batches of a writer are on their way, and how many may be.
pub(super) struct Room(watch::Sender<Flights>);

#[derive(Default)]
struct Flights {
    in_flight: usize,
    /// One was acknowledged: until then nothing but the first batch's place speaks for the sequence.
    proven: bool,
    limited: bool,
    /// The first failure, which all that follow share.
    failed: Option<Error>,
}

/// A batch's place in flight; free again when dropped.
pub(super) struct Place(watch::Sender<Flights>);

impl Room {
    /// Waits for a place; fails once a batch has failed. Cancel-safe.
    pub async fn take(&self) -> Result<Place> {
        let most = |f: &Flights| if f.proven && !f.limited { IN_FLIGHT_MAX } else { 1 };
        let mut flights = self.0.subscribe();
        let settled = flights.wait_for(|f| f.failed.is_some() || f.in_flight < most(f)).await;
        if let Some(error) = settled.expect("the room that waits keeps the sender").failed.clone() {
            return Err(error);
        }
        self.0.send_modify(|f| f.in_flight += 1);
        Ok(Place(self.0.clone()))
    }

    pub fn limit_to_one(&self, limited: bool) {
        self.0.send_modify(|f| f.limited = limited);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.send_modify(|f| f.in_flight -= 1);
    }
}
