//! A batch opened for librdkafka: what it can carry, and what it cannot.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::batch::{Codec, RawBatch, Record, header_pairs, records};
use crate::endpoint::{Error, ErrorKind, MessageFormat, Result};
use crate::librdkafka::records::writer::Limits;
use crate::model::{EncodedBatch, TopicPartition};

/// What librdkafka keeps of a record beside its bytes.
const KEPT_PER_RECORD: usize = 256;
/// Framing of a record in a batch, at most.
const FRAMING: usize = 128;

/// A broker would leave them out without a word.
const NO_HEADERS: &str = "the record has headers, and the target's topic stores an old message format, which carries none: \
     raise its message.format.version to 0.11 or above, or remove that setting where brokers ignore it (3.0 on)";

/// An opened batch.
pub(super) struct Parcel {
    /// The batch it was, by the place of its bytes.
    encoded: Bytes,
    pub records: Vec<Record>,
    pub codec: Codec,
    /// Memory it takes while librdkafka has it.
    pub memory: usize,
    /// Records whose timestamp cannot be carried.
    pub altered: u64,
}

impl Parcel {
    /// Opens a batch for `at`, whose target has these limits.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read; `TooLarge` or `Refused`, naming the partition and the record, when the target or
    /// librdkafka would not take one of its records. Decided before any of them is sent: a refusal by the broker costs
    /// the whole lane its producer.
    pub(super) fn open(batch: &EncodedBatch, at: &TopicPartition, limits: Limits) -> Result<Self> {
        let failed = |kind, what: String| Error::new(kind, format!("{at}: {what}"));
        let raw = RawBatch::parse(batch.bytes.clone()).map_err(|e| failed(ErrorKind::Corrupt, e.to_string()))?;
        let codec = raw.header.attributes.codec().unwrap_or(Codec::None);
        let records = records(&raw).map_err(|e| failed(ErrorKind::Corrupt, e.to_string()))?;
        let mut sources = batch.runs.iter().flat_map(|run| (0..i64::from(run.length)).map(|i| run.start + i));
        let mut memory = 0;
        for record in &records {
            let source = sources.next();
            let refused = |kind, what: String| {
                let source = source.map_or_else(String::new, |offset| format!("source offset {offset}: "));
                Err(failed(kind, source + &what))
            };
            if header_pairs(&record.headers).any(|(name, _)| std::str::from_utf8(name).is_err()) {
                let what =
                    "a header's name is not UTF-8, which the records plane cannot carry: only plane = \"batches\" can";
                return refused(ErrorKind::Refused, what.into());
            }
            if limits.format < MessageFormat::V2 && header_pairs(&record.headers).next().is_some() {
                return refused(ErrorKind::Refused, NO_HEADERS.into());
            }
            if limits.needs_keys && record.key.is_none() {
                return refused(
                    ErrorKind::Refused,
                    "the target is compacted and refuses a record without a key".into(),
                );
            }
            let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
            let bytes = length(&record.key) + length(&record.value) + record.headers.len();
            if codec == Codec::None && bytes + FRAMING / 2 > limits.record_bytes {
                let what = format!(
                    "a record of {bytes} bytes exceeds the target's max.message.bytes ({})",
                    limits.record_bytes
                );
                return refused(ErrorKind::TooLarge, what);
            }
            memory += bytes + KEPT_PER_RECORD;
        }
        let altered =
            records.iter().filter(|record| record.carried_timestamp_ms() != record.timestamp_ms).count() as u64;
        Ok(Self { encoded: batch.bytes.clone(), records, codec, memory, altered })
    }

    /// Whether this is that batch, opened before.
    pub(super) fn is_of(&self, batch: &EncodedBatch) -> bool {
        (self.encoded.as_ptr(), self.encoded.len()) == (batch.bytes.as_ptr(), batch.bytes.len())
    }
}

/// The headers as librdkafka takes them; `None` without any. Names were checked when the parcel was opened.
pub(super) fn headers(record: &Record) -> Option<OwnedHeaders> {
    let mut headers: Option<OwnedHeaders> = None;
    for (name, value) in header_pairs(&record.headers) {
        let key = std::str::from_utf8(name).unwrap_or_default();
        headers = Some(headers.unwrap_or_default().insert(Header { key, value }));
    }
    headers
}
