//! The header under which a batch is produced: the only bytes that change on the way to the target.

use crate::batch::crc;
use crate::batch::header::{Attributes, CRC_FROM, HEADER_BYTES};
use crate::model::ProducerIdentity;

/// What makes a produced batch ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The link's producer id and epoch; neither is negative.
    pub producer: ProducerIdentity,
    /// Sequence of the batch's first record, at least 0.
    pub sequence: i32,
}

/// The header for producing `batch` (header and records section); the records section follows it unchanged.
///
/// Base offset 0 and leader epoch −1 (the leader sets both), append-time, transactional and delete-horizon bits cleared
/// (the base timestamp stays: the records count from it), our producer and sequence. The checksum is *shifted*, never
/// computed: a damaged records section still fails the target's check. Reads only the header.
///
/// # Panics
/// When `batch` is shorter than a header, holds a control batch, or the stamp is negative (brokers take a negative
/// producer id for none and refuse no doubles): only a bug stamps such a thing.
pub fn stamp(batch: &[u8], stamp: &Stamp) -> [u8; HEADER_BYTES] {
    let stored = batch.first_chunk::<HEADER_BYTES>().expect("an encoded batch has a whole header");
    let Stamp { producer, sequence } = *stamp;
    assert!(producer.id >= 0 && producer.epoch >= 0 && sequence >= 0, "{stamp:?} would not be guarded");
    let attributes = i16::from_be_bytes([stored[21], stored[22]]);
    assert!(attributes & Attributes::CONTROL == 0, "control batches are never produced");

    let mut header = *stored;
    header[0..8].fill(0);
    header[12..16].fill(0xff);
    header[21..23].copy_from_slice(&(attributes & Attributes::CODEC).to_be_bytes());
    header[43..51].copy_from_slice(&producer.id.to_be_bytes());
    header[51..53].copy_from_slice(&producer.epoch.to_be_bytes());
    header[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = u32::from_be_bytes([stored[17], stored[18], stored[19], stored[20]]);
    let crc = crc::shifted(crc, &stored[CRC_FROM..], &header[CRC_FROM..], batch.len() - HEADER_BYTES);
    header[17..21].copy_from_slice(&crc.to_be_bytes());
    header
}
