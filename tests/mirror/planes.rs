//! Both planes on the same route: they take over from each other, and each says what it cannot carry.

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::{dice, shared_pair, until};
use rand::Rng;
use serde_json::Value;

/// The link's only partition, as status tells it.
fn partition(mirror: &Twinlog) -> Option<Value> {
    let (code, body) = mirror.get(&format!("/v1/links/{}", mirror.link()))?;
    let link: Value = (code == 200).then(|| serde_json::from_str(&body).expect("a link in JSON"))?;
    link["partitions"].get(0).cloned()
}

#[test]
fn planes_take_over_from_each_other_under_load_and_under_kills() {
    let (source, target) = shared_pair();
    let (topic, mut dice) = (unique("planes"), dice());
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let spec = LoadSpec { pause: Duration::from_millis(2), transaction_every: Some(20), ..LoadSpec::new(&topic, 3) };
    let load = Load::start(addresses(source), spec);
    let setup = link(source, target, &[&topic], &[]);
    let planes = ["batches", "records"].map(|plane| twinlog(setup.clone().line(&format!("plane = {plane:?}"))));
    let levels = [["guarded", "probe_only"].as_slice(), &["detect_only"]];
    for turn in 0..rounds(6, 100) {
        let (mirror, levels) = (&planes[turn % 2], levels[turn % 2]);
        mirror.start();
        let copied = || mirror.metric("twinlog_records_total").unwrap_or(0.0);
        until(SOON, "records flow", || copied() > 0.0);
        let told = || partition(mirror).filter(|told| told["state"] == "replicating");
        until(SOON, "the level is the plane's", || {
            told().is_some_and(|told| levels.contains(&told["level"].as_str().unwrap_or_default()))
        });
        std::thread::sleep(Duration::from_millis(dice.random_range(0..500)));
        match turn % 3 {
            0 => assert!(mirror.stop(SOON).success()),
            _ => mirror.kill9(),
        }
    }
    let written = load.stop();
    planes[0].start();
    twins(source, target, &topic).settle(SOON);
    println!("{} records by two planes in turn: 0 lost, 0 doubled", written.records());
}

/// What nobody refuses on this plane must at least be seen: a process that wakes up sends what it had queued.
#[test]
fn frozen_on_the_records_plane_it_loses_nothing_and_what_lands_twice_is_counted() {
    let (source, target) = shared_pair();
    for _ in 0..rounds(1, 20) {
        let topic = unique("frozen");
        source.client().create_topic(&topic, 3, &[]).unwrap();
        let spec = LoadSpec { pause: Duration::from_millis(1), ..LoadSpec::new(&topic, 3) };
        let load = Load::start(addresses(source), spec);
        let setup = link(source, target, &[&topic], &[]).line("plane = \"records\"");
        let (first, second) = (twinlog(setup.clone()), twinlog(setup));
        let copied = |of: &Twinlog| of.metric("twinlog_records_total").unwrap_or(0.0);
        first.start_ready();
        until(SOON, "the first copies", || copied(&first) > 0.0);
        first.pause();
        second.start_ready();
        until(SOON, "the second copies", || copied(&second) > 0.0);
        first.resume();
        until(SOON, "the first learns that it is fenced", || first.log_text().contains("fenced"));
        let before = copied(&second);
        until(SOON, "the second goes on", || copied(&second) > before);
        load.stop();
        let mut both = twins(source, target, &topic);
        until(SOON, "all is there", || both.difference().unwrap().behind == 0);
        let found = twins(source, target, &topic).difference().unwrap();
        assert_eq!((found.missing, found.foreign, found.altered), (0, 0, 0), "{found}");
        let counted = second.metric("twinlog_duplicated_records_total").unwrap_or(0.0) as u64;
        println!("{} records landed twice, {counted} were counted", found.doubled);
        assert_eq!(found.doubled, counted, "{found}");
    }
}

#[test]
fn a_timestamp_of_0_is_counted_and_told_and_does_not_hinder_a_restart() {
    let (source, target) = shared_pair();
    let topic = unique("zero");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let at_zero = |id| Record { timestamp: 0, ..Record::order(id, 100) };
    let odd = vec![at_zero(0), Record { timestamp: -1, ..Record::order(1, 100) }, Record::order(2, 100), at_zero(3)];
    write(source.client(), &topic, 0, odd, Codec::Lz4);
    let mirror = twinlog(link(source, target, &[&topic], &[]).line("plane = \"records\""));
    mirror.start();
    let altered = || partition(&mirror).and_then(|told| told["altered_records"].as_u64());
    until(SOON, "both are counted", || altered() == Some(2));
    until(SOON, "so does the metric", || mirror.metric("twinlog_altered_timestamps_total") == Some(2.0));
    let status = mirror.run(&["status"]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("2 records have the timestamp 1 ms instead of 0"), "{text}");
    let view = || crate::support::view::View::read(target.client(), &topic, 0).unwrap();
    until(SOON, "all are there", || view().seen().len() == 4);
    // Its tail and anchors are held against the source's.
    mirror.kill9();
    write(source.client(), &topic, 0, vec![at_zero(4)], Codec::None);
    mirror.start();
    until(SOON, "the next is there", || view().seen().len() == 5);
    let difference = twins(source, target, &topic).difference().unwrap();
    assert_eq!((difference.missing, difference.doubled, difference.reordered), (0, 0, 0), "{difference}");
}

#[test]
fn a_header_name_that_is_not_utf_8_halts_by_name_on_records_and_travels_on_batches() {
    let (source, target) = shared_pair();
    let topic = unique("names");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let name = |name: &[u8]| vec![(name.to_vec(), Some(vec![1])), (name.to_vec(), None)];
    let named = |id, with: &[u8]| Record { headers: name(with), ..Record::order(id, 100) };
    write(source.client(), &topic, 0, vec![named(0, b""), named(1, "gr\u{fc}n".as_bytes())], Codec::Zstd);
    write(source.client(), &topic, 0, vec![named(2, &[0xff, 0xfe])], Codec::Zstd);
    let setup = link(source, target, &[&topic], &[]);
    let mirror = twinlog(setup.clone().line("plane = \"records\""));
    mirror.start();
    let halted = || partition(&mirror).is_some_and(|told| told["state"] == "halted");
    until(SOON, "the partition halts", halted);
    let told = partition(&mirror).unwrap();
    let detail = told["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("source offset 2") && detail.contains("not UTF-8"), "{told}");
    assert!(mirror.stop(SOON).success());
    let mirror = twinlog(setup);
    mirror.start();
    twins(source, target, &topic).settle(SOON);
}
