//! One route's writer: opens each batch, and hands its records to a lane while there is room for them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::endpoint::{Delivery, Error, ErrorKind, MessageFormat, Result, Writer};
use crate::librdkafka::records::lane::{Kind, Lane};
use crate::librdkafka::records::parcel::Parcel;
use crate::librdkafka::records::sink::Shared;
use crate::librdkafka::records::tally::{Standing, Tally};
use crate::model::{EncodedBatch, Offset, TopicPartition};

/// A batch without an outcome for so long is given up, so that a partition without a leader does not keep what all share.
/// Long, because a quota may hold back what lies before it.
const LANDS_WITHIN: Duration = Duration::from_secs(120);
/// How long a writer that ends waits for what it has handed over, before it takes the lane's producer with it.
const CLOSES_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct RecordWriter {
    pub shared: Arc<Shared>,
    pub at: TopicPartition,
    pub limits: Limits,
    /// Target offset of the next record to be sent.
    pub next: Offset,
    /// Data that the target forgets at once: see [`Kind::is_careful`].
    pub is_careful: bool,
    pub standing: Arc<watch::Sender<Standing>>,
    pub lane: Option<(Kind, Arc<Lane>)>,
    /// The batch to be sent next: a cancelled send has opened it already.
    pub opened: Option<Parcel>,
    pub altered: u64,
}

/// What the target takes on one topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a batch that is sent.
    pub batch_bytes: usize,
    /// Bytes of the largest batch it takes.
    pub record_bytes: usize,
    pub needs_keys: bool,
    /// How its brokers store records.
    pub format: MessageFormat,
}

impl RecordWriter {
    /// Waits until what is in flight allows another batch of this kind, and joins a lane for it. Changing lanes means to wait
    /// until all has landed, as two producers keep no order; for another codec alone that is not worth it.
    async fn lane_for(&mut self, mut kind: Kind) -> Result<Arc<Lane>> {
        if let Some((now, _)) = &self.lane
            && self.standing.borrow().in_flight > 0
        {
            kind.codec = now.codec;
        }
        let stays = self.lane.as_ref().is_some_and(|(now, lane)| *now == kind && !lane.is_broken());
        let alone = kind.is_careful || !stays;
        let mut standing = self.standing.subscribe();
        let may_send = |now: &Standing| now.in_flight == 0 || (now.is_proven && !alone);
        let now = *standing.wait_for(|now| now.has_failed || may_send(now)).await.expect("we hold its sender");
        if now.has_failed {
            return Err(Error::new(ErrorKind::Attach, format!("{}: a batch before this one failed", self.at)));
        }
        match &self.lane {
            Some((_, lane)) if stays => Ok(lane.clone()),
            _ => {
                self.lane = None;
                let lane = self.shared.lanes.join(kind).await?;
                self.lane = Some((kind, lane.clone()));
                Ok(lane)
            }
        }
    }

    async fn landed(&self) {
        let mut standing = self.standing.subscribe();
        let _ = standing.wait_for(|now| now.in_flight == 0).await;
    }
}

#[async_trait]
impl Writer for RecordWriter {
    async fn send(&mut self, batch: EncodedBatch, expected: Offset) -> Result<Delivery> {
        if expected != self.next {
            let what = format!("{}: a batch for offset {expected}, but the next is {}", self.at, self.next);
            return Err(Error::new(ErrorKind::Attach, what));
        }
        if !self.opened.as_ref().is_some_and(|parcel| parcel.is_of(&batch)) {
            self.opened = Some(Parcel::open(&batch, &self.at, self.limits)?);
        }
        let (codec, memory) = self.opened.as_ref().map(|parcel| (parcel.codec, parcel.memory)).expect("just opened");
        let Limits { batch_bytes, format, .. } = self.limits;
        let codec = self.shared.lanes.codecs().instead_of(codec, format);
        let is_careful = self.is_careful || format < MessageFormat::V2;
        let lane = self.lane_for(Kind { codec, is_careful, batch_bytes }).await?;
        let room = self.shared.room_for(memory).await;
        // From here on nothing waits.
        let parcel = self.opened.take().expect("it was opened");
        let (tally, promise) = Tally::start(batch.records, room, self.standing.clone());
        lane.send(&self.at, &parcel, &tally);
        self.next = self.next + i64::from(batch.records);
        self.altered += parcel.altered;
        let at = self.at.clone();
        Ok(Box::pin(async move {
            match timeout(LANDS_WITHIN, promise).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => {
                    Err(Error::new(ErrorKind::Attach, format!("{at}: the producer ended before it reported")))
                }
                Err(_) => {
                    let what = format!("{at}: not acknowledged within {LANDS_WITHIN:?}");
                    Err(Error::new(ErrorKind::Attach, what))
                }
            }
        }))
    }

    fn limit_in_flight(&mut self, to_one: bool) {
        self.is_careful = to_one;
    }

    fn take_altered(&mut self) -> u64 {
        std::mem::take(&mut self.altered)
    }

    async fn close(self: Box<Self>) {
        if timeout(CLOSES_WITHIN, self.landed()).await.is_err()
            && let Some((_, lane)) = &self.lane
        {
            tracing::warn!(at = %self.at, "records are still queued: its lane's producer is replaced");
            lane.purge();
            let _ = timeout(CLOSES_WITHIN, self.landed()).await;
        }
    }
}
