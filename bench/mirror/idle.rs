//! What a mirror costs while nothing happens: 1,000 and 10,000 partitions, all copied; and how long it takes to tell how
//! they stand.

use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, median, mib};
use super::support::batch::Codec;
use super::support::unique;
use super::{Bench, ends, usage};

/// Topics of 1,000 partitions each (controllers refuse to create 10,000 at once), and the goal.
const CASES: [(usize, &str); 2] = [(1, "< 2 %, < 64 MiB"), (10, "< 5 %, < 200 MiB, status < 200 ms")];
const PARTITIONS: i32 = 1000;
/// What attaching left to do is done by then.
const REST: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(30);

/// Measures and prints the table.
pub fn run(bench: &Bench) {
    let columns =
        ["idle partitions", "pid", "of a core", "RSS", "peak RSS", "first start to all copied", "status", "goal"];
    let mut table = Table::new(&columns);
    for (topics, goal) in CASES {
        table.row(measured(bench, topics, goal));
    }
    println!("{table}");
}

fn measured(bench: &Bench, topics: usize, goal: &str) -> [String; 8] {
    let stem = unique("idle");
    let topics: Vec<String> = (0..topics).map(|n| format!("{stem}-{n}")).collect();
    let payload = Payload::of(Codec::Lz4, 2);
    let filled = topics.iter().map(|t| payload.fill(&bench.source, t, PARTITIONS, 2 * PARTITIONS as u64).records);
    let records: u64 = filled.sum();
    let (mirror, copy) = twinlog(bench, &format!("{stem}-.*"), &[], |setup| setup);
    let copies: Vec<String> = topics.iter().map(|topic| copy.replace(&format!("{stem}-.*"), topic)).collect();
    let launched = Instant::now();
    mirror.start();
    while copies.iter().map(|copy| ends::total(bench.target.client(), copy, PARTITIONS)).sum::<u64>() < records {
        assert!(launched.elapsed() < Duration::from_secs(300), "not copied: {}", mirror.log_text());
        thread::sleep(Duration::from_millis(50));
    }
    let copied = launched.elapsed();
    thread::sleep(REST);
    let pid = mirror.pid().expect("it runs");
    let (before, begun) = (usage::cpu(pid), Instant::now());
    thread::sleep(MEASURED);
    let share = (usage::cpu(pid) - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (now, peak) = usage::memory(pid);
    let status = [(); 5].map(|()| {
        let asked = Instant::now();
        let (code, _) = mirror.get(&format!("/v1/links/{}", mirror.link())).expect("it answers");
        assert_eq!(code, 200);
        asked.elapsed()
    });
    drop(mirror);
    copies.iter().for_each(|copy| forget(bench.target.client(), copy));
    topics.iter().for_each(|topic| forget(bench.source.client(), topic));
    [
        (topics.len() * PARTITIONS as usize).to_string(),
        pid.to_string(),
        format!("{:.2} %", share * 100.0),
        mib(now),
        mib(peak),
        format!("{:.1} s", copied.as_secs_f64()),
        format!("{:.0} ms", median(&status, |took| took.as_secs_f64() * 1000.0)),
        goal.to_owned(),
    ]
}
