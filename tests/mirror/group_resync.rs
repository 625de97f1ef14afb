//! `twinlog groups resync`: an operator hands a group back to the mirror, after a drill or a move that was called off, once
//! nobody works in it any more.

use std::process::Output;

use super::group_bed::{Bed, positions, resync, resynced};
use super::group_latch::{is_empty, joins, straggles};
use super::member::{Commits, Member, Membership, Protocol};
use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::{shared_pair, until};

#[track_caller]
fn is_refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(why), "{said}");
}

#[test]
fn resync_hands_a_group_back_when_nobody_is_in_it_and_a_dry_run_changes_nothing() {
    for protocol in Protocol::ALL {
        let bed = Bed::new(&[]);
        bed.carry(20);
        let member = joins(&bed, protocol, Commits::WhenTold);
        until(SOON, "it has read what there is", || member.count() == 80);
        member.commit();
        bed.is_told_to_be("taken over");
        is_refused(&resync(&bed.mirror, &bed.group, &[]), "member");
        member.leave();
        is_empty(&bed);
        straggles(&bed, "after a resync that was refused");
        resynced(&bed.mirror, &bed.group, &["--dry-run"]);
        straggles(&bed, "after a dry run");
        assert_eq!(bed.there(), Some(100));
        let output = resync(&bed.mirror, &bed.group, &["--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("an answer in JSON");
        bed.is_told_to_be("synced");
        bed.becomes_exact();
        assert_eq!(bed.there(), Some(40), "where the straggler stands");
        bed.carry(70);
        // Armed again for good, and to be taken over again.
        bed.mirror.kill9();
        bed.mirror.start_ready();
        bed.carry(30);
        let member = joins(&bed, protocol, Commits::Never);
        straggles(&bed, "taken over again");
        drop(member);
    }
}

#[test]
fn a_group_that_nobody_took_over_cannot_be_taken_back() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    for group in [&bed.group, "nobody"] {
        is_refused(&resync(&bed.mirror, group, &[]), &format!("group {group} is not taken over"));
    }
    bed.a_pass_later();
    assert_eq!((bed.told().verdict.as_str(), bed.there()), ("synced", Some(20)));
}

#[test]
fn after_a_drill_on_the_target_a_resync_makes_positions_right_again() {
    let (source, target) = shared_pair();
    for protocol in Protocol::ALL {
        let bed = Bed::new(&[]);
        let spec = LoadSpec { first_id: 1000, transaction_every: Some(5), ..LoadSpec::new(&bed.topic, 1) };
        let load = Load::start(addresses(source), spec);
        let worker = Member::join(&source.bootstrap(), &bed.group, &bed.topic, protocol, Commits::Always);
        until(SOON, "the group is carried over", || bed.there().is_some());
        // The drill: it works on the target beside the real one, which goes on at the source.
        let drill = joins(&bed, protocol, Commits::Always);
        bed.is_told_to_be("taken over");
        until(SOON, "the drill has read", || drill.count() >= 500);
        drill.leave();
        is_empty(&bed);
        let left = positions(target, &bed.group);
        bed.a_pass_later();
        assert_eq!(positions(target, &bed.group), left, "what the drill left is not touched");
        resynced(&bed.mirror, &bed.group, &[]);
        until(SOON, "positions move on", || positions(target, &bed.group) != left);
        worker.leave();
        load.stop();
        twins(source, target, &bed.topic).settle(SOON);
        bed.becomes_exact();
        bed.is_told_to_be("synced");
    }
}

#[test]
fn a_static_member_gone_without_a_word_is_a_member_until_its_session_ends() {
    for protocol in Protocol::ALL {
        let bed = Bed::new(&[]);
        bed.carry(20);
        let bootstrap = bed.target.bootstrap();
        let member = Member::join_as(Membership {
            bootstrap: &bootstrap,
            group: &bed.group,
            topics: &[&bed.topic],
            protocol,
            commits: Commits::Never,
            instance: Some("one-of-one"),
        });
        until(SOON, "the member has its partition", || member.is_assigned());
        bed.is_told_to_be("taken over");
        drop(member);
        is_refused(&resync(&bed.mirror, &bed.group, &[]), "member");
        bed.commit(60);
        let mut refused = 0;
        until(SOON, "its session is over and the group can be handed back", || {
            let output = resync(&bed.mirror, &bed.group, &[]);
            refused += usize::from(!output.status.success());
            output.status.success()
        });
        bed.becomes_exact();
        bed.is_told_to_be("synced");
        println!("{protocol:?}: refused {refused} times while the session lasted");
    }
}
