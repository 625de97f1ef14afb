//! The applications' own proof, without Twinlog: what the group scenarios rely on holds.

use super::group_bed::positions;
use super::member::{Commits, Member, Membership, Protocol};
use super::processor::{Guarantee, Processor};
use super::*;
use crate::support::view::View;
use crate::support::{shared_source, until};

fn state(group: &str) -> String {
    shared_source().client().group_state(group).unwrap().unwrap_or_default()
}

#[test]
fn a_processor_has_written_what_it_has_committed_as_read() {
    let cluster = shared_source();
    for guarantee in [Guarantee::Transactional, Guarantee::AtLeastOnce] {
        let (input, output, group) = (unique("input"), unique("output"), unique("group"));
        for topic in [&input, &output] {
            cluster.client().create_topic(topic, 2, &[]).unwrap();
        }
        write(cluster.client(), &input, 0, orders(0..500), Codec::Lz4);
        write(cluster.client(), &input, 1, orders(500..700), Codec::Zstd);
        let processor = Processor::start(&cluster.bootstrap(), &group, (&input, &output), guarantee);
        until(SOON, "it has done its work", || processor.done() == 700);
        write(cluster.client(), &input, 1, orders(700..710), Codec::None);
        until(SOON, "it has done more work", || processor.done() == 710);
        assert_eq!(processor.stop(), 710);
        let all = [((input.clone(), 0), 500), ((input.clone(), 1), 210)].into();
        until(SOON, "the positions are final", || positions(cluster, &group) == all);
        for (partition, ids) in [(0, 0..500), (1, 500..710)] {
            let view = View::read(cluster.client(), &output, partition).unwrap();
            let written: Vec<u64> = view.seen().iter().filter_map(|seen| seen.id).collect();
            assert_eq!(written, ids.collect::<Vec<_>>(), "{guarantee:?}");
        }
    }
}

#[test]
fn a_static_member_keeps_its_place_until_its_session_ends_and_others_leave_at_once() {
    let (cluster, topic) = (shared_source(), unique("static"));
    cluster.client().create_topic(&topic, 1, &[]).unwrap();
    let bootstrap = cluster.bootstrap();
    for protocol in Protocol::ALL {
        for instance in [None, Some("one")] {
            let (group, topics, commits) = (unique("group"), &[topic.as_str()][..], Commits::Never);
            let membership = Membership { bootstrap: &bootstrap, group: &group, topics, protocol, commits, instance };
            let member = Member::join_as(membership);
            until(SOON, "it has its partition", || member.is_assigned() && state(&group) == "Stable");
            drop(member);
            let left = std::time::Instant::now();
            assert_eq!(state(&group) == "Empty", instance.is_none(), "{protocol:?}, {instance:?}");
            until(SOON, "the group is empty", || state(&group) == "Empty");
            println!("{protocol:?}, {instance:?}: empty after {:?}", left.elapsed());
        }
    }
}

#[test]
fn a_user_of_assign_commits_and_is_never_a_member() {
    let (cluster, topic, group) = (shared_source(), unique("assigned"), unique("group"));
    cluster.client().create_topic(&topic, 1, &[]).unwrap();
    write(cluster.client(), &topic, 0, orders(0..50), Codec::Lz4);
    cluster.client().commit_offsets(&group, &[(&topic, 0, 20)], "").unwrap();
    let user = Member::assign(&cluster.bootstrap(), &group, &[(&topic, 0)], Commits::WhenTold);
    until(SOON, "it has read what there is", || user.count() == 30);
    assert_eq!(user.ids(), (20..50).collect::<Vec<u64>>());
    user.commit();
    assert_eq!(state(&group), "Empty");
    assert_eq!(positions(cluster, &group), [((topic.clone(), 0), 50)].into());
}
