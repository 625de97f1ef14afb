//! One partition's log and the rules by which it grows, is read and loses.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::batch::{BatchBuilder, RawBatch, Record, records, verify_crc};
use crate::endpoint::memory::producers::{Producers, Sequenced};
use crate::endpoint::memory::topics::PRODUCER_EXPIRATION_MS;
use crate::endpoint::memory::transactions::Transactions;
use crate::endpoint::{Bounds, EpochEnd, ErrorKind};
use crate::model::{LeaderEpoch, Offset, OffsetRange};

/// Why a produced batch is not appended: what follows from it for a client, the broker's code and its word.
#[derive(Debug)]
pub(super) struct Refusal {
    pub kind: ErrorKind,
    pub code: i16,
    pub word: &'static str,
}

const fn refusal(kind: ErrorKind, code: i16, word: &'static str) -> Refusal {
    Refusal { kind, code, word }
}

/// A topic's settings that a leader holds produced batches against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub batch_bytes: usize,
    pub needs_keys: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Log {
    batches: Vec<RawBatch>,
    start: Offset,
    end: Offset,
    high_watermark: Offset,
    /// Whether followers keep up, so that the high watermark is the log end.
    pub replicating: bool,
    /// Every epoch with its first offset, ascending.
    epochs: Vec<(LeaderEpoch, Offset)>,
    pub producers: Producers,
    pub transactions: Transactions,
}

impl Log {
    pub fn new() -> Self {
        Self {
            batches: Vec::new(),
            start: Offset(0),
            end: Offset(0),
            high_watermark: Offset(0),
            replicating: true,
            epochs: vec![(LeaderEpoch(0), Offset(0))],
            producers: Producers::default(),
            transactions: Transactions::default(),
        }
    }

    pub fn end(&self) -> Offset {
        self.end
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.epochs.last().expect("a log has had a leader").0
    }

    pub fn bounds(&self) -> Bounds {
        let last_stable = self.transactions.first_open().unwrap_or(self.high_watermark).min(self.high_watermark);
        Bounds {
            log_start: self.start,
            last_stable,
            high_watermark: self.high_watermark,
            leader_epoch: self.leader_epoch(),
        }
    }

    /// Appends a batch as the leader stores it and returns its base offset.
    pub fn append(&mut self, batch: &RawBatch) -> Offset {
        let base = self.end;
        let stored = batch.placed(base, self.leader_epoch());
        self.producers.remember(&stored.header);
        self.transactions.observe(&stored);
        self.end = stored.header.next_offset();
        self.batches.push(stored);
        self.replicate();
        base
    }

    /// Treats a client's batch as a leader does; a repeated one answers where it was appended first.
    pub fn produce(&mut self, bytes: Bytes, limits: Limits) -> Result<OffsetRange, Refusal> {
        use ErrorKind::{Attach, Corrupt, Denied, Fenced, Refused, TooLarge};
        let invalid = |what| Err(refusal(Refused, 87, what));
        let Ok(batch) = RawBatch::parse(bytes) else {
            return Err(refusal(Corrupt, 87, "the batch is malformed (INVALID_RECORD)"));
        };
        let header = &batch.header;
        if batch.bytes.len() > limits.batch_bytes {
            return Err(refusal(TooLarge, 10, "the batch exceeds the topic's max.message.bytes (MESSAGE_TOO_LARGE)"));
        }
        if !verify_crc(&batch) {
            return Err(refusal(Corrupt, 2, "the batch fails its checksum (CORRUPT_MESSAGE)"));
        }
        if header.base_offset != 0 || !header.is_dense() || header.attributes.is_control() {
            return invalid("base offset, count or kind of the batch is not a producer's (INVALID_RECORD)");
        }
        if header.attributes.is_transactional() {
            return Err(refusal(Denied, 53, "transactional without an id (TRANSACTIONAL_ID_AUTHORIZATION_FAILED)"));
        }
        if header.producer_id >= 0 && header.base_sequence < 0 {
            return invalid("an idempotent batch without a sequence (INVALID_RECORD)");
        }
        let Ok(content) = records(&batch) else {
            return Err(refusal(Corrupt, 2, "the records cannot be read (CORRUPT_MESSAGE)"));
        };
        if limits.needs_keys && content.iter().any(|record| record.key.is_none()) {
            return invalid("a compacted topic needs keys (INVALID_RECORD)");
        }
        let base = match self.producers.judge(header) {
            Sequenced::Append => self.append(&batch),
            Sequenced::Duplicate(base) => base,
            Sequenced::OutOfOrder => return Err(refusal(Attach, 45, "out of order (OUT_OF_ORDER_SEQUENCE_NUMBER)")),
            Sequenced::OldEpoch => {
                return Err(refusal(Fenced, 47, "a newer producer epoch stands (INVALID_PRODUCER_EPOCH)"));
            }
        };
        Ok(OffsetRange::new(base, base + i64::from(header.count)))
    }

    /// The stored batches that reach `from` or beyond, in order.
    pub fn batches_from(&self, from: Offset) -> impl Iterator<Item = &RawBatch> {
        let first = self.batches.partition_point(|batch| batch.header.next_offset() <= from);
        self.batches[first..].iter()
    }

