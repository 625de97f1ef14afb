//! The shared fetch on real brokers: what its readers yield is what an independent reader of the same log sees.

mod support;

use std::time::{Duration, Instant};

use support::batch::{Batch, Codec, open};
use support::load::{Load, LoadSpec};
use support::raw::{Client, Election};
use support::record::{Record, Stored};
use support::view::{Seen, View};
use support::{Cluster, ClusterSpec, shared_source, unique, until, until_some};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use twinlog::endpoint::{Error, ErrorKind, Reader, Security, Source};
use twinlog::model::{LeaderEpoch, Offset, Payload, Route, TopicPartition};
use twinlog::runtime::memory::MemoryBudget;
use twinlog::runtime::tasks::TaskScope;
use twinlog::wire::fetch::{FetchSettings, FetchSource};

/// What a reader may take for its next batch before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A source under test.
struct Rig {
    runtime: Runtime,
    cluster: twinlog::wire::Cluster,
    source: FetchSource,
    budget: MemoryBudget,
    scope: TaskScope,
}

impl Rig {
    fn new(cluster: &Cluster) -> Rig {
        Self::sized(cluster, 16 << 20, FetchSettings::for_budget(16 << 20))
    }

    fn sized(cluster: &Cluster, budget_bytes: u64, settings: FetchSettings) -> Rig {
        let runtime = Runtime::new().expect("a runtime");
        let _entered = runtime.enter();
        let cluster = twinlog::wire::Cluster::new("source", &cluster.bootstrap(), Security::default(), "fetch-test");
        let (budget, scope) = (MemoryBudget::new(budget_bytes), TaskScope::new());
        let source = FetchSource::new(cluster.clone(), budget.clone(), scope.clone(), settings);
        drop(_entered);
        Rig { runtime, cluster, source, budget, scope }
    }

    fn open(&self, topic: &str, partition: i32, from: i64) -> Reading<'_> {
        let at = TopicPartition::new(topic, partition);
        let leader = self.runtime.block_on(self.cluster.leader(&at)).expect("a leader");
        let route = Route { source: at.clone(), source_id: leader.topic_id, target: at, target_id: None };
        let reader = self.source.open(&route, Offset(from), LeaderEpoch::UNKNOWN);
        Reading { rig: self, reader, next: from, seen: Vec::new(), data_batches: 0 }
    }

    /// Stops everything; nothing of the budget may be left in use.
    fn stop(self) {
        self.runtime.block_on(self.scope.stop());
        assert_eq!(self.budget.used_bytes(), 0, "memory is still taken");
    }
}

/// A reader, with what it has yielded.
struct Reading<'a> {
    rig: &'a Rig,
    reader: Box<dyn Reader>,
    next: i64,
    seen: Vec<Seen>,
    data_batches: usize,
}

impl Reading<'_> {
    /// Reads one batch.
    fn read(&mut self) -> Result<(), Error> {
        let next = self.rig.runtime.block_on(async { timeout(PATIENCE, self.reader.next()).await });
        let batch = next.unwrap_or_else(|_| panic!("nothing came at offset {}", self.next))?;
        assert_eq!(batch.range.start.0, self.next, "a gap or an overlap");
        assert!(!batch.range.is_empty());
        self.next = batch.range.end.0;
        match batch.payload {
            Payload::Empty => assert!(batch.permit.is_none()),
            Payload::Batches(encoded) => {
                assert!(batch.permit.is_some(), "bytes without memory taken for them");
                let opened = open(&encoded.bytes).expect("whole batches with good checksums");
                let records: Vec<Record> = opened.into_iter().flat_map(|b| b.records).map(|r| r.record).collect();
                let offsets = encoded.runs.iter().flat_map(|run| run.start.0..run.start.0 + i64::from(run.length));
                let offsets: Vec<i64> = offsets.collect();
                assert_eq!((records.len(), encoded.records as usize), (offsets.len(), offsets.len()));
                assert!(offsets.iter().all(|offset| batch.range.contains(Offset(*offset))));
                let stored = offsets.into_iter().zip(records);
                let stored = stored.map(|(offset, record)| Stored { offset, append_time: false, record });
                self.seen.extend(stored.map(|stored| Seen::of(&stored)));
                self.data_batches += 1;
            }
        }
        Ok(())
    }

    fn read_to(&mut self, end: i64) {
        while self.next < end {
            self.read().unwrap_or_else(|error| panic!("at offset {}: {error}", self.next));
        }
        assert_eq!(self.next, end, "read beyond what is stable");
    }

    fn fails(&mut self) -> Error {
        loop {
            if let Err(error) = self.read() {
                return error;
            }
        }
    }

    /// Reads to where the independent view ends and compares.
    fn matches(&mut self, view: &View) {
        let from = self.next;
        self.read_to(view.next());
        let expected: Vec<&Seen> = view.seen().iter().filter(|seen| seen.offset >= from).collect();
        assert_eq!(self.seen.iter().filter(|seen| seen.offset >= from).collect::<Vec<_>>(), expected);
    }

    /// Whether nothing comes for a while.
    fn is_quiet(&mut self) -> bool {
        let next = self.rig.runtime.block_on(async { timeout(Duration::from_millis(700), self.reader.next()).await });
        next.is_err()
    }
}

