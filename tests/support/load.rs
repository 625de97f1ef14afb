//! A producer in the background that knows exactly which records the cluster has acknowledged.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::batch::{Batch, Codec};
use super::raw::{Client, Producer, Result};
use super::record::Record;
use super::unique;
use super::view::View;

/// What to write.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Topic.
    pub topic: String,
    /// Partitions written in turn, one batch each.
    pub partitions: i32,
    /// Codecs taken in turn, one batch each.
    pub codecs: Vec<Codec>,
    /// Records per batch, taken in turn.
    pub batch_records: Vec<u64>,
    /// Bytes per value.
    pub record_size: usize,
    /// Waited after each batch.
    pub pause: Duration,
    /// Every n-th batch is instead a transaction over all partitions; every second one of them aborts.
    pub transaction_every: Option<u64>,
    /// Its transactional id; one of its own when not set. A load under the id of a former one first ends what that one
    /// left open, as an application does that is started again.
    pub transactional_id: Option<String>,
    /// First id; two loads of one topic must not share ids.
    pub first_id: u64,
    /// Stops by itself after so many acknowledged records.
    pub records: u64,
}

impl LoadSpec {
    /// Batches of 1 to 50 records of 300 bytes in all codecs without end, and no transactions.
    pub fn new(topic: &str, partitions: i32) -> LoadSpec {
        LoadSpec {
            topic: topic.to_owned(),
            partitions,
            codecs: vec![Codec::None, Codec::Lz4, Codec::Zstd],
            batch_records: vec![10, 1, 50, 3],
            record_size: 300,
            pause: Duration::from_millis(5),
            transaction_every: None,
            transactional_id: None,
            first_id: 0,
            records: u64::MAX,
        }
    }
}

/// Ids by what became of them, per partition in the order of writing.
#[derive(Debug, Clone, Default)]
pub struct Written {
    /// Acknowledged (and committed).
    pub acknowledged: BTreeMap<i32, Vec<u64>>,
    /// In transactions that were aborted.
    pub aborted: BTreeMap<i32, Vec<u64>>,
    /// Sent, outcome unknown.
    pub uncertain: BTreeMap<i32, Vec<u64>>,
}

impl Written {
    /// How many records are acknowledged.
    pub fn records(&self) -> u64 {
        self.acknowledged.values().map(|ids| ids.len() as u64).sum()
    }

    /// Acknowledged ids that a view of their partition lacks, and aborted ones that it shows: both must be empty.
    pub fn held_against(&self, partition: i32, view: &View) -> (Vec<u64>, Vec<u64>) {
        let visible: std::collections::HashSet<u64> = view.seen().iter().filter_map(|s| s.id).collect();
        let ids = |of: &BTreeMap<i32, Vec<u64>>| of.get(&partition).cloned().unwrap_or_default();
        let lacking = ids(&self.acknowledged).into_iter().filter(|id| !visible.contains(id)).collect();
        let shown = ids(&self.aborted).into_iter().filter(|id| visible.contains(id)).collect();
        (lacking, shown)
    }
}

/// A load that runs; dropping it stops it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    written: Arc<Mutex<Written>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts writing through these PLAINTEXT addresses. Whatever breaks is tried again until it is stopped.
    pub fn start(bootstrap: Vec<SocketAddr>, spec: LoadSpec) -> Load {
        let mut load =
            Load { stop: Arc::default(), acknowledged: Arc::default(), written: Arc::default(), thread: None };
        let writer = Writer {
            client: Client::new(bootstrap).patient(Duration::from_secs(4)),
            next_id: spec.first_id,
            spec,
            stop: load.stop.clone(),
            acknowledged: load.acknowledged.clone(),
            written: load.written.clone(),
        };
        let thread =
            thread::Builder::new().name("load".into()).spawn(|| writer.run()).expect("a thread can be started");
        load.thread = Some(thread);
        load
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// What has been written so far.
    pub fn so_far(&self) -> Written {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops after the batch in hand.
    pub fn stop(mut self) -> Written {
        self.end();
        self.so_far()
    }

    /// Waits until `records` are written.
    pub fn finish(mut self) -> Written {
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the load does not panic");
        }
        self.so_far()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the load panicked");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.end();
    }
}

