//! The delivery reports of one batch, counted into its outcome.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::Offset;

/// How a writer's batches fare.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// Batches without an outcome.
    pub in_flight: usize,
    /// Whether a batch was acknowledged since the writer was opened.
    pub is_proven: bool,
    /// Whether a batch failed: what comes behind it fails too.
    pub has_failed: bool,
}

/// One batch on its way; librdkafka holds a handle for each of its records.
pub(super) struct Tally {
    open: Mutex<Open>,
    standing: Arc<watch::Sender<Standing>>,
}

struct Open {
    missing: u32,
    base: Option<i64>,
    next: i64,
    failure: Option<Error>,
    outcome: Option<oneshot::Sender<Result<Offset>>>,
    room: Option<OwnedSemaphorePermit>,
}

impl Tally {
    /// A batch of `records` (at least 1) that is about to be sent. `room` is given back with its outcome.
    pub(super) fn start(
        records: u32,
        room: OwnedSemaphorePermit,
        standing: Arc<watch::Sender<Standing>>,
    ) -> (Arc<Self>, oneshot::Receiver<Result<Offset>>) {
        let (outcome, promise) = oneshot::channel();
        standing.send_modify(|now| now.in_flight += 1);
        let (outcome, room) = (Some(outcome), Some(room));
        let open = Open { missing: records, base: None, next: 0, failure: None, outcome, room };
        (Arc::new(Self { open: Mutex::new(open), standing }), promise)
    }

    /// The target's word on the next of the batch's records: librdkafka reports them in the order they were sent in.
    pub(super) fn report(&self, outcome: Result<i64>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(offset) if *open.base.get_or_insert(offset) == offset || open.next == offset => open.next = offset + 1,
            Ok(offset) => {
                let what = format!("a record landed at {offset} where {} was next: somebody else writes", open.next);
                open.failure.get_or_insert(Error::new(ErrorKind::Attach, what));
            }
            Err(error) => drop(open.failure.get_or_insert(error)),
        }
        open.missing -= 1;
        if open.missing == 0 {
            self.end(open.base, open.failure.take(), open.outcome.take());
            open.room = None;
        }
    }

    fn end(&self, base: Option<i64>, failure: Option<Error>, outcome: Option<oneshot::Sender<Result<Offset>>>) {
        let result = match (failure, base) {
            (None, Some(base)) if !self.standing.borrow().has_failed => Ok(Offset(base)),
            (None, _) => Err(Error::new(ErrorKind::Attach, "a batch before it failed")),
            (Some(error), _) => Err(error),
        };
        self.standing.send_modify(|now| {
            now.in_flight -= 1;
            now.is_proven |= result.is_ok();
            now.has_failed |= result.is_err();
        });
        if let Some(outcome) = outcome {
            // Whoever dropped the delivery does not want to know.
            let _ = outcome.send(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    type Promise = oneshot::Receiver<Result<Offset>>;

    fn tally(records: u32, standing: &Arc<watch::Sender<Standing>>, room: &Arc<Semaphore>) -> (Arc<Tally>, Promise) {
        let taken = room.clone().try_acquire_owned().expect("there is room");
        Tally::start(records, taken, standing.clone())
    }

    fn outcome(mut promise: Promise) -> Result<Offset, ErrorKind> {
        promise.try_recv().expect("it has come to an outcome").map_err(|error| error.kind)
    }

    #[test]
    fn a_batch_has_the_offset_of_its_first_record_once_all_are_there() {
        let (standing, room) = (Arc::new(watch::Sender::new(Standing::default())), Arc::new(Semaphore::new(1)));
        let (tally, mut promise) = tally(3, &standing, &room);
        for offset in [40, 41] {
            tally.report(Ok(offset));
        }
        assert!(promise.try_recv().is_err() && room.available_permits() == 0 && standing.borrow().in_flight == 1);
        tally.report(Ok(42));
        assert_eq!(outcome(promise), Ok(Offset(40)));
        let now = *standing.borrow();
        assert!(now.is_proven && !now.has_failed && now.in_flight == 0 && room.available_permits() == 1);
    }

    #[test]
    fn a_stranger_between_two_records_of_a_batch_is_noticed() {
        let (standing, room) = (Arc::new(watch::Sender::new(Standing::default())), Arc::new(Semaphore::new(1)));
        let (tally, promise) = tally(3, &standing, &room);
        for offset in [40, 42, 43] {
            tally.report(Ok(offset));
        }
        assert_eq!(outcome(promise), Err(ErrorKind::Attach));
    }

    #[test]
    fn behind_a_failed_batch_all_fail() {
        let (standing, room) = (Arc::new(watch::Sender::new(Standing::default())), Arc::new(Semaphore::new(2)));
        let (first, refused) = tally(2, &standing, &room);
        let (second, behind) = tally(1, &standing, &room);
        first.report(Err(Error::new(ErrorKind::TooLarge, "too large")));
        first.report(Err(Error::new(ErrorKind::Attach, "purged")));
        second.report(Ok(7));
        assert_eq!((outcome(refused), outcome(behind)), (Err(ErrorKind::TooLarge), Err(ErrorKind::Attach)));
    }
}
