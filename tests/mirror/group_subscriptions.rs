//! Groups that subscribe to more than they have committed: patterns, topics that grow, topics that are not mirrored.

use super::group_bed::{Bed, FIRST, fill, positions};
use super::groups::exact;
use super::member::{Commits, Member, Membership, Protocol};
use super::*;
use crate::support::{shared_pair, until};

/// Topics are looked at as often as they may be.
const ATTENTIVE: &str = "intervals = { topics = \"100ms\", groups = \"100ms\" }";

/// A topic with two partitions, of which a group that subscribes by a pattern has read one, for the other was empty; then
/// 30 records come into that one. Records begin at offset 10 there.
fn subscribed(protocol: Protocol, line: &str) -> (Twinlog, String, String) {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("pattern"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..50), Codec::Lz4);
    write(source.client(), &topic, 1, orders(100..110), Codec::Lz4);
    source.client().delete_records(&topic, 1, 10).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]).line(ATTENTIVE).line(line));
    mirror.start_ready();
    let member = Member::join_as(Membership {
        bootstrap: &source.bootstrap(),
        group: &group,
        topics: &[&format!("^{topic}.*")],
        protocol,
        commits: Commits::Always,
        instance: None,
    });
    until(SOON, "it has read what there is", || member.count() == 50);
    assert_eq!(member.leave(), (0..50).collect::<Vec<u64>>());
    assert_eq!(positions(source, &group), [((topic.clone(), 0), 50)].into(), "nothing read, nothing committed");
    write(source.client(), &topic, 1, orders(110..140), Codec::Lz4);
    twins(source, target, &topic).settle(SOON);
    until(SOON, "the position it has is carried over", || exact(source, target, &group));
    (mirror, topic, group)
}

#[test]
fn a_partition_of_a_pattern_that_was_never_committed_is_counted_as_a_risk() {
    let (_, target) = shared_pair();
    for protocol in Protocol::ALL {
        let (mirror, topic, group) = subscribed(protocol, "no_position = \"leave\"");
        let told = || super::group_bed::told(&mirror, &group).expect("the group is listed");
        until(SOON, "the records at risk are counted", || told().at_risk_records == Some(30));
        assert_eq!(told().verdict, "no position");
        assert_eq!(told().partition(&topic, 0).verdict, "synced");
        let partition = told().partition(&topic, 1);
        assert_eq!(partition.verdict, "no position (30 at risk)");
        assert_eq!((partition.source_offset, partition.target_offset), (None, None));
        assert_eq!(positions(target, &group), [((topic.clone(), 0), 50)].into());
    }
}

#[test]
fn a_topic_of_a_pattern_in_which_nothing_was_ever_committed_is_counted_as_a_risk() {
    let (source, target) = shared_pair();
    let (stem, group) = (unique("pattern"), unique("group"));
    let [read, unread] = ["read", "unread"].map(|which| format!("{stem}-{which}"));
    for topic in [&read, &unread] {
        source.client().create_topic(topic, 1, &[]).unwrap();
    }
    write(source.client(), &read, 0, orders(0..50), Codec::Lz4);
    let pattern = format!("^{stem}-.*");
    let member = Member::join_as(Membership {
        bootstrap: &source.bootstrap(),
        group: &group,
        topics: &[&pattern],
        protocol: Protocol::Consumer,
        commits: Commits::WhenTold,
        instance: None,
    });
    until(SOON, "it has read what there is", || member.count() == 50);
    member.commit();
    // Only its members know that the group reads the other topic too: Twinlog asks them while they are there.
    let mirror = twinlog(link(source, target, &[&format!("{stem}-.*")], &[&group]).line(ATTENTIVE));
    mirror.start_ready();
    let risk = || super::group_bed::told(&mirror, &group).and_then(|told| told.at_risk_records);
    until(SOON, "the group is carried over", || exact(source, target, &group));
    until(SOON, "nothing is at risk yet", || risk() == Some(0));
    write(source.client(), &unread, 0, orders(50..80), Codec::Lz4);
    until(SOON, "what was written there is at risk until it is committed", || risk() == Some(30));
    until(SOON, "it has read that as well", || member.count() == 80);
    member.commit();
    until(SOON, "nothing is at risk any more", || risk() == Some(0));
    member.leave();
}

#[test]
fn a_partition_that_was_never_committed_is_seeded_with_the_first_mirrored_record_where_the_link_says_so() {
    let (source, target) = shared_pair();
    let (mirror, topic, group) = subscribed(Protocol::Classic, "no_position = \"seed\"");
    let both = [((topic.clone(), 0), 50), ((topic.clone(), 1), 0)].into();
    until(SOON, "the first mirrored offset is the position", || positions(target, &group) == both);
    assert!(positions(source, &group).len() == 1, "nothing is written at the source");
    until(SOON, "the group is synced", || super::groups::verdict(&mirror, &group) == "synced");
    // What the seed gave is ours to move: the group's first commit there is carried over.
    source.client().commit_offsets(&group, &[(&topic, 1, 25)], "").unwrap();
    until(SOON, "both positions are exact", || exact(source, target, &group));
    assert_eq!(positions(target, &group)[&(topic.clone(), 1)], 15);
}

#[test]
fn a_group_that_is_behind_goes_on_exactly_when_its_topic_has_grown() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("grown"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    fill(source, &topic, 50);
    source.client().commit_offsets(&group, &[(&topic, 0, FIRST + 10)], "").unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]).line(ATTENTIVE));
    mirror.start_ready();
    until(SOON, "the position is carried over", || exact(source, target, &group));
    source.client().create_partitions(&topic, 3).unwrap();
    for partition in 1..3 {
        let first = partition as u64 * 100;
        write(source.client(), &topic, partition, orders(first..first + 20), Codec::Zstd);
    }
    source.client().commit_offsets(&group, &[(&topic, 1, 5)], "").unwrap();
    until(SOON, "the new partition's position is carried over", || {
        positions(target, &group).len() == 2 && exact(source, target, &group)
    });
    twins(source, target, &topic).settle(SOON);
    let third = || super::group_bed::told(&mirror, &group).expect("the group is listed").partition(&topic, 2).verdict;
    until(SOON, "the partition nobody has read is named", || third() == "no position (20 at risk)");
    // On the target it reads what it has not read, and nothing else.
    let member = Member::join(&target.bootstrap(), &group, &topic, Protocol::Classic, Commits::Never);
    until(SOON, "it has read the rest", || member.count() >= 75);
    let mut read = member.leave();
    read.sort_unstable();
    assert_eq!(read, (10..50).chain(105..120).chain(200..220).collect::<Vec<u64>>());
}

#[test]
fn a_group_on_mirrored_and_other_topics_is_synced_by_what_is_mirrored() {
    let other = unique("other");
    let (source, target) = shared_pair();
    source.client().create_topic(&other, 1, &[]).unwrap();
    write(source.client(), &other, 0, orders(0..50), Codec::None);
    let bed = Bed::new(&[]);
    source.client().commit_offsets(&bed.group, &[(&other, 0, 10), (&bed.topic, 0, FIRST + 20)], "").unwrap();
    until(SOON, "what is mirrored is carried over", || bed.there() == Some(20));
    bed.is_told_to_be("synced");
    let told = bed.told();
    let beside = told.partition(&other, 0);
    assert_eq!((beside.verdict.as_str(), beside.source_offset, beside.target_offset), ("not mirrored", Some(10), None));
    assert_eq!((told.re_read_records, told.skip_records), (Some(0), Some(0)), "{told:?}");
    assert_eq!(positions(target, &bed.group).len(), 1);
}
