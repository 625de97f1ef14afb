//! How long a start takes until the first record is on the target: ever, after a clean stop, after `kill -9`.

use std::time::{Duration, Instant};

use super::mirror::{Mirror, Program, forget, twinlog};
use super::payload::Payload;
use super::summary::{Table, median, seconds};
use super::support::batch::Codec;
use super::support::{Twinlog, unique};
use super::{Bench, ends};

const PARTITIONS: i32 = 6;
const ROUNDS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures each kind of start and prints the table.
pub fn run(bench: &Bench) {
    let mut table = Table::new(&["start", "median", "each", "goal"]);
    let payload = Payload::new(Codec::Lz4);
    let topic = unique("start");
    payload.fill(&bench.source, &topic, PARTITIONS, 100_000);
    let mut row = |kind: &str, taken: &[Duration], goal: &str| {
        let each: Vec<_> = taken.iter().map(|t| format!("{:.2}", t.as_secs_f64())).collect();
        let middle = Duration::from_secs_f64(median(taken, Duration::as_secs_f64));
        table.row([kind.into(), seconds(middle), each.join(" "), goal.into()]);
    };
    if bench.options.mirror_maker {
        let launched = Instant::now();
        let mirror = Mirror::start(Program::MirrorMaker, bench, &topic, "lz4");
        let taken = first_record(bench, &mirror.copy, 0, launched);
        row(&format!("MirrorMaker 2 (pid {}), first ever", mirror.pid()), &[taken], "");
    }

    let mut taken = Vec::new();
    for _ in 0..ROUNDS {
        let (mirror, copy) = twinlog(bench, &topic, &[], |setup| setup);
        let launched = Instant::now();
        mirror.start();
        taken.push(first_record(bench, &copy, 0, launched));
        drop(mirror);
        forget(bench.target.client(), &copy);
    }
    row("Twinlog, first ever", &taken, "");

    let (mirror, copy) = twinlog(bench, &topic, &[], |setup| setup);
    mirror.start();
    let mut next = settled(bench, &topic, &copy) / payload.batch_records() / PARTITIONS as u64;
    let mut again = |stop: &dyn Fn(&Twinlog)| {
        let mut taken = Vec::new();
        for _ in 0..ROUNDS {
            settled(bench, &topic, &copy);
            // While it copies, so that a kill finds batches in flight; a clean stop drains them.
            payload.append(&bench.source, &topic, PARTITIONS, next..next + 5);
            stop(&mirror);
            payload.append(&bench.source, &topic, PARTITIONS, next + 5..next + 10);
            next += 10;
            let before = at_rest(bench, &copy);
            let launched = Instant::now();
            mirror.start();
            taken.push(first_record(bench, &copy, before, launched));
        }
        taken
    };
    let clean = again(&|mirror| assert!(mirror.stop(PATIENCE).success(), "a clean stop"));
    let killed = again(&Twinlog::kill9);
    row("Twinlog, after a clean stop", &clean, "≤ 1 s");
    row("Twinlog, after kill -9", &killed, "≤ 3 s");
    drop(mirror);
    forget(bench.target.client(), &copy);
    forget(bench.source.client(), &topic);
    println!("{table}");
}

/// Waits until the copy has more than `before` records.
fn first_record(bench: &Bench, copy: &str, before: u64, launched: Instant) -> Duration {
    while ends::total(bench.target.client(), copy, PARTITIONS) <= before {
        assert!(launched.elapsed() < PATIENCE, "nothing arrives in {copy}");
        std::thread::sleep(Duration::from_millis(5));
    }
    launched.elapsed()
}

/// Waits until the copy is as long as the original; returns how long that is.
fn settled(bench: &Bench, topic: &str, copy: &str) -> u64 {
    let all = ends::total(bench.source.client(), topic, PARTITIONS);
    let begun = Instant::now();
    while ends::total(bench.target.client(), copy, PARTITIONS) < all {
        assert!(begun.elapsed() < PATIENCE, "{copy} does not become complete");
        std::thread::sleep(Duration::from_millis(20));
    }
    all
}

/// Length of the copy once nothing more lands: what a killed mirror had sent may still do.
fn at_rest(bench: &Bench, copy: &str) -> u64 {
    let mut last = ends::total(bench.target.client(), copy, PARTITIONS);
    loop {
        std::thread::sleep(Duration::from_millis(300));
        let now = ends::total(bench.target.client(), copy, PARTITIONS);
        if now == last {
            return now;
        }
        last = now;
    }
}
