//! What copying a backlog costs: processor time per GiB of data before compression, throughput, memory, first record.

use std::time::{Duration, Instant};

use super::mirror::{Mirror, Program, forget};
use super::payload::{Filled, Payload};
use super::summary::{Table, median, mib, seconds};
use super::support::batch::Codec;
use super::support::oracle::Twins;
use super::{Bench, ends, usage};

const PARTITIONS: i32 = 6;
/// Long enough for MirrorMaker 2 on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(1200);

/// One copy of one topic.
pub struct Copied {
    pub pid: u32,
    /// Processor time from launch to the last record, and from the first to the last.
    pub whole: Duration,
    pub steady: Duration,
    /// From launch to the first record on the target, and from there to the last.
    pub first: Duration,
    pub wall: Duration,
    /// Of the target's broker, from launch to the last record.
    pub broker: Duration,
    /// Highest resident memory, bytes.
    pub peak: u64,
}

/// Copies each topic with each program and prints both tables.
pub fn run(bench: &Bench) {
    let mut costs = Table::new(&[
        "topic",
        "mirror",
        "pid",
        "CPU s",
        "CPU s/GiB whole",
        "CPU s/GiB steady",
        "MiB/s",
        "peak RSS",
        "first record",
        "target broker CPU s/GiB",
    ]);
    let mut ratios =
        Table::new(&["topic", "plane", "CPU MM2 ÷ Twinlog whole", "steady", "throughput Twinlog ÷ MM2", "goal (CPU)"]);
    for name in &bench.options.codecs {
        let codec = codec(name);
        let goals = match codec {
            Codec::None => ["≥ 12", "≥ 2"],
            Codec::Zstd => ["≥ 25", "≥ 1.5"],
            _ => ["≥ 25", "≥ 2"],
        };
        let topic = format!("copy-{name}");
        let filled = Payload::new(codec).fill(&bench.source, &topic, PARTITIONS, bench.options.records);
        println!(
            "{topic}: {} records, {:.3} GiB before compression, {:.2} × compressed, {PARTITIONS} partitions",
            filled.records,
            filled.gib(),
            filled.plain_bytes as f64 / filled.stored_bytes as f64
        );
        let mut rounds = Program::ALL.map(|_| Vec::new());
        for round in 1..=bench.options.rounds {
            for (program, copies) in Program::ALL.into_iter().zip(&mut rounds) {
                if program != Program::MirrorMaker || bench.options.mirror_maker {
                    copies.push(copy(bench, program, &topic, name, filled, round));
                }
            }
        }
        forget(bench.source.client(), &topic);
        let mut medians = Vec::new();
        for (program, copies) in Program::ALL.into_iter().zip(rounds) {
            if copies.is_empty() {
                continue;
            }
            let per_gib = |time: fn(&Copied) -> Duration| median(&copies, |c| time(c).as_secs_f64()) / filled.gib();
            let (whole, steady) = (per_gib(|c| c.whole), per_gib(|c| c.steady));
            let rate = median(&copies, |c| filled.gib() * 1024.0 / c.wall.as_secs_f64());
            let pids: Vec<_> = copies.iter().map(|c| c.pid.to_string()).collect();
            costs.row([
                name.clone(),
                program.name().into(),
                pids.join(" "),
                format!("{:.2}", median(&copies, |c| c.whole.as_secs_f64())),
                format!("{whole:.3}"),
                format!("{steady:.3}"),
                format!("{rate:.0}"),
                mib(median(&copies, |c| c.peak as f64) as u64),
                seconds(Duration::from_secs_f64(median(&copies, |c| c.first.as_secs_f64()))),
                format!("{:.2}", per_gib(|c| c.broker)),
            ]);
            medians.push((whole, steady, rate));
        }
        if let [theirs, batches, records] = medians[..] {
            for ((ours, plane), goal) in [(batches, "batches"), (records, "records")].into_iter().zip(goals) {
                ratios.row([
                    name.clone(),
                    plane.to_owned(),
                    format!("{:.1}", theirs.0 / ours.0),
                    format!("{:.1}", theirs.1 / ours.1),
                    format!("{:.1}", ours.2 / theirs.2),
                    goal.to_owned(),
                ]);
            }
        }
    }
    println!("\n{costs}");
    if bench.options.mirror_maker {
        println!("{ratios}");
    }
}

/// A codec by the name it has in `BENCH_CODECS`.
pub fn codec(name: &str) -> Codec {
    match name {
        "none" => Codec::None,
        "lz4" => Codec::Lz4,
        "zstd" => Codec::Zstd,
        other => panic!("BENCH_CODECS: {other:?} is none of none, lz4, zstd"),
    }
}

/// Starts a program on a topic, watches the copy until it is complete, and holds Twinlog's against the original.
pub fn copy(bench: &Bench, program: Program, topic: &str, codec: &str, filled: Filled, round: usize) -> Copied {
    let broker = bench.target.only().pid().expect("the broker runs");
    let (launched, broker_before) = (Instant::now(), usage::cpu(broker));
    let mirror = Mirror::start(program, bench, topic, codec);
    let (pid, client) = (mirror.pid(), bench.target.client());
    let mut first = None;
    loop {
        let copied = ends::total(client, &mirror.copy, filled.partitions);
        let (now, cpu) = (Instant::now(), usage::cpu(pid));
        if copied > 0 && first.is_none() {
            first = Some((now, cpu));
        }
        if let Some((began, cpu_before)) = first.filter(|_| copied >= filled.records) {
            let done = Copied {
                pid,
                whole: cpu,
                steady: cpu - cpu_before,
                first: began - launched,
                wall: now - began,
                broker: usage::cpu(broker) - broker_before,
                peak: usage::memory(pid).1,
            };
            let exact = check(bench, program, topic, &mirror);
            println!(
                "round {round}, {} (pid {pid}): CPU {:.2} s whole, {:.2} s steady, wall {:.1} s, peak {}, first record {}; {exact}",
                program.name(),
                done.whole.as_secs_f64(),
                done.steady.as_secs_f64(),
                done.wall.as_secs_f64(),
                mib(done.peak),
                seconds(done.first),
            );
            let name = mirror.copy.clone();
            drop(mirror);
            forget(client, &name);
            return done;
        }
        assert!(launched.elapsed() < PATIENCE, "{topic}: {copied} records after {PATIENCE:?}: {}", mirror.tail());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Twinlog promises an exact twin: every record is compared. MirrorMaker 2 is only counted.
fn check(bench: &Bench, program: Program, topic: &str, mirror: &Mirror) -> String {
    match program {
        Program::MirrorMaker => "counted".into(),
        Program::Twinlog | Program::Records => {
            let mut twins = Twins::renamed(bench.source.client(), bench.target.client(), topic, &mirror.copy);
            let difference = twins.difference().unwrap_or_else(|e| panic!("{topic} cannot be compared: {e}"));
            assert!(difference.is_none(), "{topic} is not an exact twin: {difference}");
            format!("exact: {} records compared", difference.records)
        }
    }
}
