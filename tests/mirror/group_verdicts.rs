//! What is said of a group and done about it when its positions are not simply the next ones of the source: reset, deleted,
//! overtaken by retention, ahead of the mirror. And what travels beside a position.

use super::group_bed::{Bed, FIRST, of_the_link, positions};
use super::*;
use crate::support::{shared_pair, until};

/// A position that the source denies for so long is believed to be gone.
const GRACE: &str = "deletion_grace = \"1s\"";

#[test]
fn a_reset_at_the_source_is_carried_over_backwards_and_forwards() {
    let bed = Bed::new(&[]);
    for read in [80, 20, 0, 100, 50, 49] {
        bed.carry(read);
        bed.is_told_to_be("synced");
    }
    // Also when nobody was there to see it.
    bed.mirror.kill9();
    bed.commit(10);
    bed.mirror.start_ready();
    bed.becomes_exact();
    assert_eq!(bed.there(), Some(10));
    bed.is_told_to_be("synced");
}

#[test]
fn commits_are_followed_where_they_may_be_read() {
    let bed = Bed::new(&[]);
    bed.carry(20);
    let way = || of_the_link(&bed.mirror).map(|link| link.way).unwrap_or_default();
    until(SOON, &format!("commits are followed, way: {}", way()), || way() == "following __consumer_offsets");
}

#[test]
fn a_group_deleted_at_the_source_is_reported_and_its_positions_stay() {
    let bed = Bed::new(&[GRACE]);
    bed.carry(20);
    bed.source.client().delete_group(&bed.group).unwrap();
    bed.is_told_to_be("gone at the source");
    assert_eq!(bed.partition().source_offset, None);
    bed.a_pass_later();
    assert_eq!(bed.there(), Some(20));
    // Nor does the next one take it for somebody else's.
    assert!(bed.mirror.stop(SOON).success());
    bed.mirror.start_ready();
    bed.is_told_to_be("gone at the source");
    assert_eq!(bed.there(), Some(20));
    bed.carry(10);
    bed.is_told_to_be("synced");
}

#[test]
fn one_position_deleted_at_the_source_is_reported_and_stays() {
    let beside = unique("beside");
    let (source, _) = shared_pair();
    source.client().create_topic(&beside, 1, &[]).unwrap();
    let bed = Bed::beside(&[&beside], &[GRACE]);
    source.client().commit_offsets(&bed.group, &[(&beside, 0, 0)], "").unwrap();
    bed.carry(20);
    source.client().delete_offset(&bed.group, &bed.topic, 0).unwrap();
    until(SOON, "the position is told to be gone", || bed.partition().verdict == "gone at the source");
    bed.a_pass_later();
    assert_eq!(bed.there(), Some(20));
    assert_eq!(bed.told().partition(&beside, 0).verdict, "synced");
}

#[test]
fn deletions_are_carried_over_where_the_link_says_so() {
    let beside = unique("beside");
    let (source, target) = shared_pair();
    source.client().create_topic(&beside, 1, &[]).unwrap();
    let bed = Bed::beside(&[&beside], &[GRACE, "group_deletions = \"carry\""]);
    source.client().commit_offsets(&bed.group, &[(&beside, 0, 0)], "").unwrap();
    bed.carry(20);
    source.client().delete_offset(&bed.group, &bed.topic, 0).unwrap();
    until(SOON, "the position is gone on the target", || bed.there().is_none());
    assert_eq!(positions(target, &bed.group), [((beside.clone(), 0), 0)].into());
    source.client().delete_group(&bed.group).unwrap();
    until(SOON, "the group's last position is gone on the target", || positions(target, &bed.group).is_empty());
    bed.a_pass_later();
    bed.carry(30);
    bed.is_told_to_be("synced");
    // What an application has made its own is not deleted.
    target.client().commit_offsets(&bed.group, &[(&bed.topic, 0, 70)], "").unwrap();
    bed.commit(40);
    bed.is_told_to_be("taken over");
    source.client().delete_group(&bed.group).unwrap();
    until(SOON, "the source has it no more", || bed.source.client().group_state(&bed.group).unwrap().is_none());
    bed.a_pass_later();
    assert_eq!(bed.there(), Some(70));
}

#[test]
fn a_position_that_only_the_target_has_forgotten_is_clamped_up_and_the_loss_is_exact() {
    let bed = Bed::new(&[]);
    bed.carry(30);
    bed.target.client().delete_records(&bed.topic, 0, 60).unwrap();
    bed.commit(40);
    until(SOON, "the loss is counted", || bed.partition().verdict == "clamped up (20 lost)");
    bed.is_told_to_be("clamped up");
    assert_eq!(bed.told().lost_records, Some(20));
    until(SOON, "it stands at the first record that is left", || bed.there() == Some(60));
    // It reads on at the source, past what the target has lost.
    bed.carry(75);
    bed.is_told_to_be("synced");
    assert!(bed.told().lost_records.is_none_or(|lost| lost == 0), "{:?}", bed.told());
}

