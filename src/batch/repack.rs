//! Batches that must be opened: what survives is encoded again, dense, every record byte kept.

use crate::batch::record::{Frame, Frames, open};
use crate::batch::{BatchBuilder, Codec, Flaw, Malformed, RawBatch, Record};
use crate::model::{EncodedBatch, LeaderEpoch, Offset, OffsetRange, Run};

/// The batch's surviving records within `keep`, dense and with the same codec; `None` when none survives there, as in a
/// control batch. Record attributes, keys, values and headers are moved as they are, times are the same; where the topic
/// keeps append times, those become the records' own. The checksum is verified first, for the result gets a new one.
pub fn repack(batch: &RawBatch, keep: OffsetRange) -> Result<Option<EncodedBatch>, Malformed> {
    if batch.header.attributes.is_control() {
        return Ok(None);
    }
    let encode = || {
        let section = open(batch)?;
        let base = Offset(batch.header.base_offset);
        let mut survivors = Survivors::new(batch.header.attributes.codec_or_flaw()?);
        for record in Frames::new(&batch.header, &section).with_bodies() {
            let (frame, _) = record?;
            let offset = base + frame.offset_delta.into();
            if keep.contains(offset) {
                survivors.push(offset, &frame);
            }
        }
        Ok(survivors.finish(LeaderEpoch(batch.header.leader_epoch)))
    };
    encode().map_err(|flaw: Flaw| flaw.at(batch.header.base_offset))
}

/// Collects records into a dense batch and remembers where they were.
#[derive(Debug)]
pub(super) struct Survivors {
    builder: BatchBuilder,
    runs: Vec<Run>,
    records: u32,
}

impl Survivors {
    pub(super) fn new(codec: Codec) -> Self {
        Self { builder: BatchBuilder::new(Offset(0)).codec(codec), runs: Vec::new(), records: 0 }
    }

    pub(super) fn push(&mut self, source: Offset, frame: &Frame<'_>) {
        self.builder.push_body(Offset(self.records.into()), frame.timestamp_ms, frame.attributes, frame.body);
        self.survived(source);
    }

    pub(super) fn push_record(&mut self, record: Record) {
        let source = record.offset;
        self.builder.push(&Record { offset: Offset(self.records.into()), ..record });
        self.survived(source);
    }

    fn survived(&mut self, source: Offset) {
        self.records += 1;
        match self.runs.last_mut() {
            Some(run) if run.start + run.length.into() == source => run.length += 1,
            _ => self.runs.push(Run { start: source, length: 1 }),
        }
    }

    /// Bytes of the batch before compression.
    pub(super) fn plain_bytes(&self) -> usize {
        self.builder.plain_bytes()
    }

    pub(super) fn finish(self, leader_epoch: LeaderEpoch) -> Option<EncodedBatch> {
        if self.records == 0 {
            return None;
        }
        let batch = self.builder.build();
        Some(EncodedBatch {
            bytes: batch.bytes,
            records: self.records,
            runs: self.runs,
            leader_epoch,
            max_timestamp_ms: batch.header.max_timestamp,
        })
    }
}

/// Two batches that together hold the same records in the same order, for a target that found one too large; `None` when
/// there is but a single record. Splitting again and again ends with single records.
pub fn split_in_two(batch: &EncodedBatch) -> Result<Option<(EncodedBatch, EncodedBatch)>, Malformed> {
    if batch.records < 2 {
        return Ok(None);
    }
    let opened = RawBatch::parse(batch.bytes.clone())?;
    let encode = || {
        let section = open(&opened)?;
        let codec = opened.header.attributes.codec_or_flaw()?;
        let mut sources = batch.runs.iter().flat_map(|run| (0..run.length).map(|n| run.start + n.into()));
        let mut halves = [Survivors::new(codec), Survivors::new(codec)];
        let middle = batch.records as usize / 2;
        for (index, record) in Frames::new(&opened.header, &section).with_bodies().enumerate() {
            let (frame, _) = record?;
            let source = sources.next().expect("the runs of an encoded batch add up to its records");
            halves[usize::from(index >= middle)].push(source, &frame);
        }
        let [first, second] = halves.map(|half| half.finish(batch.leader_epoch));
        Ok(first.zip(second))
    };
    encode().map_err(|flaw: Flaw| flaw.at(opened.header.base_offset))
}
