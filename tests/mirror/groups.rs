//! Consumer groups land on the first record they have not read.

use super::*;
use crate::support::oracle::standings;
use crate::support::{shared_pair, until};

/// Whether every position of a group is on the target and stands before the same record.
pub fn exact(source: &Cluster, target: &Cluster, group: &str) -> bool {
    let all = standings(source.client(), target.client(), group, str::to_owned).unwrap();
    !all.is_empty() && all.iter().all(|s| s.is_exact())
}

/// What Twinlog says of a group; empty while it has not seen it.
pub fn verdict(mirror: &Twinlog, group: &str) -> String {
    let Some((200, body)) = mirror.get(&format!("/v1/links/{}/groups", mirror.link())) else { return String::new() };
    let groups: serde_json::Value = serde_json::from_str(&body).unwrap();
    let found = groups.as_array().unwrap().iter().find(|g| g["group"] == group);
    found.map(|g| g["verdict"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// Group passes that the daemon has ended. Twice more than before means: whatever a pass would do, one has done since.
pub fn passes(mirror: &Twinlog) -> f64 {
    mirror.metric_of("twinlog_pass_seconds_count", "pass=\"groups\"").unwrap_or(0.0)
}

#[test]
fn a_group_stands_on_its_next_record_at_every_offset() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("positions"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    // Aborted transactions and markers make offsets differ between the sides.
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    for turn in 0..12_u64 {
        let mut transaction = producer.begin();
        for partition in 0..2 {
            transaction.send(&topic, partition, &Batch::of(orders(turn * 10..turn * 10 + 5), Codec::Lz4)).unwrap();
        }
        if turn % 3 == 0 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
    }
    mirror.start();
    twins(source, target, &topic).settle(SOON);
    let (_, end) = source.client().bounds(&topic, 0).unwrap();
    for offset in (0..=end).step_by(7).chain([end]) {
        source.client().commit_offsets(&group, &[(&topic, 0, offset), (&topic, 1, offset)], "where I am").unwrap();
        until(SOON, &format!("position {offset} of {end} is carried over"), || exact(source, target, &group));
    }
    let there = target.client().committed(&group).unwrap();
    assert!(there.values().all(|(_, metadata)| metadata == "where I am"), "{there:?}");
}

#[test]
fn a_position_on_an_empty_partition_is_carried_over() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("empty"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    source.client().commit_offsets(&group, &[(&topic, 0, 0)], "").unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start();
    until(SOON, "the position is on the target", || {
        target.client().committed(&group).unwrap().values().any(|(offset, _)| *offset == 0)
    });
}

#[test]
fn a_foreign_position_is_left_alone() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("moved"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..100), Codec::None);
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start();
    twins(source, target, &topic).settle(SOON);
    source.client().commit_offsets(&group, &[(&topic, 0, 50)], "").unwrap();
    until(SOON, "the position is carried over", || exact(source, target, &group));
    // The application has moved: it commits on the target, a straggler still at the source.
    target.client().commit_offsets(&group, &[(&topic, 0, 70)], "moved").unwrap();
    source.client().commit_offsets(&group, &[(&topic, 0, 60)], "").unwrap();
    until(SOON, "the group is named as taken over", || verdict(&mirror, &group) == "taken over");
    let there = target.client().committed(&group).unwrap();
    assert_eq!(there[&(topic, 0)].0, 70);
}
