//! P3: every offset of a compacted and of a transactional topic, both ways.

use super::*;
use crate::support::oracle::next_records;
use crate::support::view::View;
use crate::support::{shared_pair, until};

/// Asks the daemon for every offset of a partition, both ways, and holds the answers against the record ids.
fn every_offset_is_exact(mirror: &Twinlog, source: &Cluster, target: &Cluster, topic: &str) {
    let original = View::read(source.client(), topic, 0).unwrap();
    let copy = View::read(target.client(), topic, 0).unwrap();
    let answer = |offset: i64, reverse: bool| -> i64 {
        let path = format!(
            "/v1/links/{}/translate?topic={topic}&partition=0&offset={offset}&reverse={reverse}",
            mirror.link()
        );
        let (code, body) = mirror.get(&path).expect("the daemon answers");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, body["answer"].as_str()), (200, Some("exact")), "{offset} reverse={reverse}: {body}");
        body["offset"].as_i64().unwrap()
    };
    for offset in original.seen().first().map_or(0, |s| s.offset)..=original.next() {
        let there = answer(offset, false);
        assert_eq!(
            next_records(original.seen(), copy.seen(), offset, there),
            (0, 0),
            "source offset {offset} → {there}"
        );
    }
    for offset in copy.seen().first().map_or(0, |s| s.offset)..=copy.next() {
        let there = answer(offset, true);
        assert_eq!(
            next_records(original.seen(), copy.seen(), there, offset),
            (0, 0),
            "target offset {offset} → {there}"
        );
    }
}

#[test]
fn a_transactional_topic_translates_exactly_also_after_a_restart() {
    let (source, target) = shared_pair();
    let topic = unique("translated");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    for turn in 0..10_u64 {
        let mut transaction = producer.begin();
        transaction.send(&topic, 0, &Batch::of(orders(turn * 10..turn * 10 + 3), Codec::Zstd)).unwrap();
        if turn % 4 == 1 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
    }
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    every_offset_is_exact(&mirror, source, target, &topic);
    mirror.kill9();
    mirror.start_ready();
    let settled = || mirror.get("/v1/links").is_some_and(|(_, body)| body.contains("\"replicating\""));
    until(SOON, "the partition is attached again", settled);
    every_offset_is_exact(&mirror, source, target, &topic);
}

#[test]
fn a_compacted_topic_translates_exactly() {
    let (source, target) = shared_pair();
    let topic = unique("compacted");
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "100"),
    ];
    source.client().create_topic(&topic, 1, &configs).unwrap();
    let full = 20 * 30;
    for turn in 0..20_u64 {
        // Ten keys, written over and over: most records fall to the cleaner.
        let records = orders(turn * 30..turn * 30 + 30).into_iter();
        let keyed = records.enumerate().map(|(i, r)| Record { key: Some(format!("k{}", i % 10).into_bytes()), ..r });
        write(source.client(), &topic, 0, keyed.collect(), Codec::Lz4);
        std::thread::sleep(Duration::from_millis(30));
    }
    until(SOON, "the cleaner has made holes", || {
        write(
            source.client(),
            &topic,
            0,
            vec![Record { key: Some(b"roll".to_vec()), ..Record::order(9_999, 50) }],
            Codec::None,
        );
        std::thread::sleep(Duration::from_millis(300));
        View::read(source.client(), &topic, 0).unwrap().seen().len() < full / 2
    });
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    let level = || mirror.metric("twinlog_lag_records") == Some(0.0);
    until(SOON, "the mirror is level", level);
    let (original, copy) =
        (View::read(source.client(), &topic, 0).unwrap(), View::read(target.client(), &topic, 0).unwrap());
    assert!(copy.seen().len() >= original.seen().len(), "{} of {}", copy.seen().len(), original.seen().len());
    every_offset_is_exact(&mirror, source, target, &topic);
}
