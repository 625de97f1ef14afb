//! Brokers whose answers make no sense: an error that names cluster and broker, never a panic or memory that no bytes
//! justify, and everything goes on once they are sane again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Wired;
use crate::batch::{BatchBuilder, Record, pass};
use crate::endpoint::memory::Mishap;
use crate::endpoint::{Catalog, Error, PointReader, Result, Security, Sink, Source, TopicAdmin, TopicSpec, View};
use crate::model::{LeaderEpoch, Offset, OffsetRange, ProducerIdentity, Route, TopicPartition};
use crate::wire::{ApiKey, Cluster};

const OURS: ProducerIdentity = ProducerIdentity { id: 7000, epoch: 0 };
const RECORDS: i64 = 6;

/// All that source and sink ask.
const ASKED: [ApiKey; 10] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::DescribeConfigs,
    ApiKey::CreateTopics,
    ApiKey::InitProducerId,
    ApiKey::ListOffsets,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeProducers,
    ApiKey::Fetch,
    ApiKey::Produce,
];

/// Numbers that promise billions, in either way of writing them, and −1 or a large byte.
const NUMBERS: [&[u8]; 3] = [&[0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff]];

type Forgery = fn(Vec<u8>) -> Vec<u8>;

/// Frames that no broker sends.
const FORGERIES: [(&str, Forgery); 8] = [
    ("a length of 2 GiB", |frame| [&i32::MAX.to_be_bytes()[..], &frame[4..]].concat()),
    ("a negative length", |frame| [&(-1_i32).to_be_bytes()[..], &frame[4..]].concat()),
    ("an empty frame", |_| vec![0; 4]),
    ("another correlation id", |mut frame| {
        frame[7] ^= 1;
        frame
    }),
    ("half of the body", |frame| framed(&frame[4..4 + (frame.len() - 4) / 2])),
    ("no body", |frame| framed(&frame[4..8])),
    ("a body of zeros and billions", |frame| framed(&[&frame[4..8], &[0; 9], &[0x7f; 40]].concat())),
    ("a body of the largest numbers", |frame| framed(&[&frame[4..8], &[0xff; 60]].concat())),
];

fn framed(frame: &[u8]) -> Vec<u8> {
    [&(frame.len() as u32).to_be_bytes()[..], frame].concat()
}

async fn wired() -> (Wired, Route) {
    let wired = Wired::new(1).await;
    let id = Some(wired.memory.create("orders", 1, &[]));
    let at = TopicPartition::new("orders", 0);
    for n in 0..RECORDS / 2 {
        wired.memory.append(&at, &[record(n), record(n)]);
    }
    (wired, Route { source: at.clone(), source_id: id, target: at, target_id: id })
}

fn record(n: i64) -> Record {
    Record::new(Offset(0), n, Some(format!("key {n}").into()), Some(format!("value {n}").into()))
}

/// Does something for which a broker is asked this.
async fn ask(wired: &Wired, route: &Route, key: ApiKey) -> Result<()> {
    let at = &route.source;
    let one = |mut answers: Vec<Result<()>>| answers.pop().expect("one answer");
    match key {
        ApiKey::ApiVersions => {
            let fresh = Cluster::new("paris", &wired.brokers.bootstrap(), Security::default(), "test");
            fresh.topics().await.map(drop)
        }
        ApiKey::Metadata => wired.cluster.topics().await.map(drop),
        ApiKey::DescribeConfigs => {
            let told = wired.cluster.topic_configs(std::slice::from_ref(&at.topic)).await;
            one(told.into_iter().map(|told| told.map(drop)).collect())
        }
        ApiKey::CreateTopics => {
            let name = format!("new-{}", uuid::Uuid::new_v4()).as_str().into();
            let spec = TopicSpec { name, partitions: 1, replication: 1, configs: [].into() };
            wired.cluster.create_topic(&spec).await
        }
        ApiKey::InitProducerId => wired.cluster.allocate_producer_id().await.map(drop),
        ApiKey::ListOffsets => {
            let told = wired.cluster.bounds(std::slice::from_ref(at)).await;
            one(told.into_iter().map(|told| told.map(drop)).collect())
        }
        ApiKey::OffsetForLeaderEpoch => wired.cluster.epoch_end(at, LeaderEpoch(0)).await.map(drop),
        ApiKey::DescribeProducers => wired.sink.open(route, OURS).await.map(drop),
        ApiKey::Fetch => {
            let range = OffsetRange::new(Offset(0), Offset(RECORDS));
            wired.points.read(at, range, View::Log, 1 << 20).await.map(drop)
        }
        ApiKey::Produce => {
            let mut opened = wired.sink.open(route, OURS).await?;
            let mut batch = BatchBuilder::new(Offset(0));
            batch.push(&record(0));
            let sent = opened.writer.send(pass(&batch.build()), opened.end).await?;
            sent.await.map(drop)
        }
        other => panic!("{other:?} is not asked"),
    }
}

