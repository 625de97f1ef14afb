//! The rules a real broker was seen to follow (`facts/live-measurements` §3), and that each fault does what it says.

mod fire;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::batch::{BatchBuilder, Record, content_hash, pass, records};
use crate::endpoint::{
    Catalog, CommitFeed, Delivery, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, LedgerEntry, LedgerReader,
    LedgerStore, LedgerTopic, Opened, Reader, Sink, Source,
};
use crate::model::{
    Batch, EncodedBatch, LeaderEpoch, Offset, OffsetRange, Payload, ProducerIdentity, ProtectionLevel, Route,
};

const OURS: ProducerIdentity = ProducerIdentity { id: 77, epoch: 3 };

fn some_records(range: std::ops::Range<i64>) -> Vec<Record> {
    range.map(|n| Record::new(Offset(0), n, Some(format!("k{n}").into()), Some(format!("v{n}").into()))).collect()
}

fn encoded(records: &[Record]) -> EncodedBatch {
    let mut builder = BatchBuilder::new(Offset(0));
    for (index, record) in records.iter().enumerate() {
        builder.push(&Record { offset: Offset(index as i64), ..record.clone() });
    }
    pass(&builder.build())
}

/// A cluster with topic `t` of two partitions, and the route of its first onto itself.
fn cluster() -> (MemoryCluster, Route) {
    let cluster = MemoryCluster::new("test");
    let id = Some(cluster.create("t", 2, &[]));
    let at = TopicPartition::new("t", 0);
    (cluster, Route { source: at.clone(), source_id: id, target: at, target_id: id })
}

async fn open(cluster: &MemoryCluster, route: &Route) -> Opened {
    Sink::open(cluster, route, OURS).await.expect("the partition is there")
}

async fn send(opened: &mut Opened, numbers: std::ops::Range<i64>) -> Delivery {
    let expected = Offset(numbers.start);
    opened.writer.send(encoded(&some_records(numbers)), expected).await.expect("the writer accepts")
}

async fn read(reader: &mut dyn Reader) -> Result<Batch> {
    timeout(Duration::from_secs(1), reader.next()).await.expect("there is something to read")
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_leaves_a_gap_that_refuses_what_follows() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    send(&mut opened, 0..2).await.await.expect("durable");
    cluster.disturb(&route.target, 0, Disturbance::LoseRequest);
    cluster.delay(Call::Ack, Duration::from_millis(10));
    let (lost, next) = (send(&mut opened, 2..4).await, send(&mut opened, 4..6).await);
    assert_eq!(lost.await.expect_err("lost").kind, ErrorKind::Attach);
    assert_eq!(next.await.expect_err("out of order").kind, ErrorKind::Attach);
    assert!(opened.writer.send(encoded(&some_records(6..7)), Offset(6)).await.is_err());
    assert_eq!(open(&cluster, &route).await.end, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn a_lost_ack_fails_what_follows_and_is_found_at_the_next_attach() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    send(&mut opened, 0..2).await.await.expect("durable");
    cluster.disturb(&route.target, 0, Disturbance::LoseAck);
    let (lost, next) = (send(&mut opened, 2..4).await, send(&mut opened, 4..6).await);
    assert_eq!(lost.await.expect_err("lost").kind, ErrorKind::Attach);
    assert_eq!(next.await.expect_err("behind the lost one").kind, ErrorKind::Attach);
    let again = open(&cluster, &route).await;
    assert_eq!((again.end, again.level), (Offset(6), ProtectionLevel::Guarded), "both were appended");
}

#[tokio::test(start_paused = true)]
async fn a_write_on_its_way_to_a_former_leader_is_not_appended() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    cluster.disturb(&route.target, 0, Disturbance::Hold);
    let late = send(&mut opened, 0..2).await;
    cluster.elect(&route.target);
    cluster.release_held();
    assert_eq!(late.await.expect_err("the leader moved").kind, ErrorKind::Attach);
    assert_eq!(cluster.log_end(&route.target), Offset(0));
}

