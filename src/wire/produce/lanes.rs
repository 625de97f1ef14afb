//! The lanes of a cluster: one per leader broker, opened when the first writer needs it and again when it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::lane::Lane;
use super::sink::Shared;
use crate::endpoint::{Error, Result};
use crate::runtime::tasks::TaskScope;

/// A failed connection attempt answers for everybody who asks this soon after it, so that a thousand partitions do not
/// try a dead broker one after the other.
const FAILURE_STANDS_FOR: Duration = Duration::from_millis(250);

/// One lane per broker.
pub(super) struct Lanes {
    shared: Arc<Shared>,
    scope: TaskScope,
    by_broker: Mutex<HashMap<i32, Arc<tokio::sync::Mutex<Slot>>>>,
}

/// A lane lives as long as its connection; this only remembers where it is.
#[derive(Default)]
struct Slot {
    lane: Weak<Lane>,
    failed: Option<(Instant, Error)>,
}

impl Lanes {
    /// No lanes yet; they will be tasks of `scope`.
    pub fn new(shared: Arc<Shared>, scope: TaskScope) -> Self {
        Self { shared, scope, by_broker: Mutex::default() }
    }

    /// The lane to a broker; connects when there is none that lives. Concurrent callers share one attempt.
    pub async fn to(&self, broker_id: i32) -> Result<Arc<Lane>> {
        let slot = self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).entry(broker_id).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(lane) = slot.lane.upgrade().filter(|lane| lane.connection().is_some()) {
            return Ok(lane);
        }
        if let Some((when, error)) = &slot.failed
            && when.elapsed() < FAILURE_STANDS_FOR
        {
            return Err(error.clone());
        }
        // Boxed, because a handshake's state is large and a thousand partitions may wait here for one.
        let dialed = Box::pin(self.shared.cluster.dial(broker_id)).await;
        match dialed.and_then(|connection| Lane::start(connection, self.shared.clone(), &self.scope)) {
            Ok(lane) => {
                *slot = Slot { lane: Arc::downgrade(&lane), failed: None };
                Ok(lane)
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}
