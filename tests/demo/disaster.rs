//! Act 1: the source dies under load, and the group goes on at the twin.

use std::time::{Duration, Instant};

use crate::count::{Counts, Reads};
use crate::stage::{AllWritten, PATIENCE, Stage, TOPICS, retire};
use crate::support::until;
use crate::view::Scene;
use crate::worker::Worker;

/// The group of this act.
const GROUP: &str = "billing";
/// How long everything runs before the axe falls.
const SHOW: Duration = Duration::from_secs(10);

/// Plays it; also says what the producers wrote before their cluster died.
pub fn play(stage: &Stage) -> (Counts, AllWritten) {
    stage.twinlog.start_ready();
    let producers = stage.produce(&stage.source, 0);
    println!("Producers write orders to {} (keys, headers, lz4, transactions of", TOPICS.join(" and "));
    println!("which every second one aborts); group {GROUP} works them off and commits twice a second:\n");
    let worker = Worker::start(&stage.source.bootstrap(), GROUP, &TOPICS);
    let scene = Scene { stage, producers: &producers, group: GROUP, worker: &worker };
    // A group that has never been carried over has no position to go on from.
    let carried = || stage.committed(&stage.target, GROUP).len() == stage.partitions();
    scene.show(SHOW, "the group has a position on the twin in every partition", carried);

    let pid = stage.source.only().pid().expect("the source runs");
    stage.source.only().kill9();
    let killed = Instant::now();
    println!("\nkill -9 {pid}: the source is gone, and with it whatever nobody had copied.");
    let written = retire(producers);
    let source = worker.crash();
    println!("Twinlog is told to stop; what it has in hand still lands on the twin.");
    stage.stop_twinlog();

    println!("Group {GROUP} starts on the target and reads to its end.\n");
    let written: Vec<_> = written.join().expect("stopping does not panic").into_iter().map(|w| vec![w]).collect();
    let ends = stage.ends(&stage.target);
    let from = stage.committed(&stage.target, GROUP);
    let worker = Worker::start(&stage.target.bootstrap(), GROUP, &TOPICS);
    until(PATIENCE, "the group has read the twin to its end", || worker.has_reached(&ends, &from));
    let target = worker.leave();

    let counts = Counts::of(&stage.topics(&written), &Reads { source, target }, killed);
    println!("{counts}");
    (counts, written.into_iter().flatten().collect())
}
