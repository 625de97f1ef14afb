//! A fetched records section → the batches in it.

use bytes::Bytes;

use crate::batch::header::{HEADER_BYTES, LENGTH_PREFIX, MAGIC_AT, total_bytes};
use crate::batch::{Flaw, Header, LegacySet, Malformed};
use crate::model::{LeaderEpoch, Offset};

/// One whole stored batch: a parsed header and all its bytes, header included.
///
/// The bytes share the frame they were fetched in and keep it alive.
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// The parsed header.
    pub header: Header,
    /// Header and records section; exactly `header.total_bytes`.
    pub bytes: Bytes,
}

impl RawBatch {
    /// Takes bytes that are exactly one batch.
    pub fn parse(bytes: Bytes) -> Result<RawBatch, Malformed> {
        let header = Header::parse(&bytes)?;
        match bytes.len() == header.total_bytes {
            true => Ok(RawBatch { header, bytes }),
            false => Err(Flaw::Short { present: bytes.len(), needed: header.total_bytes }.at(header.base_offset)),
        }
    }

    /// The same batch as a leader stores it: at a base offset, under an epoch. Neither is covered by the checksum, which
    /// therefore stands. Copies the bytes.
    ///
    /// # Panics
    /// When the offset is negative: only a bug stores there.
    pub fn placed(&self, base_offset: Offset, epoch: LeaderEpoch) -> RawBatch {
        assert!(base_offset >= Offset(0), "a batch cannot be placed at {base_offset}");
        let mut bytes = self.bytes.to_vec();
        bytes[0..8].copy_from_slice(&base_offset.0.to_be_bytes());
        bytes[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        let header = Header { base_offset: base_offset.0, leader_epoch: epoch.0, ..self.header };
        RawBatch { header, bytes: bytes.into() }
    }
}

/// A piece of a records section.
#[derive(Debug, Clone)]
pub enum Piece {
    /// A magic-2 batch.
    Batch(RawBatch),
    /// Messages older than Kafka 0.11 (magic 0 and 1).
    Legacy(LegacySet),
}

impl Piece {
    /// First offset behind the piece.
    pub fn next_offset(&self) -> Offset {
        match self {
            Piece::Batch(batch) => batch.header.next_offset(),
            Piece::Legacy(set) => set.next_offset(),
        }
    }
}

/// Walks the batches of `section` without reading a payload byte.
pub fn split(section: Bytes) -> Split {
    Split { rest: section, next: None, failed: false }
}

/// Iterator over the whole batches of a records section, in order.
///
/// Brokers cut a section at a byte limit, so it may end within a batch: iteration then just ends, and
/// [`torn_bytes`](Split::torn_bytes) tells. An error ends it too. Lengths are checked, and that no batch begins below the
/// end of the one before it; checksums are not.
#[derive(Debug)]
pub struct Split {
    rest: Bytes,
    next: Option<Offset>,
    failed: bool,
}

impl Split {
    /// Bytes not handed out: after the iteration, the size of the torn tail. A section that is nothing but a torn tail
    /// although the broker was not short of bytes is damaged.
    pub fn torn_bytes(&self) -> usize {
        self.rest.len()
    }

    /// Bytes of the whole batch at the front of the rest, or `None` when they are not all there.
    fn whole(&self) -> Result<Option<usize>, Malformed> {
        let (Some(offset), Some(length)) = (self.rest.first_chunk::<8>(), self.rest.get(8..LENGTH_PREFIX)) else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(length.try_into().expect("four bytes were asked for"));
        let total = total_bytes(length, MAGIC_AT + 1).map_err(|flaw| flaw.at(i64::from_be_bytes(*offset)))?;
        Ok((total <= self.rest.len()).then_some(total))
    }

    fn piece(&mut self) -> Result<Option<Piece>, Malformed> {
        let Some(total) = self.whole()? else { return Ok(None) };
        let piece = match self.rest[MAGIC_AT] as i8 {
            0 | 1 => Piece::Legacy(LegacySet::take(&self.rest)?),
            _ if total < HEADER_BYTES => {
                let base_offset = i64::from_be_bytes(*self.rest.first_chunk().expect("a whole batch has an offset"));
                return Err(Flaw::Short { present: total, needed: HEADER_BYTES }.at(base_offset));
            }
            _ => Piece::Batch(RawBatch { header: Header::parse(&self.rest)?, bytes: self.rest.slice(..total) }),
        };
        let (begins, bytes) = match &piece {
            Piece::Batch(batch) => (Offset(batch.header.base_offset), batch.bytes.len()),
            Piece::Legacy(set) => (set.known_from(), set.stored_bytes()),
        };
        if let Some(end) = self.next.filter(|end| begins < *end) {
            return Err(Flaw::Order(end).at(begins.0));
        }
        self.next = Some(piece.next_offset());
        self.rest = self.rest.split_off(bytes);
        Ok(Some(piece))
    }
}

impl Iterator for Split {
    type Item = Result<Piece, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let piece = self.piece().transpose();
        self.failed = matches!(piece, Some(Err(_)));
        piece
    }
}