fn orders(first: u64, count: u64, size: usize) -> Vec<Record> {
    (first..first + count).map(|id| Record::order(id, size)).collect()
}

/// All that is committed, once every transaction is decided (its markers are written after its end is answered).
fn view(client: &Client, topic: &str, partition: i32) -> View {
    until_some(PATIENCE, "every transaction is decided", || {
        let view = View::read(client, topic, partition).expect("an independent view");
        (view.next() == client.bounds(topic, partition).expect("the log's ends").1).then_some(view)
    })
}

#[test]
fn many_partitions_in_every_codec_come_as_stored() {
    let (client, topic) = (shared_source().client(), unique("codecs"));
    client.create_topic(&topic, 6, &[]).expect("created");
    let mut sent = 0;
    for (turn, codec) in (0..120).zip(Codec::ALL.into_iter().cycle()) {
        let records = orders(turn * 100, 1 + turn % 40, 400);
        client.produce(&topic, (turn % 6) as i32, &Batch::of(records, codec).encode()).expect("written");
        sent += 1;
    }
    let rig = Rig::new(shared_source());
    let mut readings: Vec<Reading> = (0..6).map(|partition| rig.open(&topic, partition, 0)).collect();
    for (partition, reading) in (0..).zip(&mut readings) {
        reading.matches(&view(client, &topic, partition));
    }
    assert_eq!(readings.iter().map(|r| r.data_batches).sum::<usize>(), sent, "batches were merged or split");
    // Live: what is written now arrives while the fetch waits for it.
    for round in 0..3 {
        for (partition, reading) in (0..).zip(&mut readings) {
            let records = orders(50_000 + round, 1, 100);
            client.produce(&topic, partition, &Batch::of(records, Codec::None).encode()).expect("written");
            reading.matches(&view(client, &topic, partition));
        }
    }
    drop(readings);
    rig.stop();
}

