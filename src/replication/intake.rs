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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;

    use super::*;
    use crate::batch::{BatchBuilder, Record, pass};
    use crate::endpoint::{Error, ErrorKind};
    use crate::model::Offset;
    use crate::runtime::memory::MemoryBudget;

    /// Answers what it was given, then waits.
    struct Script(VecDeque<Result<Batch>>);

    #[async_trait]
    impl Reader for Script {
        async fn next(&mut self) -> Result<Batch> {
            match self.0.pop_front() {
                Some(read) => read,
                None => std::future::pending().await,
            }
        }

        fn waiting(&self) -> usize {
            self.0.len()
        }
    }

    fn data(at: i64, value_bytes: usize) -> Batch {
        let mut builder = BatchBuilder::new(Offset(at));
        builder.push(&Record::new(Offset(at), 7, None, Some(vec![b'x'; value_bytes].into())));
        let range = OffsetRange::new(Offset(at), Offset(at + 1));
        Batch { range, payload: Payload::Batches(pass(&builder.build())), permit: None }
    }

    fn hole(from: i64, to: i64) -> Batch {
        let range = OffsetRange::new(Offset(from), Offset(to));
        Batch { range, payload: Payload::Empty, permit: None }
    }

    fn tinies(offsets: std::ops::Range<i64>) -> Vec<Result<Batch>> {
        offsets.map(|at| Ok(data(at, 20))).collect()
    }

    /// Source range and number of parts of each batch, up to where it waits; an error's text.
    async fn taken(intake: &mut Intake) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(taken) = intake.next().now_or_never() {
            all.push(match taken {
                Ok(Taken { batch, parts }) => format!("{} of {parts}", batch.range),
                Err(error) => error.to_string(),
            });
        }
        all
    }

    #[tokio::test]
    async fn few_that_wait_pass_as_they_are() {
        let mut intake = Intake::new(Box::new(Script(tinies(0..10).into())), Some(1 << 20));
        for at in 0..10 {
            let Taken { batch, parts } = intake.next().await.unwrap();
            let Payload::Batches(encoded) = &batch.payload else { panic!("offset {at} has a record") };
            let Payload::Batches(original) = data(at, 20).payload else { panic!("so has this") };
            assert_eq!((parts, &encoded.bytes), (1, &original.bytes));
        }
    }

    #[tokio::test]
    async fn a_backlog_is_joined_through_holes_and_up_to_what_does_not_go_along() {
        let mut script = tinies(0..5);
        script.push(Ok(hole(5, 7)));
        script.extend(tinies(7..12));
        script.extend([Ok(data(12, 20 << 10)), Ok(data(13, 20)), Ok(data(14, 20)), Ok(hole(15, 16))]);
        script.push(Err(Error::new(ErrorKind::Retryable, "lost")));
        let mut intake = Intake::new(Box::new(Script(script.into())), Some(1 << 20));
        assert_eq!(taken(&mut intake).await[..4], ["0..12 of 10", "12..13 of 1", "13..16 of 2", "lost"]);
    }

    #[tokio::test]
    async fn a_joined_batch_is_no_larger_than_the_topic_takes_and_without_its_word_nothing_is_joined() {
        let batches = |writer_takes| async move {
            let mut intake = Intake::new(Box::new(Script(tinies(0..100).into())), writer_takes);
            let mut sizes = Vec::new();
            while let Some(Ok(Taken { batch: Batch { payload: Payload::Batches(one), .. }, .. })) =
                intake.next().now_or_never()
            {
                sizes.push(one.bytes.len());
            }
            sizes
        };
        let sizes = batches(Some(1000)).await;
        assert!((3..20).contains(&sizes.len()) && sizes.iter().all(|bytes| *bytes <= 1000), "{sizes:?}");
        assert_eq!(batches(None).await.len(), 100);
    }

    #[tokio::test]
    async fn the_memory_of_all_parts_returns_with_the_joined_batch() {
        let budget = MemoryBudget::new(1 << 20);
        let frames = [budget.reserve(4096).await.settle(4096), budget.reserve(2048).await.settle(2048)];
        let batches = (0..20).map(|at| Ok(Batch { permit: Some(frames[at / 10].clone()), ..data(at as i64, 20) }));
        let mut intake = Intake::new(Box::new(Script(batches.collect())), Some(1 << 20));
        drop(frames);
        let joined = intake.next().await.unwrap();
        assert_eq!((joined.parts, budget.used_bytes()), (20, 6144));
        drop(joined);
        assert_eq!(budget.used_bytes(), 0);
    }
}
