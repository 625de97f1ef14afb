//! What is to be sent over one connection and what was: per partition a queue with its limit, over all of them a fair
//! order. No I/O and no clock, so that the rules can be read and tested on their own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::piece::{Piece, Promise};
use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{Offset, TopicId, TopicPartition};

/// A writer's place in an [`Outbox`]; never used again after it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Seat(u64);

/// A batch on the wire.
#[derive(Debug)]
pub(super) struct Sent {
    /// Whose it is.
    pub seat: Seat,
    /// The partition it goes to.
    pub at: Arc<TopicPartition>,
    /// The topic's id, where known.
    pub topic_id: Option<TopicId>,
    /// The batch.
    pub piece: Piece,
}

/// The queues of all writers of one connection.
#[derive(Debug)]
pub(super) struct Outbox {
    queues: HashMap<Seat, Queue>,
    /// Seats with a batch that may go now, each at most once, in the order in which they are served.
    ready: VecDeque<Seat>,
    seats: u64,
    in_flight_per_partition: usize,
    closed: Option<Error>,
}

#[derive(Debug)]
struct Queue {
    at: Arc<TopicPartition>,
    topic_id: Option<TopicId>,
    waiting: VecDeque<Piece>,
    in_flight: usize,
    /// Set by the owner: one in flight for good.
    one_only: bool,
    /// An ack came at the offset it had to: only then is more than one in flight safe, because a leader without
    /// producer state would accept the second batch after having refused the first.
    proven: bool,
    ready: bool,
    state: State,
    room: Arc<Notify>,
}

#[derive(Debug)]
enum State {
    Sound,
    /// An ack came at another offset than expected: nothing more is sent, acks of what is in flight are still told.
    Drifted(Error),
    /// A batch failed: everything behind it fails too.
    Failed(Error),
}

impl Queue {
    fn limit(&self, most: usize) -> usize {
        if self.proven && !self.one_only { most } else { 1 }
    }

    /// Bytes of the batch that may go now, if one may.
    fn next_size(&self, most_in_flight: usize) -> Option<usize> {
        let may_go = matches!(self.state, State::Sound) && self.in_flight < self.limit(most_in_flight);
        self.waiting.front().filter(|_| may_go).map(Piece::size_bytes)
    }

    fn error(&self) -> Option<&Error> {
        match &self.state {
            State::Sound => None,
            State::Drifted(error) | State::Failed(error) => Some(error),
        }
    }

    /// Fails what was never sent, once nothing sent before it is open (deliveries resolve in the order of sends).
    fn abandon_waiting(&mut self) {
        let Some(error) = self.error().cloned() else { return };
        if self.in_flight == 0 {
            for promise in self.waiting.drain(..).filter_map(|piece| piece.promise) {
                promise.failed(after(&error));
            }
        }
        self.room.notify_one();
    }
}

/// What befell everything behind a batch that failed with `cause`. Always `Attach`: the cause is about another batch.
fn after(cause: &Error) -> Error {
    Error::new(ErrorKind::Attach, format!("an earlier batch failed: {}", cause.message))
}

impl Outbox {
    /// An empty outbox; `in_flight_per_partition` is at least 1.
    pub fn new(in_flight_per_partition: usize) -> Self {
        Self {
            queues: HashMap::new(),
            ready: VecDeque::new(),
            seats: 0,
            in_flight_per_partition: in_flight_per_partition.max(1),
            closed: None,
        }
    }

    /// Seats a writer. `room` is notified when it may have become able to [`offer`](Self::offer).
    pub fn join(&mut self, at: Arc<TopicPartition>, topic_id: Option<TopicId>, room: Arc<Notify>) -> Result<Seat> {
        if let Some(error) = &self.closed {
            return Err(error.clone());
        }
        let seat = Seat(self.seats);
        self.seats += 1;
        let queue = Queue {
            at,
            topic_id,
            waiting: VecDeque::new(),
            in_flight: 0,
            one_only: false,
            proven: false,
            ready: false,
            state: State::Sound,
            room,
        };
        self.queues.insert(seat, queue);
        Ok(seat)
    }

    /// Nothing more of the writer is sent; what is in flight is forgotten.
    pub fn leave(&mut self, seat: Seat) {
        self.queues.remove(&seat);
    }

    /// Whether no writer is seated.
    pub fn is_vacant(&self) -> bool {
        self.queues.is_empty()
    }

    /// So many batches of a partition may be in flight from now on; at least 1. What is in flight stays so.
    pub fn limit_in_flight(&mut self, per_partition: usize) {
        self.in_flight_per_partition = per_partition.max(1);
    }

    /// Restricts a writer to one batch in flight, or lifts the restriction.
    pub fn limit_to_one(&mut self, seat: Seat, one_only: bool) {
        if let Some(queue) = self.queues.get_mut(&seat) {
            queue.one_only = one_only;
            queue.room.notify_one();
        }
        self.list(seat);
    }

