//! JSON-like records in batches as busy producers write them, made quickly: a few batches are encoded and compressed
//! once, then written over and over with their own timestamps (and the checksum that belongs to them).

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use super::support::Cluster;
use super::support::batch::{Batch, Codec};
use super::support::raw::Client;
use super::support::record::Record;

/// Records in one batch: what 128 KiB of `batch.size` hold.
pub const BATCH_RECORDS: u64 = 140;
/// Bytes of an order's value, if nothing else is wanted.
const VALUE_BYTES: usize = 860;
/// Different batches; a codec never sees further than one of them.
const TEMPLATES: u64 = 48;
/// Where a batch's header keeps its checksum, what it covers, and the base and greatest timestamp.
const CHECKSUM: usize = 17;
const COVERED: usize = 21;
const BASE_TIMESTAMP: usize = 27;
const MAX_TIMESTAMP: usize = 35;

/// What was written.
#[derive(Debug, Clone, Copy)]
pub struct Filled {
    /// Records.
    pub records: u64,
    /// Partitions they are in, the same number in each.
    pub partitions: i32,
    /// Bytes of batches before compression, headers included: what a GiB in the tables is made of.
    pub plain_bytes: u64,
    /// Bytes of batches as stored.
    pub stored_bytes: u64,
}

impl Filled {
    /// GiB before compression.
    pub fn gib(&self) -> f64 {
        self.plain_bytes as f64 / (1u64 << 30) as f64
    }
}

/// Batches ready to be stamped with a time and written.
pub struct Payload {
    batches: Vec<Vec<u8>>,
    batch_records: u64,
    plain_bytes: u64,
    began: i64,
}

impl Payload {
    /// Encodes the templates.
    pub fn new(codec: Codec) -> Payload {
        Payload::of(codec, BATCH_RECORDS)
    }

    /// The same with so many records per batch.
    pub fn of(codec: Codec, batch_records: u64) -> Payload {
        Payload::sized(codec, batch_records, VALUE_BYTES)
    }

    /// The same with values of about so many bytes, at least 57.
    pub fn sized(codec: Codec, batch_records: u64, value_bytes: usize) -> Payload {
        let records = |n: u64| -> Vec<_> {
            (n * batch_records..(n + 1) * batch_records).map(|id| order(id, value_bytes)).collect()
        };
        let batches: Vec<_> = (0..TEMPLATES).map(|n| Batch::of(records(n), codec).encode()).collect();
        let plain: u64 = (0..TEMPLATES).map(|n| Batch::of(records(n), Codec::None).encode().len() as u64).sum();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
        Payload { batches, batch_records, plain_bytes: plain / TEMPLATES, began: now - 3_600_000 }
    }

    /// Records in each batch.
    pub fn batch_records(&self) -> u64 {
        self.batch_records
    }

    /// The `n`-th batch of a partition: no two have the same time.
    pub fn batch(&self, n: u64) -> Vec<u8> {
        let mut batch = self.batches[(n % TEMPLATES) as usize].clone();
        let (base, last) = (self.began + n as i64, self.began + (n + self.batch_records - 1) as i64);
        batch[BASE_TIMESTAMP..][..8].copy_from_slice(&base.to_be_bytes());
        batch[MAX_TIMESTAMP..][..8].copy_from_slice(&last.to_be_bytes());
        let checksum = crc32c::crc32c(&batch[COVERED..]);
        batch[CHECKSUM..][..4].copy_from_slice(&checksum.to_be_bytes());
        batch
    }

    /// Writes about `records` records (whole batches, the same number to each partition) to a topic that it creates.
    pub fn fill(&self, cluster: &Cluster, topic: &str, partitions: i32, records: u64) -> Filled {
        let per_partition = records.div_ceil(self.batch_records * partitions as u64);
        cluster.client().create_topic(topic, partitions, &[]).expect("the topic can be created");
        self.append(cluster, topic, partitions, 0..per_partition);
        let batches = per_partition * partitions as u64;
        let stored: u64 = self.batches.iter().map(|b| b.len() as u64).sum::<u64>() / TEMPLATES;
        let plain_bytes = batches * self.plain_bytes;
        Filled { records: batches * self.batch_records, partitions, plain_bytes, stored_bytes: batches * stored }
    }

    /// Writes these batches to every partition.
    pub fn append(&self, cluster: &Cluster, topic: &str, partitions: i32, batches: std::ops::Range<u64>) {
        const WRITERS: i32 = 3;
        thread::scope(|scope| {
            for writer in 0..WRITERS.min(partitions) {
                let batches = batches.clone();
                scope.spawn(move || {
                    let client = Client::new(vec![cluster.only().inner_address()]);
                    for n in batches {
                        let bytes = self.batch(n);
                        for partition in (writer..partitions).step_by(WRITERS as usize) {
                            client.produce(topic, partition, &bytes).expect("the batch is accepted");
                        }
                    }
                });
            }
        });
    }
}

/// An order of about 70 bytes more than its value: names repeat, numbers do not (lz4 halves 930 bytes, zstd makes a third
/// of them).
fn order(id: u64, value_bytes: usize) -> Record {
    let mut state = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut value = format!(r#"{{"id":{id},"customer":"{:08x}","state":"paid","items":["#, next());
    while value.len() < value_bytes {
        let (sku, token, count, price) = (next(), next() << 31 | next(), next() % 9 + 1, next() % 9999);
        value += &format!(r#"{{"sku":"{sku:08x}","count":{count},"price":{price},"lot":"{token:015x}"}},"#);
    }
    value += r#"{}]}"#;
    Record {
        timestamp: id as i64, // one each millisecond; the batch gets its own base when it is written
        key: Some(format!("customer-{}", id % 997).into_bytes()),
        value: Some(value.into_bytes()),
        headers: vec![(b"trace".to_vec(), Some(next().to_be_bytes().to_vec()))],
    }
}
