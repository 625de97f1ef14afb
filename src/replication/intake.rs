//! What a replicator reads: the source's batches as they come, and tiny ones joined while the route is behind.
//!
//! Nothing is ever waited for in order to be joined. One batch out is one write: one source range, one answer, one step of
//! the map; where its parts were bounded is not remembered, so neither attach nor another owner can depend on it.

use futures::FutureExt;

use crate::batch::Join;
use crate::endpoint::{Reader, Result};
use crate::model::{Batch, EncodedBatch, OffsetRange, Payload};
use crate::policy::joining::{JOINED_BYTES, Joining, TINY_BELOW_BYTES};
use crate::runtime::memory::Permit;

/// Reads a source partition for one writer.
pub(super) struct Intake {
    reader: Box<dyn Reader>,
    /// Most bytes of a joined batch; `None` where the writer gains nothing by them.
    joined_bytes_max: Option<usize>,
    joining: Joining,
    /// Read while joining, and to be given next.
    held: Option<Result<Batch>>,
}

/// A batch, and of how many source batches it was made.
pub(super) struct Taken {
    pub(super) batch: Batch,
    pub(super) parts: u32,
}

impl Intake {
    /// `writer_takes`: what the writer says it takes joined, bytes.
    pub(super) fn new(reader: Box<dyn Reader>, writer_takes: Option<usize>) -> Self {
        let joined_bytes_max = writer_takes.map(|bytes| bytes.min(JOINED_BYTES));
        Self { reader, joined_bytes_max, joining: Joining::default(), held: None }
    }

    /// The next batch, as [`Reader::next`]: ranges join, cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Taken> {
        let batch = match self.held.take() {
            Some(held) => held,
            None => self.reader.next().await,
        };
        // From here on nothing waits: a dropped future has read nothing.
        let batch = batch?;
        let join = match (tiny(&batch), self.joined_bytes_max) {
            (Some(first), Some(most)) if self.joining.decide(self.reader.waiting()) => Join::begin(first.clone(), most),
            _ => None,
        };
        Ok(match join {
            Some(join) => self.join(batch, join),
            None => Taken { batch, parts: 1 },
        })
    }

    /// Takes in what is at hand, as long as it goes together.
    fn join(&mut self, first: Batch, mut join: Join) -> Taken {
        let mut range = first.range;
        // The parts' memory is kept for what they become, which is hardly ever larger. Most are of one frame.
        let mut permits = Vec::from_iter(first.permit);
        while let Some(read) = self.reader.next().now_or_never() {
            let next = match read {
                Ok(next) => next,
                Err(error) => {
                    self.held = Some(Err(error));
                    break;
                }
            };
            let goes_along = match &next.payload {
                Payload::Empty => true,
                // What cannot be opened goes on its own, so that the target's check names the damage.
                Payload::Batches(_) => tiny(&next).is_some_and(|part| join.take(part).unwrap_or(false)),
            };
            if !goes_along {
                self.held = Some(Ok(next));
                break;
            }
            range = OffsetRange::new(range.start, next.range.end);
            permits.extend(next.permit);
        }
        let parts = join.parts();
        let permit = (!permits.is_empty()).then(|| Permit::all(permits));
        Taken { batch: Batch { range, payload: Payload::Batches(join.finish()), permit }, parts }
    }
}

fn tiny(batch: &Batch) -> Option<&EncodedBatch> {
    match &batch.payload {
        Payload::Batches(encoded) => Some(encoded).filter(|encoded| encoded.bytes.len() < TINY_BELOW_BYTES),
        Payload::Empty => None,
    }
}
