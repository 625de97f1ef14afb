//! What one partition carries over an ocean: a broker behind a delay line, which limits nothing but time.
//!
//! The delay line is a proxy on this machine: no window of TCP, no loss and no other traffic bound what is on its way, so
//! these figures tell what the programs have on their way at a time, not what a network carries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::mirror::{Mirror, Program, Tuning, forget};
use super::payload::{Filled, Payload};
use super::summary::{Table, mib, seconds};
use super::support::batch::Codec;
use super::support::{ClusterSpec, unique};
use super::{Bench, boot, ends, usage};

/// One path: which side is far, its round trip, and how many partitions are copied.
struct Path {
    side: Side,
    round_trip: Duration,
    partitions: i32,
    goal: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

const PATHS: [Path; 4] = [
    Path { side: Side::Source, round_trip: Duration::from_millis(150), partitions: 1, goal: "≥ 100 MiB/s" },
    Path { side: Side::Source, round_trip: Duration::from_millis(150), partitions: 6, goal: "" },
    Path { side: Side::Target, round_trip: Duration::from_millis(200), partitions: 1, goal: "" },
    Path { side: Side::Target, round_trip: Duration::from_millis(200), partitions: 6, goal: "" },
];
/// Twinlog's memory budgets: as it comes, and what a path of 100 MiB/s × 150 ms takes.
const BUDGETS: [&str; 3] = ["16MiB", "64MiB", "128MiB"];
const BACKLOG: u64 = 5 << 29;
/// Not counted after the first record: until then windows have opened.
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures each path with each program and prints the table.
pub fn run(bench: &Bench) {
    let columns =
        ["path", "partitions", "mirror", "budget", "pid", "MiB/s", "CPU s/GiB", "peak RSS", "first record", "goal"];
    let mut table = Table::new(&columns);
    for side in [Side::Source, Side::Target] {
        let far = boot(ClusterSpec { proxied: true, ..ClusterSpec::default() });
        let near = bench.clone();
        let pair = match side {
            Side::Source => Bench { source: far.clone(), ..near },
            Side::Target => Bench { target: far.clone(), ..near },
        };
        for path in PATHS.iter().filter(|path| path.side == side) {
            let topic = unique("far");
            let filled = Payload::new(Codec::None).fill(&pair.source, &topic, path.partitions, BACKLOG / 930);
            far.only().proxy().delay(path.round_trip / 2);
            let theirs = bench.options.mirror_maker.then_some((Program::MirrorMaker, BUDGETS[0]));
            let ours = BUDGETS.map(|budget| (Program::Twinlog, budget));
            for (program, budget) in theirs.into_iter().chain(ours) {
                for _ in 0..bench.options.rounds {
                    let pair = Bench { tuning: Tuning::Far(budget), ..pair.clone() };
                    table.row(measured(&pair, path, program, budget, &topic, filled));
                }
            }
            forget(pair.source.client(), &topic);
        }
        drop(pair);
        assert!(Arc::into_inner(far).is_some(), "nobody else holds the far cluster: it ends here");
    }
    println!("{table}");
}

fn measured(pair: &Bench, path: &Path, program: Program, budget: &str, topic: &str, filled: Filled) -> [String; 10] {
    let launched = Instant::now();
    let mirror = Mirror::start(program, pair, topic, "none");
    let (pid, client) = (mirror.pid(), pair.target.client());
    let look = || (Instant::now(), usage::cpu(pid), ends::total(client, &mirror.copy, path.partitions));
    let (mut first, mut begin) = (None, None);
    let (from, to) = loop {
        let now = look();
        if now.2 > 0 && first.is_none() {
            first = Some(now.0);
        }
        if begin.is_none() && first.is_some_and(|first| now.0 - first >= WARM_UP) {
            begin = Some(now);
        }
        if let Some(begin) = begin.filter(|b| now.0 - b.0 >= MEASURED || now.2 >= filled.records) {
            break (begin, now);
        }
        assert!(now.2 < filled.records, "copied within the warm-up: the backlog is too small");
        assert!(launched.elapsed() < PATIENCE, "nothing arrives: {}", mirror.tail());
        std::thread::sleep(Duration::from_millis(10));
    };
    let (_, peak) = usage::memory(pid);
    let name = mirror.copy.clone();
    drop(mirror);
    forget(client, &name);
    let copied = filled.gib() * (to.2 - from.2) as f64 / filled.records as f64;
    let side = if path.side == Side::Source { "source" } else { "target" };
    let row = [
        format!("{side} {} ms away", path.round_trip.as_millis()),
        path.partitions.to_string(),
        program.name().into(),
        if program == Program::MirrorMaker { String::new() } else { budget.to_owned() },
        pid.to_string(),
        format!("{:.1}", copied * 1024.0 / (to.0 - from.0).as_secs_f64()),
        format!("{:.2}", (to.1 - from.1).as_secs_f64() / copied),
        mib(peak),
        seconds(first.expect("it came") - launched),
        path.goal.to_owned(),
    ];
    println!("{}", row.join(" | "));
    row
}
