//! Back and forth to one broker: a connection of its own, one fetch in flight, all partitions that it leads.
//!
//! A joining partition waits for the fetch in flight, at most `FetchSettings::wait`; so that a start is quick, fetches
//! wait only briefly for a second after anybody joined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{Batch, Offset, Payload};
use crate::runtime::memory::{Permit, Reservation};
use crate::runtime::retry::Pace;
use crate::wire::Connection;
use crate::wire::fetch::appetite::Appetite;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::desk::{Doubt, Mail};
use crate::wire::fetch::exchange::{Answers, Measure, fetch, frame_bytes};
use crate::wire::fetch::feed::{OVERHEAD_BYTES, Unread};
use crate::wire::fetch::slice::{Aborted, Slices, slice};
use crate::wire::fetch::verdict::{Verdict, verdict};
use crate::wire::fetch::{Shared, plan::Plan, plan::Planner};

/// A shuttle without partitions closes its connection after this.
const LINGER: Duration = Duration::from_secs(30);
/// How long the broker may wait while a partition is left out that will soon have room again, or somebody just joined.
const BRIEF: Duration = Duration::from_millis(10);
/// For so long after a partition joined, more are expected.
const SETTLING: Duration = Duration::from_secs(1);
/// Unread bytes are given back, when memory is short, after nobody read them for this long.
const STALLED: Duration = Duration::from_secs(1);
/// How often a shuttle that cannot go looks after memory that could be given back.
const LOOK: Duration = Duration::from_millis(250);
/// A section smaller than this part of its frame is copied out, so that a reader who stalls on it does not pin the rest.
const PINNED_PART: u64 = 8;
/// The longest throttling obeyed in one go.
const LONGEST_THROTTLE: Duration = Duration::from_secs(30);

/// The shuttle to one broker.
pub(super) struct Shuttle {
    shared: Arc<Shared>,
    broker_id: i32,
    inbox: mpsc::UnboundedReceiver<Box<Cursor>>,
    /// In the order in which they are asked for; who yielded something goes to the back.
    ring: VecDeque<Box<Cursor>>,
    connection: Option<Connection>,
    dialing: Pace,
    appetite: Appetite,
    planner: Planner,
    bell: Arc<Notify>,
    settling_until: Instant,
}

impl Shuttle {
    /// A shuttle for the partitions that arrive in `inbox`.
    pub(super) fn new(shared: Arc<Shared>, broker_id: i32, inbox: mpsc::UnboundedReceiver<Box<Cursor>>) -> Self {
        Self {
            appetite: Self::appetite(&shared),
            planner: Planner::new(shared.settings.buffered_bytes),
            broker_id,
            inbox,
            ring: VecDeque::new(),
            connection: None,
            dialing: Pace::new(Duration::from_millis(50), Duration::from_secs(2)),
            bell: Arc::default(),
            settling_until: Instant::now(),
            shared,
        }
    }

    fn appetite(shared: &Shared) -> Appetite {
        Appetite::new(shared.settings.response_bytes, shared.settings.partition_bytes)
    }

    /// Fetches until no partition is left for a while. A broken connection sends all partitions back to the desk, which
    /// finds out where their leaders are.
    pub(super) async fn run(mut self) {
        while self.has_work().await {
            if let Err(error) = self.trip().await {
                debug!(broker = self.broker_id, %error, "fetch connection lost");
                self.connection = None;
                // A path that was too slow for the last size gets a smaller one.
                self.appetite = Self::appetite(&self.shared);
                for cursor in self.ring.drain(..) {
                    self.shared.mail(Mail::Astray(cursor, error.clone()));
                }
            }
        }
        // Whoever was sent here while it closed is to be sent again.
        self.inbox.close();
        while let Ok(cursor) = self.inbox.try_recv() {
            self.shared.mail(Mail::Seeking(cursor));
        }
    }

    /// Takes in who joined; waits for somebody when there is nobody. `false`: nobody came.
    async fn has_work(&mut self) -> bool {
        if self.ring.is_empty() {
            match timeout(LINGER, self.inbox.recv()).await {
                Ok(Some(cursor)) => self.join(cursor),
                Ok(None) | Err(_) => return false,
            }
        }
        while let Ok(cursor) = self.inbox.try_recv() {
            self.join(cursor);
        }
        true
    }

