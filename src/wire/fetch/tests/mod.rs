//! The shared fetch against brokers that obey the rules, and against what real ones do on bad days.

mod broker;
mod sessions;

use tokio::time::timeout;

use super::*;
use crate::batch::{BatchBuilder, RawBatch, Record};
use crate::endpoint::{Error, ErrorKind, Security};
use crate::model::{Payload, TopicId, TopicPartition};
use broker::{Brokers, Log, TOPIC, TOPIC_ID, World};

fn batch(offsets: std::ops::Range<i64>, value_bytes: usize) -> RawBatch {
    let mut builder = BatchBuilder::new(Offset(offsets.start)).leader_epoch(LeaderEpoch(1));
    for offset in offsets {
        builder.push(&Record::new(Offset(offset), offset, None, Some(vec![b'x'; value_bytes].into())));
    }
    builder.build()
}

fn log(batches: Vec<RawBatch>) -> Log {
    let last_stable = batches.last().map_or(0, |batch| batch.header.next_offset().0);
    Log { batches, last_stable, leader: 1, epoch: 1, ..Log::default() }
}

/// `count` batches of one record.
fn dense(count: i64, value_bytes: usize) -> Log {
    log((0..count).map(|offset| batch(offset..offset + 1, value_bytes)).collect())
}

fn world(logs: impl IntoIterator<Item = Log>) -> World {
    World { logs: (0..).zip(logs).collect(), ..World::default() }
}

struct Rig {
    brokers: Brokers,
    source: FetchSource,
    budget: MemoryBudget,
    scope: TaskScope,
}

impl Rig {
    async fn new(brokers: i32, world: World, settings: FetchSettings, budget_bytes: u64) -> Rig {
        let brokers = Brokers::start(brokers, world).await;
        let cluster = Cluster::new("paris", &brokers.bootstrap(), Security::default(), "test");
        let (budget, scope) = (MemoryBudget::new(budget_bytes), TaskScope::new());
        let source = FetchSource::new(cluster, budget.clone(), scope.clone(), settings);
        Rig { brokers, source, budget, scope }
    }

    async fn simple(brokers: i32, world: World) -> Rig {
        Rig::new(brokers, world, FetchSettings::for_budget(1 << 20), 1 << 20).await
    }

    fn open(&self, partition: i32) -> Box<dyn Reader> {
        let at = TopicPartition::new(TOPIC, partition);
        let route = Route { source: at.clone(), source_id: TopicId::known(TOPIC_ID), target: at, target_id: None };
        self.source.open(&route, Offset(0), LeaderEpoch::UNKNOWN)
    }

    async fn stop(self) {
        self.scope.stop().await;
        assert_eq!(self.budget.used_bytes(), 0);
    }
}

/// Reads up to `end`; answers the offsets of the records.
async fn read(reader: &mut Box<dyn Reader>, from: i64, end: i64) -> Vec<i64> {
    let (mut next, mut offsets) = (from, Vec::new());
    while next < end {
        let batch = timeout(Duration::from_secs(20), reader.next()).await.expect("it comes").expect("no error");
        assert_eq!(batch.range.start.0, next);
        next = batch.range.end.0;
        if let Payload::Batches(encoded) = batch.payload {
            offsets.extend(encoded.runs.iter().flat_map(|run| run.start.0..run.start.0 + i64::from(run.length)));
        }
    }
    assert_eq!(next, end);
    offsets
}

async fn failure(mut reader: Box<dyn Reader>) -> Error {
    let batch = timeout(Duration::from_secs(30), reader.next()).await.expect("it comes");
    batch.expect_err("an error")
}

#[tokio::test]
async fn partitions_that_crowd_each_other_out_of_responses_are_never_taken_for_empty() {
    // 30 × 8 KiB in each of 40 partitions, 64 KiB a response: most answers are empty while the stable offset is ahead.
    let mut settings = FetchSettings::for_budget(256 << 10);
    settings.near.partition_bytes = 16 << 10;
    let rig = Rig::new(1, world((0..40).map(|_| dense(30, 8 << 10))), settings, 256 << 10).await;
    let readers: Vec<_> = (0..40).map(|partition| rig.open(partition)).collect();
    let reading = readers.into_iter().map(|mut reader| async move { read(&mut reader, 0, 30).await });
    for offsets in futures::future::join_all(reading).await {
        assert_eq!(offsets, (0..30).collect::<Vec<_>>());
    }
    rig.stop().await;
}

#[tokio::test]
async fn whoever_was_served_goes_to_the_back() {
    // Each response has room for one partition only.
    let mut settings = FetchSettings::for_budget(256 << 10);
    settings.near.partition_bytes = 64 << 10;
    let rig = Rig::new(1, world((0..4).map(|_| dense(300, 8 << 10))), settings, 256 << 10).await;
    let mut readers: Vec<_> = (0..4).map(|partition| rig.open(partition)).collect();
    let mut last = readers.pop().expect("four readers");
    let others = readers.into_iter().map(|mut reader| async move { read(&mut reader, 0, 300).await });
    let others = tokio::spawn(futures::future::join_all(others));
    read(&mut last, 0, 1).await;
    let fetches: usize = rig.brokers.world().fetches.values().sum();
    assert!(fetches <= 20, "the fourth partition was first served after {fetches} fetches");
    assert_eq!(read(&mut last, 1, 300).await.len(), 299);
    others.await.expect("the others come as well");
    drop(last);
    rig.stop().await;
}

