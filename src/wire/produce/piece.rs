//! One batch as it goes over the wire, and the promise that hangs on it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::batch::HEADER_BYTES;
use crate::endpoint::{Delivery, Error, ErrorKind, Result};
use crate::model::Offset;

/// A stamped batch of one partition.
#[derive(Debug)]
pub(super) struct Piece {
    /// The header under which it is produced.
    pub header: [u8; HEADER_BYTES],
    /// The records section, untouched.
    pub payload: Bytes,
    /// Target offset its first record must get.
    pub expected: Offset,
    /// The promise to keep once it is settled. A batch that was split for its size hangs it on its last piece.
    pub promise: Option<Promise>,
}

impl Piece {
    /// Bytes of header and records section.
    pub fn size_bytes(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

/// Keeps a [`Delivery`].
#[derive(Debug)]
pub(super) struct Promise {
    /// Expected offset of the first piece of the batch.
    pub first: Offset,
    tell: oneshot::Sender<Result<Offset>>,
}

impl Promise {
    /// A promise for a batch whose first record must get the target offset `first`, and the future that waits for it.
    pub fn new(first: Offset) -> (Self, Delivery) {
        let (tell, told) = oneshot::channel();
        let delivery = async move {
            told.await.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Attach, "the writer was closed before the outcome of its batch was known"))
            })
        };
        (Self { first, tell }, Box::pin(delivery))
    }

    /// The last (or only) piece was acknowledged at `base` and ought to have been at `expected`. An only piece tells
    /// the truth whatever it is; of a split batch, the ends of which lie apart, no single offset would be true.
    pub fn acknowledged(self, base: Offset, expected: Offset) {
        let outcome = if base == expected {
            Ok(self.first)
        } else if self.first == expected {
            Ok(base)
        } else {
            Err(Error::new(
                ErrorKind::Attach,
                format!("the last part of a split batch landed at {base} instead of {expected}"),
            ))
        };
        self.tell(outcome);
    }

    /// The batch failed, or what became of it is unknown.
    pub fn failed(self, error: Error) {
        self.tell(Err(error));
    }

    fn tell(self, outcome: Result<Offset>) {
        // Nobody listens when the delivery was dropped, which forgets the outcome by contract.
        let _ = self.tell.send(outcome);
    }
}
