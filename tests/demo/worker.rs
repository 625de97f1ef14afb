//! An application: a member of a consumer group that works off orders, remembers which, and commits twice a second.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{BorrowedMessage, Message};

use crate::count::Read;
use crate::stage::Offsets;
use crate::support::record::Record;

const COMMIT_EVERY: Duration = Duration::from_millis(500);

/// A group member that runs; dropped, it stops without another commit.
pub struct Worker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    commit_at_end: AtomicBool,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    read: Vec<Read>,
    /// Next offset of every partition it has read from.
    next: Offsets,
    /// What its client still delivers reaches nobody.
    crashed: bool,
}

impl Worker {
    /// Joins `group` and works off `topics` from where the group stands, or from the beginning where it never stood.
    pub fn start(bootstrap: &str, group: &str, topics: &[&str]) -> Worker {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("session.timeout.ms", "6000")
            .create()
            .expect("these settings are valid");
        consumer.subscribe(topics).expect("plain topic names can be subscribed");
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let work = move || its.work(&consumer);
        let thread = thread::Builder::new().name("worker".into()).spawn(work).expect("a thread can be started");
        Worker { shared, thread: Some(thread) }
    }

    /// How many orders it has worked off.
    pub fn count(&self) -> usize {
        self.shared.done().read.len()
    }

    /// Whether it stands at these ends, when it began at `from`.
    pub fn has_reached(&self, ends: &Offsets, from: &Offsets) -> bool {
        let next = self.shared.done().next.clone();
        ends.iter().all(|(at, end)| next.get(at).or_else(|| from.get(at)).copied().unwrap_or(0) >= *end)
    }

    /// Commits what it has worked off, leaves the group, and says what it has read.
    pub fn leave(mut self) -> Vec<Read> {
        self.shared.commit_at_end.store(true, Ordering::Relaxed);
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the consumer does not panic");
        }
        std::mem::take(&mut self.shared.done().read)
    }

    /// Dies where it stands, and says what it had read. Its client is not waited for: librdkafka closes only after the
    /// commits under way are answered, and the broker that would answer them may be dead.
    pub fn crash(self) -> Vec<Read> {
        let mut done = self.shared.done();
        done.crashed = true;
        std::mem::take(&mut done.read)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self, consumer: &BaseConsumer) {
        let mut committed = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            // Errors pass: brokers come and go, and the client connects again by itself.
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
                self.done().work_off(&message);
            }
            if committed.elapsed() >= COMMIT_EVERY {
                commit(consumer, CommitMode::Async);
                committed = Instant::now();
            }
        }
        if self.commit_at_end.load(Ordering::Relaxed) {
            commit(consumer, CommitMode::Sync);
        }
    }

    fn done(&self) -> MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Done {
    fn work_off(&mut self, message: &BorrowedMessage<'_>) {
        if self.crashed {
            return;
        }
        let order = Record { value: message.payload().map(<[u8]>::to_vec), ..Record::default() };
        let id = order.id().expect("every order begins with its id");
        self.read.push(Read { id, at: Instant::now() });
        let next: &mut BTreeMap<_, _> = &mut self.next;
        next.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
    }
}

/// Commits what has been worked off. A refusal (nothing new, a broker that is gone) leaves the position where it was,
/// which costs re-reading and nothing else.
fn commit(consumer: &BaseConsumer, mode: CommitMode) {
    let _ = consumer.commit_consumer_state(mode);
}
