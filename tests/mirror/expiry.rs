//! Brokers forget who wrote what, by the time of the records: of old data they refuse nothing. The level says so, and
//! still nothing is doubled.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::{ClusterSpec, dice, shared_source, until};
use rand::Rng;

/// Levels of the link's partitions that replicate, as status tells them.
fn levels(mirror: &Twinlog) -> Vec<String> {
    let told = mirror.get(&format!("/v1/links/{}", mirror.link())).map(|(_, body)| body).unwrap_or_default();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_default();
    let all = told["partitions"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|partition| Some(partition["level"].as_str()?.to_owned())).collect()
}

#[test]
fn of_data_that_the_target_forgets_the_level_drops_and_cuts_and_deaths_double_nothing() {
    let (guarded, probing) = if on_records() { ("detect_only", "detect_only") } else { ("guarded", "probe_only") };
    let source = shared_source();
    // The load's records are an hour old: what their writer had is forgotten within a moment, and at each start.
    let spec = ClusterSpec { proxied: true, ..ClusterSpec::default() }.with("producer.id.expiration.ms", 600_000);
    let target = Cluster::start(spec.with("producer.id.expiration.check.interval.ms", 100));
    let (topic, mut dice) = (unique("forgotten"), dice());
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let mirror = twinlog(link(source, &target, &[&topic], &[]));
    mirror.start_ready();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_millis() as i64;
    let fresh = |id| Record { timestamp: now, ..Record::order(id, 200) };
    let write_fresh = |first: u64| {
        for partition in 0..2 {
            let first = first + 100 * partition as u64;
            write(source.client(), &topic, partition, (first..first + 20).map(fresh).collect(), Codec::Lz4);
        }
    };
    let is_told = |level: &str| until(SOON, level, || levels(&mirror) == [level, level]);
    // The first batch of a fresh log is one that nobody remembers yet.
    write_fresh(1 << 50);
    twins(source, &target, &topic).settle(SOON);
    write_fresh(1 << 51);
    is_told(guarded);

    let spec = LoadSpec { pause: Duration::from_millis(2), transaction_every: Some(20), ..LoadSpec::new(&topic, 2) };
    let load = Load::start(addresses(source), spec);
    is_told(probing);
    let copied = || mirror.metric("twinlog_records_total").unwrap_or(0.0);
    for turn in 0..rounds(9, 100) {
        let before = copied();
        until(SOON, "it copies", || copied() > before + 100.0);
        std::thread::sleep(Duration::from_millis(dice.random_range(0..200)));
        match turn % 9 {
            8 => target.only().restart(),
            2 | 5 => {
                mirror.kill9();
                mirror.start();
            }
            _ => {
                target.only().proxy().cut();
                target.only().proxy().mend();
            }
        }
    }
    is_told(probing);
    let written = load.stop();
    twins(source, &target, &topic).settle(2 * SOON);
    write_fresh(1 << 52);
    is_told(guarded);
    twins(source, &target, &topic).settle(SOON);
    println!("{} records of an hour ago: 0 lost, 0 doubled", written.records());
}
