//! Where copying begins, and that a beginning once chosen is kept whatever happens.

use std::collections::BTreeMap;

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::oracle::compare;
use crate::support::raw::Failure;
use crate::support::view::{View, read_on};
use crate::support::{shared_pair, until};

/// What a ledger topic holds: keys as text, the last value of each. What was not committed when its writer was killed will
/// be aborted, and was never held.
fn ledger(target: &Cluster, link: &str, topic: &str) -> BTreeMap<String, Vec<u8>> {
    let (topic, mut all) = (format!("__twinlog.{link}.{topic}"), BTreeMap::new());
    let read = read_on(target.client(), &topic, 0, &mut 0, |stored| {
        let key = stored.record.key.expect("a compacted topic");
        all.insert(String::from_utf8(key).expect("keys are text"), stored.record.value.unwrap_or_default());
    });
    // Refused: it is not there yet.
    assert!(matches!(read, Ok(()) | Err(Failure::Refused(..))), "{topic}: {read:?}");
    all
}

/// The start that a link has chosen for each partition of a topic, from the ledger's birth records.
fn chosen(target: &Cluster, link: &str, topic: &str) -> BTreeMap<i32, i64> {
    let births = ledger(target, link, "control").into_iter().filter_map(|(key, value)| {
        let partition = key.strip_prefix("born/")?.strip_prefix(topic)?.strip_prefix('/')?.parse().ok()?;
        let born: serde_json::Value = serde_json::from_slice(&value).expect("control values are JSON");
        Some((partition, born["first_source"].as_i64().expect("a birth says where it begins")))
    });
    births.collect()
}

/// Whether a link has made the map of any partition of a topic durable.
fn has_flushed(target: &Cluster, link: &str, topic: &str) -> bool {
    ledger(target, link, "map").keys().any(|key| key.starts_with(&format!("{topic}/")))
}

fn view(cluster: &Cluster, topic: &str, partition: i32, from: i64) -> View {
    let mut view = View::new(topic, partition, from);
    view.advance(cluster.client()).expect("the partition can be read");
    view
}

#[test]
fn from_latest_only_later_records_are_copied_and_earlier_offsets_are_before_the_mirror() {
    let (source, target) = shared_pair();
    let topic = unique("from-latest");
    source.client().create_topic(&topic, 2, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..50), Codec::Lz4);
    let mirror = twinlog(link(source, target, &[&topic], &[]).line("start = \"latest\""));
    mirror.start_ready();
    until(SOON, "both partitions have a start", || chosen(target, mirror.link(), &topic).len() == 2);
    assert_eq!(chosen(target, mirror.link(), &topic), BTreeMap::from([(0, 50), (1, 0)]));
    for partition in 0..2 {
        write(source.client(), &topic, partition, orders(50..80), Codec::Zstd);
    }
    for partition in 0..2 {
        let ids = || view(target, &topic, partition, 0).seen().iter().filter_map(|s| s.id).collect::<Vec<_>>();
        until(SOON, "what came later is copied", || ids().len() >= 30);
        assert_eq!(ids(), (50..80).collect::<Vec<_>>());
    }
    let path = format!("/v1/links/{}/translate?topic={topic}&partition=0&offset=49&reverse=false", mirror.link());
    let (_, answer) = mirror.get(&path).expect("the daemon answers");
    assert!(answer.contains("before_the_mirror") && answer.contains("50"), "{answer}");
}

#[test]
fn from_a_time_records_before_it_are_not_copied() {
    let (source, target) = shared_pair();
    let topic = unique("from-time");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let records = orders(0..60);
    // Orders are dated by their ids: each is a millisecond younger than the one before it.
    let time = records[40].timestamp;
    for part in records.chunks(7) {
        write(source.client(), &topic, 0, part.to_vec(), Codec::Lz4);
    }
    let mirror = twinlog(link(source, target, &[&topic], &[]).line(&format!("start = {time}")));
    mirror.start_ready();
    let ids = || view(target, &topic, 0, 0).seen().iter().filter_map(|s| s.id).collect::<Vec<_>>();
    until(SOON, "the topic is copied", || target.client().partitions(&topic) == Ok(1) && ids().last() == Some(&59));
    assert_eq!(ids(), (40..60).collect::<Vec<_>>());
}

/// The birth of a route is durable before its first record is sent: a crash before the first map flush must neither skip
/// to a new "latest" nor copy again what the target already holds.
#[test]
fn killed_before_its_first_map_flush_it_goes_on_from_the_start_it_had_chosen() {
    const PARTITIONS: i32 = 3;
    let (source, target) = shared_pair();
    let wanted = rounds(4, 40);
    let (mut with_records, mut without) = (0, 0);
    for turn in 0.. {
        if with_records >= wanted {
            break;
        }
        assert!(turn < 4 * wanted, "the map is flushed before almost every kill");
        let topic = unique("first-flush");
        source.client().create_topic(&topic, PARTITIONS, &[]).unwrap();
        write(source.client(), &topic, 0, orders(1 << 40..(1 << 40) + 20), Codec::Lz4);
        let spec = LoadSpec {
            pause: Duration::from_millis(1),
            transaction_every: Some(10),
            ..LoadSpec::new(&topic, PARTITIONS)
        };
        let load = Load::start(addresses(source), spec);
        until(SOON, "the load writes", || load.acknowledged() > 100);
        // As rarely as may be: most kills fall before the first flush.
        let setup = link(source, target, &[&topic], &[]);
        let mirror = twinlog(setup.line("start = \"latest\"").line("intervals = { flush = \"5s\" }"));
        mirror.start();
        let link = mirror.link();
        let sent = || (0..PARTITIONS).all(|p| target.client().bounds(&topic, p).is_ok_and(|(_, end)| end > 0));
        if turn % 2 == 0 {
            until(SOON, "records of each partition are on the target", sent);
        } else {
            until(SOON, "each partition has a start", || chosen(target, link, &topic).len() == PARTITIONS as usize);
        }
        mirror.kill9();
        let before = chosen(target, link, &topic);
        if !has_flushed(target, link, &topic) {
            if sent() { with_records += 1 } else { without += 1 }
        }
        // Long enough for "latest" to be elsewhere.
        let then = load.acknowledged();
        until(SOON, "the load writes on", || load.acknowledged() > then + 200);
        mirror.start_ready();
        load.stop();
        for partition in 0..PARTITIONS {
            let first = before[&partition];
            assert!(partition != 0 || first > 20, "what was there before the link is not copied");
            until(SOON, &format!("{topic}/{partition} is level"), || {
                // The target first: the last transaction of the load may still be on its way to its end.
                let copy = view(target, &topic, partition, 0);
                let difference = compare(view(source, &topic, partition, first).seen(), copy.seen());
                assert!(difference.is_prefix(), "turn {turn}, {topic}/{partition} from {first} on: {difference}");
                difference.is_none()
            });
        }
        assert_eq!(chosen(target, link, &topic), before, "a start once chosen stays");
        assert!(mirror.stop(SOON).success());
    }
    println!("{with_records} kills with records on the target and {without} with none, all before the first map flush");
}
