//! Targets of the ZooKeeper era (2.8.2): what they take as it is, what goes on record by record, and what they cannot store.

use super::*;
use crate::support::cluster::ZOOKEEPER_ERA;
use crate::support::oracle::{compare, standings};
use crate::support::view::View;
use crate::support::{ClusterSpec, shared_source, until};
use serde_json::Value;

const OLD_FORMAT: &str = "message.format.version";

fn target(properties: &[(&'static str, &str)]) -> Cluster {
    let spec = ClusterSpec { version: ZOOKEEPER_ERA, ..ClusterSpec::default() };
    Cluster::start(properties.iter().fold(spec, |spec, (key, value)| spec.with(key, value)))
}

fn without_headers(ids: std::ops::Range<u64>) -> Vec<Record> {
    orders(ids).into_iter().map(|order| Record { headers: Vec::new(), ..order }).collect()
}

/// A partition of the link, as status tells it.
fn told(mirror: &Twinlog, topic: &str, partition: i32) -> Option<Value> {
    let (code, body) = mirror.get(&format!("/v1/links/{}", mirror.link()))?;
    let link: Value = (code == 200).then(|| serde_json::from_str(&body).expect("a link in JSON"))?;
    let all = link["partitions"].as_array()?;
    let at = |told: &&Value| told["target"]["topic"] == topic && told["target"]["partition"] == partition;
    all.iter().find(at).cloned()
}

fn is_on(mirror: &Twinlog, topic: &str, partition: i32, plane: &str, why: &str) -> bool {
    told(mirror, topic, partition)
        .is_some_and(|told| told["plane"] == plane && told["plane_reason"].as_str().unwrap_or_default().contains(why))
}

fn halts(mirror: &Twinlog, topic: &str, why: &[&str]) {
    let halted = || told(mirror, topic, 0).filter(|told| told["state"] == "halted");
    until(SOON, &format!("{topic} halts"), || halted().is_some());
    let told = halted().expect("it stays halted");
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(why.iter().all(|why| detail.contains(why)), "{told}");
}

#[test]
fn a_target_of_the_zookeeper_era_takes_batches_and_its_old_formats_record_by_record() {
    let (source, target) = (shared_source(), target(&[]));
    let [plain, older, headers, oldest] = ["plain", "older", "headers", "oldest"].map(unique);
    for topic in [&plain, &older, &headers, &oldest] {
        source.client().create_topic(topic, if topic == &older { 5 } else { 1 }, &[]).unwrap();
    }
    for (topic, partitions, version) in [(&older, 5, "0.10.2"), (&headers, 1, "0.10.2"), (&oldest, 1, "0.9.0")] {
        target.client().create_topic(topic, partitions, &[(OLD_FORMAT, version)]).unwrap();
    }
    write(source.client(), &plain, 0, orders(0..1_000), Codec::Lz4);
    write(source.client(), &headers, 0, without_headers(0..3), Codec::Gzip);
    write(source.client(), &oldest, 0, without_headers(0..3), Codec::None);
    let old_batches = |from: u64| {
        for start in (from..from + 1_000).step_by(100) {
            for (partition, codec) in Codec::ALL.into_iter().enumerate() {
                write(source.client(), &older, partition as i32, without_headers(start..start + 100), codec);
            }
        }
    };
    old_batches(0);
    let group = unique("group");
    source.client().commit_offsets(&group, &[(&plain, 0, 500), (&older, 1, 300)], "").unwrap();
    let topics = [&plain, &older, &headers, &oldest].map(String::as_str);
    let mirror = twinlog(link(source, &target, &topics, &[&group]));
    mirror.start();
    let has_copied = |records: usize| View::read(target.client(), &older, 1).is_ok_and(|v| v.seen().len() >= records);
    until(SOON, "some of it is there", || has_copied(100));
    mirror.kill9();
    old_batches(1_000);
    mirror.start();
    until(SOON, "some of the rest is there", || has_copied(1_100));
    write(source.client(), &headers, 0, orders(3..5), Codec::Gzip);
    halts(&mirror, &headers, &["source offset 3", "has headers", OLD_FORMAT]);
    halts(&mirror, &oldest, &["neither times nor headers", OLD_FORMAT]);
    // Its neighbours go on.
    old_batches(2_000);
    for topic in [&plain, &older] {
        twins(source, &target, topic).settle(SOON);
    }
    assert!(is_on(&mirror, &plain, 0, "batches", ""), "{:?}", told(&mirror, &plain, 0));
    for partition in 0..5 {
        let is_told = is_on(&mirror, &older, partition, "records", "UNSUPPORTED_FOR_MESSAGE_FORMAT");
        assert!(is_told, "{:?}", told(&mirror, &older, partition));
    }
    let [original, copy] = [source.client(), target.client()].map(|of| View::read(of, &headers, 0).unwrap());
    assert!(compare(&original.seen()[..3], copy.seen()).is_none());
    assert!(View::read(target.client(), &oldest, 0).unwrap().seen().is_empty());
    until(SOON, "the group is carried over", || {
        let all = standings(source.client(), target.client(), &group, str::to_owned).unwrap();
        all.len() == 2 && all.iter().all(|s| s.is_exact())
    });
    let format = target.client().topic_configs(&older).unwrap()[OLD_FORMAT].clone();
    assert_eq!(format, (Some("0.10.2".to_owned()), 1), "left as it is");
    // The way out that the halts name; a start looks at once.
    assert!(mirror.stop(SOON).success());
    for topic in [&headers, &oldest] {
        target.client().alter_topic(topic, &[(OLD_FORMAT, Some("2.8"))]).unwrap();
    }
    mirror.start();
    for topic in [&headers, &oldest] {
        twins(source, &target, topic).settle(SOON);
    }
}

#[test]
fn zstd_arrives_where_the_brokers_protocol_is_older_and_a_ledger_in_an_old_format_is_named() {
    let source = shared_source();
    let target = target(&[("inter.broker.protocol.version", "2.0"), ("log.message.format.version", "2.0")]);
    let topic = unique("zstd");
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let batches = |from: u64| {
        for start in (from..from + 1_000).step_by(100) {
            write(source.client(), &topic, 0, orders(start..start + 100), Codec::Lz4);
            write(source.client(), &topic, 1, orders(start..start + 100), Codec::Zstd);
        }
    };
    batches(0);
    let mirror = twinlog(link(source, &target, &[&topic], &[]));
    mirror.start();
    twins(source, &target, &topic).settle(SOON);
    assert!(is_on(&mirror, &topic, 0, "batches", ""), "{:?}", told(&mirror, &topic, 0));
    let is_told = is_on(&mirror, &topic, 1, "records", "UNSUPPORTED_COMPRESSION_TYPE");
    assert!(is_told, "{:?}", told(&mirror, &topic, 1));
    // What is known after a restart is learned again.
    mirror.kill9();
    batches(1_000);
    mirror.start();
    twins(source, &target, &topic).settle(SOON);
    // A ledger in an old format is named before anything is copied.
    let other = twinlog(link(source, &target, &[&topic], &[]));
    for topic in ["control", "map"].map(|which| format!("__twinlog.{}.{which}", other.link())) {
        target.client().create_topic(&topic, 1, &[("cleanup.policy", "compact"), (OLD_FORMAT, "0.10.2")]).unwrap();
    }
    other.start();
    assert!(!other.wait(SOON).success());
    let why = format!("{OLD_FORMAT} is 0.10.2, a format without transactions");
    assert!(other.log_text().contains(&why), "{}", other.log_text());
}
