//! Building magic-2 batches from records.

use bytes::Bytes;

use crate::batch::codec::compress;
use crate::batch::header::{Attributes, HEADER_BYTES, Header, LENGTH_PREFIX};
use crate::batch::varint::{put, put_nullable, size};
use crate::batch::{Codec, RawBatch, Record, crc};
use crate::model::{LeaderEpoch, Offset, ProducerIdentity};

/// Builds one batch. Records are given in ascending offset order from the base offset on; holes are allowed, as
/// compaction leaves them.
#[derive(Debug)]
pub struct BatchBuilder {
    base_offset: Offset,
    codec: Codec,
    leader_epoch: LeaderEpoch,
    producer: Option<(ProducerIdentity, i32)>,
    attributes: i16,
    append_time_ms: Option<i64>,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
    next_offset: Offset,
    count: i32,
    section: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch: uncompressed, epoch unknown, no producer, the producers' times.
    pub fn new(base_offset: Offset) -> Self {
        Self {
            base_offset,
            codec: Codec::None,
            leader_epoch: LeaderEpoch::UNKNOWN,
            producer: None,
            attributes: 0,
            append_time_ms: None,
            base_timestamp: None,
            max_timestamp: -1,
            next_offset: base_offset,
            count: 0,
            section: Vec::new(),
        }
    }

    /// Compresses the records section.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets the leader epoch the batch was appended under.
    pub fn leader_epoch(mut self, epoch: LeaderEpoch) -> Self {
        self.leader_epoch = epoch;
        self
    }

    /// Sets producer id, epoch and the first record's sequence.
    pub fn producer(mut self, producer: ProducerIdentity, sequence: i32) -> Self {
        self.producer = Some((producer, sequence));
        self
    }

    /// Marks the batch as written in a transaction.
    pub fn transactional(mut self) -> Self {
        self.attributes |= Attributes::TRANSACTIONAL;
        self
    }

    /// Marks the batch as the cluster's own; [`Marker::batch`](crate::batch::Marker::batch) builds transaction markers.
    pub fn control(mut self) -> Self {
        self.attributes |= Attributes::CONTROL;
        self
    }

    /// Makes the broker's append time the time of all records; their own times stay underneath, as on a broker.
    pub fn append_time(mut self, timestamp_ms: i64) -> Self {
        self.attributes |= Attributes::APPEND_TIME;
        self.append_time_ms = Some(timestamp_ms);
        self
    }

    /// Sets the log cleaner's delete horizon, from which the records' times then count (KIP-534). Before any record.
    pub fn delete_horizon(mut self, timestamp_ms: i64) -> Self {
        assert_eq!(self.count, 0, "records already count from another base timestamp");
        self.attributes |= Attributes::DELETE_HORIZON;
        self.base_timestamp = Some(timestamp_ms);
        self
    }

    /// Lets the batch end at `last` although compaction removed the records there. At least the last record's offset.
    pub fn ending_at(mut self, last: Offset) -> Self {
        assert!(last + 1 >= self.next_offset, "the batch already reaches beyond {last}");
        self.next_offset = last + 1;
        self
    }

    /// Adds a record.
    ///
    /// # Panics
    /// When its offset is below the last one's or 2³¹ above the base: only a bug orders records so.
    pub fn push(&mut self, record: &Record) {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let body_bytes = nullable_size(key) + nullable_size(value) + record.headers.len();
        self.frame(record.offset, record.timestamp_ms, record.attributes, body_bytes);
        put_nullable(&mut self.section, key);
        put_nullable(&mut self.section, value);
        self.section.extend_from_slice(&record.headers);
    }

    /// Adds a record whose key, value and headers are already encoded.
    pub(super) fn push_body(&mut self, offset: Offset, timestamp_ms: i64, attributes: i8, body: &[u8]) {
        self.frame(offset, timestamp_ms, attributes, body.len());
        self.section.extend_from_slice(body);
    }

    /// Bytes of the batch so far, header included, before compression.
    pub(super) fn plain_bytes(&self) -> usize {
        HEADER_BYTES + self.section.len()
    }

    /// Writes what stands in front of a record's body.
    fn frame(&mut self, offset: Offset, timestamp_ms: i64, attributes: i8, body_bytes: usize) {
        assert!(offset >= self.next_offset, "record {offset} comes behind {}", self.next_offset);
        let offset_delta = offset - self.base_offset;
        assert!(offset_delta <= i32::MAX.into(), "record {offset} is too far from {}", self.base_offset);
        let timestamp_delta = timestamp_ms.wrapping_sub(*self.base_timestamp.get_or_insert(timestamp_ms));
        put(&mut self.section, (1 + size(timestamp_delta) + size(offset_delta) + body_bytes) as i64);
        self.section.push(attributes as u8);
        put(&mut self.section, timestamp_delta);
        put(&mut self.section, offset_delta);
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        self.next_offset = offset + 1;
        self.count += 1;
    }

    /// The batch. Without records it is what compaction leaves to keep a producer's state, and needs
    /// [`ending_at`](Self::ending_at).
    ///
    /// # Panics
    /// When it spans no offset or 2 GiB: only a bug builds such a batch.
    pub fn build(self) -> RawBatch {
        assert!(self.next_offset > self.base_offset, "a batch spans at least one offset");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.section.len());
        bytes.resize(HEADER_BYTES, 0);
        if self.count > 0 {
            compress(self.codec, &self.section, &mut bytes);
        }
        let (producer, sequence) = self.producer.unwrap_or((ProducerIdentity { id: -1, epoch: -1 }, -1));
        let mut header = Header {
            base_offset: self.base_offset.0,
            total_bytes: bytes.len(),
            leader_epoch: self.leader_epoch.0,
            magic: 2,
            crc: 0,
            attributes: Attributes(self.attributes | self.codec.bits()),
            last_offset_delta: (self.next_offset - self.base_offset - 1) as i32,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.append_time_ms.unwrap_or(self.max_timestamp),
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: sequence,
            count: self.count,
        };
        write_header(&header, &mut bytes);
        header.crc = crc::computed(&bytes);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        RawBatch { header, bytes: Bytes::from(bytes) }
    }
}

fn write_header(header: &Header, into: &mut [u8]) {
    let length = i32::try_from(header.total_bytes - LENGTH_PREFIX).expect("a batch is smaller than 2 GiB");
    into[0..8].copy_from_slice(&header.base_offset.to_be_bytes());
    into[8..12].copy_from_slice(&length.to_be_bytes());
    into[12..16].copy_from_slice(&header.leader_epoch.to_be_bytes());
    into[16] = header.magic as u8;
    into[21..23].copy_from_slice(&header.attributes.0.to_be_bytes());
    into[23..27].copy_from_slice(&header.last_offset_delta.to_be_bytes());
    into[27..35].copy_from_slice(&header.base_timestamp.to_be_bytes());
    into[35..43].copy_from_slice(&header.max_timestamp.to_be_bytes());
    into[43..51].copy_from_slice(&header.producer_id.to_be_bytes());
    into[51..53].copy_from_slice(&header.producer_epoch.to_be_bytes());
    into[53..57].copy_from_slice(&header.base_sequence.to_be_bytes());
    into[57..61].copy_from_slice(&header.count.to_be_bytes());
}

/// How many bytes `put_nullable` appends.
fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(size(-1), |bytes| size(bytes.len() as i64) + bytes.len())
}
