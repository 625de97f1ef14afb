//! Where one partition's fetching stands; handed from the desk to a shuttle, to an examination and back, never copied.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::{Error, ErrorKind};
use crate::model::{Batch, LeaderEpoch, Offset, OffsetRange, Payload, Route, TopicId, TopicPartition};
use crate::runtime::retry::Pace;
use crate::wire::Leader;
use crate::wire::fetch::feed::{Feed, Unread};

/// How long a partition is tried again in silence before its reader is told. Leaders move within seconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same where a broker says that there is no such topic: metadata of a new topic reaches all brokers sooner.
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(3);
/// How long a partition is read from a follower before the leader is asked again: it may know a nearer one, and no longer
/// think this one in sync. Kafka's own consumers ask as often (metadata.max.age.ms).
const FOLLOWED: Duration = Duration::from_secs(300);
/// A partition counts as busy for so long after it yielded something.
const BUSY: Duration = Duration::from_secs(1);

/// A partition being fetched. Exactly one task holds it at any time; when that task ends, so does the reader.
pub(super) struct Cursor {
    /// The partition.
    pub(super) at: TopicPartition,
    /// Id the topic must have, if it is known.
    pub(super) expected_id: Option<TopicId>,
    /// Its leader, once found.
    pub(super) leader: Leader,
    /// The replica the leader has sent it to, and until when it stays there.
    follower: Option<(i32, Instant)>,
    /// Where what is fetched goes.
    pub(super) feed: Arc<Feed>,
    /// First offset not fetched yet.
    pub(super) next: Offset,
    /// Leader epoch of what lies right below `next`; unknown behind a hole.
    pub(super) epoch: LeaderEpoch,
    /// Last stable offset by the last answer; unbounded before the first.
    pub(super) last_stable: Offset,
    busy_until: Instant,
    pace: Pace,
    troubled_since: Option<Instant>,
    damaged: bool,
}

impl Cursor {
    pub(super) fn new(route: &Route, from: Offset, epoch: LeaderEpoch, feed: Arc<Feed>) -> Box<Self> {
        Box::new(Self {
            at: route.source.clone(),
            expected_id: route.source_id,
            leader: Leader { broker_id: -1, epoch: LeaderEpoch::UNKNOWN, topic_id: None },
            follower: None,
            feed,
            next: from,
            epoch,
            last_stable: Offset(i64::MAX),
            busy_until: Instant::now(),
            pace: Pace::new(Duration::from_millis(50), Duration::from_secs(2)),
            troubled_since: None,
            damaged: false,
        })
    }

    /// Goes to its leader.
    pub(super) fn lead_by(&mut self, leader: Leader) {
        (self.leader, self.follower) = (leader, None);
    }

    /// Goes to a follower, for a while.
    pub(super) fn follow(&mut self, broker_id: i32, now: Instant) {
        self.follower = Some((broker_id, now + FOLLOWED));
    }

    /// Whether a follower serves it.
    pub(super) fn is_with_follower(&self) -> bool {
        self.follower.is_some()
    }

    /// Whether it has been with a follower for long enough.
    pub(super) fn is_to_return(&self, now: Instant) -> bool {
        self.follower.is_some_and(|(_, until)| until <= now)
    }

    /// The broker that serves it.
    pub(super) fn server(&self) -> i32 {
        self.follower.map_or(self.leader.broker_id, |(broker_id, _)| broker_id)
    }

    /// Whether it probably has something: more is known to be there, or something just was.
    pub(super) fn is_busy(&self, now: Instant) -> bool {
        self.next < self.last_stable || now < self.busy_until
    }

    /// Accepts what was fetched: everything from `next` up to `end`.
    pub(super) fn advance(&mut self, end: Offset, epoch: LeaderEpoch, batches: Vec<Unread>) {
        self.feed.push(batches);
        (self.next, self.epoch) = (end, epoch);
        self.busy_until = Instant::now() + BUSY;
        self.damaged = false;
    }

    /// Accepts the proof that nothing is left below `end`. The epoch behind the hole is not known.
    pub(super) fn skip_hole(&mut self, end: Offset) {
        let batch = Batch { range: OffsetRange::new(self.next, end), payload: Payload::Empty, permit: None };
        let hole = Unread { batch, epoch_below: self.epoch };
        self.advance(end, LeaderEpoch::UNKNOWN, vec![hole]);
    }

    /// Begins again where unread bytes were given back, if nobody read them for `idle`.
    pub(super) fn give_back(&mut self, idle: Duration) {
        if let Some((next, epoch)) = self.feed.give_back(idle) {
            (self.next, self.epoch) = (next, epoch);
        }
    }

    /// Notes that the partition answers well.
    pub(super) fn recovered(&mut self) {
        if self.troubled_since.take().is_some() {
            self.pace.reset();
        }
    }

    /// Notes a failure that may pass: answers how long to wait before looking for the leader again, or `None` when it
    /// has lasted too long and the reader was told.
    pub(super) fn troubled(&mut self, error: Error) -> Option<Duration> {
        let patience = if error.kind == ErrorKind::UnknownTopic { PATIENCE_UNKNOWN } else { PATIENCE };
        let since = *self.troubled_since.get_or_insert_with(Instant::now);
        if since.elapsed() < patience {
            return Some(self.pace.next_delay());
        }
        self.feed.fail(error);
        None
    }

    /// Notes damaged bytes at `next`: the first time they may have been damaged on the way and are fetched again.
    pub(super) fn is_damaged_again(&mut self) -> bool {
        std::mem::replace(&mut self.damaged, true)
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // After an error of its own this changes nothing; without one, no reader may wait for what nobody fetches.
        self.feed.fail(Error::new(ErrorKind::Retryable, format!("{}: its fetch has ended", self.at)));
    }
}
