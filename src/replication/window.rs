//! What has been handed to the target and not yet acknowledged, in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use tokio::time::Instant;

use crate::endpoint::{Delivery, Result};
use crate::model::{EncodedBatch, Offset, OffsetRange};
use crate::runtime::memory::Permit;

/// One batch on its way.
pub(super) struct InFlight {
    pub(super) range: OffsetRange,
    pub(super) sent: Option<Sent>,
    /// Whether it was made of several source batches.
    pub(super) joined: bool,
    /// Returns the batch's memory when dropped.
    pub(super) _permit: Option<Permit>,
}

/// The part of a batch that the target must acknowledge.
pub(super) struct Sent {
    pub(super) batch: EncodedBatch,
    pub(super) expected: Offset,
    pub(super) delivery: Delivery,
    pub(super) sent_at: Instant,
}

/// The head of the window has come to an outcome.
pub(super) struct Landed {
    pub(super) in_flight: InFlight,
    /// Target offset of its first record; `None` for an empty range.
    pub(super) base: Option<Result<Offset>>,
}

/// Batches in flight; bounded by the replicator.
#[derive(Default)]
pub(super) struct Window {
    queue: VecDeque<InFlight>,
}

impl Window {
    pub(super) fn push(&mut self, in_flight: InFlight) {
        self.queue.push_back(in_flight);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Waits for the oldest batch. Pending for ever on an empty window. Cancel-safe.
    pub(super) async fn head(&mut self) -> Landed {
        poll_fn(|cx| {
            let Some(head) = self.queue.front_mut() else { return Poll::Pending };
            let base = match &mut head.sent {
                None => None,
                Some(sent) => match sent.delivery.as_mut().poll(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(base) => Some(base),
                },
            };
            let in_flight = self.queue.pop_front().expect("the head was just looked at");
            Poll::Ready(Landed { in_flight, base })
        })
        .await
    }
}
