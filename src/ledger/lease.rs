//! The right to append: for how long it is ours, and when it may become ours.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::endpoint::{Error, ErrorKind};
use crate::ledger::process::ProcessIdentity;
use crate::ledger::record::{ClaimRecord, LeaseRecord};

/// How long a lease lasts from the send of its last renewal.
pub const LEASE: Duration = Duration::from_secs(5);

/// The holder's view of its lease. Clones share it.
///
/// It runs on the monotonic clock, which stands still while a machine is suspended: a holder that wakes from that learns
/// of its successor at its next append.
#[derive(Debug, Clone)]
pub struct Lease {
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone)]
enum State {
    Held { until: Instant },
    Lost(Error),
}

impl Lease {
    pub(super) fn held(until: Instant) -> Self {
        Self { state: Arc::new(watch::Sender::new(State::Held { until })) }
    }

    /// Whether anything may still be accepted for sending. False past 5 s since the send of the last renewal that
    /// succeeded; true again when a later one succeeds (then nobody else has claimed); false for good once lost.
    pub fn valid(&self) -> bool {
        match &*self.state.borrow() {
            State::Held { until } => Instant::now() < *until || is_switched_off(),
            State::Lost(_) => false,
        }
    }

    /// Resolves when it is polled past the lease. No clock wakes it: poll it right before what only a holder may do, so that
    /// a process that was frozen in between does not do it.
    pub async fn lapsed(&self) {
        std::future::poll_fn(|_| if self.valid() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    /// Resolves when the lease is valid, again or still; never once it is lost. Cancel-safe.
    pub async fn regained(&self) {
        let mut states = self.state.subscribe();
        loop {
            states.borrow_and_update();
            if self.valid() {
                return;
            }
            states.changed().await.expect("the sender lives in self");
        }
    }

    /// Resolves when the lease is lost for good, with the reason: a successor claimed, the appends' state is in doubt
    /// beyond repair, or the ledger was released. Cancel-safe.
    pub async fn lost(&self) -> Error {
        let mut states = self.state.subscribe();
        loop {
            if let State::Lost(why) = &*states.borrow_and_update() {
                return why.clone();
            }
            states.changed().await.expect("the sender lives in self");
        }
    }

    pub(super) fn renewed(&self, until: Instant) {
        self.state.send_if_modified(|state| match state {
            State::Held { until: old } if *old < until => {
                *old = until;
                true
            }
            _ => false,
        });
    }

    /// Whether the lease is lost or given up for good.
    pub(super) fn is_lost(&self) -> bool {
        matches!(&*self.state.borrow(), State::Lost(_))
    }

    /// Loses the lease if `error` means that our appends are over.
    pub(super) fn note(&self, error: &Error) {
        if matches!(error.kind, ErrorKind::Fenced | ErrorKind::Attach) && !is_switched_off() {
            self.lose(error.clone());
        }
    }

    /// The holder's own wish.
    pub(super) fn give_up(&self) {
        self.lose(Error::new(ErrorKind::Fenced, "the ledger was released"));
    }

    fn lose(&self, why: Error) {
        self.state.send_if_modified(|state| match state {
            State::Held { .. } => {
                *state = State::Lost(why);
                true
            }
            State::Lost(_) => false,
        });
    }
}

/// When a successor may claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// At once: nobody holds the lease any more.
    Now,
    /// When the lease last seen has run out, unless it is renewed.
    At(Instant),
}

/// What a successor knows of earlier holders. Only appends it saw count, by its own clock: a holder dates its lease from
/// an earlier moment, the send.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    /// The lease on record.
    pub lease: Option<LeaseRecord>,
    /// The last claim on record. Between its claim and its lease record a holder is known by the claim alone.
    pub claim: Option<ClaimRecord>,
    /// When an append of somebody else was last seen, or could have been made as far as is known.
    pub last_append: Instant,
}