#[test]
fn a_commit_ahead_of_a_paused_mirror_is_counted_by_what_the_target_would_read_again() {
    let bed = Bed::new(&[]);
    bed.carry(70);
    let run = |verb: &str| assert!(bed.mirror.run(&[verb, bed.mirror.link()]).status.success(), "{verb}");
    run("pause");
    let paused = || bed.mirror.get("/v1/links").is_some_and(|(_, body)| body.contains("\"paused\""));
    until(SOON, "it is paused", paused);
    write(bed.source.client(), &bed.topic, 0, orders(100..150), Codec::Lz4);
    bed.commit(120);
    bed.is_told_to_be("waiting for the mirror");
    bed.a_pass_later();
    let told = bed.told();
    // 100 records are on the target, of which 70 are behind the group's position there.
    assert_eq!((bed.there(), told.re_read_records, told.skip_records), (Some(70), Some(30), Some(0)), "{told:?}");
    run("resume");
    bed.becomes_exact();
    assert_eq!(bed.there(), Some(120));
}

#[test]
fn metadata_is_carried_over_byte_for_byte_and_the_leader_epoch_is_not() {
    let bed = Bed::new(&[]);
    let at = (bed.topic.clone(), 0);
    // Kafka Streams keeps a version and its partition time in base64; others write what they like.
    for (read, metadata) in [(10, "AgAAAZ4Gr4Bf"), (20, "größer als π – 日本 ✓ 🦀"), (30, ""), (40, "\u{0}\n\"\\")]
    {
        let committed = [(bed.topic.as_str(), 0, FIRST + read)];
        bed.source.client().commit_offsets(&bed.group, &committed, metadata).unwrap();
        let there = || bed.target.client().committed(&bed.group).unwrap().get(&at).cloned();
        let expected = Some((read, metadata.to_owned()));
        until(SOON, &format!("{metadata:?} is carried over, there is {:?}", there()), || there() == expected);
    }
    // The same offset with other metadata is another position: Streams moves its time on with it.
    bed.source.client().commit_offsets(&bed.group, &[(&bed.topic, 0, FIRST + 40)], "later").unwrap();
    let there = || bed.target.client().committed(&bed.group).unwrap()[&at].clone();
    until(SOON, "changed metadata is carried over", || there() == (40, "later".to_owned()));
    // The source's leader epoch says nothing about the target's log.
    let read = [(bed.topic.as_str(), 0, FIRST + 100)];
    bed.source.client().commit_offsets_of_epoch(0, &bed.group, &read, "").unwrap();
    until(SOON, "the position is carried over", || bed.there() == Some(100));
    assert_eq!(bed.source.client().committed_epochs(&bed.group).unwrap()[&at], 0);
    assert_eq!(bed.target.client().committed_epochs(&bed.group).unwrap()[&at], -1);
}

#[test]
fn another_kind_of_group_under_the_same_name_on_the_target_is_a_conflict_and_left_alone() {
    for share in [true, false] {
        let bed = Bed::new(&[]);
        let there = bed.target.client();
        if share {
            let member = there.join_share_group(&bed.group, &[&bed.topic]).unwrap();
            there.leave_share_group(&bed.group, &member).unwrap();
        } else {
            // Brokers would take commits for an empty group of Connect workers.
            let member = there.join_group(&bed.group, "connect", &[]).unwrap();
            there.leave_group(&bed.group, &member).unwrap();
        }
        bed.commit(40);
        bed.is_told_to_be("type conflict");
        bed.a_pass_later();
        assert_eq!(bed.there(), None, "share: {share}");
        assert!(bed.told().detail.is_some_and(|why| why.contains("the target has a")));
    }
}

#[test]
fn share_groups_are_listed_with_where_they_start() {
    let bed = Bed::new(&[]);
    let (there, group) = (bed.source.client(), &bed.group);
    let member = there.join_share_group(group, &[&bed.topic]).unwrap();
    there.leave_share_group(group, &member).unwrap();
    there.set_share_start(group, &bed.topic, 0, 30).unwrap();
    bed.is_told_to_be("share group");
    let starts = || bed.told().partitions.iter().map(|p| p.source_offset).collect::<Vec<_>>();
    until(SOON, "its start is told", || starts() == [Some(30)]);
    assert!(positions(bed.target, group).is_empty());
}