#[test]
fn aborted_records_never_come_and_open_transactions_wait() {
    let (client, topic) = (shared_source().client(), unique("transactions"));
    client.create_topic(&topic, 2, &[]).expect("created");
    let (first, second) = (unique("first"), unique("second"));
    let mut first = client.producer(Some(&first)).expect("a producer");
    let mut second = client.producer(Some(&second)).expect("a producer");
    let mut id = 0;
    let mut batch = |count, codec| {
        id += count;
        Batch::of(orders(id - count, count, 200), codec)
    };
    for round in 0..12 {
        let (mut one, mut two) = (first.begin(), second.begin());
        for partition in 0..2 {
            one.send(&topic, partition, &batch(3, Codec::Lz4)).expect("written");
            two.send(&topic, partition, &batch(2, Codec::None)).expect("written");
            one.send(&topic, partition, &batch(1, Codec::Zstd)).expect("written");
            client.produce(&topic, partition, &batch(2, Codec::None).encode()).expect("written");
        }
        if round % 2 == 0 { one.commit() } else { one.abort() }.expect("ended");
        if round % 3 == 0 { two.commit() } else { two.abort() }.expect("ended");
    }
    let rig = Rig::new(shared_source());
    for partition in 0..2 {
        let view = view(client, &topic, partition);
        assert!(view.seen().len() > 24 && view.seen().len() < view.next() as usize - 24, "no test without both");
        // From every offset: in mid-batch, mid-transaction, on markers.
        for from in 0..view.next() {
            rig.open(&topic, partition, from).matches(&view);
        }
    }
    let mut reading = rig.open(&topic, 0, 0);
    reading.matches(&view(client, &topic, 0));
    let mut open = first.begin();
    open.send(&topic, 0, &batch(5, Codec::None)).expect("written");
    client.produce(&topic, 0, &batch(1, Codec::None).encode()).expect("written");
    assert!(reading.is_quiet(), "an undecided transaction was read");
    open.commit().expect("committed");
    let before = reading.seen.len();
    reading.matches(&view(client, &topic, 0));
    assert_eq!(reading.seen.len(), before + 6);
    drop(reading);
    rig.stop();
}

#[test]
fn what_compaction_removed_comes_as_proven_holes() {
    let (client, topic) = (shared_source().client(), unique("compacted"));
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("delete.retention.ms", "0"),
        ("min.compaction.lag.ms", "0"),
    ];
    client.create_topic(&topic, 1, &configs).expect("created");
    let keyed = |key: u64, id: u64| Record { key: Some(format!("key {key}").into_bytes()), ..Record::order(id, 120) };
    let mut id = 0;
    for round in 0..20u64 {
        let codec = Codec::ALL[round as usize % 5];
        let records = (0..30u64).map(|n| {
            id += 1;
            // Some keys are written once, most again and again.
            keyed(if n % 7 == 0 { 1_000 + id } else { (n * round) % 13 }, id)
        });
        client.produce(&topic, 0, &Batch::of(records.collect(), codec).encode()).expect("written");
    }
    until(PATIENCE, "the cleaner has removed records", || {
        id += 1;
        client.produce(&topic, 0, &Batch::of(vec![keyed(0, id)], Codec::None).encode()).expect("written");
        std::thread::sleep(Duration::from_millis(200));
        view(client, &topic, 0).seen().len() < 300
    });
    let rig = Rig::new(shared_source());
    for from in [0, 1, 17, 100, 333] {
        // The cleaner goes on meanwhile: try until nothing changed around a reading.
        until(PATIENCE, "a reading between two cleanings", || {
            let before = view(client, &topic, 0);
            let mut reading = rig.open(&topic, 0, from);
            reading.read_to(before.next());
            let unchanged = view(client, &topic, 0).seen() == before.seen();
            if unchanged {
                let expected: Vec<Seen> = before.seen().iter().filter(|seen| seen.offset >= from).copied().collect();
                assert_eq!(reading.seen, expected);
            }
            unchanged
        });
    }
    rig.stop();
}

#[test]
fn offsets_outside_the_log_are_told_with_its_ends() {
    let (client, topic) = (shared_source().client(), unique("ends"));
    client.create_topic(&topic, 1, &[]).expect("created");
    client.produce(&topic, 0, &Batch::of(orders(0, 10, 100), Codec::None).encode()).expect("written");
    client.produce(&topic, 0, &Batch::of(orders(10, 10, 100), Codec::None).encode()).expect("written");
    client.delete_records(&topic, 0, 7).expect("deleted");
    let rig = Rig::new(shared_source());
    let error = rig.open(&topic, 0, 3).fails();
    assert_eq!(error.kind, ErrorKind::BelowLogStart(Offset(7)), "{error}");
    let error = rig.open(&topic, 0, 21).fails();
    assert_eq!(error.kind, ErrorKind::Truncated(Offset(20)), "{error}");
    assert!(error.message.contains(&topic) && error.message.contains("source"), "{error}");
    rig.open(&topic, 0, 7).matches(&view(client, &topic, 0));
    rig.stop();
}