    fn join(&mut self, cursor: Box<Cursor>) {
        self.ring.push_back(cursor);
        self.settling_until = Instant::now() + SETTLING;
    }

    /// One fetch, or a rest while nothing can be fetched.
    async fn trip(&mut self) -> Result<()> {
        if self.connection.as_ref().is_none_or(|c| c.renew_at().is_some_and(|at| at <= Instant::now())) {
            return self.dial().await;
        }
        if self.plan().asked.is_empty() {
            self.rest().await;
            return Ok(());
        }
        let reservation = self.reserve().await;
        // Reserving may have taken long.
        let plan = self.plan();
        if plan.asked.is_empty() {
            return Ok(());
        }
        let connection = self.connection.as_ref().expect("dialled above");
        let asked: Vec<&Cursor> = plan.asked.iter().map(|place| &*self.ring[*place]).collect();
        let measure = Measure {
            response_bytes: self.appetite.bytes(),
            partition_bytes: self.appetite.share_of(asked.len()),
            wait: self.wait(&plan),
        };
        let answers = fetch(connection, &asked, measure).await?;
        let throttle = answers.throttle.min(LONGEST_THROTTLE);
        self.planner.done(&plan, Instant::now());
        self.take(plan, answers, reservation);
        if !throttle.is_zero() {
            // The broker would not read our next request before that anyway.
            sleep(throttle).await;
        }
        Ok(())
    }

    async fn dial(&mut self) -> Result<()> {
        self.connection = None;
        match self.shared.cluster.dial(self.broker_id).await {
            Ok(connection) => {
                self.dialing.reset();
                self.connection = Some(connection);
                Ok(())
            }
            Err(error) => {
                sleep(self.dialing.next_delay()).await;
                Err(error)
            }
        }
    }

    fn plan(&mut self) -> Plan {
        self.planner.plan(&mut self.ring, &self.bell, Instant::now())
    }

    fn wait(&self, plan: &Plan) -> Duration {
        let now = Instant::now();
        let brief = plan.left_out_lively || now < self.settling_until;
        let longest = if brief { BRIEF } else { self.shared.settings.wait };
        longest.min(plan.until.map_or(longest, |until| until.saturating_duration_since(now)))
    }

    /// Waits until a reader makes room or leaves, or a partition joins.
    async fn rest(&mut self) {
        let bell = self.bell.clone();
        let joined = tokio::select! {
            _ = bell.notified() => None,
            joined = self.inbox.recv() => joined,
            _ = sleep(LOOK) => {
                self.relieve();
                None
            }
        };
        joined.into_iter().for_each(|cursor| self.join(cursor));
    }

    /// Reserves memory for the next response; while there is none, what stalled readers hold is given back.
    async fn reserve(&mut self) -> Reservation {
        let budget = self.shared.budget.clone();
        let bytes = frame_bytes(self.ring.len(), self.appetite.bytes().into());
        let reserving = budget.reserve(bytes);
        tokio::pin!(reserving);
        loop {
            tokio::select! {
                reservation = &mut reserving => return reservation,
                _ = sleep(LOOK) => self.relieve(),
            }
        }
    }

    fn relieve(&mut self) {
        let budget = &self.shared.budget;
        if budget.used_bytes() > budget.total_bytes() / 4 * 3 {
            self.ring.iter_mut().for_each(|cursor| cursor.give_back(STALLED));
        }
    }

