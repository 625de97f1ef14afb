//! What the pure work on a batch costs, per batch and per second of uncompressed bytes: `cargo bench --bench batch`.
//!
//! Batches of 100 JSON-like records of 1 KiB with a key and two headers; medians of 7 rounds on one thread.

use std::hint::black_box;
use std::time::{Duration, Instant};

use twinlog::batch::{
    BatchBuilder, Codec, RawBatch, Record, Stamp, content_hash, encode_headers, pass, records, repack, split, stamp,
    verify_crc,
};
use twinlog::model::{Offset, OffsetRange, ProducerIdentity};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(150);

fn main() {
    println!(
        "{:<14}{:>8}{:>12}{:>14}{:>12}{:>12}{:>12}",
        "codec", "×", "stamp", "split+pass", "full CRC", "read", "repack"
    );
    for codec in [Codec::None, Codec::Lz4, Codec::Zstd, Codec::Snappy, Codec::Gzip] {
        let batches: Vec<_> = (0..32).map(|n| batch(codec, n * 100)).collect();
        let plain: usize = (0..32).map(|n| batch(Codec::None, n * 100).bytes.len()).sum::<usize>() / 32;
        let packed = batches.iter().map(|batch| batch.bytes.len()).sum::<usize>() / 32;
        let section = batches.iter().flat_map(|batch| batch.bytes.iter().copied()).collect::<Vec<_>>();
        let section = bytes::Bytes::from(section);
        let everything = OffsetRange::new(Offset(0), Offset(i64::MAX));
        let stamped = Stamp { producer: ProducerIdentity { id: 4711, epoch: 0 }, sequence: 77 };

        let stamping = per_batch(|| for_all(&batches, |batch| stamp(&batch.bytes, &stamped)));
        let passing = per_batch(|| {
            for piece in split(section.clone()) {
                let Ok(twinlog::batch::Piece::Batch(batch)) = piece else { panic!("{piece:?}") };
                black_box(pass(&batch));
            }
        });
        let verifying = per_batch(|| for_all(&batches, verify_crc));
        let reading = per_batch(|| for_all(&batches, records));
        let repacking = per_batch(|| for_all(&batches, |batch| repack(batch, everything)));
        let rate = |one: Duration| format!("{:.0} MB/s", plain as f64 / one.as_secs_f64() / 1e6);
        println!(
            "{:<14}{:>8.1}{:>12}{:>14}{:>12}{:>12}{:>12}",
            codec.to_string(),
            plain as f64 / packed as f64,
            format!("{} ns", stamping.as_nanos()),
            format!("{} ns", passing.as_nanos()),
            format!("{} ns", verifying.as_nanos()),
            rate(reading),
            rate(repacking),
        );
    }
    let read = records(&batch(Codec::None, 0)).expect("a batch just built");
    let hashing = median(|| for_all(&read, content_hash), read.len() as u32);
    println!("content hash of a record: {} ns", hashing.as_nanos());
}

/// JSON that compresses about as real orders do, and differs from batch to batch.
fn batch(codec: Codec, from: i64) -> RawBatch {
    let mut builder = BatchBuilder::new(Offset(from)).codec(codec);
    let mut state = from as u64 + 1;
    for offset in from..from + 100 {
        let mut value = format!("{{\"order\":{offset},\"items\":[");
        while value.len() < 1000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value += &format!("{{\"sku\":\"{:08x}\",\"count\":{},\"price\":1299}},", state >> 32, state >> 60);
        }
        let key = format!("customer-{}", offset % 17);
        builder.push(&Record {
            headers: encode_headers(&[(b"trace-id", Some(&state.to_be_bytes())), (b"source", Some(b"bench"))]),
            ..Record::new(Offset(offset), 1_700_000_000_000 + offset, Some(key.into()), Some(value.into()))
        });
    }
    builder.build()
}

/// Does the work on each, and makes sure that it is done.
fn for_all<T, R>(of: &[T], work: impl Fn(&T) -> R) {
    for one in of {
        black_box(work(black_box(one)));
    }
}

fn per_batch(work: impl FnMut()) -> Duration {
    median(work, 32)
}

/// Median time of one of the `units` that a call of `work` does.
fn median(mut work: impl FnMut(), units: u32) -> Duration {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            let mut calls = 0;
            while start.elapsed() < ROUND {
                work();
                calls += 1;
            }
            start.elapsed() / calls / units
        })
        .collect();
    rounds.sort();
    rounds[ROUNDS / 2]
}
