//! Peak memory against the size of the backlog and the number of partitions behind: with a budget of 16 MiB, and on the
//! records plane of 128 MiB.

use std::thread;
use std::time::{Duration, Instant};

use super::mirror::{forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, mib};
use super::support::batch::Codec;
use super::support::unique;
use super::{Bench, ends, usage};

/// The plane with its budget and goal, partitions behind, and GiB of backlog before compression.
type Case = (&'static Plane, i32, u64);
const CASES: [Case; 6] =
    [(BATCHES, 6, 1), (BATCHES, 100, 1), (BATCHES, 1000, 1), (RECORDS, 6, 1), (RECORDS, 100, 1), (RECORDS, 1000, 1)];
/// Both clusters hold the larger backlog: it takes 20 GiB of disk for a while.
const BACKLOGS: [Case; 2] = [(BATCHES, 6, 1), (BATCHES, 6, 10)];
const BATCHES: &Plane = &Plane { name: "batches", budget: "16MiB", goal: "≤ 64 MiB" };
const RECORDS: &Plane = &Plane { name: "records", budget: "128MiB", goal: "≤ 256 MiB" };
const PATIENCE: Duration = Duration::from_secs(900);

struct Plane {
    name: &'static str,
    budget: &'static str,
    goal: &'static str,
}

/// What the number of partitions does to it.
pub fn run(bench: &Bench) {
    measure(bench, &CASES);
}

/// What the size of the backlog does to it.
pub fn backlog(bench: &Bench) {
    measure(bench, &BACKLOGS);
}

/// Copies each backlog and prints the table.
fn measure(bench: &Bench, cases: &[Case]) {
    let mut table = Table::new(&[
        "plane",
        "budget",
        "partitions behind",
        "backlog",
        "pid",
        "peak RSS",
        "CPU s/GiB",
        "MiB/s",
        "goal",
    ]);
    for (Plane { name, budget, goal }, partitions, gib) in cases.iter().copied() {
        let topic = unique("backlog");
        let payload = Payload::new(Codec::None);
        let records = (gib << 30) / 930;
        let filled = payload.fill(&bench.source, &topic, partitions, records);
        let (mirror, copy) = twinlog(bench, &topic, &[], |setup| {
            setup.line(&format!("plane = {name:?}")).and(&format!("[memory]\nbudget = {budget:?}"))
        });
        let launched = Instant::now();
        mirror.start();
        let pid = mirror.pid().expect("it runs");
        while ends::total(bench.target.client(), &copy, partitions) < filled.records {
            assert!(launched.elapsed() < PATIENCE, "not copied: {}", mirror.log_text());
            thread::sleep(Duration::from_millis(50));
        }
        table.row([
            (*name).into(),
            (*budget).into(),
            partitions.to_string(),
            format!("{:.2} GiB", filled.gib()),
            pid.to_string(),
            mib(usage::memory(pid).1),
            format!("{:.2}", usage::cpu(pid).as_secs_f64() / filled.gib()),
            format!("{:.0}", filled.gib() * 1024.0 / launched.elapsed().as_secs_f64()),
            (*goal).into(),
        ]);
        drop(mirror);
        forget(bench.target.client(), &copy);
        forget(bench.source.client(), &topic);
    }
    println!("{table}");
}
