//! The right to append, and for how long.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::{Error, ErrorKind};

/// How long a lease lasts from the send of its last renewal.
pub const LEASE: Duration = Duration::from_secs(5);

/// The holder's view of its lease. Clones share it.
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
            State::Held { until } => Instant::now() < *until,
            State::Lost(_) => false,
        }
    }

    /// Resolves when the lease is lost for good, with the reason: a successor claimed. Cancel-safe.
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
        if matches!(error.kind, ErrorKind::Fenced | ErrorKind::Attach) {
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

/// Now, for people: milliseconds since 1970.
pub(super) fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
