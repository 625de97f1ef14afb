//! What a partition remembers of its idempotent producers, and the rules of compare-and-append that follow
//! (KIP-98, KIP-360; confirmed on real brokers: `facts/live-measurements` §3).

use std::collections::{BTreeMap, VecDeque};

use crate::batch::Header;
use crate::model::{Offset, ProducerIdentity};

/// How many batches back a repetition is recognised.
const REMEMBERED: usize = 5;

/// The broker's answer to a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sequenced {
    Append,
    /// The same bounds were appended at this offset. Content is not compared.
    Duplicate(Offset),
    /// A gap, an overlap, or a repetition too far back (code 45).
    OutOfOrder,
    /// The epoch is older than one seen (code 47).
    OldEpoch,
}

#[derive(Debug, Clone, Default)]
struct Producer {
    epoch: i16,
    /// The latest record time, milliseconds.
    latest_ms: i64,
    /// Bounds (first and last sequence, inclusive) and base offset; newest last.
    batches: VecDeque<(i32, i32, Offset)>,
}

/// All producers of a partition.
#[derive(Debug, Clone, Default)]
pub(super) struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    /// What becomes of a batch with this header.
    pub fn judge(&self, header: &Header) -> Sequenced {
        let Some(known) = self.0.get(&header.producer_id) else {
            return Sequenced::Append;
        };
        if header.producer_epoch < known.epoch {
            return Sequenced::OldEpoch;
        }
        let (first, last) = bounds(header);
        let follows = if header.producer_epoch > known.epoch { 0 } else { known.next_sequence() };
        let same_epoch = header.producer_epoch == known.epoch;
        let twin = known.batches.iter().find(|batch| same_epoch && (batch.0, batch.1) == (first, last));
        match twin {
            Some(twin) => Sequenced::Duplicate(twin.2),
            None if first == follows => Sequenced::Append,
            None => Sequenced::OutOfOrder,
        }
    }

    /// Remembers an appended batch of a producer; a control batch only raises the epoch.
    pub fn remember(&mut self, header: &Header) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self.0.entry(header.producer_id).or_default();
        if header.producer_epoch > producer.epoch {
            *producer = Producer { epoch: header.producer_epoch, ..Producer::default() };
        }
        producer.latest_ms = producer.latest_ms.max(header.max_timestamp);
        if !header.attributes.is_control() {
            let (first, last) = bounds(header);
            producer.batches.push_back((first, last, Offset(header.base_offset)));
            if producer.batches.len() > REMEMBERED {
                producer.batches.pop_front();
            }
        }
    }

    /// Epoch and next sequence, if the producer is known.
    pub fn state(&self, producer: ProducerIdentity) -> Option<(i16, i32)> {
        self.0.get(&producer.id).map(|known| (known.epoch, known.next_sequence()))
    }

    /// Id, epoch and last sequence (−1 after a mere marker) of each.
    pub fn all(&self) -> impl Iterator<Item = (i64, i16, i32)> {
        let last = |known: &Producer| known.batches.back().map_or(-1, |(_, last, _)| *last);
        self.0.iter().map(move |(id, known)| (*id, known.epoch, last(known)))
    }

    /// A clean restart: the snapshot keeps each producer's last batch only.
    pub fn keep_last_batches(&mut self) {
        for producer in self.0.values_mut() {
            let surplus = producer.batches.len().saturating_sub(1);
            producer.batches.drain(..surplus);
        }
    }

    /// State expires by record time, not by when a record came.
    pub fn expire_older_than(&mut self, earliest_ms: i64) {
        self.0.retain(|_, known| known.latest_ms >= earliest_ms);
    }

    /// All state expires.
    pub fn expire(&mut self) {
        self.0.clear();
    }
}

impl Producer {
    fn next_sequence(&self) -> i32 {
        self.batches.back().map_or(0, |&(_, last, _)| advance(last, 1))
    }
}

/// The sequence `records` later; behind the largest comes 0.
pub(super) fn advance(sequence: i32, records: u32) -> i32 {
    ((i64::from(sequence) + i64::from(records)) & i64::from(i32::MAX)) as i32
}

fn bounds(header: &Header) -> (i32, i32) {
    (header.base_sequence, advance(header.base_sequence, header.last_offset_delta as u32))
}
