//! How much later a record is visible on the target than on the source, at 1,000 records per second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{Mirror, Program, forget};
use super::summary::{Table, median, percentile};
use super::support::batch::{Batch, Codec, open};
use super::support::raw::{Client, Isolation};
use super::support::record::Record;
use super::support::{Cluster, unique};
use super::{Bench, ends};

/// Each has a producer of its own; one reader on either side reads them all, as a consumer does.
const PARTITIONS: i32 = 4;
const PER_SECOND: u64 = 1000;
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);

/// Measures both programs and prints the table.
pub fn run(bench: &Bench) {
    let mut table = Table::new(&[
        "mirror",
        "pid",
        "records",
        "written → visible at the source p50 / p99",
        "written → visible on the target p50 / p99",
        "added p50 / p99",
        "goal",
    ]);
    for program in Program::ALL.into_iter().filter(|p| *p != Program::MirrorMaker || bench.options.mirror_maker) {
        let rounds: Vec<Round> = (0..bench.options.rounds).map(|_| measure(bench, program)).collect();
        let of = |f: fn(&Seen) -> Duration, percent| {
            median(&rounds, |r| {
                percentile(&r.seen.iter().map(|s| f(s).as_secs_f64() * 1e3).collect::<Vec<_>>(), percent)
            })
        };
        let both = |f: fn(&Seen) -> Duration| format!("{:.1} / {:.1} ms", of(f, 50), of(f, 99));
        let all = |f: fn(&Round) -> String| rounds.iter().map(f).collect::<Vec<_>>().join(" ");
        table.row([
            program.name().into(),
            all(|r| r.pid.to_string()),
            all(|r| r.seen.len().to_string()),
            both(|s| s.source),
            both(|s| s.target),
            both(|s| s.target.saturating_sub(s.source)),
            match program {
                Program::Twinlog => format!("added p50 < 3 ms; target p99 < {:.1} ms", of(|s| s.source, 99) + 5.0),
                Program::MirrorMaker | Program::Records => String::new(),
            },
        ]);
    }
    println!("{table}");
}

/// One run of one program.
struct Round {
    pid: u32,
    seen: Vec<Seen>,
}

fn measure(bench: &Bench, program: Program) -> Round {
    let topic = unique("latency");
    create(bench, &topic);
    let mirror = Mirror::start(program, bench, &topic, "none");
    wait_until_copied(bench, &mirror.copy, || format!("{}: {}", program.name(), mirror.tail()));
    let (pid, copy) = (mirror.pid(), mirror.copy.clone());
    let (seen, ()) = watch(bench, &topic, &copy, PER_SECOND, Instant::now(), || thread::sleep(WARM_UP + MEASURED));
    let seen = seen.into_iter().filter(|seen| seen.sent >= WARM_UP).collect();
    drop(mirror);
    forget(bench.target.client(), &copy);
    forget(bench.source.client(), &topic);
    Round { pid, seen }
}

/// A record: when it was written, and how long after the moment before that it was visible.
pub struct Seen {
    /// On the clock of the watch.
    pub sent: Duration,
    pub source: Duration,
    pub target: Duration,
}

/// Creates a topic for [`watch`], with a first record in each of its partitions.
pub fn create(bench: &Bench, topic: &str) {
    bench.source.client().create_topic(topic, PARTITIONS, &[]).expect("the topic can be created");
    for partition in 0..PARTITIONS {
        let first = Batch::of(vec![record(0)], Codec::None).encode();
        bench.source.client().produce(topic, partition, &first).expect("the record is accepted");
    }
}

/// Waits until the first records have arrived.
pub fn wait_until_copied(bench: &Bench, copy: &str, tail: impl Fn() -> String) {
    let begun = Instant::now();
    while ends::total(bench.target.client(), copy, PARTITIONS) < PARTITIONS as u64 {
        assert!(begun.elapsed() < Duration::from_secs(120), "nothing is copied: {}", tail());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Writes while `work` is done and reads both sides as it comes.
pub fn watch<T>(
    bench: &Bench,
    topic: &str,
    copy: &str,
    per_second: u64,
    clock: Instant,
    work: impl FnOnce() -> T,
) -> (Vec<Seen>, T) {
    let (done, written) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let (done, written) = (&done, &written);
        let sides = [(&bench.source, topic), (&bench.target, copy)];
        let sides = sides.map(|(cluster, name)| scope.spawn(move || read(cluster, name, clock, written)));
        let every = Duration::from_micros(1_000_000 * PARTITIONS as u64 / per_second);
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| scope.spawn(move || write(&bench.source, topic, partition, clock, every, done)))
            .collect();
        // Also when the work fails: the others would go on for ever.
        let (over, read_all) = (Raise(done), Raise(written));
        let worked = work();
        drop(over);
        writers.into_iter().for_each(|w| w.join().expect("the writer does not fail"));
        thread::sleep(Duration::from_secs(1));
        drop(read_all);
        let [source, target] = sides.map(|s| s.join().expect("the reader does not fail"));
        let seen = source.into_iter().map(|(sent, at_source)| {
            // One that never came would be the worst of all: it must not drop out of the percentiles.
            let at_target = target.get(&sent).copied().unwrap_or(Duration::MAX);
            let sent = Duration::from_nanos(sent);
            Seen { sent, source: at_source - sent, target: at_target.saturating_sub(sent) }
        });
        (seen.collect(), worked)
    })
}

/// Sets a flag when it is dropped.
struct Raise<'a>(&'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One record of 1 KiB per batch at this partition's share of the rate, its moment of writing in its value.
fn write(cluster: &Cluster, topic: &str, partition: i32, clock: Instant, every: Duration, done: &AtomicBool) {
    let client = Client::new(vec![cluster.only().inner_address()]);
    let mut due = clock.elapsed();
    while !done.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_sub(clock.elapsed()));
        let batch = Batch::of(vec![record(clock.elapsed().as_nanos() as u64)], Codec::None).encode();
        client.produce(topic, partition, &batch).expect("the record is accepted");
        due += every;
    }
}

fn record(nanos: u64) -> Record {
    Record::order(nanos, 1000)
}

/// Reads a topic as it grows: the moment in each value and when it was seen.
fn read(cluster: &Cluster, topic: &str, clock: Instant, written: &AtomicBool) -> HashMap<u64, Duration> {
    let client = Client::new(vec![cluster.only().inner_address()]);
    let (mut next, mut seen): (Vec<_>, _) = ((0..PARTITIONS).map(|partition| (partition, 1)).collect(), HashMap::new());
    while !written.load(Ordering::Relaxed) {
        let sections = client.fetch_all(topic, &next, Isolation::Uncommitted).expect("the topic can be read");
        let now = clock.elapsed();
        for (partition, section) in sections {
            for batch in open(&section.bytes).expect("batches are whole") {
                seen.extend(batch.records.iter().filter_map(|r| Some((r.record.id()?, now))));
                next[partition as usize].1 = batch.last_offset + 1;
            }
        }
    }
    seen
}