    /// Whether the writer may offer a batch now.
    ///
    /// # Errors
    /// When the writer is spent: why.
    pub fn has_room(&self, seat: Seat) -> Result<bool> {
        let queue = self.queues.get(&seat).expect("a writer keeps its seat until it leaves");
        match queue.error().or(self.closed.as_ref()) {
            Some(error) => Err(after(error)),
            None => Ok(queue.waiting.len() + queue.in_flight < queue.limit(self.in_flight_per_partition)),
        }
    }

    /// Takes the pieces of one batch; call it only after [`has_room`](Self::has_room) said so.
    pub fn offer(&mut self, seat: Seat, pieces: impl IntoIterator<Item = Piece>) {
        let queue = self.queues.get_mut(&seat).expect("a writer keeps its seat until it leaves");
        queue.waiting.extend(pieces);
        self.list(seat);
    }

    /// Takes what goes into one request: at most one batch per partition, `most_bytes` in all unless the first batch
    /// alone is larger, sorted by topic and partition. Empty when nothing may go.
    pub fn gather(&mut self, most_bytes: usize) -> Vec<Sent> {
        let mut taken = Vec::new();
        let mut bytes = 0;
        for _ in 0..self.ready.len() {
            let seat = *self.ready.front().expect("one turn per seat that was ready");
            let size = self.queues.get(&seat).and_then(|queue| queue.next_size(self.in_flight_per_partition));
            if size.is_some_and(|size| !taken.is_empty() && bytes + size > most_bytes) {
                break;
            }
            self.ready.pop_front();
            // A writer that left, failed or was restricted is still in line.
            let Some(queue) = self.queues.get_mut(&seat) else { continue };
            queue.ready = false;
            if size.is_none() {
                continue;
            }
            let Some(piece) = queue.waiting.pop_front() else { continue };
            queue.in_flight += 1;
            bytes += piece.size_bytes();
            taken.push(Sent { seat, at: queue.at.clone(), topic_id: queue.topic_id, piece });
            self.list(seat);
        }
        taken.sort_by(|a, b| a.at.cmp(&b.at));
        taken
    }

    /// Settles a batch that [`gather`](Self::gather) took: acknowledged at an offset, or failed. Tells its promise and
    /// decides what may go next. Batches of a writer are settled in the order in which they were taken.
    pub fn settle(&mut self, sent: Sent, outcome: Result<Offset>) {
        let Sent { seat, at, piece: Piece { expected, promise, .. }, .. } = sent;
        let Some(queue) = self.queues.get_mut(&seat) else {
            return tell(promise, outcome, expected);
        };
        queue.in_flight -= 1;
        if let State::Failed(cause) = &queue.state {
            tell(promise, Err(after(cause)), expected);
            return queue.abandon_waiting();
        }
        match (&outcome, &queue.state) {
            // Of a split batch whose former part drifted, no single offset would be true.
            (Ok(_), State::Drifted(cause)) if promise.as_ref().is_some_and(|promise| promise.first != expected) => {
                tell(promise, Err(after(cause)), expected);
            }
            (Ok(base), state) => {
                if *base == expected {
                    queue.proven = true;
                } else if matches!(state, State::Sound) {
                    let message = format!("{at}: a batch landed at {base} instead of {expected}");
                    queue.state = State::Drifted(Error::new(ErrorKind::Attach, message));
                }
                tell(promise, outcome, expected);
            }
            (Err(error), _) => {
                queue.state = State::Failed(error.clone());
                tell(promise, outcome, expected);
            }
        }
        queue.room.notify_one();
        queue.abandon_waiting();
        self.list(seat);
    }

    /// The connection is gone: fails everything that is not settled (`in_flight` in the order of sending) and lets
    /// nobody in any more.
    pub fn close(&mut self, in_flight: impl IntoIterator<Item = Sent>, error: &Error) {
        for sent in in_flight {
            self.settle(sent, Err(error.clone()));
        }
        self.closed = Some(error.clone());
        self.ready.clear();
        for queue in self.queues.values_mut() {
            if matches!(queue.state, State::Sound) {
                queue.state = State::Failed(error.clone());
            }
            queue.abandon_waiting();
        }
    }

    /// Puts a seat in line if it has a batch that may go and is not in line yet.
    fn list(&mut self, seat: Seat) {
        if let Some(queue) = self.queues.get_mut(&seat)
            && !queue.ready
            && queue.next_size(self.in_flight_per_partition).is_some()
        {
            queue.ready = true;
            self.ready.push_back(seat);
        }
    }
}

fn tell(promise: Option<Promise>, outcome: Result<Offset>, expected: Offset) {
    match (promise, outcome) {
        (None, _) => {}
        (Some(promise), Ok(base)) => promise.acknowledged(base, expected),
        (Some(promise), Err(error)) => promise.failed(error),
    }
}
