//! Back and forth to one broker: a connection of its own, one fetch in flight, all partitions that it leads.
//!
//! A joining partition waits for the fetch in flight, at most `FetchSettings::wait`; so that a start is quick, fetches
//! wait only briefly for a second after anybody joined.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use crate::endpoint::Result;
use crate::runtime::memory::Reservation;
use crate::runtime::retry::Pace;
use crate::wire::Connection;
use crate::wire::fetch::Shared;
use crate::wire::fetch::appetite::Appetite;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::desk::Mail;
use crate::wire::fetch::exchange::{Measure, fetch, fetch_by_session, frame_bytes};
use crate::wire::fetch::harvest::Harvest;
use crate::wire::fetch::plan::{Plan, Planner};
use crate::wire::fetch::session::Session;
use crate::wire::quota;

/// A shuttle without partitions closes its connection after this.
const LINGER: Duration = Duration::from_secs(30);
/// How long the broker may wait while a partition is left out that will soon have room again, or somebody just joined.
const BRIEF: Duration = Duration::from_millis(10);
/// For so long after a partition joined, more are expected.
const SETTLING: Duration = Duration::from_secs(1);
/// Unread bytes are given back, when memory is short, after nobody read them for this long.
const STALLED: Duration = Duration::from_secs(2);
/// How often a shuttle that cannot go looks after memory that could be given back.
const LOOK: Duration = Duration::from_millis(250);

/// The shuttle to one broker.
pub(super) struct Shuttle {
    shared: Arc<Shared>,
    broker_id: i32,
    inbox: mpsc::UnboundedReceiver<Box<Cursor>>,
    /// In the order in which they are asked for; who yielded something goes to the back.
    ring: VecDeque<Box<Cursor>>,
    connection: Option<Connection>,
    session: Session,
    rack: StrBytes,
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
            appetite: Appetite::new(&shared.settings),
            planner: Planner::new(),
            broker_id,
            inbox,
            ring: VecDeque::new(),
            connection: None,
            session: Session::new(),
            rack: shared.settings.rack.clone().map(StrBytes::from_string).unwrap_or_default(),
            dialing: Pace::new(Duration::from_millis(50), Duration::from_secs(2)),
            bell: Arc::default(),
            settling_until: Instant::now(),
            shared,
        }
    }

    /// Fetches until no partition is left for a while. A broken connection sends all partitions back to the desk, which
    /// finds out where their leaders are.
    pub(super) async fn run(mut self) {
        while self.has_work().await {
            if let Err(error) = self.trip().await {
                debug!(broker = self.broker_id, %error, "fetch connection lost");
                self.connection = None;
                self.session.begin_anew();
                // A path that was too slow for the last size gets a smaller one.
                self.appetite = Appetite::new(&self.shared.settings);
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
        self.send_home();
        true
    }

    fn join(&mut self, cursor: Box<Cursor>) {
        self.ring.push_back(cursor);
        self.settling_until = Instant::now() + SETTLING;
    }

    /// Lets go of who has been here long enough, this broker being a follower of theirs.
    fn send_home(&mut self) {
        let now = Instant::now();
        if self.ring.iter().any(|cursor| cursor.is_to_return(now)) {
            let (home, staying): (VecDeque<_>, _) = self.ring.drain(..).partition(|cursor| cursor.is_to_return(now));
            self.ring = staying;
            home.into_iter().for_each(|cursor| self.shared.mail(Mail::Seeking(cursor)));
        }
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
            rack: self.rack.clone(),
        };
        let sent = Instant::now();
        let answers = if plan.is_sweep {
            fetch_by_session(connection, &mut self.session, &asked, measure).await?
        } else {
            fetch(connection, &asked, measure).await?
        };
        let silence = quota::silence(answers.throttle);
        let now = Instant::now();
        self.planner.done(&plan, now);
        self.appetite.came(answers.record_bytes, now - sent);
        let ring = std::mem::take(&mut self.ring);
        self.ring = Harvest::new(&self.shared).bring_in(ring, &plan.asked, answers, reservation);
        if !silence.is_zero() {
            sleep(silence).await;
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
        let buffered_bytes = self.appetite.sizes().buffered_bytes;
        self.planner.plan(&mut self.ring, buffered_bytes, &self.bell, Instant::now())
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
}
