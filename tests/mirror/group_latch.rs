//! Taken over: once an application works on the target, a straggler that still commits at the source never moves its group
//! there, in either direction, whatever is restarted.

use super::group_bed::Bed;
use super::member::{Commits, Member, Protocol};
use super::*;
use crate::support::until;

/// A straggler commits at the source, forwards and backwards: nothing moves on the target.
#[track_caller]
pub fn straggles(bed: &Bed<'_>, when: &str) {
    let there = bed.target.client().committed(&bed.group).unwrap();
    for read in [70, 10, 95, 40] {
        bed.commit(read);
        // Now at the latest it is noticed who works here.
        bed.is_told_to_be("taken over");
        bed.a_pass_later();
        assert_eq!(bed.target.client().committed(&bed.group).unwrap(), there, "a straggler at {read}, {when}");
        assert_eq!(bed.told().verdict, "taken over", "a straggler at {read}, {when}");
    }
}

pub fn joins(bed: &Bed<'_>, protocol: Protocol, commits: Commits) -> Member {
    let member = Member::join(&bed.target.bootstrap(), &bed.group, &bed.topic, protocol, commits);
    until(SOON, "the member has its partition", || member.is_assigned());
    member
}

/// Waits until the group has no member on the target.
#[track_caller]
pub fn is_empty(bed: &Bed<'_>) {
    let state = || bed.target.client().group_state(&bed.group).unwrap();
    until(SOON, "the group is empty", || state().as_deref() == Some("Empty"));
}

#[test]
fn a_group_that_has_joined_and_not_committed_is_never_moved_again() {
    for protocol in Protocol::ALL {
        let bed = Bed::new(&[]);
        bed.carry(20);
        let member = joins(&bed, protocol, Commits::Never);
        straggles(&bed, "while it is there");
        let told = bed.told();
        assert!(told.detail.as_ref().is_some_and(|why| why.contains("members")), "it says why: {told:?}");
        assert_eq!((told.re_read_records, told.skip_records), (None, None), "its own affair: {told:?}");
        assert_eq!(bed.partition().verdict, "taken over");
        drop(member);
        is_empty(&bed);
        straggles(&bed, "when it has left");
        assert_eq!(bed.there(), Some(20), "{protocol:?}");
    }
}

#[test]
fn a_rolling_restart_that_leaves_the_group_empty_for_a_moment_does_not_hand_it_back() {
    for protocol in Protocol::ALL {
        let bed = Bed::new(&[]);
        bed.carry(20);
        for turn in 0..rounds(2, 10) {
            let member = joins(&bed, protocol, Commits::WhenTold);
            bed.is_told_to_be("taken over");
            if turn == 0 {
                until(SOON, "it has read what there is", || member.count() == 80);
                member.commit();
            }
            drop(member);
            is_empty(&bed);
            straggles(&bed, &format!("between two members, {protocol:?}"));
        }
        assert_eq!(bed.there(), Some(100), "{protocol:?}");
    }
}

#[test]
fn a_group_without_members_that_committed_on_the_target_is_never_moved_again_across_restarts_of_twinlog() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    let user = Member::assign(&bed.target.bootstrap(), &bed.group, &[(&bed.topic, 0)], Commits::WhenTold);
    until(SOON, "it has read what there is", || user.count() == 80);
    assert_eq!(user.ids(), (20..100).collect::<Vec<u64>>());
    user.commit();
    straggles(&bed, "while it reads");
    drop(user);
    for turn in 0..rounds(2, 10) {
        if turn % 2 == 0 {
            bed.mirror.kill9()
        } else {
            assert!(bed.mirror.stop(SOON).success())
        }
        // Committed while nobody looks, and back: what the source says is then what Twinlog had written last.
        bed.commit([20, 90][turn / 2 % 2]);
        bed.mirror.start_ready();
        straggles(&bed, "after a restart of Twinlog");
    }
    assert_eq!(bed.there(), Some(100));
}

#[test]
fn a_group_taken_over_while_twinlog_was_away_is_noticed_by_the_next_one() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    bed.mirror.kill9();
    bed.target.client().commit_offsets(&bed.group, &[(&bed.topic, 0, 55)], "moved").unwrap();
    bed.commit(60);
    bed.mirror.start_ready();
    straggles(&bed, "after the takeover");
    assert_eq!(bed.there(), Some(55));
}

#[test]
fn a_position_set_on_the_target_is_noticed_although_nothing_moves_at_the_source() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    bed.target.client().commit_offsets(&bed.group, &[(&bed.topic, 0, 55)], "moved").unwrap();
    until(2 * SOON, "the group is taken over", || bed.told().verdict == "taken over");
    assert!(bed.told().detail.is_some_and(|why| why.contains("55")), "it says what was set");
    assert_eq!(bed.there(), Some(55));
}