#[tokio::test(start_paused = true)]
async fn a_held_write_lands_once_even_when_its_writer_is_gone() {
    let (cluster, route) = cluster();
    let mut zombie = open(&cluster, &route).await;
    send(&mut zombie, 0..2).await.await.expect("durable");
    cluster.disturb(&route.target, 0, Disturbance::Hold);
    let (first, second) = (send(&mut zombie, 2..4).await, send(&mut zombie, 4..6).await);
    assert_eq!(cluster.held(), 2, "what follows on the connection waits too");
    zombie.writer.close().await;
    assert_eq!(first.await.expect_err("closed").kind, ErrorKind::Attach);
    drop(second);
    let mut successor = open(&cluster, &route).await;
    send(&mut successor, 2..4).await.await.expect("durable");
    cluster.release_held();
    assert_eq!(cluster.log_end(&route.target), Offset(6), "2..4 was a repetition, 4..6 the next");
    let clash = successor.writer.send(encoded(&some_records(4..7)), Offset(4)).await.expect("accepted");
    assert_eq!(clash.await.expect_err("the zombie was first").kind, ErrorKind::Attach);
    let committed = cluster.committed(&route.target);
    assert_eq!(committed.iter().map(|r| r.timestamp_ms).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_acknowledged_above_the_high_watermark_and_a_clean_election_may_lose_it() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    send(&mut opened, 0..2).await.await.expect("durable");
    cluster.hold_followers(&route.target);
    let mut unreplicated = send(&mut opened, 2..4).await;
    assert!(timeout(Duration::from_secs(9), &mut unreplicated).await.is_err(), "acknowledged too early");
    let waiting = timeout(Duration::from_secs(9), open(&cluster, &route)).await;
    assert!(waiting.is_err(), "an end that may vanish was believed");
    cluster.elect_without_unreplicated(&route.target);
    assert_eq!(unreplicated.await.expect_err("lost").kind, ErrorKind::Attach);
    assert_eq!(open(&cluster, &route).await.end, Offset(2));
}

#[tokio::test(start_paused = true)]
async fn a_writer_is_bound_to_its_leader_and_a_reader_notices_what_a_new_one_lacks() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    for start in [0, 2, 4] {
        send(&mut opened, start..start + 2).await.await.expect("durable");
    }
    let mut reader = Source::open(&cluster, &route, Offset(0), LeaderEpoch::UNKNOWN);
    let mut behind = Source::open(&cluster, &route, Offset(2), LeaderEpoch(0));
    for _ in 0..3 {
        read(&mut *reader).await.expect("a batch");
    }
    cluster.elect_without(&route.target, Offset(3));
    assert_eq!(cluster.log_end(&route.target), Offset(2), "replicas lose whole batches");
    let moved = send(&mut opened, 6..8).await.await.expect_err("the leader moved");
    assert_eq!(moved.kind, ErrorKind::Attach);
    assert_eq!(read(&mut *reader).await.expect_err("truncated").kind, ErrorKind::Truncated(Offset(2)));
    let mut opened = open(&cluster, &route).await;
    assert_eq!((opened.end, opened.leader_epoch, opened.level), (Offset(2), LeaderEpoch(1), ProtectionLevel::Guarded));
    send(&mut opened, 2..4).await.await.expect("durable");
    let Payload::Batches(batch) = read(&mut *behind).await.expect("the reader was not beyond").payload else {
        panic!("a batch of the new leader")
    };
    assert_eq!(batch.leader_epoch, LeaderEpoch(1));
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_a_hole_of_a_later_epoch_must_not_claim_the_older() {
    let (cluster, route) = cluster();
    let mut transaction = cluster.transaction();
    transaction.append(&route.source, &some_records(0..2));
    cluster.elect(&route.source);
    transaction.commit();
    cluster.append(&route.source, &some_records(2..4));
    let mut claiming = Source::open(&cluster, &route, Offset(3), LeaderEpoch(0));
    let error = read(&mut *claiming).await.expect_err("a broker sees epoch 0 end at 2");
    assert_eq!(error.kind, ErrorKind::Truncated(Offset(2)));
    let mut modest = Source::open(&cluster, &route, Offset(3), LeaderEpoch::UNKNOWN);
    assert_eq!(read(&mut *modest).await.expect("a batch").range, OffsetRange::new(Offset(3), Offset(5)));
    let mut whole = Source::open(&cluster, &route, Offset(0), LeaderEpoch::UNKNOWN);
    for _ in 0..3 {
        read(&mut *whole).await.expect("a reader keeps the epoch of what it passed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_compacted_log_reads_as_the_oracle_says_with_its_holes_named() {
    let (cluster, route) = cluster();
    for start in 0..20 {
        let keyed = |n: i64| Record { key: Some(format!("k{}", n % 7).into()), ..some_records(n..n + 1).remove(0) };
        let batch: Vec<Record> = (start..start + 4).map(keyed).collect();
        match start % 3 {
            0 => drop(cluster.append(&route.source, &batch)),
            1 => {
                let mut transaction = cluster.transaction();
                transaction.append(&route.source, &batch);
                transaction.commit();
            }
            _ => drop(cluster.append_compressed(&route.source, &batch, crate::batch::Codec::Lz4)),
        }
    }
    cluster.compact(&route.source);
    let expected: Vec<_> = cluster.committed(&route.source).iter().map(|r| (r.offset, content_hash(r))).collect();
    assert_eq!(expected.len(), 7, "one record per key is left");
    let end = cluster.log_end(&route.source);
    let (mut reader, mut next, mut seen) =
        (Source::open(&cluster, &route, Offset(0), LeaderEpoch::UNKNOWN), Offset(0), vec![]);
    while next < end {
        let batch = read(&mut *reader).await.expect("a compacted log is read");
        assert_eq!(batch.range.start, next);
        next = batch.range.end;
        if let Payload::Batches(data) = batch.payload {
            let raw = crate::batch::RawBatch::parse(data.bytes).expect("a whole batch");
            let offsets = data.runs.iter().flat_map(|run| (0..run.length).map(|i| run.start + i64::from(i)));
            seen.extend(offsets.zip(records(&raw).expect("readable").iter().map(content_hash)));
        }
    }
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn expired_state_and_fences_show_when_a_writer_opens() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    send(&mut opened, 0..3).await.await.expect("durable");
    cluster.expire_producers(&route.target);
    let unguarded = open(&cluster, &route).await;
    assert_eq!((unguarded.end, unguarded.level), (Offset(3), ProtectionLevel::ProbeOnly));
    cluster.fence(&route.target, ProducerIdentity { epoch: OURS.epoch + 1, ..OURS });
    let fenced = send(&mut opened, 3..4).await.await.expect_err("fenced");
    assert_eq!(fenced.kind, ErrorKind::Fenced);
    assert_eq!(Sink::open(&cluster, &route, OURS).await.err().expect("fenced").kind, ErrorKind::Fenced);
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_again_is_another_one_where_ids_are_told() {
    let (cluster, route) = cluster();
    let mut waiting = Source::open(&cluster, &route, Offset(0), LeaderEpoch::UNKNOWN);
    assert!(timeout(Duration::from_secs(1), waiting.next()).await.is_err());
    cluster.recreate_topic("t");
    assert_eq!(read(&mut *waiting).await.expect_err("another topic").kind, ErrorKind::Recreated);
    assert_eq!(Sink::open(&cluster, &route, OURS).await.err().expect("another topic").kind, ErrorKind::Recreated);
    cluster.tell_no_topic_ids();
    assert_eq!(open(&cluster, &route).await.end, Offset(0), "without ids nobody can tell");
    cluster.delete_topic("t");
    assert_eq!(Sink::open(&cluster, &route, OURS).await.err().expect("gone").kind, ErrorKind::UnknownTopic);
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_partition_leaves_its_neighbour_alone() {
    let (cluster, route) = cluster();
    let neighbour = TopicPartition::new("t", 1);
    cluster.append(&neighbour, &some_records(0..1));
    let beside = Route { source: neighbour.clone(), target: neighbour.clone(), ..route.clone() };
    let (mut broken, mut whole) = (
        Source::open(&cluster, &route, Offset(0), LeaderEpoch::UNKNOWN),
        Source::open(&cluster, &beside, Offset(0), LeaderEpoch::UNKNOWN),
    );
    cluster.fail_at(&route.source, Call::Read, 1, ErrorKind::Retryable);
    cluster.fail_at(&route.source, Call::Catalog, 1, ErrorKind::Denied);
    assert_eq!(read(&mut *broken).await.expect_err("planned").kind, ErrorKind::Retryable);
    read(&mut *whole).await.expect("a batch");
    let bounds = Catalog::bounds(&cluster, &[route.source.clone(), neighbour]).await;
    assert_eq!(bounds[0].as_ref().expect_err("planned").kind, ErrorKind::Denied);
    assert_eq!(bounds[1].as_ref().expect("whole").high_watermark, Offset(1));
    cluster.fail_next(Call::Catalog, usize::MAX, ErrorKind::Retryable);
    assert!(Catalog::topics(&cluster).await.is_err() && Catalog::cluster(&cluster).await.is_err());
    cluster.heal();
    assert!(Catalog::topics(&cluster).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_frozen_cluster_answers_nothing_and_goes_on_where_it_stopped() {
    let (cluster, route) = cluster();
    let mut opened = open(&cluster, &route).await;
    send(&mut opened, 0..1).await.await.expect("durable");
    cluster.freeze();
    let mut frozen = send(&mut opened, 1..2).await;
    assert!(timeout(Duration::from_secs(60), &mut frozen).await.is_err());
    assert!(timeout(Duration::from_secs(60), Catalog::topics(&cluster)).await.is_err());
    cluster.thaw();
    assert_eq!(frozen.await.expect("it arrives"), Offset(1));
}

#[tokio::test(start_paused = true)]
async fn members_have_what_they_were_assigned_until_they_go_and_share_groups_have_starts_instead() {
    let (cluster, route) = cluster();
    let of = [("g".into(), GroupProtocol::Classic), ("s".into(), GroupProtocol::Share)];
    cluster.assign("g", std::slice::from_ref(&route.source));
    cluster.set_share_start("s", &route.source, Offset(3));
    let told = cluster.assignments(&of).await;
    assert_eq!(told[0].as_ref().expect("told"), &BTreeSet::from([route.source.clone()]));
    assert_eq!(told[1].as_ref().expect_err("they share").kind, ErrorKind::Unsupported);
    cluster.set_members("g", false);
    assert!(cluster.assignments(&of).await.remove(0).expect("told").is_empty());
    let starts = cluster.share_starts(&["s".into(), "g".into()]).await;
    assert_eq!(starts[0].as_ref().expect("told"), &BTreeMap::from([(route.source, Offset(3))]));
    assert!(starts[1].as_ref().expect("told").is_empty());
    let refused = cluster.commit_offsets(&"s".into(), &GroupOffsets::new()).await.expect_err("it has no positions");
    assert_eq!(refused.kind, ErrorKind::Refused);
}

#[tokio::test(start_paused = true)]
async fn groups_with_members_are_not_written_and_a_planned_append_failure_appends_nothing() {
    let (cluster, route) = cluster();
    cluster.commit("g", &route.source, Offset(4));
    cluster.set_members("g", true);
    let read = GroupReader::group_offsets(&cluster, &["g".into()]).await.remove(0).expect("its positions");
    assert_eq!(
        cluster.commit_offsets(&"g".into(), &read.offsets).await.expect_err("members").kind,
        ErrorKind::GroupBusy
    );
    let at = BTreeSet::from([route.source.clone()]);
    assert_eq!(cluster.delete_offsets(&"g".into(), &at).await.expect_err("members").kind, ErrorKind::GroupBusy);
    cluster.set_members("g", false);
    cluster.delete_offsets(&"g".into(), &at).await.expect("nobody is there");
    cluster.delete_offsets(&"nobody".into(), &at).await.expect("nothing to delete");
    assert_eq!(cluster.position_of("g", &route.source), None);
    let ledger = cluster.ledger("link");
    let owner = ledger.claim().await.expect("claimed");
    cluster.fail_next(Call::LedgerAppend, 1, ErrorKind::Retryable);
    let entries = vec![LedgerEntry { key: "k".into(), value: Some("v".into()) }];
    let failed = owner.append(LedgerTopic::Map, entries.clone()).await.expect_err("planned");
    assert_eq!(failed.kind, ErrorKind::Retryable);
    owner.append(LedgerTopic::Map, entries.clone()).await.expect("the same call may be repeated");
    let mut follower = ledger.follow(LedgerTopic::Map).await.expect("followed");
    assert_eq!(follower.next().await.expect("one"), crate::endpoint::LedgerEvent::Entry(entries[0].clone()));
    assert_eq!(follower.next().await.expect("no second"), crate::endpoint::LedgerEvent::CaughtUp);
}

#[tokio::test(start_paused = true)]
async fn commits_pending_ones_and_deletions_ring_markers_do_not_and_a_feed_can_be_denied() {
    let (cluster, route) = cluster();
    cluster.commit("g", &route.source, Offset(4));
    let mut tail = cluster.listen(&[(0, Offset(0)), (1, Offset(0))]).expect("a tail");
    let g = || [GroupId::from("g")].into();
    assert_eq!(tail.next().await.expect("the commit"), g());
    cluster.set_members("g", true);
    cluster.set_pending("g", true);
    assert_eq!(tail.next().await.expect("the pending commit"), g());
    cluster.set_pending("g", false);
    assert!(timeout(Duration::from_secs(60), tail.next()).await.is_err(), "a marker is no record");
    cluster.delete_group("g");
    assert_eq!(tail.next().await.expect("the tombstone"), g());
    cluster.delete_group("g");
    assert!(timeout(Duration::from_secs(60), tail.next()).await.is_err(), "there was nothing to delete");
    cluster.fail_next(Call::HearCommits, 1, ErrorKind::Denied);
    assert_eq!(tail.next().await.expect_err("planned").kind, ErrorKind::Denied);
    assert_eq!(tail.next().await.expect_err("it is spent").kind, ErrorKind::Denied);
    let mut again = cluster.listen(&[(0, Offset(0)), (1, Offset(0))]).expect("a tail");
    assert_eq!(again.next().await.expect("all of it"), g());
}
