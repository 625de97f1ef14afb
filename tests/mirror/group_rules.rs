//! One way only, chosen groups and topics only, and nothing but what can be known: what is written, and what never is.

use super::group_bed::a_pass_later;
use super::groups::{exact, passes, verdict};
use super::*;
use crate::support::{shared_pair, until};

/// A partition's verdict and target offset in `twinlog groups LINK --group GROUP --json`.
fn told(mirror: &Twinlog, group: &str, topic: &str) -> (String, Option<i64>) {
    let output = mirror.run(&["groups", mirror.link(), "--group", group, "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report in JSON");
    let partitions = report["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|p| p["source"].to_string().contains(topic));
    let found = found.unwrap_or_else(|| panic!("no partition of {topic} in {report}"));
    (found["verdict"].as_str().unwrap().to_owned(), found["target_offset"].as_i64())
}

#[test]
fn nothing_that_groups_do_on_the_target_travels_back() {
    let (source, target) = shared_pair();
    let (topic, carried, foreign) = (unique("one-way"), unique("carried"), unique("foreign"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..100), Codec::Lz4);
    let mirror = twinlog(link(source, target, &[&topic], &[&carried, &foreign]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    source.client().commit_offsets(&carried, &[(&topic, 0, 30)], "").unwrap();
    until(SOON, "the position is carried over", || exact(source, target, &carried));
    target.client().commit_offsets(&carried, &[(&topic, 0, 90)], "").unwrap();
    target.client().commit_offsets(&foreign, &[(&topic, 0, 90)], "").unwrap();
    a_pass_later(&mirror);
    assert_eq!(source.client().committed(&carried).unwrap()[&(topic.clone(), 0)].0, 30);
    assert!(source.client().committed(&foreign).unwrap().is_empty());
}

#[test]
fn only_chosen_groups_and_mirrored_topics_are_committed() {
    let (source, target) = shared_pair();
    let (topic, beside) = (unique("chosen"), unique("beside"));
    let (chosen, other) = (unique("chosen-group"), unique("other-group"));
    for name in [&topic, &beside] {
        source.client().create_topic(name, 1, &[]).unwrap();
        write(source.client(), name, 0, orders(0..50), Codec::None);
        for group in [&chosen, &other] {
            source.client().commit_offsets(group, &[(name, 0, 25)], "").unwrap();
        }
    }
    // It exists on the target too, so that only Twinlog's own choice keeps the position away.
    target.client().create_topic(&beside, 1, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&chosen]));
    mirror.start_ready();
    let there = || target.client().committed(&chosen).unwrap();
    until(SOON, "the mirrored topic's position is carried over", || there().contains_key(&(topic.clone(), 0)));
    a_pass_later(&mirror);
    assert_eq!(there().into_keys().collect::<Vec<_>>(), [(topic.clone(), 0)]);
    assert!(target.client().committed(&other).unwrap().is_empty());
    assert_eq!(verdict(&mirror, &other), "", "a group that was not chosen is not even listed");
    assert_eq!(told(&mirror, &chosen, &beside), ("not mirrored".into(), None));
}

#[test]
fn a_position_that_retention_has_passed_goes_on_at_the_first_record_left() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("retained"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..100), Codec::Lz4);
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    // Retention passes the source's position only: the copy still has what the group has not read.
    source.client().commit_offsets(&group, &[(&topic, 0, 20)], "").unwrap();
    source.client().delete_records(&topic, 0, 45).unwrap();
    until(SOON, "the position is carried over", || exact(source, target, &group));
    assert_eq!(target.client().committed(&group).unwrap()[&(topic.clone(), 0)].0, 20);
    // Then the target's as well.
    target.client().delete_records(&topic, 0, 45).unwrap();
    source.client().commit_offsets(&group, &[(&topic, 0, 30)], "").unwrap();
    a_pass_later(&mirror);
    assert!(exact(source, target, &group));
    assert_eq!(verdict(&mirror, &group), "synced");
}

#[test]
fn a_position_from_before_the_mirror_is_counted_and_not_invented() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("before"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    for partition in 0..2 {
        write(source.client(), &topic, partition, orders(0..100), Codec::Lz4);
    }
    source.client().delete_records(&topic, 0, 45).unwrap();
    source.client().commit_offsets(&group, &[(&topic, 0, 20), (&topic, 1, 20)], "").unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start_ready();
    let there = || target.client().committed(&group).unwrap();
    until(SOON, "the other partition is carried over", || there().contains_key(&(topic.clone(), 1)));
    a_pass_later(&mirror);
    assert!(!there().contains_key(&(topic.clone(), 0)), "{:?}", there());
    let one = mirror.run(&["groups", mirror.link(), "--group", &group]);
    let one = String::from_utf8_lossy(&one.stdout).into_owned();
    assert!(one.contains("before the mirror (25)"), "{one}");
    // The group comes into what is mirrored, and is carried over.
    source.client().commit_offsets(&group, &[(&topic, 0, 45)], "").unwrap();
    until(SOON, "both are carried over", || exact(source, target, &group));
    assert_eq!(there()[&(topic.clone(), 0)].0, 0);
}

