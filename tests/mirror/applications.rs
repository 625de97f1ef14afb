//! Real consumers, classic and KIP-848: they read at the source, move to the target, and go on at the next record.

use std::collections::BTreeSet;
use std::time::Instant;

use super::groups::{exact, passes, verdict};
use super::member::{Commits, Member, Protocol};
use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::oracle::standings;
use crate::support::{shared_pair, until};

#[test]
fn a_classic_group_goes_on_at_the_next_record() {
    goes_on_at_the_next_record(Protocol::Classic);
}

#[test]
fn a_kip_848_group_goes_on_at_the_next_record() {
    goes_on_at_the_next_record(Protocol::Consumer);
}

/// Works at the source while records flow, leaves, and starts again on the target.
fn goes_on_at_the_next_record(protocol: Protocol) {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("moving"), unique("group"));
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start_ready();
    let spec = LoadSpec { transaction_every: Some(4), pause: Duration::from_millis(3), ..LoadSpec::new(&topic, 3) };
    let load = Load::start(addresses(source), spec);
    let member = Member::join(&source.bootstrap(), &group, &topic, protocol, Commits::Always);
    let enough = rounds(1_000, 50_000);
    until(4 * SOON, "the group has read a good part", || member.count() >= enough);
    let before = member.leave();
    let moved = Instant::now();
    let written = load.stop();
    twins(source, target, &topic).settle(SOON);
    until(SOON, "the position is carried over", || exact(source, target, &group));
    println!("{protocol:?}: exact {:?} after the last commit, the copying of the rest included", moved.elapsed());

    let member = Member::join(&target.bootstrap(), &group, &topic, protocol, Commits::Always);
    let rest = written.records() as usize - before.len();
    until(SOON, "the group has read the rest", || member.count() >= rest);
    let after = member.leave();
    let acknowledged: BTreeSet<u64> = written.acknowledged.values().flatten().copied().collect();
    let read: BTreeSet<u64> = before.iter().chain(&after).copied().collect();
    let lost = acknowledged.difference(&read).count();
    let reread = before.len() + after.len() - read.len();
    println!("{protocol:?}: {} read at the source, {} on the target, re-read {reread}", before.len(), after.len());
    assert_eq!((lost, reread), (0, 0), "of {} records", acknowledged.len());
    assert_eq!(read, acknowledged, "records nobody was told of");
}

#[test]
fn what_a_group_had_read_but_not_committed_is_read_again_and_nothing_else() {
    let (source, target) = shared_pair();
    for protocol in Protocol::ALL {
        let (topic, group) = (unique("uncommitted"), unique("group"));
        source.client().create_topic(&topic, 1, &[]).unwrap();
        let mirror = twinlog(link(source, target, &[&topic], &[&group]));
        mirror.start_ready();
        write(source.client(), &topic, 0, orders(0..100), Codec::Lz4);
        let member = Member::join(&source.bootstrap(), &group, &topic, protocol, Commits::WhenTold);
        until(SOON, "it has read what there is", || member.count() == 100);
        member.commit();
        write(source.client(), &topic, 0, orders(100..130), Codec::Lz4);
        until(SOON, "it has read more", || member.count() == 130);
        member.leave();
        twins(source, target, &topic).settle(SOON);
        until(SOON, "the commit is carried over", || exact(source, target, &group));
        let member = Member::join(&target.bootstrap(), &group, &topic, protocol, Commits::Never);
        until(SOON, "it has read the rest", || member.count() >= 30);
        assert_eq!(member.leave(), (100..130).collect::<Vec<u64>>(), "{protocol:?}");
    }
}

#[test]
fn a_members_commit_shows_on_the_target_within_two_seconds() {
    let (source, target) = shared_pair();
    for protocol in Protocol::ALL {
        let (topic, group) = (unique("prompt"), unique("group"));
        source.client().create_topic(&topic, 2, &[]).unwrap();
        let mirror = twinlog(link(source, target, &[&topic], &[&group]));
        mirror.start_ready();
        let member = Member::join(&source.bootstrap(), &group, &topic, protocol, Commits::WhenTold);
        let mut took = Vec::new();
        for turn in 0..rounds(5, 100) as u64 {
            for partition in 0..2 {
                let first = turn * 20 + partition as u64 * 10;
                write(source.client(), &topic, partition, orders(first..first + 10), Codec::Zstd);
            }
            until(SOON, "it has read what there is", || member.count() as u64 == (turn + 1) * 20);
            member.commit();
            let committed = Instant::now();
            until(SOON, "the commit is carried over", || exact(source, target, &group));
            took.push(committed.elapsed());
        }
        took.sort();
        let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{protocol:?}: from commit to target {median:?} (median), {worst:?} (worst of {})", took.len());
        assert!(median < Duration::from_secs(2) && worst < Duration::from_secs(10), "{took:?}");
    }
}

#[test]
fn a_group_with_members_on_the_target_is_left_alone_and_named() {
    let (source, target) = shared_pair();
    for protocol in Protocol::ALL {
        let (topic, group) = (unique("busy"), unique("group"));
        source.client().create_topic(&topic, 1, &[]).unwrap();
        write(source.client(), &topic, 0, orders(0..100), Codec::None);
        source.client().commit_offsets(&group, &[(&topic, 0, 20)], "").unwrap();
        let mirror = twinlog(link(source, target, &[&topic], &[&group]));
        mirror.start_ready();
        until(SOON, "the position is carried over", || exact(source, target, &group));
        // It commits nothing: only its being there keeps Twinlog away.
        let member = Member::join(&target.bootstrap(), &group, &topic, protocol, Commits::Never);
        until(SOON, "the member has its partition", || member.is_assigned());
        source.client().commit_offsets(&group, &[(&topic, 0, 60)], "").unwrap();
        until(SOON, "the group is named as taken over", || verdict(&mirror, &group) == "taken over");
        let seen = passes(&mirror);
        until(SOON, "two more passes are over", || passes(&mirror) >= seen + 2.0);
        assert_eq!(target.client().committed(&group).unwrap()[&(topic.clone(), 0)].0, 20, "{protocol:?}");
        let listed = mirror.run(&["groups", mirror.link()]);
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let line = listed.lines().find(|line| line.starts_with(&group)).unwrap_or_else(|| panic!("{listed}"));
        assert!(line.contains("taken over"), "{line}");
        assert_eq!(member.leave(), (20..100).collect::<Vec<u64>>(), "{protocol:?}");
        // It has left no position of its own.
        let all = standings(source.client(), target.client(), &group, str::to_owned).unwrap();
        assert!(all.iter().all(|s| s.present && s.skipped == 0), "{all:?}");
    }
}