struct Writer {
    client: Client,
    spec: LoadSpec,
    next_id: u64,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    written: Arc<Mutex<Written>>,
}

impl Writer {
    fn run(mut self) {
        let client = Client::clone(&self.client);
        let Some(mut plain) = self.insist(|| client.producer(None)) else { return };
        let id = self.spec.transactional_id.clone().unwrap_or_else(|| unique("load"));
        let mut transactional = None;
        for turn in 0.. {
            if self.stopped() || self.acknowledged.load(Ordering::Relaxed) >= self.spec.records {
                return;
            }
            if self.spec.transaction_every.is_some_and(|every| turn % every == every - 1) {
                let commit = (turn / self.spec.transaction_every.unwrap_or(1)).is_multiple_of(2);
                if transactional.is_none() {
                    transactional = self.insist(|| client.producer(Some(&id)));
                }
                let Some(producer) = &mut transactional else { return };
                if !self.transaction(producer, turn, commit) {
                    // Its outcome is unknown; initialising again ends whatever is open and gets a new epoch.
                    transactional = None;
                }
            } else {
                let partition = (turn % self.spec.partitions as u64) as i32;
                let (batch, ids) = self.batch(turn);
                let topic = self.spec.topic.clone();
                let sent = self.insist(|| plain.send(&topic, partition, &batch));
                let became = |w: &mut Written| match sent {
                    Some(_) => w.acknowledged.entry(partition).or_default().extend(&ids),
                    None => w.uncertain.entry(partition).or_default().extend(&ids),
                };
                self.record(became);
            }
            thread::sleep(self.spec.pause);
        }
    }

    /// Whether its end is known.
    fn transaction(&mut self, producer: &mut Producer<'_>, turn: u64, commit: bool) -> bool {
        let batches: Vec<_> = (0..self.spec.partitions).map(|p| (p, self.batch(turn + p as u64))).collect();
        let mut transaction = producer.begin();
        let sent =
            batches.iter().try_for_each(|(p, (batch, _))| transaction.send(&self.spec.topic, *p, batch).map(drop));
        let ended = sent.and_then(|()| if commit { transaction.commit() } else { transaction.abort() });
        self.record(|written| {
            for (partition, (_, ids)) in &batches {
                let fate = match (&ended, commit) {
                    (Ok(()), true) => &mut written.acknowledged,
                    (Ok(()), false) => &mut written.aborted,
                    (Err(_), _) => &mut written.uncertain,
                };
                fate.entry(*partition).or_default().extend(ids);
            }
        });
        ended.is_ok()
    }

    fn batch(&mut self, turn: u64) -> (Batch, Vec<u64>) {
        let spec = &self.spec;
        let count = spec.batch_records[turn as usize % spec.batch_records.len()];
        let ids: Vec<u64> = (self.next_id..self.next_id + count).collect();
        let records = ids.iter().map(|id| Record::order(*id, spec.record_size)).collect();
        let batch = Batch::of(records, spec.codecs[turn as usize % spec.codecs.len()]);
        self.next_id += count;
        (batch, ids)
    }

    fn record(&self, change: impl FnOnce(&mut Written)) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut written);
        self.acknowledged.store(written.records(), Ordering::Relaxed);
    }

    /// Tries until it works; `None` when told to stop meanwhile.
    fn insist<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Option<T> {
        loop {
            match operation() {
                Ok(done) => return Some(done),
                Err(_) if self.stopped() => return None,
                Err(failure) => assert!(failure.passes(), "the load cannot write: {failure}"),
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
