//! Twinlog beside MirrorMaker 2 on two real clusters, measured in the same run: `make bench`, or
//! `cargo bench --bench mirror -- copy start …` for some of the scenarios. `bench/README.md` tells how.

mod copy;
mod distance;
mod ends;
mod groups;
mod idle;
mod latency;
mod lookups;
mod memory;
mod mirror;
mod mm2;
mod options;
mod payload;
mod runs;
mod spread;
mod start;
mod storm;
mod summary;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tiny;
mod usage;

use std::sync::Arc;

use mirror::Tuning;
use options::Options;
use support::{Cluster, ClusterSpec};

/// The brokers' JVMs: Kafka's own heap, as with less of it they stop several times a second to collect, which is then what
/// a latency shows; and a compiler that is soon done, as these have no hours to warm up.
const BROKER_JVM: &[&str] = &["-Xms1G", "-Xmx1G", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];

type Scenario = (&'static str, fn(&Bench));

/// What can be measured, in the order of running: latency first, while the disks have nothing to write out.
const SCENARIOS: [Scenario; 13] = [
    ("latency", latency::run),
    ("copy", copy::run),
    ("tiny", tiny::run),
    ("start", start::run),
    ("idle", idle::run),
    ("memory", memory::run),
    ("backlog", memory::backlog),
    ("groups", groups::run),
    ("spread", spread::run),
    ("distance", distance::run),
    ("storm", storm::run),
    ("runs", runs::run),
    ("lookups", lookups::run),
];

/// Two clusters and what to do with them.
#[derive(Clone)]
struct Bench {
    options: Options,
    source: Arc<Cluster>,
    target: Arc<Cluster>,
    tuning: Tuning,
}

fn main() {
    let options = Options::read();
    if let Some(unknown) = options.scenarios.iter().find(|s| !SCENARIOS.iter().any(|(name, _)| name == s)) {
        eprintln!("no scenario {unknown:?}; there are {:?}", SCENARIOS.map(|(name, _)| name));
        std::process::exit(2);
    }
    let boot = || boot(ClusterSpec::default());
    let (source, target) = std::thread::scope(|both| {
        let target = both.spawn(boot);
        (boot(), target.join().expect("the target boots"))
    });
    let bench = Bench { options, source, target, tuning: Tuning::Near };
    bench.introduce();
    for (name, run) in SCENARIOS.into_iter().filter(|(name, _)| bench.options.wants(name)) {
        println!("\n## {name} (load average before: {})\n", usage::load_average());
        run(&bench);
    }
}

/// A cluster with the JVM of this bench.
fn boot(spec: ClusterSpec) -> Arc<Cluster> {
    Arc::new(Cluster::start(ClusterSpec { jvm: BROKER_JVM, ..spec }))
}

impl Bench {
    /// Says what runs where, so that a kept output explains itself.
    fn introduce(&self) {
        let Options { records, rounds, binary, .. } = &self.options;
        println!("# Twinlog's bench: {records} records, {rounds} round(s)\n");
        println!("Twinlog: {}, commit {}", binary.display(), usage::commit());
        println!(
            "Kafka and MirrorMaker 2: {}; brokers: pid {:?} and {:?}",
            support::cluster::CURRENT,
            self.source.only().pid(),
            self.target.only().pid()
        );
        println!("The brokers' JVMs: {}", BROKER_JVM.join(" "));
        println!("MirrorMaker 2's JVM: {}", mm2::jvm().join(" "));
        println!("{}", usage::machine());
    }
}
