//! P1 and P2 without faults: every record, byte for byte, in order, once.

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::shared_pair;

#[test]
fn every_codec_and_partition_arrives_as_written() {
    let (source, target) = shared_pair();
    let topic = unique("codecs");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&format!("{topic}.*")], &[]));
    for (turn, codec) in Codec::ALL.into_iter().cycle().take(30).enumerate() {
        let first = turn as u64 * 10;
        write(source.client(), &topic, (turn % 2) as i32, orders(first..first + 10), codec);
    }
    // What its broker compresses anew is on its disk as nobody wrote it.
    let zstd = format!("{topic}-zstd");
    source.client().create_topic(&zstd, 1, &[("compression.type", "zstd")]).unwrap();
    for (turn, codec) in Codec::ALL.into_iter().enumerate() {
        let first = turn as u64 * 10;
        write(source.client(), &zstd, 0, orders(first..first + 10), codec);
    }
    mirror.start();
    // The third partition stays empty.
    twins(source, target, &topic).settle(SOON);
    twins(source, target, &zstd).settle(SOON);
    assert_eq!(target.client().partitions(&topic).unwrap(), 3);
    assert!(mirror.stop(SOON).success());
}

#[test]
fn what_clients_would_alter_survives() {
    let (source, target) = shared_pair();
    let topic = unique("odd");
    source.client().create_topic(&topic, 1, &[("max.message.bytes", "4000000")]).unwrap();
    let headers = vec![(vec![], None), (vec![0xff, 0xfe], Some(vec![])), (vec![], Some(vec![1])), (vec![], None)];
    let record = |timestamp, key: Option<&[u8]>, value: Option<&[u8]>| Record {
        timestamp,
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: headers.clone(),
    };
    for codec in Codec::ALL {
        let odd = vec![
            record(-1, None, Some(b"")),
            record(0, Some(b""), None),
            record(1, Some(b"k"), Some(&[7; 1 << 20])),
            record(1_000_000_000, None, None),
        ];
        write(source.client(), &topic, 0, odd, codec);
    }
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start();
    twins(source, target, &topic).settle(SOON);
}

#[test]
fn committed_transactions_arrive_and_aborted_ones_never() {
    let (source, target) = shared_pair();
    let topic = unique("transactions");
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start();
    let spec =
        LoadSpec { transaction_every: Some(2), records: 4_000, pause: Duration::ZERO, ..LoadSpec::new(&topic, 2) };
    let written = Load::start(addresses(source), spec).finish();
    assert!(written.aborted.values().any(|ids| !ids.is_empty()), "the load aborts some");
    let mut both = twins(source, target, &topic);
    both.settle(SOON);
    for partition in 0..2 {
        let view = crate::support::view::View::read(target.client(), &topic, partition).unwrap();
        assert_eq!(written.held_against(partition, &view), (vec![], vec![]));
    }
}

#[test]
fn an_append_time_source_keeps_its_times() {
    let (source, target) = shared_pair();
    let topic = unique("append-time");
    source.client().create_topic(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]).unwrap();
    write(source.client(), &topic, 0, orders(0..50), Codec::Zstd);
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start();
    let mut both = twins(source, target, &topic);
    crate::support::until(SOON, "all records are there", || both.difference().unwrap().behind == 0);
    let difference = both.difference().unwrap();
    assert_eq!((difference.missing, difference.doubled, difference.reordered, difference.altered), (0, 0, 0, 0));
}

#[test]
fn a_topic_created_later_is_found_and_copied_from_its_first_record() {
    let (source, target) = shared_pair();
    let prefix = unique("later");
    let mirror = twinlog(link(source, target, &[&format!("{prefix}.*")], &[]).line("start = \"latest\""));
    let early = format!("{prefix}-early");
    source.client().create_topic(&early, 1, &[]).unwrap();
    write(source.client(), &early, 0, orders(0..10), Codec::None);
    mirror.start_ready();
    crate::support::until(SOON, "the early topic is on the target", || target.client().partitions(&early).is_ok());
    let late = format!("{prefix}-late");
    source.client().create_topic(&late, 2, &[("retention.ms", "86400000")]).unwrap();
    write(source.client(), &late, 1, orders(0..10), Codec::None);
    twins(source, target, &late).settle(Duration::from_secs(15));
    let configs = target.client().topic_configs(&late).unwrap();
    assert_eq!(configs["retention.ms"].0.as_deref(), Some("86400000"));
    assert_eq!(configs["compression.type"].0.as_deref(), Some("producer"));
    // What was there before the link was born is not copied with `latest`; what comes now is.
    write(source.client(), &early, 0, orders(10..20), Codec::None);
    let copied = || crate::support::view::View::read(target.client(), &early, 0).map(|v| v.seen().len()).unwrap_or(0);
    crate::support::until(SOON, "new records of the early topic arrive", || copied() == 10);
}
