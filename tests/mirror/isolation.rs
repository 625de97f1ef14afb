//! P5 and P7: what happens to one partition neither slows its neighbours nor takes more memory than is budgeted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::*;
use crate::support::raw::Isolation;
use crate::support::{ClusterSpec, batch, shared_pair, shared_source, until};

/// Pause between two records of a probe.
const BEAT: Duration = Duration::from_millis(5);
/// Records that are enough to speak of a 99th percentile.
const ENOUGH: usize = 200;
/// How long an undisturbed neighbour is watched, and a disturbed one at least.
const WATCHED: Duration = Duration::from_secs(3);

/// Writes one record after the other into a topic at the source and notes when each can be read on the target.
struct Probe {
    stop: Arc<AtomicBool>,
    sent: Arc<Mutex<Vec<Instant>>>,
    /// When each was seen, by id; ids count from 0.
    seen: Arc<Mutex<Vec<Instant>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Probe {
    /// Begins with a topic that exists at the source.
    fn start(source: &Cluster, target: &Cluster, topic: &str) -> Probe {
        let mut probe = Probe { stop: Arc::default(), sent: Arc::default(), seen: Arc::default(), threads: Vec::new() };
        let (stop, sent, name) = (probe.stop.clone(), probe.sent.clone(), topic.to_owned());
        // Connections of their own: what the test does besides must not be in their way.
        let (writer, reader) = (Client::new(addresses(source)), Client::new(addresses(target)));
        probe.threads.push(thread::spawn(move || {
            for id in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // The moment before it is handed over: a slow source counts, as it does in the baseline.
                sent.lock().unwrap().push(Instant::now());
                write(&writer, &name, 0, orders(id..id + 1), Codec::None);
                thread::sleep(BEAT);
            }
        }));
        let (stop, seen, name) = (probe.stop.clone(), probe.seen.clone(), topic.to_owned());
        probe.threads.push(thread::spawn(move || {
            let mut next = 0;
            while !stop.load(Ordering::Relaxed) {
                // Answers as soon as there is something; the topic itself may not be there yet.
                let Ok(section) = reader.fetch(&name, 0, next, Isolation::Committed) else { continue };
                let now = Instant::now();
                for batch in batch::open(&section.bytes).expect("whole batches") {
                    let fresh = batch.records.iter().filter(|record| record.offset >= next).count();
                    seen.lock().unwrap().extend(std::iter::repeat_n(now, fresh));
                    next = batch.last_offset + 1;
                }
            }
        }));
        probe
    }

    /// How many have arrived.
    fn arrived(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The 99th percentile of what was sent between two moments, all of which is waited for.
    fn p99(&self, from: Instant, to: Instant) -> Duration {
        let sent: Vec<Instant> = self.sent.lock().unwrap().clone();
        let (first, last) = (sent.partition_point(|at| *at < from), sent.partition_point(|at| *at < to));
        assert!(last - first >= ENOUGH, "too few records to speak of a 99th percentile: {}", last - first);
        until(SOON, "the neighbour's records are all on the target", || self.arrived() >= last);
        let seen = self.seen.lock().unwrap();
        let mut took: Vec<Duration> = (first..last).map(|id| seen[id] - sent[id]).collect();
        took.sort();
        took[took.len() * 99 / 100]
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic of theirs has been printed, and shows as records that do not arrive.
            let _ = thread.join();
        }
    }
}

/// A neighbour that is mirrored, and beside it what the two clusters take for the same without Twinlog between them.
struct Neighbour {
    mirrored: Probe,
    unmirrored: [Probe; 2],
}

/// 99th percentiles of one time.
#[derive(Debug, Clone, Copy)]
struct Delays {
    /// From the source to the target.
    mirrored: Duration,
    /// Into the source and out of it, and into the target and out of it: what is not Twinlog's.
    clusters: Duration,
}

impl Neighbour {
    fn start(source: &Cluster, target: &Cluster, topic: &str) -> Neighbour {
        source.client().create_topic(topic, 1, &[]).unwrap();
        let unmirrored = [source, target].map(|cluster| {
            let topic = unique("unmirrored");
            cluster.client().create_topic(&topic, 1, &[]).unwrap();
            Probe::start(cluster, cluster, &topic)
        });
        Neighbour { mirrored: Probe::start(source, target, topic), unmirrored }
    }

    fn delays(&self, from: Instant, to: Instant) -> Delays {
        let mirrored = self.mirrored.p99(from, to);
        Delays { mirrored, clusters: self.unmirrored.iter().map(|probe| probe.p99(from, to)).sum() }
    }

    /// Watches on until so long after `from`, and longer where a loaded machine writes but slowly.
    fn watch(&self, from: Instant, least: Duration) -> Delays {
        let sent = |probe: &Probe| {
            let sent = probe.sent.lock().unwrap();
            sent.len() - sent.partition_point(|at| *at < from)
        };
        let enough = || [&self.mirrored].into_iter().chain(&self.unmirrored).all(|probe| sent(probe) > ENOUGH);
        until(2 * SOON, "the neighbour was watched for long enough", || from.elapsed() >= least && enough());
        self.delays(from, Instant::now())
    }

    /// While nothing else happens.
    fn baseline(&self) -> Delays {
        until(SOON, "what starts slowly has started", || self.mirrored.arrived() > 300);
        self.watch(Instant::now(), WATCHED)
    }
}

/// What the neighbour may take: three times what it took before, and a floor for what a baseline of few milliseconds cannot
/// contain: a turn of the scheduler, a collection of garbage, and the questions that a leader answers before a write on the
/// same connection when another partition is opened (some 15 ms while it creates topics on this test bed). That is the promise, held by soak on a machine of its
/// own. In `make test` other tests load the same two cores and brokers: what the clusters themselves take meanwhile is
/// granted too, and the bound tells a queue behind the disturbance from none.
fn bound(before: Delays, meanwhile: Delays) -> Duration {
    if rounds(0, 1) == 1 {
        3 * before.mirrored + Duration::from_millis(50)
    } else {
        3 * (before.mirrored + meanwhile.clusters) + Duration::from_millis(100)
    }
}

