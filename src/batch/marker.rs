//! Transaction markers: the control records that end a transaction (KIP-98).

use crate::batch::{BatchBuilder, Flaw, Malformed, RawBatch, Record, records};
use crate::model::{LeaderEpoch, Offset, ProducerIdentity};

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// Its records stand.
    Commit,
    /// Its records are void.
    Abort,
}

/// What a control batch says about its producer's transaction; `None` for data and for control records of another kind
/// (leader changes, snapshots of KRaft topics), which end no transaction.
pub fn marker(batch: &RawBatch) -> Result<Option<Marker>, Malformed> {
    if !batch.header.attributes.is_control() {
        return Ok(None);
    }
    let records = records(batch)?;
    let Some(first) = records.first() else { return Ok(None) };
    // Key: version i16, type i16; a newer version may only add fields behind them.
    match first.key.as_deref() {
        Some([_, _, 0, 0, ..]) => Ok(Some(Marker::Abort)),
        Some([_, _, 0, 1, ..]) => Ok(Some(Marker::Commit)),
        Some([_, _, _, _, ..]) => Ok(None),
        _ => Err(Flaw::Record { index: 0, what: "it is a control record without a type" }.at(batch.header.base_offset)),
    }
}

impl Marker {
    /// The batch a broker appends for the end of `producer`'s transaction; takes exactly one offset.
    pub fn batch(self, at: Offset, epoch: LeaderEpoch, producer: ProducerIdentity, timestamp_ms: i64) -> RawBatch {
        let key: &[u8] = match self {
            Marker::Abort => &[0, 0, 0, 0],
            Marker::Commit => &[0, 0, 0, 1],
        };
        // Version 0 and coordinator epoch 0.
        let value: &[u8] = &[0; 6];
        let mut builder = BatchBuilder::new(at).leader_epoch(epoch).producer(producer, -1).transactional().control();
        builder.push(&Record::new(at, timestamp_ms, Some(key.to_vec().into()), Some(value.to_vec().into())));
        builder.build()
    }
}