#[test]
fn a_topic_created_again_is_not_read_on() {
    let (client, topic) = (shared_source().client(), unique("again"));
    client.create_topic(&topic, 1, &[]).expect("created");
    client.produce(&topic, 0, &Batch::of(orders(0, 3, 100), Codec::None).encode()).expect("written");
    let rig = Rig::new(shared_source());
    let mut reading = rig.open(&topic, 0, 0);
    reading.read_to(3);
    client.delete_topic(&topic).expect("deleted");
    client.create_topic(&topic, 1, &[]).expect("created");
    client.produce(&topic, 0, &Batch::of(orders(50, 9, 100), Codec::None).encode()).expect("written");
    let error = reading.fails();
    assert_eq!((error.kind, reading.next), (ErrorKind::Recreated, 3), "{error}");
    drop(reading);
    rig.stop();
}

#[test]
fn a_reader_that_stalls_holds_up_nobody_and_loses_nothing() {
    let (client, topic) = (shared_source().client(), unique("stalled"));
    client.create_topic(&topic, 8, &[]).expect("created");
    for turn in 0..64 {
        let batch = Batch::of(orders(turn * 100, 100, 2_000), Codec::None);
        client.produce(&topic, (turn % 8) as i32, &batch.encode()).expect("written");
    }
    // 12.8 MB through 1 MiB, of which six stalled readers would like to keep everything.
    let mut settings = FetchSettings::for_budget(1 << 20);
    settings.near.buffered_bytes = 1 << 20;
    let rig = Rig::sized(shared_source(), 1 << 20, settings);
    let mut readings: Vec<Reading> = (0..8).map(|partition| rig.open(&topic, partition, 0)).collect();
    for (partition, reading) in (6..).zip(&mut readings[6..]) {
        reading.matches(&view(client, &topic, partition));
    }
    for (partition, reading) in (0..).zip(&mut readings[..6]) {
        reading.matches(&view(client, &topic, partition));
    }
    drop(readings);
    rig.stop();
}

#[test]
fn batches_larger_than_any_limit_come_whole_in_their_turn() {
    let (client, topic) = (shared_source().client(), unique("large"));
    client.create_topic(&topic, 5, &[("max.message.bytes", "4000000")]).expect("created");
    for turn in 0..20u64 {
        let size = if turn % 3 == 0 { 900_000 } else { 3_000 };
        let batch = Batch::of(orders(turn * 10, 2, size), Codec::None);
        client.produce(&topic, (turn % 5) as i32, &batch.encode()).expect("written");
    }
    let mut settings = FetchSettings::for_budget(256 << 10);
    settings.near.partition_bytes = 16 << 10;
    let rig = Rig::sized(shared_source(), 256 << 10, settings);
    let mut readings: Vec<Reading> = (0..5).map(|partition| rig.open(&topic, partition, 0)).collect();
    for (partition, reading) in (0..5).zip(&mut readings).rev() {
        reading.matches(&view(client, &topic, partition));
    }
    drop(readings);
    rig.stop();
}

#[test]
fn a_broker_that_is_killed_and_comes_back_is_read_on_without_an_error() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (client, topic) = (cluster.client(), unique("restart"));
    client.create_topic(&topic, 3, &[]).expect("created");
    let mut producer = client.producer(None).expect("a producer");
    let mut write = |first: u64| {
        for partition in 0..3 {
            let batch = Batch::of(orders(first + partition as u64 * 20, 20, 300), Codec::Lz4);
            producer.send(&topic, partition, &batch).expect("written");
        }
    };
    let rig = Rig::new(&cluster);
    write(0);
    let mut readings: Vec<Reading> = (0..3).map(|partition| rig.open(&topic, partition, 0)).collect();
    for (partition, reading) in (0..).zip(&mut readings) {
        reading.matches(&view(client, &topic, partition));
    }
    cluster.only().kill9();
    cluster.only().restart();
    write(1_000);
    for (partition, reading) in (0..).zip(&mut readings) {
        // Ended by patience only if the broker stayed away for long, which is named: then a new reader goes on.
        let view = view(client, &topic, partition);
        while reading.next < view.next() {
            if let Err(error) = reading.read() {
                assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
                let seen = std::mem::take(&mut reading.seen);
                *reading = Reading { seen, ..rig.open(&topic, partition, reading.next) };
            }
        }
        assert_eq!(reading.seen, view.seen());
    }
    drop(readings);
    rig.stop();
}