#[test]
fn many_topics_added_at_once_do_not_slow_a_neighbour() {
    let (source, target) = shared_pair();
    let (prefix, count) = (unique("added"), rounds(40, 200));
    let neighbour = format!("{prefix}-neighbour");
    let mirror = twinlog(link(source, target, &[&format!("{prefix}.*")], &[]));
    mirror.start_ready();
    let neighbour = Neighbour::start(source, target, &neighbour);
    let before = neighbour.baseline();
    let began = Instant::now();
    let names: Vec<String> = (0..count).map(|n| format!("{prefix}-{n}")).collect();
    source.client().create_topics(&names, 1, &[]).unwrap();
    for name in &names {
        write(source.client(), name, 0, orders(0..10), Codec::Lz4);
    }
    for name in &names {
        twins(source, target, name).settle(SOON);
    }
    let took = began.elapsed();
    let meanwhile = neighbour.watch(began, WATCHED);
    println!("{count} topics added and copied in {took:?}: neighbour {before:?} before, {meanwhile:?} meanwhile");
    assert!(meanwhile.mirrored < bound(before, meanwhile), "{meanwhile:?}, {before:?} before");
}

#[test]
fn many_stalled_partitions_are_each_named_and_do_not_slow_a_neighbour() {
    let (source, target) = shared_pair();
    let (prefix, count) = (unique("stalled"), rounds(100, 1000) as i32);
    let (neighbour, stalled) = (format!("{prefix}-neighbour"), format!("{prefix}-all"));
    let mirror = twinlog(link(source, target, &[&format!("{prefix}.*")], &[]));
    mirror.start_ready();
    let neighbour = Neighbour::start(source, target, &neighbour);
    let before = neighbour.baseline();
    // Strangers' records in each target partition: none of them can be copied until an operator decides.
    for (cluster, ids) in [(target, 500..501), (source, 0..10)] {
        cluster.client().create_topic(&stalled, count, &[]).unwrap();
        for partition in 0..count {
            write(cluster.client(), &stalled, partition, orders(ids.clone()), Codec::None);
        }
    }
    let halted = || -> usize {
        let (_, body) = mirror.get("/v1/links").expect("the daemon answers");
        let links: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let partitions = links[0]["partitions"].as_array().expect("a list").iter();
        let named = |p: &&serde_json::Value| {
            p["source"]["topic"] == stalled && p["state"] == "halted" && p["reason"] == "TARGET_NOT_EMPTY"
        };
        partitions.filter(named).filter(|p| p["ways_out"].as_array().is_some_and(|ways| !ways.is_empty())).count()
    };
    until(SOON, "each of them is named", || halted() == count as usize);
    let began = Instant::now();
    // In soak past the half minute after which halted partitions look again.
    let meanwhile = neighbour.watch(began, WATCHED * rounds(1, 12) as u32);
    println!("{count} partitions stalled: neighbour {before:?} before, {meanwhile:?} meanwhile");
    assert!(meanwhile.mirrored < bound(before, meanwhile), "{meanwhile:?}, {before:?} before");
    assert_eq!(halted(), count as usize);
}

/// The backlog grows while the target answers nothing: what Twinlog holds of it is bounded by its budget, not by the
/// backlog.
#[test]
fn a_frozen_target_costs_no_memory_beyond_the_budget_and_nothing_is_lost() {
    const MIB: u64 = 1 << 20;
    const BUDGET: u64 = 4 * MIB;
    let source = shared_source();
    let target = Cluster::start(ClusterSpec::default());
    let topic = unique("backlog");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let setup = link(source, &target, &[&topic], &[]).and("[memory]\nbudget = \"4MiB\"");
    let mirror = twinlog(setup);
    mirror.start_ready();
    let mut next = 0_u64;
    let mut produce = |mib: usize| {
        for turn in 0..mib {
            // 64 records of 16 KiB less some room for keys and headers: a batch of just below 1 MiB.
            let records = (next..next + 64).map(|id| Record::order(id, 16_000)).collect();
            next += 64;
            write(source.client(), &topic, (turn % 3) as i32, records, Codec::None);
        }
    };
    // Buffers, connections and allocator arenas of the normal flow belong to the baseline.
    produce(12);
    twins(source, &target, &topic).settle(SOON);
    let before = mirror.usage().peak_bytes;
    let backlog = rounds(48, 1024);
    target.only().pause();
    produce(12);
    // Before the lease is over, after which nothing is read any more.
    let used = || mirror.metric("twinlog_memory_used_bytes").unwrap_or(0.0);
    until(SOON, "what is read and cannot be written fills memory", || used() >= MIB as f64);
    produce(backlog - 12);
    let during = mirror.usage().peak_bytes;
    target.only().resume();
    twins(source, &target, &topic).settle(4 * SOON);
    let after = mirror.usage().peak_bytes;
    let mib = |bytes: u64| bytes / MIB;
    println!("{backlog} MiB behind: peak {} MiB before, {} frozen, {} after", mib(before), mib(during), mib(after));
    mirror.assert_running();
    // The budget was not full before, and the allocator keeps for a while what was freed: 1 to 9 MiB were seen. What grows
    // with the backlog is far beyond.
    let bound = 4 * BUDGET;
    for (when, peak) in [("while it was frozen", during), ("when all was copied", after)] {
        assert!(peak - before <= bound, "{} MiB more than before, {when}", mib(peak - before));
    }
}
