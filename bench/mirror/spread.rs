//! What a record costs when the same records are spread over more and more partitions, batches alike: a backlog that a start
//! finds, one that all partitions fell behind with, and at a steady rate.

use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, mib};
use super::support::Twinlog;
use super::support::batch::Codec;
use super::support::raw::Client;
use super::support::unique;
use super::{Bench, ends, usage};

/// Rate at which a backlog grows in spite of a mirror that runs; of a lifted limit it hears within a second.
const HELD_BACK: &str = "64KiB";
/// Partitions written to, all of them all the time.
const CASES: [i32; 4] = [10, 100, 1000, 5000];
/// Controllers refuse to create many thousands in one topic at once.
const PER_TOPIC: i32 = 1000;
/// Batches of the backlog in all, and of how many records each: the same in every case.
const BATCHES: u64 = 100_000;
const BATCH_RECORDS: u64 = 10;
/// Batches a second once level (a broker of the bench takes some 400 over 5,000 partitions), and how many write them.
const PER_SECOND: u32 = 250;
const WRITERS: u32 = 4;
/// What attaching and catching up left to do is done by then.
const REST: Duration = Duration::from_secs(5);
const MEASURED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures and prints the table.
pub fn run(bench: &Bench) {
    let mut table = Table::new(&[
        "active partitions",
        "pid",
        "first start, CPU s",
        "start when level, CPU s",
        "started behind, CPU µs/record",
        "started behind, records/s",
        "fallen behind, CPU µs/record",
        "fallen behind, records/s",
        "idle, of a core",
        "steady, of a core",
        "steady, CPU µs/record",
        "peak RSS",
        "goal",
    ]);
    for partitions in CASES {
        (0..bench.options.rounds).for_each(|_| table.row(measured(bench, partitions)));
    }
    println!("{table}");
}

/// The topics of one case, with what is written to them.
struct Topics<'a> {
    bench: &'a Bench,
    names: Vec<String>,
    copies: Vec<String>,
    each: i32,
    payload: Payload,
    written: u64,
}