/// How long a reader is not told of a leader that is away.
const TOLD_AFTER: Duration = Duration::from_secs(10);

#[test]
fn leaders_that_die_and_move_are_followed() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (client, topic) = (cluster.client(), unique("moving"));
    client.create_topic(&topic, 6, &[]).expect("created");
    let load = Load::start(cluster.brokers().iter().map(|b| b.inner_address()).collect(), LoadSpec::new(&topic, 6));
    let rig = Rig::new(&cluster);
    let mut readings: Vec<Reading> = (0..6).map(|partition| rig.open(&topic, partition, 0)).collect();
    readings.iter_mut().for_each(|reading| reading.read().expect("a first batch"));
    let mut longest = Duration::ZERO;
    for id in [1, 2] {
        let (written, killed) = (load.acknowledged(), Instant::now());
        cluster.broker(id).kill9();
        until(PATIENCE, "writing goes on without it", || load.acknowledged() > written + 500);
        longest = longest.max(killed.elapsed());
        cluster.broker(id).restart();
        // Leaders go back to where they were, without any broker going away; and the next outage is one of its own.
        for partition in 0..6 {
            let elected = || client.elect(&topic, partition, Election::Preferred);
            until(PATIENCE, "the preferred replica is in sync", || elected().is_ok());
        }
    }
    let written = load.acknowledged();
    until(PATIENCE, "writing goes on", || load.acknowledged() > written + 500);
    load.stop();
    let mut reopened = 0;
    for (partition, reading) in (0..).zip(&mut readings) {
        let view = view(client, &topic, partition);
        while reading.next < view.next() {
            if let Err(error) = reading.read() {
                assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
                let (seen, next) = (std::mem::take(&mut reading.seen), reading.next);
                *reading = Reading { seen, ..rig.open(&topic, partition, next) };
                reopened += 1;
            }
        }
        assert_eq!(reading.seen, view.seen(), "partition {partition}");
    }
    // A busy machine may take that long over an election; the second half is for finding the leader then.
    println!("leaders were away for {longest:?} at most, {reopened} readers were told");
    assert!(reopened == 0 || longest > TOLD_AFTER / 2, "{reopened} readers were told, for {longest:?}");
    drop(readings);
    rig.stop();
}

#[test]
fn a_replica_in_our_rack_is_read_and_when_it_dies_another() {
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let spec = ClusterSpec { proxied: true, ..ClusterSpec::three() }.with("replica.selector.class", selector);
    let cluster = Cluster::start(spec);
    let (client, topic) = (cluster.client(), unique("racks"));
    client.create_topic(&topic, 1, &[]).expect("created");
    let leader = client.leader(&topic, 0).expect("a leader");
    let follower = 1 + leader % 3;
    let mut producer = client.producer(None).expect("a producer");
    let mut write = |first: u64| {
        producer.send(&topic, 0, &Batch::of(orders(first, 50, 300), Codec::Lz4)).expect("written");
    };
    let rack = Some(format!("rack-{follower}"));
    let rig = Rig::sized(&cluster, 16 << 20, FetchSettings { rack, ..FetchSettings::for_budget(16 << 20) });
    write(0);
    let mut reading = rig.open(&topic, 0, 0);
    reading.matches(&view(client, &topic, 0));
    // Nobody reaches the leader from outside; its followers and the oracle do.
    cluster.broker(leader).proxy().cut();
    write(50);
    reading.matches(&view(client, &topic, 0));
    cluster.broker(leader).proxy().mend();
    cluster.broker(follower).kill9();
    write(100);
    reading.matches(&view(client, &topic, 0));
    assert_eq!(reading.seen.len(), 150);
    drop(reading);
    rig.stop();
}
