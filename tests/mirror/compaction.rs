//! P3 on compacted topics: holes at the source before copying, holes that the target makes itself, from an older source.

use super::answers::{Histories, attached};
use super::*;
use crate::support::view::View;
use crate::support::{ClusterSpec, shared_pair, shared_target, until};

/// The cleaner takes whatever it may as soon as it may.
const EAGER: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "200"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("delete.retention.ms", "0"),
    ("min.compaction.lag.ms", "0"),
];

/// It takes nothing.
const CALM: (&str, Option<&str>) = ("min.compaction.lag.ms", Some("86400000"));

/// Records of ten keys, written over and over: most of them fall to the cleaner.
fn overwrite(source: &Cluster, topic: &str, ids: std::ops::Range<u64>) {
    for first in ids.clone().step_by(30) {
        let keyed = |r: Record| Record { key: Some(format!("k{}", r.id().unwrap() % 10).into_bytes()), ..r };
        let records = orders(first..(first + 30).min(ids.end)).into_iter().map(keyed).collect();
        write(source.client(), topic, 0, records, Codec::Lz4);
    }
}

/// Waits for the cleaner of `cluster`: fewer than `most` records left. Segments are closed by later records, whose
/// timestamps (a second apart, of their ids) are what brokers go by; they continue from `id`.
fn until_cleaned(source: &Cluster, cluster: &Cluster, topic: &str, most: usize, id: &mut u64) {
    until(2 * SOON, &format!("fewer than {most} records are left"), || {
        let roll = Record { key: Some(b"roll".to_vec()), ..Record::order(*id, 50) };
        write(source.client(), topic, 0, vec![roll], Codec::None);
        *id += 1_000;
        std::thread::sleep(Duration::from_millis(300));
        View::read(cluster.client(), topic, 0).unwrap().seen().len() < most
    });
}

#[test]
fn a_compacted_topic_translates_exactly_also_after_the_target_has_compacted() {
    let (source, target) = shared_pair();
    translates_exactly(source, target);
}

#[test]
fn a_compacted_topic_of_an_older_source_translates_exactly() {
    let older = ClusterSpec { version: crate::support::cluster::OLDER, ..ClusterSpec::default() };
    let (source, target) = std::thread::scope(|both| {
        let target = both.spawn(shared_target);
        (Cluster::start(older), target.join().expect("the target boots"))
    });
    translates_exactly(&source, target);
}

fn translates_exactly(source: &Cluster, target: &Cluster) {
    let topic = unique("compacted");
    source.client().create_topic(&topic, 1, &EAGER).unwrap();
    overwrite(source, &topic, 0..600);
    let mut id = 10_000;
    until_cleaned(source, source, &topic, 300, &mut id);
    // From here on nothing is cleaned, until both sides have been read: what is removed later is known by its id.
    source.client().alter_topic(&topic, &[CALM]).unwrap();
    overwrite(source, &topic, 600..900);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    let count = |cluster: &Cluster| View::read(cluster.client(), &topic, 0).unwrap().seen().len();
    until(SOON, "the copy is complete", || {
        target.client().partitions(&topic) == Ok(1) && count(target) >= count(source)
    });
    let mut histories = Histories::read(source, target, &topic);
    let copied = histories.places().count();
    assert!(copied > 300, "{copied} records");
    histories.every_offset_is_exact(&mirror, &topic);

    source.client().alter_topic(&topic, &[("min.compaction.lag.ms", Some("0"))]).unwrap();
    until_cleaned(source, target, &topic, copied / 2, &mut id);
    println!("{copied} records copied, {} left on the target, {} at the source", count(target), count(source));
    let level = || mirror.metric("twinlog_lag_records") == Some(0.0);
    until(SOON, "the mirror is level", level);
    histories.advance(source, target);
    histories.every_offset_is_exact(&mirror, &topic);
    mirror.kill9();
    mirror.start_ready();
    attached(&mirror);
    histories.every_offset_is_exact(&mirror, &topic);
    assert!(mirror.stop(SOON).success());
    // Compaction goes on while nobody mirrors, at the source in what is not copied yet too.
    overwrite(source, &topic, 900..1_200);
    until_cleaned(source, source, &topic, 200, &mut id);
    mirror.start_ready();
    attached(&mirror);
    until(SOON, "the mirror is level", level);
    let mut both = Histories::read(source, target, &topic);
    until(SOON, "the last record is on the target", || {
        both.advance(source, target);
        both.last_is_the_same()
    });
    both.every_offset_is_exact(&mirror, &topic);
}

#[test]
fn a_tail_not_yet_in_the_map_is_matched_whichever_side_has_compacted_it() {
    let (source, target) = shared_pair();
    for cleaned in [&[target][..], &[source], &[source, target]] {
        let topic = unique("tail");
        source.client().create_topic(&topic, 1, &EAGER).unwrap();
        source.client().alter_topic(&topic, &[CALM]).unwrap();
        let setup = link(source, target, &[&topic], &[]);
        let rarely = format!("[links.{}.intervals]\nflush = \"5s\"", setup.link);
        let mirror = twinlog(setup.and(&rarely));
        mirror.start_ready();
        attached(&mirror);
        // Batches a second of record time apart: each becomes a segment of its own on both sides.
        for first in (0..60_000).step_by(2_000) {
            overwrite(source, &topic, first..first + 30);
        }
        let end = || target.client().bounds(&topic, 0).unwrap().1;
        until(SOON, "everything is on the target", || end() == 900);
        mirror.kill9();
        let mut both = Histories::read(source, target, &topic);
        let left = |cluster: &Cluster| View::read(cluster.client(), &topic, 0).unwrap().seen().len();
        for cluster in cleaned {
            cluster.client().alter_topic(&topic, &[("min.compaction.lag.ms", Some("0"))]).unwrap();
            until(2 * SOON, "the cleaner has been there", || left(cluster) < 100);
        }
        // Where a record was that the source has lost before it was in the map, nobody can know any more.
        if cleaned.iter().any(|cluster| std::ptr::eq(*cluster, source)) {
            both = Histories::read(source, target, &topic);
        }
        mirror.start_ready();
        attached(&mirror);
        write(source.client(), &topic, 0, orders(100_000..100_010), Codec::Lz4);
        until(SOON, "the last record is on the target", || {
            both.advance(source, target);
            both.last_is_the_same()
        });
        assert_eq!(end(), 910, "the tail was not sent again");
        let log = mirror.log_text();
        let taken = log.lines().rfind(|line| line.contains("took over the target's tail"));
        println!("{}", taken.expect("there was a tail: the kill came before the flush"));
        println!("{} records left on the target, {} at the source", left(target), left(source));
        both.every_offset_is_exact(&mirror, &topic);
    }
}
