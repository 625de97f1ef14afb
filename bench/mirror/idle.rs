//! What a mirror costs while nothing happens: 1,000 partitions, all copied.

use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, mib};
use super::support::batch::Codec;
use super::support::unique;
use super::{Bench, ends, usage};

const PARTITIONS: i32 = 1000;
/// What attaching left to do is done by then.
const REST: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(30);

/// Measures and prints the table.
pub fn run(bench: &Bench) {
    let topic = unique("idle");
    let filled = Payload::of(Codec::Lz4, 2).fill(&bench.source, &topic, PARTITIONS, 2 * PARTITIONS as u64);
    let (mirror, copy) = twinlog(bench, &topic, &[], |setup| setup);
    let launched = Instant::now();
    mirror.start();
    while ends::total(bench.target.client(), &copy, PARTITIONS) < filled.records {
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
    let mut table =
        Table::new(&["idle partitions", "pid", "of a core", "RSS", "peak RSS", "first start to all copied", "goal"]);
    table.row([
        PARTITIONS.to_string(),
        pid.to_string(),
        format!("{:.2} %", share * 100.0),
        mib(now),
        mib(peak),
        format!("{:.1} s", copied.as_secs_f64()),
        "< 2 %, < 64 MiB".into(),
    ]);
    drop(mirror);
    forget(bench.target.client(), &copy);
    forget(bench.source.client(), &topic);
    println!("{table}");
}
