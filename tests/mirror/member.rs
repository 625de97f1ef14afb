//! An application of a consumer group, by librdkafka: it remembers what it has read and commits only that. As a member, as
//! a static one that never says good-bye, or with partitions of its own choice and no member at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;

use crate::support::record::Record;

/// How members agree on who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// JoinGroup and SyncGroup.
    Classic,
    /// KIP-848: the broker assigns.
    Consumer,
}

impl Protocol {
    /// Both.
    pub const ALL: [Protocol; 2] = [Protocol::Classic, Protocol::Consumer];
}

/// What a member commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commits {
    /// What it has read, many times a second, and once more when it leaves.
    Always,
    /// Only when [`Member::commit`] says so.
    WhenTold,
    /// Nothing, ever.
    Never,
}

/// Which group is joined, and how.
#[derive(Debug, Clone, Copy)]
pub struct Membership<'a> {
    /// The cluster.
    pub bootstrap: &'a str,
    /// The group.
    pub group: &'a str,
    /// Topics by name; what begins with `^` is a regular expression.
    pub topics: &'a [&'a str],
    /// How its members agree.
    pub protocol: Protocol,
    /// What it commits.
    pub commits: Commits,
    /// Makes it a static member of this name: when it ends, the group keeps its place until its session is over.
    pub instance: Option<&'a str>,
}

/// A member that runs; dropped, it leaves the group without another commit.
pub struct Member {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<KafkaResult<()>>>,
}

struct Shared {
    commits: Commits,
    stop: AtomicBool,
    commit_now: AtomicBool,
    leave_committed: AtomicBool,
    assigned: AtomicBool,
    ids: Mutex<Vec<u64>>,
}

impl Member {
    /// Joins `group` and reads `topic` from where the group stands, or from the beginning where it never stood.
    pub fn join(bootstrap: &str, group: &str, topic: &str, protocol: Protocol, commits: Commits) -> Member {
        Member::join_as(Membership { bootstrap, group, topics: &[topic], protocol, commits, instance: None })
    }

    /// The same in full.
    pub fn join_as(membership: Membership<'_>) -> Member {
        let mut settings = settings(membership.bootstrap, membership.group);
        match membership.protocol {
            Protocol::Classic => settings.set("group.protocol", "classic").set("session.timeout.ms", "6000"),
            Protocol::Consumer => settings.set("group.protocol", "consumer"),
        };
        if let Some(instance) = membership.instance {
            settings.set("group.instance.id", instance);
        }
        let consumer: BaseConsumer = settings.create().expect("these settings are valid");
        consumer.subscribe(membership.topics).expect("topic names and patterns can be subscribed");
        Member::run(consumer, membership.commits)
    }

    /// Takes partitions as `assign()` does: positions of the group are read and written, but it never has a member.
    pub fn assign(bootstrap: &str, group: &str, partitions: &[(&str, i32)], commits: Commits) -> Member {
        let consumer: BaseConsumer = settings(bootstrap, group).create().expect("these settings are valid");
        let mut all = TopicPartitionList::new();
        for (topic, partition) in partitions {
            all.add_partition(topic, *partition);
        }
        consumer.assign(&all).expect("any partitions can be assigned");
        Member::run(consumer, commits)
    }

    fn run(consumer: BaseConsumer, commits: Commits) -> Member {
        let shared = Arc::new(Shared {
            commits,
            stop: AtomicBool::new(false),
            commit_now: AtomicBool::new(false),
            leave_committed: AtomicBool::new(false),
            assigned: AtomicBool::new(false),
            ids: Mutex::default(),
        });
        let its = shared.clone();
        let work = move || its.work(&consumer);
        let thread = thread::Builder::new().name("member".into()).spawn(work).expect("a thread can be started");
        Member { shared, thread: Some(thread) }
    }

    /// How many records it has read.
    pub fn count(&self) -> usize {
        self.shared.ids().len()
    }

    /// The ids it has read, in order.
    pub fn ids(&self) -> Vec<u64> {
        self.shared.ids().clone()
    }

    /// Whether the group has given it partitions.
    pub fn is_assigned(&self) -> bool {
        self.shared.assigned.load(Ordering::Relaxed)
    }

    /// Commits what it has read by now; returns when the broker has it.
    pub fn commit(&self) {
        self.shared.commit_now.store(true, Ordering::Release);
        super::support::until(super::SOON, "the member has committed", || {
            !self.shared.commit_now.load(Ordering::Acquire)
        });
    }

    /// Leaves the group, with a last commit if it makes any by itself; the ids it has read, in order.
    #[track_caller]
    pub fn leave(mut self) -> Vec<u64> {
        self.end_committed().expect("the last commit is accepted");
        std::mem::take(&mut self.shared.ids())
    }

    /// The same, when the group may be in the middle of anything: the last commit may fail then.
    pub fn leave_amid_others(mut self) {
        if let Err(error) = self.end_committed() {
            println!("a member's last commit failed: {error}");
        }
    }

    fn end_committed(&mut self) -> KafkaResult<()> {
        self.shared.leave_committed.store(self.shared.commits == Commits::Always, Ordering::Relaxed);
        self.end().expect("a member does not panic")
    }

    fn end(&mut self) -> thread::Result<KafkaResult<()>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(Ok(())), JoinHandle::join)
    }
}

fn settings(bootstrap: &str, group: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed");
    settings
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.end().is_err() {
            eprintln!("a member panicked");
        }
    }
}

impl Shared {
    fn ids(&self) -> MutexGuard<'_, Vec<u64>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, consumer: &BaseConsumer) -> KafkaResult<()> {
        let mut uncommitted = 0;
        while !self.stop.load(Ordering::Relaxed) {
            // Read before polling: a commit covers at least what had been read when it was asked for.
            let told = self.commit_now.load(Ordering::Acquire);
            // Errors pass: the group may be rebalancing, and the client tries again by itself.
            if let Some(Ok(message)) = consumer.poll(Duration::from_millis(20)) {
                self.read(consumer, &message);
                uncommitted += 1;
            }
            self.assigned.store(consumer.assignment().is_ok_and(|a| a.count() > 0), Ordering::Relaxed);
            if told {
                consumer.commit_consumer_state(CommitMode::Sync).expect("a member in peace can commit");
                self.commit_now.store(false, Ordering::Release);
            } else if self.commits == Commits::Always && uncommitted >= 10 {
                // What this one misses (a rebalance), the next one has.
                let _ = consumer.commit_consumer_state(CommitMode::Async);
                uncommitted = 0;
            }
        }
        if self.leave_committed.load(Ordering::Relaxed) {
            match consumer.commit_consumer_state(CommitMode::Sync) {
                // Nothing read since the last commit.
                Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
                outcome => return outcome,
            }
        }
        Ok(())
    }

    fn read(&self, consumer: &BaseConsumer, message: &BorrowedMessage<'_>) {
        let order = Record { value: message.payload().map(<[u8]>::to_vec), ..Record::default() };
        self.ids().push(order.id().expect("every order begins with its id"));
        consumer.store_offset_from_message(message).expect("the partition is assigned");
    }
}
