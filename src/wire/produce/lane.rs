//! A lane: one connection to one leader, and the task that gathers what its partitions have ready, sends it at once
//! while a request slot is free, and tells every batch what became of it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{FuturesOrdered, StreamExt};
use kafka_protocol::messages::ApiKey;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::limits::TopicLimits;
use super::outbox::{Outbox, Seat, Sent};
use super::piece::Piece;
use super::request::{self, Part};
use super::response::{self, Answer, Response, TopicKey};
use super::sink::Shared;
use super::tempo::{NETWORK_MARGIN, OPENING_AT_ONCE, Tempo};
use super::verdict::verdict;
use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{Offset, TopicId, TopicPartition};
use crate::runtime::tasks::TaskScope;
use crate::wire::Connection;

/// A lane without writers keeps its connection this long.
const VACANT_FOR: Duration = Duration::from_secs(30);
/// The way to one leader. It ends for good when its connection is lost; the next writer opens another. Where brokers end
/// sessions (KIP-368), a new connection takes over before that, while nothing is in flight.
#[derive(Debug)]
pub(super) struct Lane {
    /// Owned by the lane's task, so that the connection closes when the lane ends, whoever still holds the lane.
    connection: Mutex<Weak<Connection>>,
    outbox: Mutex<Outbox>,
    work: Notify,
    /// Learnt through this connection and by it alone, so that a silent broker holds up nobody else's opening.
    limits: TopicLimits,
    opening: Semaphore,
    tempo: Mutex<Tempo>,
}

impl Lane {
    /// Starts a lane on a connection of its own.
    ///
    /// # Errors
    /// `Unsupported` when the broker speaks no Produce version that carries today's batches.
    pub fn start(connection: Connection, shared: Arc<Shared>, scope: &TaskScope) -> Result<Arc<Self>> {
        let version = produce_version(&connection)?;
        let connection = Arc::new(connection);
        let lane = Arc::new(Self {
            connection: Mutex::new(Arc::downgrade(&connection)),
            outbox: Mutex::new(Outbox::new(shared.settings.batches_in_flight_per_partition)),
            work: Notify::new(),
            limits: TopicLimits::default(),
            opening: Semaphore::new(OPENING_AT_ONCE as usize),
            tempo: Mutex::default(),
        });
        let task = Task {
            lane: lane.clone(),
            connection,
            version,
            shared,
            answers: FuturesOrdered::new(),
            in_flight: VecDeque::new(),
            progress: Instant::now(),
        };
        scope.spawn(task.run(scope.stopping().clone()));
        Ok(lane)
    }

    /// The connection, while the lane lives.
    pub fn connection(&self) -> Option<Arc<Connection>> {
        self.held().upgrade().filter(|connection| !connection.is_closed())
    }

    /// Takes a place for a writer.
    ///
    /// # Errors
    /// When the lane has ended: why.
    pub fn join(self: &Arc<Self>, at: Arc<TopicPartition>, topic_id: Option<TopicId>) -> Result<Place> {
        let room = Arc::new(Notify::new());
        let seat = self.outbox().join(at, topic_id, room.clone())?;
        Ok(Place { lane: self.clone(), seat, room })
    }

    /// When the broker listens again, while it does not.
    fn muted_until(&self) -> Option<Instant> {
        self.tempo().muted_until()
    }