    /// Kafka's OffsetForLeaderEpoch.
    pub fn epoch_end(&self, asked: LeaderEpoch) -> EpochEnd {
        let after = self.epochs.partition_point(|(epoch, _)| *epoch <= asked);
        let none = EpochEnd { epoch: LeaderEpoch::UNKNOWN, end: Offset(-1) };
        if asked > self.leader_epoch() {
            return none;
        }
        // An epoch older than all that is left of the log ends where the log begins.
        let Some(index) = after.checked_sub(1) else { return EpochEnd { epoch: asked, end: self.epochs[0].1 } };
        EpochEnd { epoch: self.epochs[index].0, end: self.epochs.get(after).map_or(self.end, |(_, start)| *start) }
    }

    /// First offset of a data record whose time is at or after this.
    pub fn first_since(&self, timestamp_ms: i64) -> Option<Offset> {
        let data = self.batches_from(self.start).filter(|batch| !batch.header.attributes.is_control());
        let mut records = data.flat_map(opened).filter(|record| record.offset >= self.start);
        records.find(|record| record.timestamp_ms >= timestamp_ms).map(|record| record.offset)
    }

    /// Whether a new leader has not yet come to where its predecessor was: until then it tells no end (KIP-207).
    pub fn is_catching_up(&self) -> bool {
        self.high_watermark < self.epochs.last().expect("a log has had a leader").1
    }

    /// The high watermark reaches the end, unless the followers are held.
    pub fn replicate(&mut self) {
        if self.replicating {
            self.high_watermark = self.end;
        }
    }

    /// A new leader with everything the old one had.
    pub fn elect(&mut self) {
        self.epochs.push((LeaderEpoch(self.leader_epoch().0 + 1), self.end));
    }

    /// The broker was restarted cleanly: of each producer's batches only the last is still recognised, and none where
    /// that is too old.
    pub fn restart(&mut self) {
        self.elect();
        self.producers.keep_last_batches();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
        self.producers.expire_older_than(now.as_millis() as i64 - PRODUCER_EXPIRATION_MS);
    }

    /// A new leader that lacks everything from `to` on (and the whole batch that `to` cuts). It knows producers and
    /// transactions only from what it holds.
    pub fn elect_without(&mut self, to: Offset) {
        let next = LeaderEpoch(self.leader_epoch().0 + 1);
        self.batches.retain(|batch| batch.header.next_offset() <= to);
        self.end = self.batches.last().map_or(self.start.min(to), |batch| batch.header.next_offset());
        self.epochs.retain(|(_, start)| *start < self.end);
        self.epochs.push((next, self.end));
        self.high_watermark = self.end;
        self.start = self.start.min(self.end);
        (self.producers, self.transactions) = Default::default();
        for batch in &self.batches {
            self.producers.remember(&batch.header);
            self.transactions.observe(batch);
        }
    }

    /// Retention or DeleteRecords: nothing below `to` (at most the high watermark) is left.
    pub fn delete_before(&mut self, to: Offset) {
        self.start = to.min(self.high_watermark).max(self.start);
        self.batches.retain(|batch| batch.header.next_offset() > self.start);
        let first_kept = self.epochs.partition_point(|(_, start)| *start <= self.start).saturating_sub(1);
        self.epochs.drain(..first_kept);
    }

    /// The log cleaner: keeps each key's last record below the last stable offset; records without a key stay.
    pub fn compact(&mut self) {
        let cleanable = self.bounds().last_stable;
        let mut last_of_key = BTreeMap::new();
        for record in self.batches.iter().filter(|b| self.is_data(b)).flat_map(opened) {
            if let Some(key) = record.key {
                last_of_key.insert(key, record.offset);
            }
        }
        self.thin(|record| {
            let newest = record.key.as_ref().and_then(|key| last_of_key.get(key));
            record.offset >= cleanable || newest.is_none_or(|newest| *newest == record.offset)
        });
    }

    /// Removes the data records that are not to be kept, leaving holes as the cleaner does.
    pub fn thin(&mut self, keep: impl Fn(&Record) -> bool) {
        let thinned = self.batches.iter().filter_map(|batch| {
            if !self.is_data(batch) {
                return Some(batch.clone());
            }
            let kept: Vec<Record> = opened(batch).into_iter().filter(&keep).collect();
            match kept.len() {
                0 => None,
                all if all == batch.header.count as usize => Some(batch.clone()),
                _ => Some(rebuilt(batch, &kept)),
            }
        });
        self.batches = thinned.collect();
    }

    fn is_data(&self, batch: &RawBatch) -> bool {
        !batch.header.attributes.is_control() && !self.transactions.aborted(batch)
    }
}

/// The records of a stored batch.
pub(super) fn opened(batch: &RawBatch) -> Vec<Record> {
    records(batch).expect("batches in the log were checked when they were appended")
}

/// The batch with some of its records, under the same offsets and bounds.
fn rebuilt(batch: &RawBatch, kept: &[Record]) -> RawBatch {
    let header = &batch.header;
    let codec = header.attributes.codec().expect("batches in the log were checked when they were appended");
    let mut builder =
        BatchBuilder::new(Offset(header.base_offset)).codec(codec).leader_epoch(LeaderEpoch(header.leader_epoch));
    if header.producer_id >= 0 {
        let producer = crate::model::ProducerIdentity { id: header.producer_id, epoch: header.producer_epoch };
        builder = builder.producer(producer, header.base_sequence);
    }
    if header.attributes.is_transactional() {
        builder = builder.transactional();
    }
    for record in kept {
        builder.push(record);
    }
    builder.ending_at(header.last_offset()).build()
}