impl Sighting {
    /// The rule of DESIGN §6: wait the lease out since the last append seen, unless every holder on record has released
    /// it or `is_over` for certain.
    pub fn turn(&self, is_over: impl Fn(Uuid, &ProcessIdentity) -> bool) -> Turn {
        let lease_over =
            self.lease.as_ref().is_none_or(|lease| lease.released || is_over(lease.holder, &lease.process));
        let claimer = self.claim.as_ref().filter(|claim| self.lease.as_ref().is_none_or(|l| l.holder != claim.holder));
        if is_switched_off() || lease_over && claimer.is_none_or(|claim| is_over(claim.holder, &claim.process)) {
            Turn::Now
        } else {
            Turn::At(self.last_append + LEASE)
        }
    }

    /// Whom [`Turn::At`] waits for.
    pub fn holder(&self) -> Option<&ProcessIdentity> {
        self.claim.as_ref().map(|claim| &claim.process).or(self.lease.as_ref().map(|lease| &lease.process))
    }
}

/// Lets a test run two owners at once, to see that the brokers alone keep the copy exact. Only the test build can.
fn is_switched_off() -> bool {
    cfg!(feature = "test-util") && std::env::var_os("TWINLOG_TEST_WITHOUT_LEASE").is_some()
}

/// Now, for people: milliseconds since 1970.
pub(super) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> ProcessIdentity {
        ProcessIdentity { host: "here".into(), pid, proof: None }
    }

    fn lease(holder: u32, released: bool) -> Option<LeaseRecord> {
        let at = Uuid::from_u128(holder.into());
        Some(LeaseRecord { holder: at, process: process(holder), renewal: 0, released, at_ms: 0 })
    }

    fn claim(holder: u32) -> Option<ClaimRecord> {
        Some(ClaimRecord { holder: Uuid::from_u128(holder.into()), process: process(holder) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_waited_out_unless_released_or_its_holder_gone() {
        let now = Instant::now();
        let wait = Turn::At(now + LEASE);
        let nobody: &[u32] = &[];
        for (lease, claim, gone, turn, why) in [
            (None, None, nobody, Turn::Now, "a new ledger"),
            (lease(1, false), claim(1), nobody, wait, "a holder that may live"),
            (lease(1, true), claim(1), nobody, Turn::Now, "released"),
            (lease(1, false), claim(1), &[1], Turn::Now, "gone"),
            (lease(1, true), claim(2), nobody, wait, "a claimer without a lease yet"),
            (None, claim(2), nobody, wait, "the first claimer without a lease yet"),
            (lease(1, false), claim(2), &[1], wait, "the claimer lives"),
            (lease(1, false), claim(2), &[2], wait, "the claimer died, the holder may not know yet"),
            (lease(1, false), claim(2), &[1, 2], Turn::Now, "both gone"),
        ] {
            let seen = Sighting { lease, claim, last_append: now };
            assert_eq!(seen.turn(|_, process| gone.contains(&process.pid)), turn, "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_valid_from_its_send_for_five_seconds_and_again_when_renewed_later() {
        let sent = Instant::now();
        let held = Lease::held(sent + LEASE);
        tokio::time::advance(LEASE - Duration::from_millis(1)).await;
        assert!(held.valid());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!held.valid());
        held.lapsed().await;
        let waiting = tokio::spawn({
            let held = held.clone();
            async move { held.regained().await }
        });
        held.renewed(Instant::now() + LEASE);
        assert!(held.valid());
        waiting.await.unwrap();
        assert!(futures::poll!(std::pin::pin!(held.lapsed())).is_pending());
        held.renewed(sent);
        assert!(held.valid(), "a renewal that comes back late shortens nothing");
        held.note(&Error::new(ErrorKind::Retryable, "a hiccup"));
        assert!(held.valid());
        held.note(&Error::new(ErrorKind::Fenced, "claimed by another"));
        assert!(!held.valid());
        held.renewed(Instant::now() + LEASE);
        assert!(!held.valid(), "what is lost stays lost");
        assert_eq!(held.lost().await.message, "claimed by another");
    }
}
