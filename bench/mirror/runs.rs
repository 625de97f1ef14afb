//! How long a start takes, and how much memory, where the map has a hundred million runs.
//!
//! Nothing is made up but the source's past: its log files are written as the cleaner leaves them (a hole behind every
//! record) while its broker is down, which then takes them for its own. The copy, the ledger and the map are the work of
//! the program that is measured.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use twinlog::batch::{BatchBuilder, Record};
use twinlog::model::{LeaderEpoch, Offset};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, mib, seconds};
use super::support::batch::Codec;
use super::support::{ClusterSpec, Twinlog, unique};
use super::{Bench, boot, ends, usage};

const PARTITIONS: i32 = 100;
/// As producers of small records fill a batch.
const BATCH_RECORDS: u64 = 2000;
/// Longest hole behind a record.
const HOLE: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(1200);

/// Copies the log, starts on its ledger, and prints the table.
pub fn run(bench: &Bench) {
    let mut table =
        Table::new(&["start", "pid", "first record", "all level", "CPU s", "peak RSS", "RSS when level", "goal"]);
    let bench = Bench { source: boot(ClusterSpec::default()), ..bench.clone() };
    let (topic, each) = (unique("runs"), bench.options.runs / PARTITIONS as u64);
    let source = bench.source.only();
    bench.source.client().create_topic(&topic, PARTITIONS, &[]).expect("the topic can be created");
    source.shut_down();
    write_past(&source.data(), &topic, each);
    source.restart();
    let (mirror, copy) = twinlog(&bench, &topic, &[], |setup| setup);
    let launched = Instant::now();
    mirror.start();
    let pid = mirror.pid().expect("it runs");
    let mut expected = each * PARTITIONS as u64;
    wait(&bench, &mirror, &copy, expected);
    let (took, cpu) = (launched.elapsed(), usage::cpu(pid));
    while mirror.metric("twinlog_map_unflushed_records") != Some(0.0) {
        thread::sleep(Duration::from_millis(100));
    }
    let (now, peak) = usage::memory(pid);
    let ledger = bench.target.only().data().join(format!("__twinlog.{}.map-0", mirror.link()));
    println!(
        "{expected} runs in {PARTITIONS} partitions (pid {pid}): copied at {:.0} records/s, CPU {:.2} µs/record, RSS {} (at \
         most {}); the map's topic has {}",
        expected as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / expected as f64,
        mib(now),
        mib(peak),
        mib(size(&ledger)),
    );
    let payload = Payload::of(Codec::None, 1);
    for (next, (kind, stop)) in (0..).zip(STOPS) {
        stop(&mirror);
        payload.append(&bench.source, &topic, PARTITIONS, next..next + 1);
        let launched = Instant::now();
        mirror.start();
        wait(&bench, &mirror, &copy, expected + 1);
        let first = launched.elapsed();
        expected += PARTITIONS as u64;
        wait(&bench, &mirror, &copy, expected);
        let (level, pid) = (launched.elapsed(), mirror.pid().expect("it runs"));
        let cpu = usage::cpu(pid);
        thread::sleep(Duration::from_secs(5));
        let (now, peak) = usage::memory(pid);
        table.row([
            kind.to_owned(),
            pid.to_string(),
            seconds(first),
            seconds(level),
            format!("{:.1}", cpu.as_secs_f64()),
            mib(peak),
            format!("{}, {:.2} bytes/run", mib(now), now as f64 / expected as f64),
            "< 60 s".to_owned(),
        ]);
    }
    drop(mirror);
    forget(bench.target.client(), &copy);
    println!("{table}");
}

type Stop = (&'static str, fn(&Twinlog));

const STOPS: [Stop; 2] = [
    ("after a clean stop", |mirror| assert!(mirror.stop(PATIENCE).success(), "a clean stop")),
    ("after kill -9", Twinlog::kill9),
];

fn wait(bench: &Bench, mirror: &Twinlog, copy: &str, records: u64) {
    let begun = Instant::now();
    while ends::total(bench.target.client(), copy, PARTITIONS) < records {
        assert!(begun.elapsed() < PATIENCE, "not copied: {}", mirror.log_text());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Gives every partition of a topic the same log, of so many records; its broker finds it when it starts.
fn write_past(data: &Path, topic: &str, records: u64) {
    let fits = "the scratch directory can be written";
    let segment = data.join("past");
    fs::write(&segment, past(records)).expect(fits);
    for partition in 0..PARTITIONS {
        let directory = data.join(format!("{topic}-{partition}"));
        fs::copy(&segment, directory.join("00000000000000000000.log")).expect(fits);
        // Indexes that are missing are made again, with the epochs.
        for index in ["index", "timeindex"] {
            fs::remove_file(directory.join(format!("00000000000000000000.{index}"))).expect(fits);
        }
    }
    fs::remove_file(segment).expect(fits);
}

fn past(records: u64) -> Vec<u8> {
    let (mut log, mut offset, mut state) = (Vec::new(), 0, 7u64);
    // Old records would be copied one batch at a time: producer state does not outlive them.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    for batch in 0..records.div_ceil(BATCH_RECORDS) {
        let mut builder = BatchBuilder::new(Offset(offset)).leader_epoch(LeaderEpoch(0));
        for record in batch * BATCH_RECORDS..records.min((batch + 1) * BATCH_RECORDS) {
            let value = Bytes::copy_from_slice(&(record as u32).to_be_bytes());
            builder.push(&Record::new(Offset(offset), now, None, Some(value)));
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            offset += 2 + ((state >> 33) % HOLE) as i64;
        }
        log.extend_from_slice(&builder.ending_at(Offset(offset - 1)).build().bytes);
    }
    log
}

fn size(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}
