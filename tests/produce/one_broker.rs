//! One broker that stays up: duplicates, gaps, fences, damage, sizes, and topics that are not what they were.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::WriteTxnMarkersRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use twinlog::endpoint::{ErrorKind, Opened, Sink};
use twinlog::model::{EncodedBatch, Offset, ProtectionLevel, TopicId};

use crate::support::batch::{Batch, Codec};
use crate::support::record::Record;
use crate::support::{shared_target, unique};
use crate::{Bed, batches, copy, deliver, identity, order, orders, orders_of, route, sink, stored};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_every_partition_arrives_as_it_was() {
    let cluster = shared_target();
    let (client, topic, partitions) = (cluster.client(), unique("whole"), 6);
    client.create_topic(&topic, partitions, &[]).unwrap();
    let (sink, producer) = (Arc::new(sink(cluster)), identity(client));
    let copies = (0..partitions).map(|partition| {
        let (sink, route) = (sink.clone(), route(&topic, partition));
        tokio::spawn(async move {
            let Opened { end, log_start, level, mut writer, .. } = sink.open(&route, producer).await.unwrap();
            assert_eq!((end, log_start, level), (Offset(0), Offset(0), ProtectionLevel::ProbeOnly));
            let mut deliveries = Vec::new();
            for n in 0..40u64 {
                let codec = Codec::ALL[n as usize % Codec::ALL.len()];
                deliveries.push(writer.send(orders_of(n * 25, 25, 700, codec), Offset(n as i64 * 25)).await.unwrap());
            }
            for (n, delivery) in deliveries.into_iter().enumerate() {
                assert_eq!(delivery.await.unwrap(), Offset(n as i64 * 25));
            }
        })
    });
    for copy in copies.collect::<Vec<_>>() {
        copy.await.unwrap();
    }
    let expected: Vec<Record> = (0..1000).map(|id| order(id, 700)).collect();
    for partition in 0..partitions {
        let stored = stored(client, &topic, partition);
        assert!(stored.iter().enumerate().all(|(n, s)| s.offset == n as i64 && !s.append_time));
        assert!(stored.into_iter().map(|s| s.record).eq(expected.iter().cloned()), "partition {partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_written_by_another_owner_is_acknowledged_where_it_lies() {
    let bed = Bed::new("duplicate");
    let (one, two) = (sink(bed.cluster), sink(bed.cluster));
    let (mut first, mut second) = (bed.open(&one).await.unwrap().writer, bed.open(&two).await.unwrap().writer);
    assert_eq!(deliver(&mut first, orders(0, 3), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut second, orders(0, 3), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut second, orders(3, 2), 3).await.unwrap(), 3);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_other_bounds_means_attach_and_spends_the_writer() {
    let bed = Bed::new("gap");
    let (one, two) = (sink(bed.cluster), sink(bed.cluster));
    let (mut first, mut second) = (bed.open(&one).await.unwrap().writer, bed.open(&two).await.unwrap().writer);
    assert_eq!(deliver(&mut first, orders(0, 3), 0).await.unwrap(), 0);
    let error = deliver(&mut second, orders(0, 4), 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Attach);
    assert!(error.message.contains("lyon") && error.message.contains(&format!("{}/0", bed.topic)), "{error}");
    assert!(error.message.contains("OUT_OF_ORDER_SEQUENCE_NUMBER"), "{error}");
    assert_eq!(deliver(&mut second, orders(4, 1), 4).await.unwrap_err().kind, ErrorKind::Attach);
    let again = bed.open(&two).await.unwrap();
    assert_eq!((again.end, again.level), (Offset(3), ProtectionLevel::Guarded));
    assert_eq!(bed.ids(), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_owners_at_once_leave_an_exact_log() {
    let bed = Bed::new("owners");
    let all: Arc<Vec<_>> = Arc::new(batches(1500));
    let copies = (0..2).map(|_| {
        let (sink, route, producer, all) = (sink(bed.cluster), bed.route.clone(), bed.producer, all.clone());
        tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
    });
    let mut opened = Vec::new();
    for copy in copies.collect::<Vec<_>>() {
        opened.push(copy.await.unwrap());
    }
    assert_eq!(bed.ids(), (0..1500).collect::<Vec<_>>(), "opened {opened:?} times");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sequence_is_the_leaders_whatever_lies_between() {
    let bed = Bed::new("sequence");
    let first = sink(bed.cluster);
    let mut writer = bed.open(&first).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    // Somebody else's records take offsets, not sequences.
    bed.cluster.client().produce(&bed.topic, 0, &orders(100, 3).bytes).unwrap();
    let Opened { end, level, mut writer, .. } = bed.open(&sink(bed.cluster)).await.unwrap();
    assert_eq!((end, level), (Offset(8), ProtectionLevel::Guarded));
    assert_eq!(deliver(&mut writer, orders(5, 2), 8).await.unwrap(), 8);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4, 100, 101, 102, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_record_shows_at_the_next_ack_and_stops_the_writer() {
    let bed = Bed::new("stranger");
    let mut writer = bed.open(&sink(bed.cluster)).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    bed.cluster.client().produce(&bed.topic, 0, &orders(100, 1).bytes).unwrap();
    assert_eq!(deliver(&mut writer, orders(5, 2), 5).await.unwrap(), 6);
    assert_eq!(deliver(&mut writer, orders(7, 2), 7).await.unwrap_err().kind, ErrorKind::Attach);
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4, 100, 5, 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_wrap_behind_the_largest() {
    let bed = Bed::new("wrap");
    let near_the_end = Batch {
        records: (0..2).map(|id| order(id, 100)).collect(),
        producer_id: bed.producer.id,
        producer_epoch: bed.producer.epoch,
        base_sequence: i32::MAX - 3,
        ..Batch::default()
    };
    bed.cluster.client().produce(&bed.topic, 0, &near_the_end.encode()).unwrap();
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    // One batch across the wrap, one behind it, and behind that a writer that asks the leader.
    assert_eq!(deliver(&mut writer, orders(2, 5), 2).await.unwrap(), 2);
    assert_eq!(deliver(&mut writer, orders(7, 2), 7).await.unwrap(), 7);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(9, 1), 9).await.unwrap(), 9);
    assert_eq!(bed.ids(), (0..10).collect::<Vec<_>>());
}

fn fence(bed: &Bed) {
    let topic = WritableTxnMarkerTopic::default()
        .with_name(kafka_protocol::messages::TopicName(bed.topic.clone().into()))
        .with_partition_indexes(vec![0]);
    let marker = WritableTxnMarker::default()
        .with_producer_id(bed.producer.id.into())
        .with_producer_epoch(bed.producer.epoch + 1)
        .with_transaction_result(true)
        .with_coordinator_epoch(0)
        .with_topics(vec![topic]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    let answer = bed.cluster.client().ask_leader(&bed.topic, 0, &request, 1).unwrap();
    let codes: Vec<i16> =
        answer.markers.iter().flat_map(|m| &m.topics).flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marker_of_a_higher_epoch_fences_open_writers_and_new_ones() {
    let bed = Bed::new("fence");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    fence(&bed);
    let error = deliver(&mut writer, orders(5, 5), 5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced, "{error}");
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Fenced);
    assert!(error.message.contains(&bed.topic) && error.message.contains("epoch"), "{error}");
    assert_eq!(bed.ids(), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_damaged_on_the_way_is_refused_by_its_own_checksum() {
    let bed = Bed::new("damage");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    let good = orders(0, 5);
    let mut bytes = good.bytes.to_vec();
    bytes[200] ^= 0x10;
    let error = deliver(&mut writer, EncodedBatch { bytes: bytes.into(), ..good.clone() }, 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert!(bed.ids().is_empty());
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, good, 0).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_too_large_for_the_topic_is_split_and_delivered_once() {
    let bed = Bed::with("large", &[("max.message.bytes", "3000")]);
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders_of(0, 40, 500, Codec::None), 0).await.unwrap(), 0);
    assert_eq!(deliver(&mut writer, orders(40, 2), 40).await.unwrap(), 40);
    let error = writer.send(orders_of(42, 1, 5000, Codec::None), Offset(42)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    // Lowered behind the writer's back: the broker refuses, and the next writer knows.
    bed.cluster.client().alter_topic(&bed.topic, &[("max.message.bytes", Some("1500"))]).unwrap();
    let error = deliver(&mut writer, orders_of(42, 4, 500, Codec::None), 42).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders_of(42, 4, 500, Codec::None), 42).await.unwrap(), 42);
    assert_eq!(bed.ids(), (0..46).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_gone_or_another_is_told_apart() {
    let mut bed = Bed::new("recreated");
    let client = bed.cluster.client();
    let id_of = |topic: &str| TopicId::known(client.metadata(Some(&[topic])).unwrap().topics[0].topic_id);
    bed.route.target_id = id_of(&bed.topic);
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 5), 0).await.unwrap(), 0);
    client.delete_topic(&bed.topic).unwrap();
    let error = deliver(&mut writer, orders(5, 5), 5).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Attach, "{error}");
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::UnknownTopic, "{error}");
    client.create_topic(&bed.topic, 1, &[]).unwrap();
    let error = bed.open(&sink).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Recreated, "{error}");
    assert_ne!(bed.route.target_id, id_of(&bed.topic));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_flight_is_kept_when_asked_for() {
    let bed = Bed::new("one");
    let sink = sink(bed.cluster);
    let mut writer = bed.open(&sink).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 1), 0).await.unwrap(), 0);
    writer.limit_in_flight(true);
    let first = writer.send(orders(1, 1), Offset(1)).await.unwrap();
    // The second is accepted only when the first has its ack.
    let second = writer.send(orders(2, 1), Offset(2)).await.unwrap();
    let settled = tokio::time::timeout(Duration::ZERO, first).await;
    assert_eq!(settled.expect("the first is settled before the second is accepted").unwrap(), Offset(1));
    assert_eq!(second.await.unwrap(), Offset(2));
}
