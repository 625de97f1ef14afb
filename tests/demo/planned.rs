//! Act 2: the source comes back, the twin catches up, and everybody moves in good order.

use std::time::{Duration, Instant};

use twinlog::link::report::GroupPartitionReport;

use crate::count::{Counts, Reads};
use crate::stage::{AllWritten, Offsets, PATIENCE, Stage, TOPICS, retire};
use crate::support::load::{Load, Written};
use crate::support::oracle::Twins;
use crate::support::until;
use crate::view::Scene;
use crate::worker::Worker;

/// The group of this act; the first one lives on the target now.
const GROUP: &str = "shipping";
/// How long everything runs before the switch.
const SHOW: Duration = Duration::from_secs(6);
/// Orders that the moved producers write to the target before the counting.
const AFTER: u64 = 2_000;

/// Plays it. `before` is what the producers wrote in the first act.
pub fn play(stage: &Stage, before: AllWritten) -> Counts {
    let mut written: Vec<Vec<Written>> = before.into_iter().map(|w| vec![w]).collect();
    let (source, target) = (&stage.source, &stage.target);
    source.only().restart();
    stage.twinlog.start_ready();
    println!("The source is back with its disk, Twinlog attaches where the twin ends, producers write on;");
    println!("another group, {GROUP}, works off everything from the beginning:\n");
    let producers = stage.produce(source, 1);
    let worker = Worker::start(&source.bootstrap(), GROUP, &TOPICS);
    let scene = Scene { stage, producers: &producers, group: GROUP, worker: &worker };
    scene.show(SHOW, "the twin has what it lacked", || missing(stage, &written) == 0);
    println!("\nWhatever the twin lacked after the first act has arrived.");
    println!("The switch: producers stop, {GROUP} reads to the end, commits and leaves.");
    add(&mut written, retire(producers).join().expect("stopping does not panic"));
    let ends = stage.ends(source);
    until(PATIENCE, "the group has read the source to its end", || worker.has_reached(&ends, &Offsets::new()));
    let read_at_source = worker.leave();
    let left = Instant::now();
    let same: u64 = TOPICS.iter().map(|topic| twins(stage, topic).settle(PATIENCE).records).sum();
    println!("Key, value, headers and time of all {same} orders compared on both sides: no difference.");
    let last = stage.committed(source, GROUP);
    until(PATIENCE, "Twinlog has carried the last commit over", || is_carried(stage, &last));
    println!("Twinlog has carried the last commit over and stops.");
    stage.stop_twinlog();

    println!("Producers and {GROUP} go on at the target.\n");
    let from = stage.committed(target, GROUP);
    let producers = stage.produce(target, 2);
    let worker = Worker::start(&target.bootstrap(), GROUP, &TOPICS);
    until(PATIENCE, "new orders are written", || producers.iter().map(Load::acknowledged).sum::<u64>() >= AFTER);
    add(&mut written, retire(producers).join().expect("stopping does not panic"));
    let ends = stage.ends(target);
    until(PATIENCE, "the group has read the target to its end", || worker.has_reached(&ends, &from));
    let reads = Reads { source: read_at_source, target: worker.leave() };
    let counts = Counts::of(&stage.topics(&written), &reads, left);
    println!("{counts}");
    counts
}

/// How many of the orders written so far the twin lacks.
fn missing(stage: &Stage, written: &[Vec<Written>]) -> u64 {
    let nothing = Reads { source: Vec::new(), target: Vec::new() };
    let counts = Counts::of(&stage.topics(written), &nothing, Instant::now());
    counts.not_yet + counts.lost
}

fn twins<'a>(stage: &'a Stage, topic: &str) -> Twins<'a> {
    Twins::new(stage.source.client(), stage.target.client(), topic)
}

/// Whether Twinlog calls the group synced at exactly these source positions.
fn is_carried(stage: &Stage, last: &Offsets) -> bool {
    stage.group(GROUP).is_some_and(|group| {
        let at =
            |p: &GroupPartitionReport| Some(((p.source.topic.to_string(), p.source.partition), p.source_offset?.0));
        group.verdict == "synced" && group.partitions.iter().filter_map(at).collect::<Offsets>() == *last
    })
}

fn add(to: &mut [Vec<Written>], more: AllWritten) {
    to.iter_mut().zip(more).for_each(|(to, more)| to.push(more));
}