#[test]
fn a_position_beyond_the_end_waits_until_the_mirror_has_come_there() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("beyond"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..50), Codec::None);
    source.client().commit_offsets(&group, &[(&topic, 0, 70)], "").unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    until(SOON, "the group waits", || verdict(&mirror, &group) == "waiting for the mirror");
    a_pass_later(&mirror);
    assert!(target.client().committed(&group).unwrap().is_empty());
    assert_eq!(told(&mirror, &group, &topic), ("waiting for the mirror".into(), None));
    let translated = mirror.run(&["translate", mirror.link(), &group]);
    let why = String::from_utf8_lossy(&translated.stderr).into_owned();
    assert_eq!(translated.status.code(), Some(4), "{why}");
    assert!(why.contains("1 of 1 positions have no exact offset"), "{why}");
    write(source.client(), &topic, 0, orders(50..100), Codec::None);
    until(SOON, "the position is carried over", || exact(source, target, &group));
    assert_eq!(target.client().committed(&group).unwrap()[&(topic.clone(), 0)].0, 70);
}

#[test]
fn ten_thousand_groups_are_carried_over() {
    let (source, target) = shared_pair();
    let (topic, stem, partitions) = (unique("many"), unique("crowd"), 10);
    source.client().create_topic(&topic, partitions, &[]).unwrap();
    for partition in 0..partitions {
        write(source.client(), &topic, partition, orders(0..100), Codec::Lz4);
    }
    let groups: Vec<String> = (0..rounds(200, 10_000)).map(|n| format!("{stem}-{n}")).collect();
    let commit_all = |offset: fn(usize) -> i64| {
        for (n, group) in groups.iter().enumerate() {
            let positions: Vec<_> = (0..partitions).map(|p| (topic.as_str(), p, offset(n) + i64::from(p))).collect();
            source.client().commit_offsets(group, &positions, "").unwrap();
        }
    };
    commit_all(|n| n as i64 % 40);
    let mirror = twinlog(link(source, target, &[&topic], &[&format!("{stem}-.*")]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    let seconds = || mirror.metric_of("twinlog_pass_seconds_sum", "pass=\"groups\"").unwrap_or(0.0);
    // Source and target offsets are the same here: records are dense from 0 on both sides.
    let all_there = |what: &str, offset: fn(usize) -> i64| {
        let mut waiting: Vec<usize> = (0..groups.len()).collect();
        until(4 * SOON, what, || {
            // Those that are there stay there: each look is at the rest.
            waiting.retain(|&n| {
                let committed = target.client().committed(&groups[n]).unwrap();
                let there = |p: i32| committed.get(&(topic.clone(), p)).map(|c| c.0) == Some(offset(n) + i64::from(p));
                !(0..partitions).all(there)
            });
            waiting.is_empty()
        });
    };
    all_there("every group is carried over", |n| n as i64 % 40);
    println!("{} groups × {partitions} partitions carried over first: {:.3} s in passes", groups.len(), seconds());
    commit_all(|n| 40 + n as i64 % 40);
    let committed = std::time::Instant::now();
    all_there("every group is carried over again", |n| 40 + n as i64 % 40);
    println!("the last of them was found {:?} after the last commit", committed.elapsed());
    assert!(groups.iter().step_by(groups.len() / 5).all(|group| exact(source, target, group)));
    let (before, count) = (seconds(), passes(&mirror));
    let (began, used) = (std::time::Instant::now(), mirror.usage().cpu);
    let idle = rounds(3, 30) as f64;
    until(2 * SOON, "some idle passes are over", || passes(&mirror) >= count + idle);
    let share = (mirror.usage().cpu - used).as_secs_f64() / began.elapsed().as_secs_f64();
    println!("an idle pass takes {:.1} ms", (seconds() - before) / (passes(&mirror) - count) * 1e3);
    println!("idle, this build needs {:.1} % of a core, everything included", share * 1e2);
}

#[test]
fn a_group_on_a_halted_partition_waits_and_is_not_called_synced() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("halted"), unique("group"));
    for cluster in [source, target] {
        cluster.client().create_topic(&topic, 1, &[]).unwrap();
        write(cluster.client(), &topic, 0, orders(0..50), Codec::None);
    }
    source.client().commit_offsets(&group, &[(&topic, 0, 20)], "").unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start();
    let report = || mirror.get("/v1/links").map(|(_, body)| body).unwrap_or_default();
    until(SOON, "the partition halts", || report().contains("TARGET_NOT_EMPTY"));
    a_pass_later(&mirror);
    assert_eq!(verdict(&mirror, &group), "waiting for the mirror");
    assert_eq!(told(&mirror, &group, &topic), ("waiting for the mirror".into(), None));
    assert!(target.client().committed(&group).unwrap().is_empty());
    let adopted = mirror.run(&["resolve", mirror.link(), &format!("{topic}/0"), "--adopt"]);
    assert!(adopted.status.success(), "{}", String::from_utf8_lossy(&adopted.stderr));
    until(SOON, "the position is carried over", || exact(source, target, &group));
}
