//! P3: what Twinlog translates, every offset and both ways, is held against the ids of the records.

use super::answers::{Histories, attached, exactly, mapped_to, refused, translated};
use super::groups::verdict;
use super::*;
use crate::support::view::View;
use crate::support::{shared_pair, until};

#[test]
fn a_transactional_topic_translates_exactly_also_after_a_restart() {
    let (source, target) = shared_pair();
    let topic = unique("translated");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    for turn in 0..10_u64 {
        let mut transaction = producer.begin();
        transaction.send(&topic, 0, &Batch::of(orders(turn * 10..turn * 10 + 3), Codec::Zstd)).unwrap();
        if turn % 4 == 1 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
    }
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    let histories = Histories::read(source, target, &topic);
    histories.every_offset_is_exact(&mirror, &topic);
    mirror.kill9();
    mirror.start_ready();
    attached(&mirror);
    histories.every_offset_is_exact(&mirror, &topic);
}

#[test]
fn a_link_from_the_latest_killed_before_its_first_flush_skips_nothing() {
    let (source, target) = shared_pair();
    let topic = unique("latest");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    write(source.client(), &topic, 0, orders(0..100), Codec::Lz4);
    let setup = link(source, target, &[&topic], &[]).line("start = \"latest\"");
    let rarely = format!("[links.{}.intervals]\nflush = \"5s\"", setup.link);
    let mirror = twinlog(setup.and(&rarely));
    mirror.start_ready();
    attached(&mirror);
    let (unflushed, mut next) = (|| mirror.metric("twinlog_map_unflushed_records"), 100);
    until(SOON, "records are on the target but not in the durable map", || {
        write(source.client(), &topic, 0, orders(next..next + 10), Codec::Lz4);
        next += 10;
        unflushed() > Some(0.0)
    });
    mirror.kill9();
    write(source.client(), &topic, 0, orders(next..next + 20), Codec::Lz4);
    next += 20;
    mirror.start_ready();
    let ids = || View::read(target.client(), &topic, 0).unwrap().seen().iter().filter_map(|s| s.id).collect::<Vec<_>>();
    until(SOON, "everything since the link's birth is on the target", || ids().last() == Some(&(next - 1)));
    assert_eq!(ids(), (100..next).collect::<Vec<u64>>());
    until(SOON, "all of it is mapped", || mapped_to(&mirror) == next as i64);
    for offset in 100..=next as i64 {
        assert_eq!(exactly(&mirror, &topic, offset, false), offset - 100);
        assert_eq!(exactly(&mirror, &topic, offset - 100, true), offset);
    }
    refused(&mirror, &topic, 99, false, "before the mirror, which begins at 100");
}

#[test]
fn translate_answers_in_holes_behind_markers_and_at_both_ends() {
    let (source, target) = shared_pair();
    let topic = unique("edges");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    let mut transaction = |ids: std::ops::Range<u64>, commit: bool| {
        let mut transaction = producer.begin();
        transaction.send(&topic, 0, &Batch::of(orders(ids), Codec::Lz4)).unwrap();
        if commit { transaction.commit().unwrap() } else { transaction.abort().unwrap() }
    };
    // Offsets 0..20 removed by retention, 20..30 kept, 30..41 aborted with its marker, 41..51 kept, 51 their marker.
    write(source.client(), &topic, 0, orders(0..30), Codec::None);
    transaction(30..40, false);
    transaction(40..50, true);
    source.client().delete_records(&topic, 0, 20).unwrap();
    // A commit is answered before its marker is written.
    until(SOON, "the last marker is written", || source.client().bounds(&topic, 0).unwrap() == (20, 52));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    let forwards = [(20, 0), (29, 9), (30, 10), (35, 10), (40, 10), (41, 10), (50, 19), (51, 20), (52, 20)];
    for (offset, there) in forwards {
        until(SOON, &format!("offset {offset} is mapped"), || mapped_to(&mirror) >= offset);
        assert_eq!(translated(&mirror, &topic, offset, false), there, "source offset {offset}");
    }
    for (offset, there) in [(0, 20), (9, 29), (10, 41), (19, 50), (20, 52)] {
        assert_eq!(translated(&mirror, &topic, offset, true), there, "target offset {offset}");
    }
    let places = Histories::read(source, target, &topic).places();
    assert!(forwards.iter().all(|(offset, there)| places.between(*offset, *there) == (0, 0)), "the oracle disagrees");
    refused(&mirror, &topic, 19, false, "before the mirror, which begins at 20");
    refused(&mirror, &topic, 53, false, "not copied yet: the mirror ends at 52");
    refused(&mirror, &topic, 21, true, "not copied yet: the mirror ends at 20");
    refused(&mirror, "elsewhere", 0, false, "no route has this partition");
}