#[tokio::test]
async fn a_hole_up_to_the_stable_offset_is_believed_when_the_partition_alone_is_asked() {
    let (mut holed, full) = (dense(3, 10), dense(2000, 100));
    holed.last_stable = 9;
    let rig = Rig::simple(1, world([full, holed])).await;
    let (mut full, mut holed) = (rig.open(0), rig.open(1));
    assert_eq!(read(&mut holed, 0, 9).await, [0, 1, 2]);
    assert_eq!(read(&mut full, 0, 2000).await.len(), 2000);
    // And what comes behind the hole.
    {
        let mut world = rig.brokers.world();
        let log = world.logs.get_mut(&1).expect("the partition");
        log.batches.push(batch(9..12, 10));
        log.last_stable = 12;
    }
    assert_eq!(read(&mut holed, 9, 12).await, [9, 10, 11]);
    drop((full, holed));
    rig.stop().await;
}

#[tokio::test]
async fn records_that_remote_storage_has_not_given_yet_are_not_taken_for_a_hole() {
    let rig = Rig::simple(1, world([Log { local_start: 50, ..dense(100, 10) }])).await;
    let mut reader = rig.open(0);
    assert!(timeout(Duration::from_millis(500), reader.next()).await.is_err(), "a hole was believed");
    rig.brokers.world().logs.get_mut(&0).expect("the partition").local_start = 0;
    assert_eq!(read(&mut reader, 0, 100).await.len(), 100);
    drop(reader);
    rig.stop().await;
}

#[tokio::test]
async fn throttled_answers_and_hung_up_connections_cost_time_only() {
    let rig = Rig::simple(1, World { throttled: 3, hang_ups: 2, ..world([dense(500, 1000), dense(500, 1000)]) }).await;
    let (mut one, mut two) = (rig.open(0), rig.open(1));
    assert_eq!(read(&mut one, 0, 250).await.len(), 250);
    rig.brokers.world().hang_ups = 1;
    rig.brokers.world().throttled = 2;
    assert_eq!(read(&mut one, 250, 500).await.len(), 250);
    assert_eq!(read(&mut two, 0, 500).await.len(), 500);
    drop((one, two));
    rig.stop().await;
}

#[tokio::test]
async fn a_partition_whose_leader_moved_is_read_on_there_and_its_neighbours_stay() {
    let rig = Rig::simple(2, world([dense(10, 10), dense(10, 10)])).await;
    let (mut moving, mut staying) = (rig.open(0), rig.open(1));
    read(&mut moving, 0, 10).await;
    read(&mut staying, 0, 10).await;
    {
        let mut world = rig.brokers.world();
        // The old leader names the new one (KIP-951); metadata does not know it yet.
        world.stale_leaders.insert(0, 1);
        for log in world.logs.values_mut() {
            log.batches.push(batch(10..20, 10));
            log.last_stable = 20;
        }
        let log = world.logs.get_mut(&0).expect("the partition");
        (log.leader, log.epoch) = (2, 2);
    }
    assert_eq!(read(&mut moving, 10, 20).await.len(), 10);
    assert_eq!(read(&mut staying, 10, 20).await.len(), 10);
    drop((moving, staying));
    rig.stop().await;
}

#[tokio::test]
async fn codes_that_pass_are_waited_out_and_those_that_do_not_reach_only_their_reader() {
    let coded = |codes: &[i16]| Log { codes: codes.iter().copied().collect(), ..dense(5, 10) };
    let logs = [
        coded(&[5, 6, 9, 56, 75, 78]),
        coded(&[3, 100, 103, -1]),
        coded(&[2]),
        coded(&[2, 2]),
        coded(&[29]),
        coded(&[1]),
        coded(&[]),
    ];
    let rig = Rig::simple(1, world(logs)).await;
    let mut readers: Vec<_> = (0..7).map(|partition| rig.open(partition)).collect();
    for good in [6, 0, 1, 2] {
        assert_eq!(read(&mut readers[good], 0, 5).await.len(), 5, "partition {good}");
    }
    // In range after all: tried again in silence.
    assert_eq!(read(&mut readers[5], 0, 5).await.len(), 5);
    let denied = failure(readers.remove(4)).await;
    assert!(denied.kind == ErrorKind::Denied && denied.message.contains("grant Read on topic orders"), "{denied}");
    assert_eq!(failure(readers.remove(3)).await.kind, ErrorKind::Corrupt);
    drop(readers);
    rig.stop().await;
}

