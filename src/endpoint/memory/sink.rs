//! Writing a partition by compare-and-append, as a client of a real cluster does.

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::batch::{HEADER_BYTES, Stamp, stamp};
use crate::endpoint::memory::faults::{Disturbance, Request};
use crate::endpoint::memory::line::{Line, Pending, Room};
use crate::endpoint::memory::producers::advance;
use crate::endpoint::memory::{Call, MemoryCluster, State};
use crate::endpoint::{Delivery, Error, ErrorKind, Opened, Result, Sink, Writer};
use crate::model::{EncodedBatch, LeaderEpoch, Offset, ProducerIdentity, ProtectionLevel, Route, TopicPartition};

#[async_trait]
impl Sink for MemoryCluster {
    async fn open(&self, route: &Route, producer: ProducerIdentity) -> Result<Opened> {
        let at = &route.target;
        self.enter_at(Call::Attach, at).await?;
        // A log end above the high watermark may vanish: it is waited for.
        let stable = |state: &mut State| match state.same_topic(at, route.target_id).and_then(|()| state.log(at)) {
            Ok(log) => {
                (log.end() == log.bounds().high_watermark).then(|| Ok((log.bounds(), log.producers.state(producer))))
            }
            Err(error) => Some(Err(error)),
        };
        let (bounds, known) = self.wait_for(stable).await.map_err(|e| e.context(&self.shared.id))?;
        let end = bounds.high_watermark;
        let sequence = match known {
            Some((epoch, _)) if epoch > producer.epoch => {
                let what = format!("{at} knows epoch {epoch} of producer {}, ours is {}", producer.id, producer.epoch);
                return Err(self.error(ErrorKind::Fenced, what));
            }
            Some((epoch, _)) if epoch < producer.epoch => 0,
            Some((_, next)) => next,
            // Without state any sequence is accepted; all owners shall take the same one.
            None => (end.0 & i64::from(i32::MAX)) as i32,
        };
        let connection = self.change(|s| {
            s.connections_opened += 1;
            s.connections_opened
        });
        let level = match known {
            Some((epoch, _)) if epoch == producer.epoch => ProtectionLevel::Guarded,
            _ => ProtectionLevel::ProbeOnly,
        };
        let (line, room) = Line::start(self.clone(), at.clone(), bounds.leader_epoch);
        let writer = MemoryWriter {
            cluster: self.clone(),
            at: at.clone(),
            leader_epoch: bounds.leader_epoch,
            producer,
            connection,
            next: end,
            sequence,
            line,
            room,
        };
        Ok(Opened {
            end,
            log_start: bounds.log_start,
            leader_epoch: bounds.leader_epoch,
            level,
            writer: Box::new(writer),
        })
    }
}

struct MemoryWriter {
    cluster: MemoryCluster,
    at: TopicPartition,
    /// The session is bound to the leader that was attached to.
    leader_epoch: LeaderEpoch,
    producer: ProducerIdentity,
    connection: u64,
    next: Offset,
    sequence: i32,
    line: Line,
    room: Room,
}

#[async_trait]
impl Writer for MemoryWriter {
    async fn send(&mut self, batch: EncodedBatch, expected: Offset) -> Result<Delivery> {
        if expected != self.next {
            let what = format!("{}: a batch for offset {expected}, but the next is {}", self.at, self.next);
            return Err(self.cluster.error(ErrorKind::Attach, what));
        }
        let place = self.room.take().await?;
        let header = stamp(&batch.bytes, &Stamp { producer: self.producer, sequence: self.sequence });
        let (answer, answered) = oneshot::channel();
        let request = Request {
            connection: self.connection,
            at: self.at.clone(),
            leader_epoch: self.leader_epoch,
            bytes: [&header[..], &batch.bytes[HEADER_BYTES..]].concat().into(),
            answer,
        };
        self.cluster.change(|s| s.transmit(request));
        self.next = self.next + i64::from(batch.records);
        self.sequence = advance(self.sequence, batch.records);
        Ok(self.line.expect(Pending { answered, records: batch.records, place }))
    }

    fn limit_in_flight(&mut self, to_one: bool) {
        self.room.limit_to_one(to_one);
    }

    fn joined_bytes_max(&self) -> Option<usize> {
        let state = self.cluster.state();
        state.topic(&self.at.topic).ok().map(|topic| topic.limits().batch_bytes)
    }

    async fn close(self: Box<Self>) {
        // Dropping it closes its line.
    }
}

impl State {
    /// A write leaves its client; it arrives unless something is planned for it.
    fn transmit(&mut self, request: Request) {
        match self.faults.disturbance(&request.at, request.connection) {
            None => self.arrive(request),
            Some(Disturbance::Hold) => self.faults.held.push(request),
            // Dropping the answer's sender is a broken connection.
            Some(Disturbance::LoseRequest) => {}
            Some(Disturbance::LoseAck) => drop(self.treat(&request)),
            Some(Disturbance::Refuse(kind)) => {
                let refusal = Error::new(kind, format!("{} refuses the batch as the test wishes", request.at));
                // A writer that is gone hears nothing.
                let _ = request.answer.send(Err(refusal));
            }
        }
    }

    /// The leader treats a write that reached it.
    pub(super) fn arrive(&mut self, request: Request) {
        let outcome = self.treat(&request);
        let _ = request.answer.send(outcome);
    }

    fn treat(&mut self, request: &Request) -> Result<Offset> {
        let at = &request.at;
        let limits = self.topic(&at.topic)?.limits();
        let log = self.log_mut(at)?;
        if log.leader_epoch() != request.leader_epoch {
            return Err(Error::new(ErrorKind::Attach, format!("{at}: the leader moved (NOT_LEADER_OR_FOLLOWER)")));
        }
        let appended = log.produce(request.bytes.clone(), limits);
        appended.map(|range| range.start).map_err(|refusal| Error::new(refusal.kind, format!("{at}: {}", refusal.word)))
    }
}
