//! The cut: a group never stands on the target beyond the output that its work had produced at the source. Whoever cannot
//! keep up leaves the cut by name and comes back, and a link can be told to do without.

use std::collections::{BTreeMap, HashSet};

use rand::Rng;

use super::group_bed::{Bed, FIRST, of_the_link, positions, told};
use super::groups::exact;
use super::processor::{Guarantee, Processor};
use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::view::View;
use crate::support::{dice, shared_pair, until};

/// Longer than any of these scenarios: nothing leaves the cut for its lag.
const PATIENT: &str = "cut_lag_max = \"5m\"";

/// What a cluster holds of an application's input and output, read on from look to look.
struct Work {
    views: Vec<(View, View)>,
}

impl Work {
    fn new((input, output): (&str, &str), partitions: i32) -> Work {
        Work { views: (0..partitions).map(|p| (View::new(input, p, 0), View::new(output, p, 0))).collect() }
    }

    /// Inputs in front of a group's positions: how many there are, and the ids of those that have no output.
    fn lost(&mut self, cluster: &Cluster, topic: &str, at: &BTreeMap<(String, i32), i64>) -> (usize, Vec<u64>) {
        let (mut read, mut lost) = (0, Vec::new());
        for (partition, (input, output)) in (0..).zip(&mut self.views) {
            let Some(position) = at.get(&(topic.to_owned(), partition)) else { continue };
            input.advance(cluster.client()).unwrap();
            output.advance(cluster.client()).unwrap();
            let written: HashSet<u64> = output.seen().iter().filter_map(|seen| seen.id).collect();
            let before = input.seen().iter().filter(|seen| seen.offset < *position).filter_map(|seen| seen.id);
            let before: Vec<u64> = before.collect();
            read += before.len();
            lost.extend(before.into_iter().filter(|id| !written.contains(id)));
        }
        (read, lost)
    }
}

#[test]
fn no_input_of_a_transactional_application_is_lost_to_its_output_whenever_twinlog_dies() {
    no_input_is_lost_to_its_output(Guarantee::Transactional);
}

#[test]
fn no_input_of_an_at_least_once_application_is_lost_to_its_output_whenever_twinlog_dies() {
    no_input_is_lost_to_its_output(Guarantee::AtLeastOnce);
}

fn no_input_is_lost_to_its_output(guarantee: Guarantee) {
    const PARTITIONS: i32 = 2;
    let (source, target) = shared_pair();
    let (input, output, group, mut dice) = (unique("input"), unique("output"), unique("group"), dice());
    for topic in [&input, &output] {
        source.client().create_topic(topic, PARTITIONS, &[]).unwrap();
    }
    let setup = link(source, target, &[&input, &output], &[&group]).line("intervals = { groups = \"100ms\" }");
    // Output comes in gusts and is copied little faster than it is written: half of the time some of it is on its way.
    let mirror = twinlog(setup.line("rate_limit = \"3MiB\"").line(PATIENT));
    let pause = Duration::from_millis(300);
    let gusts = LoadSpec { batch_records: vec![20, 400], pause, ..LoadSpec::new(&input, PARTITIONS) };
    let spec = LoadSpec { transaction_every: Some(7), ..gusts };
    let load = Load::start(addresses(source), spec);
    let processor = Processor::start(&source.bootstrap(), &group, (&input, &output), guarantee);
    let mut work = Work::new((&input, &output), PARTITIONS);
    let mut read = 0;
    for turn in 0..rounds(3, 20) {
        mirror.start();
        // What was written while it was dead has to be copied first; until then the cut may say to be without it.
        until(SOON, "the cut is whole", || told(&mirror, &group).is_some_and(|told| told.cut_without.is_empty()));
        let moves = || {
            let before = positions(target, &group);
            until(SOON, "positions move", || positions(target, &group) != before);
        };
        moves();
        // Every third time right behind a move: what a group should have waited for is then still on its way.
        if turn % 3 != 0 {
            std::thread::sleep(Duration::from_millis(dice.random_range(0..1500)));
            moves();
        }
        mirror.kill9();
        // The positions first: output that lands later does not help them.
        let at = positions(target, &group);
        let (more, lost) = work.lost(target, &input, &at);
        let count = lost.len();
        assert_eq!(count, 0, "{guarantee:?}, kill {turn}: {more} inputs, {count} without output, from {:?}", lost[0]);
        assert!(more > read, "the application moved on between two kills");
        read = more;
    }
    let written = load.stop();
    until(SOON, "the application has done all its work", || processor.done() >= written.records());
    processor.stop();
    mirror.start();
    for topic in [&input, &output] {
        twins(source, target, topic).settle(2 * SOON);
    }
    until(SOON, "the last position is exact", || exact(source, target, &group));
    let (all, lost) = work.lost(target, &input, &positions(target, &group));
    assert_eq!((all as u64, lost), (written.records(), vec![]));
    println!("{guarantee:?}: {} kills, {all} inputs read on the target, each with its output", rounds(3, 20));
}

