//! Positions under fire: Twinlog dies at each point between intending a commit and knowing that it is done, coordinators die
//! and move, transactions stay open. No false takeover, nothing goes back, and in the end everything is exact.

use std::sync::Mutex;

use super::group_bed::{Bed, positions};
use super::group_restarts::while_a_group_moves;
use super::groups::exact;
use super::*;
use crate::support::hold::{END_TXN, OFFSET_COMMIT};
use crate::support::proxy::Proxy;
use crate::support::raw::Election;
use crate::support::{Cluster, ClusterSpec, shared_source, until};

/// Where the killed one was with a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Point {
    /// The intent is in the ledger, the commit never left.
    Intended,
    /// The commit was sent, and reaches the broker when its sender is dead.
    Sent,
    /// The broker has it, and has not been heard.
    Committed,
    /// The broker has been heard, and it is not in the ledger yet.
    Answered,
    /// It is in the ledger.
    Confirmed,
}

impl Point {
    const ALL: [Point; 5] = [Point::Intended, Point::Sent, Point::Committed, Point::Answered, Point::Confirmed];
}

/// Kills Twinlog at a point of the commit for which a group is made to move to `read`.
fn killed_at(point: Point, bed: &Bed<'_>, proxy: &Proxy, read: i64, metadata: &str) {
    let moves = || {
        let at = (bed.topic.as_str(), 0, super::group_bed::FIRST + read);
        bed.source.client().commit_offsets(&bed.group, &[at], metadata).unwrap();
    };
    match point {
        Point::Intended | Point::Sent => {
            let commits = proxy.hold_requests(OFFSET_COMMIT);
            moves();
            until(SOON, "the commit is held", || commits.count() > 0);
            bed.mirror.kill9();
            if point == Point::Sent { commits.release() } else { commits.lose() }
        }
        Point::Committed => {
            let answers = proxy.hold_responses(OFFSET_COMMIT);
            moves();
            until(SOON, "the answer to the commit is held", || answers.count() > 0);
            bed.mirror.kill9();
            answers.lose();
        }
        Point::Answered => {
            let answers = proxy.hold_responses(OFFSET_COMMIT);
            moves();
            until(SOON, "the answer to the commit is held", || answers.count() > 0);
            // No append of the ledger is committed from now on, that of the confirmation neither.
            let appends = proxy.hold_requests(END_TXN);
            answers.release();
            until(SOON, "an append of the ledger is held", || appends.count() > 0);
            bed.mirror.kill9();
            appends.lose();
        }
        Point::Confirmed => {
            moves();
            until(SOON, "it is told to be on the target", || bed.partition().target_offset == Some(read));
            bed.mirror.kill9();
        }
    }
    if point == Point::Intended {
        assert_ne!(bed.there(), Some(read), "it never left");
    } else {
        until(SOON, &format!("the target has the position, {point:?}"), || bed.there() == Some(read));
    }
}

#[test]
fn killed_at_each_point_of_a_commit_it_takes_nobody_for_a_stranger_and_ends_exact() {
    let source = shared_source();
    let target = Cluster::start(ClusterSpec { proxied: true, ..ClusterSpec::default() });
    let bed = Bed::between((source, &target), &[], |setup| setup);
    let (proxy, at) = (target.only().proxy(), (bed.topic.clone(), 0));
    let mut read = 0;
    bed.carry(read);
    bed.is_confirmed(read);
    for round in 0..rounds(1, 10) as i64 {
        for point in Point::ALL {
            read = (read + 7 + round) % 60;
            let metadata = format!("partition time of {read}, größer als π");
            killed_at(point, &bed, proxy, read, &metadata);
            // Each second time the group has moved on before anybody looks: forwards, and back to where it was.
            if round % 2 == 1 {
                read += [3, -3][(round / 2 % 2) as usize];
                let moved = [(bed.topic.as_str(), 0, super::group_bed::FIRST + read)];
                source.client().commit_offsets(&bed.group, &moved, &metadata).unwrap();
            }
            bed.mirror.start_ready();
            let there = || bed.target.client().committed(&bed.group).unwrap();
            until(SOON, &format!("the group is exact after a kill, {point:?}"), || {
                let told = super::group_bed::told(&bed.mirror, &bed.group);
                assert!(told.is_none_or(|told| told.verdict != "taken over"), "killed when {point:?}");
                exact(source, &target, &bed.group)
            });
            assert_eq!(there()[&at], (read, metadata), "killed when {point:?}");
            bed.is_confirmed(read);
        }
    }
    bed.carry(100);
    assert!(bed.mirror.stop(SOON).success());
}

#[test]
fn the_targets_coordinator_dies_and_moves_while_positions_move() {
    let source = shared_source();
    let target = Cluster::start(ClusterSpec::three());
    let (topic, group) = (unique("coordinated"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let records = rounds(3_000, 30_000) as u64;
    for partition in 0..2 {
        for first in (0..records).step_by(500) {
            write(source.client(), &topic, partition, orders(first..first + 500), Codec::Lz4);
        }
    }
    let mirror = twinlog(link(source, &target, &[&topic], &[&group]).line("intervals = { groups = \"100ms\" }"));
    mirror.start_ready();
    twins(source, &target, &topic).settle(2 * SOON);
    let furthest = Mutex::new(0);
    let moves = || {
        let before = positions(&target, &group);
        until(2 * SOON, "positions move", || positions(&target, &group) != before);
    };
    let client = target.client();
    let changes = while_a_group_moves(source, &target, (&topic, &group), &furthest, || {
        for round in 0..rounds(2, 20) {
            moves();
            let coordinator = client.coordinator(&group).unwrap();
            target.broker(coordinator).kill9();
            moves();
            target.broker(coordinator).restart();
            // Moved in good order: each partition of the offsets topic gets another leader.
            let replicas: Vec<i32> = (0..3).map(|r| (r + round as i32) % 3 + 1).collect();
            for partition in 0..client.partitions("__consumer_offsets").unwrap() {
                client.again(|| client.reassign("__consumer_offsets", partition, &replicas)).unwrap();
                client.again(|| client.elect("__consumer_offsets", partition, Election::Preferred)).unwrap();
            }
            moves();
        }
    });
    println!("positions seen to change {changes} times, never back");
    until(SOON, "the last position is exact", || exact(source, &target, &group));
    until(SOON, "the group is synced", || super::groups::verdict(&mirror, &group) == "synced");
    mirror.assert_running();
}

#[test]
fn a_position_that_is_pending_in_a_transaction_is_never_published() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    let id = unique("pending");
    let mut read = 20;
    for turn in 0..rounds(4, 40) as i64 {
        let next = 30 + 5 * (turn % 12);
        // Begun anew: after the end of a transaction its markers may still be on their way.
        let mut producer = bed.source.client().producer(Some(&id)).unwrap();
        let mut transaction = producer.begin();
        let at = [(bed.topic.as_str(), 0, super::group_bed::FIRST + next)];
        transaction.commit_offsets(&bed.group, &at, "in a transaction").unwrap();
        until(SOON, "the position is told to be pending", || bed.partition().verdict == "pending in a transaction");
        bed.a_pass_later();
        assert_eq!(bed.there(), Some(read), "pending at {next}");
        if turn % 2 == 0 {
            transaction.abort().unwrap();
        } else {
            transaction.commit().unwrap();
            read = next;
        }
        bed.is_told_to_be("synced");
        until(SOON, "what stands at the source stands on the target", || bed.there() == Some(read));
        bed.becomes_exact();
    }
}