#[tokio::test]
async fn a_batch_damaged_at_the_broker_ends_its_reader_behind_the_good_ones() {
    let mut damaged = dense(3, 10);
    damaged.batches[2] = {
        let mut bytes = damaged.batches[2].bytes.to_vec();
        // A data batch that claims to be a marker.
        bytes[22] |= 1 << 5;
        RawBatch::parse(bytes.into()).expect("a header")
    };
    let rig = Rig::simple(1, world([damaged])).await;
    let mut reader = rig.open(0);
    assert_eq!(read(&mut reader, 0, 2).await, [0, 1]);
    let error = failure(reader).await;
    assert!(error.kind == ErrorKind::Corrupt && error.message.contains("paris: orders/0"), "{error}");
    rig.stop().await;
}

#[tokio::test]
async fn a_thousand_partitions_share_one_connection_and_rarely_ask_while_idle() {
    let rig = Rig::simple(1, world((0..1000).map(|_| dense(1, 10)))).await;
    let mut readers: Vec<_> = (0..1000).map(|partition| rig.open(partition)).collect();
    for reader in &mut readers {
        assert_eq!(read(reader, 0, 1).await, [0]);
    }
    // Joining is over; then the fetches are long ones.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let before: usize = rig.brokers.world().fetches.values().sum();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let fetches = rig.brokers.world().fetches.clone();
    assert_eq!(fetches.len(), 1, "connections that fetched");
    assert!(
        fetches.values().sum::<usize>() - before <= 6,
        "{} fetches in 2 s",
        fetches.values().sum::<usize>() - before
    );
    assert_eq!(rig.brokers.world().sessions.named.last(), Some(&0), "nothing had changed");
    // Left out of an answer they are said to end where they did.
    let heard = |reader: &dyn Reader| reader.ends().and_then(|ends| ends.last_told()).expect("it is told");
    for reader in &readers {
        let ends = heard(&**reader);
        assert_eq!(ends.bounds.high_watermark, Offset(1));
        assert!(ends.at.elapsed() < Duration::from_secs(1), "{:?}", ends.at.elapsed());
    }
    // One that wakes is seen although the others stay idle.
    {
        let mut world = rig.brokers.world();
        let log = world.logs.get_mut(&777).expect("the partition");
        log.batches.push(batch(1..2, 10));
        log.last_stable = 2;
    }
    assert_eq!(read(&mut readers[777], 1, 2).await, [1]);
    assert_eq!(heard(&*readers[777]).bounds.high_watermark, Offset(2));
    let ends = readers[777].ends().expect("a fetch hears them");
    drop(readers);
    assert_eq!(ends.last_told(), None, "nobody fetches it any more");
    rig.stop().await;
}

#[tokio::test]
async fn whatever_becomes_of_a_session_every_partition_is_read_on() {
    const PARTITIONS: i32 = 200;
    let grow = |rig: &Rig, rest: i32, from: i64| {
        let mut world = rig.brokers.world();
        for (_, log) in world.logs.iter_mut().filter(|(partition, _)| **partition % 7 == rest) {
            log.batches.push(batch(from..from + 1, 10));
            log.last_stable = from + 1;
        }
    };
    let rig = Rig::simple(2, world((0..PARTITIONS).map(|_| dense(1, 10)))).await;
    let mut readers: Vec<_> = (0..PARTITIONS).map(|partition| (partition, rig.open(partition), 0)).collect();
    for round in 0..5 {
        for (partition, reader, next) in &mut readers {
            let end = if *partition % 7 == round - 1 { *next + 1 } else { *next };
            let end = end.max(1);
            assert_eq!(read(reader, *next, end).await.len() as i64, end - *next, "{partition}, round {round}");
            *next = end;
        }
        let mut world = rig.brokers.world();
        match round {
            0 => {}
            1 => world.sessions.lose(),
            2 => world.hang_ups = 1,
            3 => {
                world.sessions.are_full = true;
                world.sessions.lose();
            }
            _ => {
                world.sessions.are_full = false;
                for (_, log) in world.logs.iter_mut().filter(|(partition, _)| **partition > 150) {
                    (log.leader, log.epoch) = (2, 2);
                }
            }
        }
        drop(world);
        // Who leaves is forgotten by the broker too.
        readers.retain(|(partition, ..)| partition % 11 != round);
        grow(&rig, round, 1);
    }
    for (partition, reader, next) in &mut readers {
        let end = if *partition % 7 == 4 { *next + 1 } else { *next };
        assert_eq!(read(reader, *next, end).await.len() as i64, end - *next, "{partition}, at the end");
    }
    // The first, the one after it hung up, and that to the other broker: a lost session costs none.
    assert_eq!(rig.brokers.world().fetches.len(), 3, "connections that fetched");
    drop(readers);
    rig.stop().await;
}

#[tokio::test]
async fn readers_end_with_an_error_when_the_scope_stops() {
    let rig = Rig::simple(1, world([dense(0, 10)])).await;
    let reader = rig.open(0);
    rig.stop().await;
    assert_eq!(failure(reader).await.kind, ErrorKind::Retryable);
}