impl Topics<'_> {
    /// The same batches to every partition.
    fn append(&mut self, batches: u64) {
        let from = self.written / (self.names.len() as u64 * self.each as u64 * BATCH_RECORDS);
        for name in &self.names {
            self.payload.append(&self.bench.source, name, self.each, from..from + batches);
        }
        self.written += batches * self.names.len() as u64 * self.each as u64 * BATCH_RECORDS;
    }

    fn copied(&self) -> u64 {
        let copies: Vec<&str> = self.copies.iter().map(String::as_str).collect();
        ends::each(self.bench.target.client(), &copies, self.each).into_values().sum()
    }

    fn wait_until_copied(&self, mirror: &Twinlog) {
        let begun = Instant::now();
        while self.copied() < self.written {
            assert!(begun.elapsed() < PATIENCE, "not copied: {}", mirror.log_text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes for a while at the steady rate, partition after partition.
    fn write_steadily(&mut self) {
        let all: Vec<(&str, i32)> =
            self.names.iter().flat_map(|name| (0..self.each).map(move |p| (name.as_str(), p))).collect();
        let began = Instant::now();
        let written: u64 = thread::scope(|scope| {
            let writer = |writer: u32| {
                let client = Client::new(vec![self.bench.source.only().inner_address()]);
                let (all, payload) = (&all, &self.payload);
                scope.spawn(move || {
                    let mut written = 0;
                    for n in (writer..).step_by(WRITERS as usize) {
                        let due = began + Duration::from_secs(1) * n / PER_SECOND;
                        if due - began >= MEASURED {
                            break;
                        }
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        let (topic, partition) = all[n as usize % all.len()];
                        client.produce(topic, partition, &payload.batch(n.into())).expect("the batch is accepted");
                        written += BATCH_RECORDS;
                    }
                    written
                })
            };
            let writers: Vec<_> = (0..WRITERS).map(writer).collect();
            writers.into_iter().map(|w| w.join().expect("the writer does not fail")).sum()
        });
        assert!(began.elapsed() < MEASURED * 11 / 10, "the source takes no such rate: {:?}", began.elapsed());
        self.written += written;
    }
}

fn measured(bench: &Bench, partitions: i32) -> [String; 13] {
    let (stem, each) = (unique("spread"), partitions.min(PER_TOPIC));
    let names: Vec<String> = (0..partitions / each).map(|n| format!("{stem}-{n}")).collect();
    let pattern = format!("{stem}-.*");
    let (mirror, copy) = twinlog(bench, &pattern, &[], |setup| setup);
    let copies = names.iter().map(|name| copy.replace(&pattern, name)).collect();
    names.iter().for_each(|name| bench.source.client().create_topic(name, each, &[]).expect("it can be created"));
    let payload = Payload::of(Codec::None, BATCH_RECORDS);
    let mut topics = Topics { bench, names, copies, each, payload, written: 0 };
    // The topics are created and opened once before anything is measured.
    topics.append(1);
    let first = started(&mirror, || topics.wait_until_copied(&mirror)).1;
    stop(&mirror);
    let level = started(&mirror, || wait_until_replicating(&mirror, partitions)).1;
    stop(&mirror);
    topics.append(BATCHES / partitions as u64);
    let (took, cpu) = started(&mirror, || topics.wait_until_copied(&mirror));
    let behind = cpu.saturating_sub(level);
    let pid = mirror.pid().expect("it runs");
    // All are open this time, and fall behind together.
    limit(&mirror, HELD_BACK);
    topics.append(BATCHES / partitions as u64);
    let (cpu_before, lifted) = (usage::cpu(pid), Instant::now());
    limit(&mirror, "none");
    topics.wait_until_copied(&mirror);
    let (fell_behind, took_then) = (usage::cpu(pid) - cpu_before, lifted.elapsed());
    thread::sleep(REST);
    let share = |work: &mut dyn FnMut()| {
        let (before, begun) = (usage::cpu(pid), Instant::now());
        work();
        ((usage::cpu(pid) - before).as_secs_f64(), begun.elapsed().as_secs_f64())
    };
    let idle = share(&mut || thread::sleep(MEASURED / 2));
    let before = topics.written;
    let steady = share(&mut || {
        topics.write_steadily();
        topics.wait_until_copied(&mirror);
    });
    let records = (topics.written - before) as f64;
    let (_, peak) = usage::memory(pid);
    drop(mirror);
    topics.copies.iter().for_each(|copy| forget(bench.target.client(), copy));
    topics.names.iter().for_each(|name| forget(bench.source.client(), name));
    let row = [
        partitions.to_string(),
        pid.to_string(),
        format!("{:.2}", first.as_secs_f64()),
        format!("{:.2}", level.as_secs_f64()),
        micros(behind),
        rate(took),
        micros(fell_behind),
        rate(took_then),
        format!("{:.2} %", idle.0 / idle.1 * 100.0),
        format!("{:.2} %", steady.0 / steady.1 * 100.0),
        format!("{:.2}", steady.0 / records * 1e6),
        mib(peak),
        "within 20 %".to_owned(),
    ];
    println!("{}", row.join(" | "));
    row
}

/// Processor time per record of a backlog, µs.
fn micros(cpu: Duration) -> String {
    format!("{:.2}", cpu.as_secs_f64() * 1e6 / (BATCHES * BATCH_RECORDS) as f64)
}

/// Records of a backlog per second.
fn rate(took: Duration) -> String {
    format!("{:.0}", (BATCHES * BATCH_RECORDS) as f64 / took.as_secs_f64())
}

fn limit(mirror: &Twinlog, rate: &str) {
    let done = mirror.run(&["limit", mirror.link(), rate]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Time and processor time from the launch until something has happened.
fn started(mirror: &Twinlog, happened: impl FnOnce()) -> (Duration, Duration) {
    let launched = Instant::now();
    mirror.start();
    happened();
    (launched.elapsed(), usage::cpu(mirror.pid().expect("it runs")))
}

fn stop(mirror: &Twinlog) {
    assert!(mirror.stop(PATIENCE).success(), "a clean stop");
}

fn wait_until_replicating(mirror: &Twinlog, partitions: i32) {
    let begun = Instant::now();
    while mirror.metric("twinlog_replicating_partitions") != Some(f64::from(partitions)) {
        assert!(begun.elapsed() < PATIENCE, "not all replicate: {}", mirror.log_text());
        thread::sleep(Duration::from_millis(50));
    }
}
