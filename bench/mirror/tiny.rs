//! A backlog of tiny batches, as producers without `linger.ms` leave it: three records of about 130 bytes in each. What
//! bounds such a copy is requests, unless batches are joined.

use super::Bench;
use super::copy::{Copied, codec, copy};
use super::mirror::{Program, forget};
use super::payload::Payload;
use super::summary::{Table, median, mib};

const BATCH_RECORDS: u64 = 3;
const VALUE_BYTES: usize = 60;
/// One partition alone, and a few.
const PARTITIONS: [i32; 2] = [1, 6];

/// Copies each backlog with each program and prints the table.
pub fn run(bench: &Bench) {
    let columns = ["codec", "partitions", "mirror", "pid", "records/s", "CPU s/M records whole", "steady", "peak RSS"];
    let mut table = Table::new(&columns);
    let programs = [Program::MirrorMaker, Program::Twinlog];
    for name in &bench.options.codecs {
        for partitions in PARTITIONS {
            let topic = format!("tiny-{name}-{partitions}");
            let payload = Payload::sized(codec(name), BATCH_RECORDS, VALUE_BYTES);
            let filled = payload.fill(&bench.source, &topic, partitions, bench.options.records);
            let bytes = filled.stored_bytes / (filled.records / BATCH_RECORDS);
            println!("{topic}: {} records in batches of {BATCH_RECORDS} ({bytes} bytes)", filled.records);
            for program in programs {
                if program == Program::MirrorMaker && !bench.options.mirror_maker {
                    continue;
                }
                let rounds = 1..=bench.options.rounds;
                let copies: Vec<Copied> =
                    rounds.map(|round| copy(bench, program, &topic, name, filled, round)).collect();
                let millions = filled.records as f64 / 1e6;
                let pids: Vec<_> = copies.iter().map(|c| c.pid.to_string()).collect();
                table.row([
                    name.clone(),
                    partitions.to_string(),
                    program.name().into(),
                    pids.join(" "),
                    format!("{:.0}", median(&copies, |c| filled.records as f64 / c.wall.as_secs_f64())),
                    format!("{:.2}", median(&copies, |c| c.whole.as_secs_f64() / millions)),
                    format!("{:.2}", median(&copies, |c| c.steady.as_secs_f64() / millions)),
                    mib(median(&copies, |c| c.peak as f64) as u64),
                ]);
            }
            forget(bench.source.client(), &topic);
        }
    }
    println!("\n{table}");
}