    /// Hands out what came, and turns the ring: who was asked stays in front only if others came before it and left no
    /// room, so the first in the ring that has anything is served by every fetch.
    fn take(&mut self, plan: Plan, answers: Answers, reservation: Reservation) {
        self.appetite.came(answers.record_bytes);
        let mut answered = answers.partitions.into_iter().peekable();
        let mut waiting: Vec<Option<Box<Cursor>>> = std::mem::take(&mut self.ring).into_iter().map(Some).collect();
        let (mut back, mut yields) = (VecDeque::new(), Vec::new());
        let mut pinned_bytes = answers.bytes;
        let mut is_served = false;
        for (order, place) in plan.asked.into_iter().enumerate() {
            let Some((_, mut data)) = answered.next_if(|(answer, _)| *answer == order) else { continue };
            let Some(cursor) = waiting[place].take() else { continue };
            let Some(mut cursor) = self.judge(cursor, &data) else { continue };
            cursor.last_stable = Offset(data.last_stable_offset);
            let section = data.records.take().unwrap_or_default();
            if section.is_empty() {
                if is_served {
                    waiting[place] = Some(cursor);
                } else if cursor.next < cursor.last_stable && answers.throttle.is_zero() {
                    // Room was left, yet nothing came although the stable offset is ahead: maybe a hole at the end.
                    self.shared.mail(Mail::Doubtful(cursor, Doubt::TrailingHole));
                } else {
                    back.push_back(cursor);
                }
                continue;
            }
            let (section, copy) = self.detach(section, answers.bytes);
            let slices = slice(section, cursor.next, cursor.epoch, aborted(&data));
            pinned_bytes += slices.slices.len() as u64 * OVERHEAD_BYTES;
            yields.push((cursor, slices, copy, std::mem::replace(&mut is_served, true)));
        }
        let frame = reservation.settle(pinned_bytes);
        for (cursor, slices, copy, came_later) in yields {
            back.extend(self.deliver(cursor, slices, copy.unwrap_or_else(|| frame.clone()), came_later));
        }
        self.ring = waiting.into_iter().flatten().chain(back).collect();
    }

    /// Sends a partition with a problem where that is solved; answers the others back.
    fn judge(&self, mut cursor: Box<Cursor>, data: &PartitionData) -> Option<Box<Cursor>> {
        match verdict(self.shared.cluster.alias(), &cursor, data) {
            Verdict::Good => {
                cursor.recovered();
                return Some(cursor);
            }
            Verdict::Moved(broker_id, epoch) => {
                self.shared.cluster.leader_hint(&cursor.at, broker_id, epoch);
                self.shared.mail(Mail::Seeking(cursor));
            }
            Verdict::Astray(error) => self.shared.mail(Mail::Astray(cursor, error)),
            Verdict::OutOfRange => self.shared.mail(Mail::Doubtful(cursor, Doubt::OutOfRange)),
            Verdict::Damaged(error) => self.damaged(cursor, error),
            Verdict::Fatal(error) => cursor.feed.fail(error),
        }
        None
    }

    fn damaged(&self, mut cursor: Box<Cursor>, error: Error) {
        if cursor.is_damaged_again() {
            cursor.feed.fail(error);
        } else {
            self.shared.mail(Mail::Astray(cursor, error));
        }
    }

    /// Copies a small section out of a large frame, under memory of its own, if there is some.
    fn detach(&self, section: Bytes, frame_bytes: u64) -> (Bytes, Option<Permit>) {
        let bytes = section.len() as u64;
        if bytes * PINNED_PART >= frame_bytes {
            return (section, None);
        }
        match self.shared.budget.try_reserve(bytes) {
            Some(reservation) => (Bytes::copy_from_slice(&section), Some(reservation.settle(bytes))),
            None => (section, None),
        }
    }

    /// Passes slices on to the reader; answers the cursor back if it can go on here.
    fn deliver(
        &self,
        mut cursor: Box<Cursor>,
        slices: Slices,
        permit: Permit,
        came_later: bool,
    ) -> Option<Box<Cursor>> {
        let progressed = slices.next > cursor.next;
        if progressed {
            let batches = slices.slices.into_iter().map(|slice| {
                let permit = matches!(slice.payload, Payload::Batches(_)).then(|| permit.clone());
                let batch = Batch { range: slice.range, payload: slice.payload, permit };
                Unread { batch, epoch_below: slice.epoch_below }
            });
            let batches = batches.collect();
            cursor.advance(slices.next, slices.epoch, batches);
        }
        let what = || format!("{}: {}", self.shared.cluster.alias(), cursor.at);
        let error = match slices.flaw {
            Some(flaw) => Error::new(ErrorKind::Corrupt, format!("{}: {flaw}", what())),
            // Brokers since 0.10.1 send the first batch of a response whole (KIP-74).
            None if !progressed && !came_later => {
                let sentence = format!("{}: only part of the batch at offset {} was sent", what(), cursor.next);
                Error::new(ErrorKind::Corrupt, sentence)
            }
            None => return Some(cursor),
        };
        self.damaged(cursor, error);
        None
    }
}

fn aborted(data: &PartitionData) -> Vec<Aborted> {
    let listed = data.aborted_transactions.iter().flatten();
    listed.map(|a| Aborted { producer_id: a.producer_id.0, first: Offset(a.first_offset) }).collect()
}
