//! Reading a partition continuously: committed data, holes proven from the log itself.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::batch::{Handling, RawBatch, classify, pass, repack};
use crate::endpoint::memory::log::Log;
use crate::endpoint::memory::{Call, MemoryCluster, State};
use crate::endpoint::{EndsByFetch, Error, ErrorKind, FetchedEnds, Reader, Result, Source};
use crate::model::{Batch, EncodedBatch, LeaderEpoch, Offset, OffsetRange, Payload, Route};

impl Source for MemoryCluster {
    fn open(&self, route: &Route, from: Offset, last_epoch: LeaderEpoch) -> Box<dyn Reader> {
        let (cluster, route, heard) = (self.clone(), route.clone(), Arc::default());
        Box::new(MemoryReader { cluster, route, next: from, last_epoch, heard })
    }
}

/// The ends as they were when the reader last looked.
#[derive(Default)]
struct Heard(Mutex<Option<FetchedEnds>>);

impl Heard {
    fn set(&self, ends: Option<FetchedEnds>) {
        *self.0.lock().expect("no panic while held") = ends;
    }
}

impl EndsByFetch for Heard {
    fn last_told(&self) -> Option<FetchedEnds> {
        *self.0.lock().expect("no panic while held")
    }
}

struct MemoryReader {
    cluster: MemoryCluster,
    route: Route,
    next: Offset,
    last_epoch: LeaderEpoch,
    heard: Arc<Heard>,
}

impl Drop for MemoryReader {
    fn drop(&mut self) {
        self.heard.set(None);
    }
}

#[async_trait]
impl Reader for MemoryReader {
    async fn next(&mut self) -> Result<Batch> {
        let at = &self.route.source;
        self.cluster.enter_at(Call::Read, at).await?;
        let batch = self.cluster.wait_for(|state| match state.faults.frozen {
            true => None,
            false => self.look(state).transpose(),
        });
        let batch = batch.await.map_err(|e| {
            self.heard.set(None);
            e.context(format!("{}: {at} at {}", self.cluster.shared.id, self.next))
        })?;
        let (batch, epoch) = batch;
        (self.next, self.last_epoch) = (batch.range.end, epoch);
        Ok(batch)
    }

    fn waiting(&self) -> usize {
        let state = self.cluster.state();
        let Ok(log) = state.log(&self.route.source) else { return 0 };
        let stable = log.bounds().last_stable;
        log.batches_from(self.next).take_while(|batch| Offset(batch.header.base_offset) < stable).count()
    }

    fn ends(&self) -> Option<Arc<dyn EndsByFetch>> {
        Some(self.heard.clone())
    }
}

impl MemoryReader {
    /// What there is to read now, one data batch or the hole before it, with the epoch of what ends there.
    fn look(&self, state: &mut State) -> Result<Option<(Batch, LeaderEpoch)>> {
        let at = &self.route.source;
        state.faults.due(Call::Read)?;
        state.faults.due_at(Call::Read, at)?;
        state.same_topic(at, self.route.source_id)?;
        let log = state.log(at)?;
        self.check_place(log)?;
        self.heard.set(Some(FetchedEnds { bounds: log.bounds(), at: Instant::now() }));
        let stable = log.bounds().last_stable;
        let (mut reached, mut epoch) = (self.next, self.last_epoch);
        for batch in log.batches_from(self.next) {
            let base = Offset(batch.header.base_offset);
            if base >= stable {
                break;
            }
            let behind = batch.header.next_offset();
            let data = if log.transactions.aborted(batch) { None } else { self.encode(batch)? };
            match data {
                // What precedes it goes first, on its own.
                Some(_) if base > self.next => return Ok(Some((empty(self.next, base), LeaderEpoch::UNKNOWN))),
                Some(data) => {
                    let (range, epoch) = (OffsetRange::new(self.next, behind), data.leader_epoch);
                    return Ok(Some((Batch { range, payload: Payload::Batches(data), permit: None }, epoch)));
                }
                None => (reached, epoch) = (behind, LeaderEpoch(batch.header.leader_epoch)),
            }
        }
        if reached < stable {
            // A hole without a batch belongs to no epoch that is known here.
            (reached, epoch) = (stable, LeaderEpoch::UNKNOWN);
        }
        Ok((reached > self.next).then(|| (empty(self.next, reached), epoch)))
    }

    /// The offset must be in the log, and the log the one that was read so far.
    fn check_place(&self, log: &Log) -> Result<()> {
        let start = log.bounds().log_start;
        if self.next < start {
            return Err(Error::new(ErrorKind::BelowLogStart(start), format!("the log starts at {start}")));
        }
        if self.last_epoch != LeaderEpoch::UNKNOWN {
            let told = log.epoch_end(self.last_epoch);
            let known = told.epoch != LeaderEpoch::UNKNOWN || self.last_epoch > log.leader_epoch();
            if known && (told.epoch < self.last_epoch || told.end < self.next) {
                let end = told.end.max(start);
                let what = format!("the log was truncated: epoch {} ends at {end}", self.last_epoch);
                return Err(Error::new(ErrorKind::Truncated(end), what));
            }
        }
        if self.next > log.end() {
            return Err(Error::new(ErrorKind::Truncated(log.end()), format!("the log ends at {}", log.end())));
        }
        Ok(())
    }

    fn encode(&self, batch: &RawBatch) -> Result<Option<EncodedBatch>> {
        let wanted = OffsetRange::new(self.next, batch.header.next_offset());
        match classify(&batch.header) {
            Handling::Skip => Ok(None),
            Handling::Pass if batch.header.base_offset >= self.next.0 => Ok(Some(pass(batch))),
            _ => repack(batch, wanted).map_err(|flaw| Error::new(ErrorKind::Corrupt, flaw.to_string())),
        }
    }
}

fn empty(start: Offset, end: Offset) -> Batch {
    Batch { range: OffsetRange::new(start, end), payload: Payload::Empty, permit: None }
}