/// All answers of one kind are forged from now on.
fn forge(wired: &Wired, key: ApiKey, forgery: impl Fn(Vec<u8>) -> Vec<u8> + Clone + Send + 'static) {
    wired.brokers.misbehave(move |asked| match asked == key {
        true => Mishap::Forge(Box::new(forgery.clone())),
        false => Mishap::None,
    });
}

/// A broker that claims to throttle us is believed for minutes.
const PATIENCE: Duration = Duration::from_secs(600);

fn assert_names_the_broker(error: &Error, what: &str) {
    assert!(error.message.contains("paris") && error.message.contains("broker"), "{what}: {error}");
}

/// The brokers are sane again: what failed is done, soon.
async fn assert_goes_on(wired: &Wired, route: &Route, key: ApiKey) {
    wired.brokers.behave();
    let goes_on = async {
        while let Err(error) = ask(wired, route, key).await {
            println!("{key:?}: not yet: {error}");
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(30), goes_on).await.unwrap_or_else(|_| panic!("{key:?} does not go on"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_makes_no_sense_is_an_error_that_names_the_broker_and_is_got_over() {
    for key in ASKED {
        let (wired, route) = wired().await;
        for (forgery, forged) in FORGERIES {
            let what = format!("{key:?} answered with {forgery}");
            forge(&wired, key, forged);
            let answered = timeout(PATIENCE, ask(&wired, &route, key)).await;
            let answered = answered.unwrap_or_else(|_| panic!("{what}: nothing comes of it"));
            assert_names_the_broker(&answered.expect_err(&what), &what);
            assert_goes_on(&wired, &route, key).await;
        }
    }
}

/// At every place of every answer.
#[tokio::test(start_paused = true)]
async fn no_number_in_an_answer_can_make_the_process_fall() {
    for key in ASKED {
        let (wired, route) = wired().await;
        let length = Arc::new(AtomicUsize::new(usize::MAX));
        let mut place = 4;
        while place < length.load(Ordering::Relaxed) {
            for number in NUMBERS {
                let (what, length) = (format!("{key:?} with {number:x?} at {place}"), length.clone());
                forge(&wired, key, move |mut frame| {
                    length.store(frame.len(), Ordering::Relaxed);
                    frame.iter_mut().skip(place).zip(number).for_each(|(byte, hostile)| *byte = *hostile);
                    frame
                });
                let answered = timeout(PATIENCE, ask(&wired, &route, key)).await;
                if let Err(error) = answered.unwrap_or_else(|_| panic!("{what}: nothing comes of it")) {
                    assert!(!error.message.contains("no answer"), "{what}: whoever reads answers has fallen: {error}");
                    assert!(error.message.contains("paris"), "{what}: {error}");
                }
            }
            place += 1;
        }
        assert_goes_on(&wired, &route, key).await;
    }
}

/// The same for the shared fetch: whatever a reader is told, the next one reads what is there.
#[tokio::test(start_paused = true)]
async fn no_number_in_a_fetch_can_make_the_shared_fetch_fall() {
    let (wired, route) = wired().await;
    let length = Arc::new(AtomicUsize::new(usize::MAX));
    let mut place = 4;
    while place < length.load(Ordering::Relaxed) {
        for number in NUMBERS {
            let forged = length.clone();
            forge(&wired, ApiKey::Fetch, move |mut frame| {
                forged.store(frame.len(), Ordering::Relaxed);
                frame.iter_mut().skip(place).zip(number).for_each(|(byte, hostile)| *byte = *hostile);
                frame
            });
            let mut reader = wired.source.open(&route, Offset(0), LeaderEpoch::UNKNOWN);
            // An error, nothing at all, or what a liar says.
            let _ = timeout(Duration::from_secs(2), reader.next()).await;
        }
        place += 1;
    }
    assert!(timeout(Duration::ZERO, wired.scope.broken()).await.is_err(), "a task of the fetch has fallen");
    wired.brokers.behave();
    let mut reader = wired.source.open(&route, Offset(0), LeaderEpoch::UNKNOWN);
    let mut next = Offset(0);
    while next < Offset(RECORDS) {
        let batch = timeout(Duration::from_secs(60), reader.next()).await.expect("it comes").expect("brokers are sane");
        assert_eq!(batch.range.start, next, "ranges join");
        next = batch.range.end;
    }
}