/// A bed whose application writes into a second topic, of one partition, which is mirrored too.
fn with_output(lines: &[&str]) -> (Bed<'static>, String) {
    let output = unique("output");
    shared_pair().0.client().create_topic(&output, 1, &[]).unwrap();
    (Bed::beside(&[&output], lines), output)
}

/// Waits until the group says that it is cut without a partition, or without any.
#[track_caller]
fn is_cut_without(bed: &Bed<'_>, whom: &[String]) {
    until(SOON, &format!("{} is cut without {whom:?}", bed.group), || bed.told().cut_without == whom);
}

#[test]
fn a_group_waits_for_the_output_of_its_work() {
    let (bed, output) = with_output(&[PATIENT]);
    bed.carry(20);
    let mut producer = bed.source.client().producer(Some(&unique("open"))).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, 0, &Batch::of(orders(1000..1001), Codec::None)).unwrap();
    // Behind the open transaction: nobody who reads committed data sees it, and no mirror can copy it.
    write(bed.source.client(), &output, 0, orders(20..60), Codec::Lz4);
    bed.commit(60);
    bed.a_pass_later();
    bed.is_told_to_be("waiting for the mirror");
    bed.a_pass_later();
    assert_eq!(bed.there(), Some(20), "40 orders would be lost to the output");
    assert_eq!(bed.told().cut_without, [""; 0]);
    // Meanwhile it is counted what applications would find if they moved now; reset at the source, it would be a skip.
    let counted = || (bed.told().re_read_records, bed.told().skip_records);
    for (read, counts) in [(60, (Some(40), Some(0))), (5, (Some(0), Some(15))), (90, (Some(70), Some(0)))] {
        bed.commit(read);
        until(SOON, &format!("{counts:?} at {read}, is {:?}", counted()), || counted() == counts);
        let partition = bed.partition();
        assert_eq!((partition.target_offset, partition.source_offset), (Some(20), Some(FIRST + read)));
        assert_eq!((partition.re_read_records, partition.skip_records), counts);
    }
    transaction.commit().unwrap();
    bed.becomes_exact();
    bed.is_told_to_be("synced");
    assert_eq!((bed.there(), counted()), (Some(90), (Some(0), Some(0))));
}

#[test]
fn a_partition_behind_a_hanging_transaction_leaves_the_cut_by_name_and_comes_back() {
    let (bed, output) = with_output(&["cut_lag_max = \"2s\""]);
    bed.carry(20);
    let mut producer = bed.source.client().producer(Some(&unique("hanging"))).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, 0, &Batch::of(orders(1000..1001), Codec::None)).unwrap();
    write(bed.source.client(), &output, 0, orders(20..60), Codec::Lz4);
    bed.carry(60);
    is_cut_without(&bed, &[format!("{output}/0")]);
    let named = |link: &[String]| link.len() == 1 && link[0].starts_with(&format!("{output}/0 (open transaction"));
    until(SOON, "the link names it and says why", || {
        of_the_link(&bed.mirror).is_some_and(|link| named(&link.cut_without))
    });
    // The group goes on without it.
    bed.carry(70);
    transaction.commit().unwrap();
    twins(bed.source, bed.target, &output).settle(SOON);
    is_cut_without(&bed, &[]);
    until(SOON, "the link's cut is whole", || of_the_link(&bed.mirror).is_some_and(|link| link.cut_without.is_empty()));
    bed.carry(80);
}

#[test]
fn a_halted_partition_leaves_the_cut_by_name_and_comes_back_when_it_is_resolved() {
    let (source, target) = shared_pair();
    let output = unique("output");
    for cluster in [source, target] {
        cluster.client().create_topic(&output, 1, &[]).unwrap();
        write(cluster.client(), &output, 0, orders(0..20), Codec::None);
    }
    let bed = Bed::beside(&[&output], &[PATIENT]);
    let report = || bed.mirror.get("/v1/links").map(|(_, body)| body).unwrap_or_default();
    until(SOON, "the output halts", || report().contains("TARGET_NOT_EMPTY"));
    bed.carry(20);
    is_cut_without(&bed, &[format!("{output}/0")]);
    write(source.client(), &output, 0, orders(20..60), Codec::Lz4);
    bed.carry(60);
    let adopted = bed.mirror.run(&["resolve", bed.mirror.link(), &format!("{output}/0"), "--adopt"]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    twins(source, target, &output).settle(SOON);
    is_cut_without(&bed, &[]);
    bed.carry(80);
}

#[test]
fn a_link_that_wants_the_latest_positions_waits_for_no_other_partition() {
    let (bed, output) = with_output(&["consistency = \"latest\""]);
    bed.carry(20);
    let mut producer = bed.source.client().producer(Some(&unique("open"))).unwrap();
    let mut transaction = producer.begin();
    transaction.send(&output, 0, &Batch::of(orders(1000..1001), Codec::None)).unwrap();
    write(bed.source.client(), &output, 0, orders(20..60), Codec::Lz4);
    // Were there a cut, it would wait until it does without the output, and say so.
    bed.carry(60);
    assert_eq!(bed.told().cut_without, [""; 0]);
    assert_eq!(of_the_link(&bed.mirror).expect("it runs").cut_without, [""; 0]);
    transaction.abort().unwrap();
}