#[test]
fn translate_answers_on_an_empty_partition() {
    let (source, target) = shared_pair();
    let topic = unique("void");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    attached(&mirror);
    assert_eq!(translated(&mirror, &topic, 0, false), 0);
    assert_eq!(translated(&mirror, &topic, 0, true), 0);
    refused(&mirror, &topic, 1, false, "not copied yet: the mirror ends at 0");
}

#[test]
fn far_behind_the_head_of_a_long_log_a_group_is_exact() {
    let (source, target) = shared_pair();
    let (topic, stem) = (unique("long"), unique("group"));
    source.client().create_topic(&topic, 1, &[]).unwrap();
    // Transactions of 50 records in five batches; every fifth one is aborted.
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    let transactions = rounds(400, 4_000) as u64;
    for turn in 0..transactions {
        let mut transaction = producer.begin();
        for first in (turn * 50..turn * 50 + 50).step_by(10) {
            let records = (first..first + 10).map(|id| Record::order(id, 60)).collect();
            transaction.send(&topic, 0, &Batch::of(records, Codec::Lz4)).unwrap();
        }
        if turn % 5 == 1 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
    }
    let mirror = twinlog(link(source, target, &[&topic], &[&format!("{stem}-.*")]));
    mirror.start_ready();
    twins(source, target, &topic).settle(2 * SOON);
    let places = Histories::read(source, target, &topic).places();
    assert_eq!(places.count() as u64, transactions / 5 * 4 * 50);
    let (_, end) = source.client().bounds(&topic, 0).unwrap();
    // 51..102 is aborted and its marker; 50 and 152 are markers behind committed records.
    let positions = [0, 1, 49, 50, 51, 75, 101, 102, 152, 153, end / 2, end - 60, end - 2, end - 1, end];
    for position in positions {
        source.client().commit_offsets(&format!("{stem}-{position}"), &[(&topic, 0, position)], "").unwrap();
    }
    for position in positions {
        let group = format!("{stem}-{position}");
        let at = (topic.clone(), 0);
        let there = || target.client().committed(&group).unwrap().get(&at).map(|c| c.0);
        until(SOON, &format!("position {position} of {end} is carried over"), || there().is_some());
        let there = there().unwrap();
        assert_eq!(places.between(position, there), (0, 0), "position {position} of {end} → {there}");
        until(SOON, "the group is listed", || verdict(&mirror, &group) == "synced");
        let output = mirror.run(&["translate", mirror.link(), &group, "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((told[0]["source_offset"].as_i64(), told[0]["offset"].as_i64()), (Some(position), Some(there)));
    }
    let copied = target.client().bounds(&topic, 0).unwrap().1;
    for step in 0..rounds(300, 5_000) as i64 {
        let offset = end * step / rounds(300, 5_000) as i64;
        let there = exactly(&mirror, &topic, offset, false);
        assert_eq!(places.between(offset, there), (0, 0), "source offset {offset} → {there}");
        let offset = copied * step / rounds(300, 5_000) as i64;
        let back = exactly(&mirror, &topic, offset, true);
        assert_eq!(places.between(back, offset), (0, 0), "target offset {offset} → {back}");
    }
}
