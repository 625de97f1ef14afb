//! Two thousand topics created at once, with records from their first moment: how soon all are copied, and what a
//! neighbour feels of it; beside that, what it feels when nobody mirrors them and both clusters get them by themselves.

use std::thread;
use std::time::{Duration, Instant};

use super::latency::{Seen, create, wait_until_copied, watch};
use super::mirror::twinlog;
use super::payload::Payload;
use super::summary::{Table, percentile};
use super::support::batch::Codec;
use super::support::raw::Client;
use super::support::{Cluster, unique};
use super::{Bench, ends, usage};

const TOPICS: usize = 2_000;
const WRITERS: usize = 4;
/// Records in the only batch of each topic.
const BATCH_RECORDS: u64 = 10;
/// Of the neighbour.
const PER_SECOND: u64 = 200;
const WARM_UP: Duration = Duration::from_secs(5);
const BASELINE: Duration = Duration::from_secs(15);
/// What a broker still does for new topics once they are there.
const REST: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(240);

/// Who brings the topics to the target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The bench itself, at the same time as to the source.
    Bench,
    Twinlog,
}

/// Measures and prints the table.
pub fn run(bench: &Bench) {
    let mut table = Table::new(&[
        "topics on the target by",
        "pid",
        "written to all after",
        "all copied after",
        "CPU s",
        "neighbour's p99 before",
        "p99 meanwhile",
        "of it at the source",
        "most",
        "goal",
    ]);
    for by in [By::Bench, By::Twinlog] {
        (0..bench.options.rounds).for_each(|_| table.row(measured(bench, by)));
    }
    println!("{table}");
}

/// Moments on the watch's clock.
struct Storm {
    begun: Duration,
    written: Duration,
    copied: Duration,
    cpu: Duration,
}

fn measured(bench: &Bench, by: By) -> [String; 10] {
    let (neighbour, stem) = (unique("neighbour"), unique("storm"));
    create(bench, &neighbour);
    let selected = if by == By::Twinlog { format!("|{stem}-.*") } else { String::new() };
    let pattern = format!("{neighbour}{selected}");
    let (mirror, copy) = twinlog(bench, &pattern, &[], |setup| setup);
    let copy_of = |topic: &str| copy.replace(&pattern, topic);
    mirror.start();
    let copy = copy_of(&neighbour);
    wait_until_copied(bench, &copy, || mirror.log_text());
    let pid = mirror.pid().expect("it runs");
    let names: Vec<String> = (0..TOPICS).map(|n| format!("{stem}-{n}")).collect();
    let copies: Vec<String> = names.iter().map(|name| copy_of(name)).collect();
    let clock = Instant::now();
    let (seen, storm) = watch(bench, &neighbour, &copy, PER_SECOND, clock, || {
        thread::sleep(WARM_UP + BASELINE);
        let (begun, cpu) = (clock.elapsed(), usage::cpu(pid));
        let (mut written, mut copied) = (begun, begun);
        thread::scope(|scope| {
            let source = scope.spawn(|| fill(&bench.source, &names));
            if by == By::Bench {
                fill(&bench.target, &copies);
            }
            source.join().expect("the topics can be written");
            written = clock.elapsed();
            wait_for_all(bench, &copies, || mirror.log_text());
            copied = clock.elapsed();
        });
        let cpu = usage::cpu(pid) - cpu;
        thread::sleep(REST);
        Storm { begun, written, copied, cpu }
    });
    let ms = |side: fn(&Seen) -> Duration, from: Duration, percent| {
        let until = if from == WARM_UP { storm.begun } else { Duration::MAX };
        let of = seen.iter().filter(|s| (from..until).contains(&s.sent)).map(|s| side(s).as_secs_f64() * 1e3);
        percentile(&of.collect::<Vec<_>>(), percent)
    };
    drop(mirror);
    delete(&bench.target, copies.iter().chain([&copy]));
    delete(&bench.source, names.iter().chain([&neighbour]));
    let row = [
        if by == By::Twinlog { "Twinlog" } else { "themselves" }.to_owned(),
        pid.to_string(),
        format!("{:.1} s", (storm.written - storm.begun).as_secs_f64()),
        format!("{:.1} s", (storm.copied - storm.begun).as_secs_f64()),
        format!("{:.2}", storm.cpu.as_secs_f64()),
        format!("{:.1} ms", ms(|s| s.target, WARM_UP, 99)),
        format!("{:.1} ms", ms(|s| s.target, storm.begun, 99)),
        format!("{:.1} ms", ms(|s| s.source, storm.begun, 99)),
        format!("{:.1} ms", ms(|s| s.target, storm.begun, 100)),
        if by == By::Twinlog { "< 30 s, < 3 × before" } else { "" }.to_owned(),
    ];
    println!("{}", row.join(" | "));
    row
}

/// Creates all topics by one request, and writes to each as soon as it is there.
fn fill(cluster: &Cluster, topics: &[String]) {
    let payload = Payload::of(Codec::Lz4, BATCH_RECORDS);
    let client = || Client::new(vec![cluster.only().inner_address()]).patient(PATIENCE);
    thread::scope(|scope| {
        scope.spawn(move || client().create_topics(topics, 1, &[]).expect("the topics can be created"));
        for topics in topics.chunks(topics.len().div_ceil(WRITERS)) {
            let batch = payload.batch(0);
            scope.spawn(move || {
                let client = client();
                for topic in topics {
                    client.produce(topic, 0, &batch).expect("the batch is accepted");
                }
            });
        }
    });
}

fn wait_for_all(bench: &Bench, copies: &[String], tail: impl Fn() -> String) {
    let (begun, mut left) = (Instant::now(), copies.iter().map(String::as_str).collect::<Vec<_>>());
    while !left.is_empty() {
        // A share of them at a time: asking for all would be work that the broker does for nobody else.
        let ask = &left[..left.len().min(100)];
        let ends = ends::each(bench.target.client(), ask, 1);
        left.retain(|topic| ends.get(*topic).is_none_or(|end| *end < BATCH_RECORDS));
        assert!(begun.elapsed() < PATIENCE, "{} topics are not copied: {}", left.len(), tail());
        thread::sleep(Duration::from_millis(50));
    }
}

/// Deletes topics by one request.
fn delete<'a>(cluster: &Cluster, topics: impl Iterator<Item = &'a String>) {
    let topics: Vec<String> = topics.cloned().collect();
    cluster.client().delete_topics(&topics).unwrap_or_else(|e| eprintln!("{} topics stay: {e}", topics.len()));
}