    /// Waits for a turn to open a partition through this lane; none comes while the broker does not listen.
    pub async fn turn_to_open(&self) -> SemaphorePermit<'_> {
        while let Some(until) = self.muted_until() {
            sleep_until(until).await;
        }
        let share = OPENING_AT_ONCE / self.tempo().openings();
        self.opening.acquire_many(share).await.expect("the semaphore is never closed")
    }

    /// How long a question may take that alone would take `timeout`: the writes in front of it have their time too. Ends
    /// early with the lane, which gives up a connection that is silent.
    pub fn patience(&self, timeout: Duration) -> Duration {
        self.tempo().patience(timeout)
    }

    /// How large a batch each topic accepts.
    pub fn limits(&self) -> &TopicLimits {
        &self.limits
    }

    /// A lane without connection or task, of which a test plays the broker.
    #[cfg(test)]
    pub fn detached(in_flight_per_partition: usize) -> Arc<Self> {
        let outbox = Mutex::new(Outbox::new(in_flight_per_partition));
        let (work, limits, opening) = (Notify::new(), TopicLimits::default(), Semaphore::new(OPENING_AT_ONCE as usize));
        Arc::new(Self { connection: Mutex::default(), outbox, work, limits, opening, tempo: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Weak<Connection>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tempo(&self) -> MutexGuard<'_, Tempo> {
        self.tempo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues.
    pub(super) fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A writer's place in a lane. Dropping it leaves: nothing more of it is sent.
#[derive(Debug)]
pub(super) struct Place {
    lane: Arc<Lane>,
    seat: Seat,
    room: Arc<Notify>,
}

impl Place {
    /// Waits until a batch may be offered. Cancel-safe; an error means that the writer is spent.
    pub async fn room(&self) -> Result<()> {
        loop {
            // The notification is stored, so that room made between the look and the wait is not missed.
            if self.lane.outbox().has_room(self.seat)? {
                return Ok(());
            }
            self.room.notified().await;
        }
    }

    /// Hands over the pieces of one batch; only after [`Place::room`].
    pub fn offer(&self, pieces: Vec<Piece>) {
        self.lane.tempo().offered();
        self.lane.outbox().offer(self.seat, pieces);
        self.lane.work.notify_one();
    }

    /// One batch in flight, or as many as the settings allow.
    pub fn limit_to_one(&self, to_one: bool) {
        self.lane.outbox().limit_to_one(self.seat, to_one);
        self.lane.work.notify_one();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lane.outbox().leave(self.seat);
        self.lane.work.notify_one();
    }
}

/// The version of Produce that a connection carries.
fn produce_version(connection: &Connection) -> Result<i16> {
    let version = connection.version(ApiKey::Produce)?;
    if version >= request::MIN_VERSION {
        return Ok(version);
    }
    let message = format!("{}: brokers before 0.11 cannot be a target", connection.peer());
    Err(Error::new(ErrorKind::Unsupported, message))
}

struct Task {
    lane: Arc<Lane>,
    connection: Arc<Connection>,
    version: i16,
    shared: Arc<Shared>,
    answers: FuturesOrdered<BoxFuture<'static, Result<Bytes>>>,
    /// What each awaited answer is about, with the version it was asked in, and when.
    in_flight: VecDeque<(i16, Instant, Vec<Sent>)>,
    /// When the last answer came or the silence ends that it announced, or the first of the requests in flight was sent.
    progress: Instant,
}

impl Task {
    async fn run(mut self, stopping: CancellationToken) {
        let ended = self.serve(stopping).await;
        let broker = self.connection.broker_id();
        let ended = Error::new(
            ErrorKind::Attach,
            format!("{}: producing through broker {broker} ended: {}", self.shared.cluster.alias(), ended.message),
        );
        tracing::debug!(broker, reason = ended.message, "lane ended");
        self.shared.doubt_metadata();
        let in_flight = std::mem::take(&mut self.in_flight);
        self.lane.outbox().close(in_flight.into_iter().flat_map(|(.., sent)| sent), &ended);
    }

    /// Another connection to the same broker takes over. Nothing is in flight, so that what the writers know of the log
    /// and of each other stays true.
    async fn renew(&mut self) -> Result<()> {
        let connection = self.shared.cluster.dial(self.connection.broker_id()).await?;
        self.version = produce_version(&connection)?;
        self.connection = Arc::new(connection);
        *self.lane.held() = Arc::downgrade(&self.connection);
        Ok(())
    }

    /// Works until the lane must end, and says why.
    async fn serve(&mut self, stopping: CancellationToken) -> Error {
        let mut vacant_since = None;
        loop {
            // A broker closes an authenticated connection whose session has ended (KIP-368): it is let run dry before.
            let renew_at = self.connection.renew_at();
            let renewing = renew_at.is_some_and(|at| at <= Instant::now());
            if renewing && self.in_flight.is_empty() {
                match stopping.run_until_cancelled(self.renew()).await {
                    Some(Ok(())) => continue,
                    Some(Err(error)) => return error,
                    None => return Error::new(ErrorKind::Attach, "Twinlog is stopping"),
                }
            }
            let muted_until = self.lane.muted_until();
            let most = self.lane.tempo().most_in_flight(self.shared.settings.requests_in_flight);
            while !renewing && muted_until.is_none() && self.in_flight.len() < most {
                let sent = self.lane.outbox().gather(self.shared.settings.request_bytes_max);
                if sent.is_empty() {
                    break;
                }
                self.send(sent);
            }
            let vacant = self.in_flight.is_empty() && self.lane.outbox().is_vacant();
            vacant_since = vacant.then(|| vacant_since.unwrap_or_else(Instant::now));
            let patience = self.shared.settings.timeout + NETWORK_MARGIN;
            let silent_at = (!self.in_flight.is_empty()).then(|| self.progress + patience);
            let vacant_at = vacant_since.map(|since| since + VACANT_FOR);
            let deadlines = [silent_at, vacant_at, renew_at.filter(|_| !renewing), muted_until];
            let deadline = deadlines.into_iter().flatten().min();
            tokio::select! {
                biased;
                () = stopping.cancelled() => return Error::new(ErrorKind::Attach, "Twinlog is stopping"),
                Some(answer) = self.answers.next() => {
                    if let Err(error) = self.settle(answer) {
                        return error;
                    }
                }
                () = self.lane.work.notified() => {}
                () = self.connection.closed() => return Error::new(ErrorKind::Attach, "the connection was lost"),
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    if silent_at.is_some_and(|at| at <= Instant::now()) {
                        return Error::new(ErrorKind::Attach, format!("no answer came for {patience:?}"));
                    }
                    if vacant_at.is_some_and(|at| at <= Instant::now()) && self.close_if_vacant() {
                        return Error::new(ErrorKind::Attach, "nobody needed it");
                    }
                }
            }
        }
    }

    /// Ends an unused lane in one step with the look, so that no writer joins in between.
    fn close_if_vacant(&self) -> bool {
        let mut outbox = self.lane.outbox();
        let vacant = outbox.is_vacant();
        if vacant {
            outbox.close([], &Error::new(ErrorKind::Retryable, "the unused connection was just closed"));
        }
        vacant
    }

    fn send(&mut self, sent: Vec<Sent>) {
        let parts: Vec<Part<'_>> = sent
            .iter()
            .map(|sent| Part {
                at: &sent.at,
                topic_id: sent.topic_id,
                header: &sent.piece.header,
                payload: &sent.piece.payload,
            })
            .collect();
        let timeout = self.shared.settings.timeout;
        let version = request::version(self.version, &parts);
        let body = request::encode(version, timeout, &parts);
        if self.in_flight.is_empty() {
            self.progress = Instant::now();
        }
        let patience = {
            let mut tempo = self.lane.tempo();
            tempo.in_flight_now(self.in_flight.len() + 1);
            tempo.patience(timeout)
        };
        let answer = self.connection.start_frame(ApiKey::Produce, version, body, patience);
        self.answers.push_back(Box::pin(answer));
        self.in_flight.push_back((version, Instant::now(), sent));
    }

    /// Tells every batch of the oldest request what became of it; an error ends the lane.
    fn settle(&mut self, answer: Result<Bytes>) -> Result<()> {
        let body = answer?;
        let version = self.in_flight.front().expect("an answer has its request").0;
        let Response { answers, throttle } = response::decode(version, body)?;
        let (_, asked, sent) = self.in_flight.pop_front().expect("an answer has its request");
        let per_partition = self.heard(asked.elapsed(), throttle);
        let by_place: HashMap<_, _> = answers.iter().map(|answer| (place_of(answer), answer)).collect();
        let outcomes: Vec<(Sent, Result<Offset>)> = sent
            .into_iter()
            .map(|sent| {
                let place = match sent.topic_id {
                    Some(id) if version >= request::FIRST_WITH_TOPIC_IDS => TopicRef::Id(id.uuid()),
                    _ => TopicRef::Name(sent.at.topic.as_str().as_bytes()),
                };
                let outcome = self.outcome(&sent, by_place.get(&(place, sent.at.partition)).copied());
                (sent, outcome)
            })
            .collect();
        let mut outbox = self.lane.outbox();
        outbox.limit_in_flight(per_partition);
        for (sent, outcome) in outcomes {
            outbox.settle(sent, outcome);
        }
        Ok(())
    }

    /// An answer came after so long, and the broker does not listen for so long. Answers how many batches of a partition
    /// may be on their way.
    fn heard(&mut self, took: Duration, throttle: Duration) -> usize {
        let mut tempo = self.lane.tempo();
        tempo.in_flight_now(self.in_flight.len());
        let (listens_at, is_news) = tempo.answered(took, throttle);
        let per_partition = tempo.most_in_flight(self.shared.settings.batches_in_flight_per_partition);
        drop(tempo);
        // The silence that is announced is none.
        self.progress = listens_at;
        if is_news {
            let (cluster, broker) = (self.shared.cluster.alias(), self.connection.broker_id());
            tracing::info!(cluster, broker, ?throttle, "a quota of the brokers throttles what is written");
        }
        per_partition
    }

    fn outcome(&self, sent: &Sent, answer: Option<&Answer>) -> Result<Offset> {
        let Sent { at, piece, .. } = sent;
        let alias = self.shared.cluster.alias();
        let error = |kind, what: String| {
            Err(Error::new(kind, format!("{alias}: {at}: the batch for offset {}: {what}", piece.expected)))
        };
        let Some(answer) = answer else {
            return error(ErrorKind::Attach, "the broker's answer leaves it out".into());
        };
        let Some(verdict) = verdict(answer.code) else {
            // Old brokers acknowledge a repeated batch without its place.
            return if answer.base_offset >= 0 {
                Ok(Offset(answer.base_offset))
            } else {
                error(ErrorKind::Attach, "it is durable, but the broker does not tell where".into())
            };
        };
        if let Some((leader, epoch)) = answer.leader {
            self.shared.cluster.leader_hint(at, leader, epoch);
        } else if verdict.metadata_is_stale {
            self.shared.doubt_metadata();
        }
        if verdict.kind == ErrorKind::TooLarge {
            self.lane.limits.forget(&at.topic);
        }
        let words = answer.message.as_ref().map(|words| format!("; the broker says: {words}")).unwrap_or_default();
        error(verdict.kind, format!("{} (code {}{words})", verdict.meaning, answer.code))
    }
}

#[derive(PartialEq, Eq, Hash)]
enum TopicRef<'a> {
    Name(&'a [u8]),
    Id(uuid::Uuid),
}

fn place_of(answer: &Answer) -> (TopicRef<'_>, i32) {
    let topic = match &answer.topic {
        TopicKey::Name(name) => TopicRef::Name(name),
        TopicKey::Id(id) => TopicRef::Id(*id),
    };
    (topic, answer.partition)
}
