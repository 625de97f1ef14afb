//! An application that reads one topic and writes another: one record out for each record in, with its id and in its
//! partition, and the group's position behind it. What it has committed as read, it has written.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::SOON;
use crate::support::record::Record;
use crate::support::unique;

/// How what is written and the position belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    /// Both in one transaction.
    Transactional,
    /// First what is written, acknowledged; then the position.
    AtLeastOnce,
}

/// Records of one step.
const STEP: usize = 100;

/// Bytes of what it writes: more than it reads, so that a copy of its output comes later than one of its input.
const OUTPUT: usize = 2_000;

/// One that runs; dropped, it ends.
pub struct Processor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    bootstrap: String,
    group: String,
    topics: (String, String),
    guarantee: Guarantee,
    /// One that begins again ends the transaction that it left open.
    transactional_id: String,
    stop: AtomicBool,
    done: AtomicU64,
}

impl Processor {
    /// Joins `group`, reads `from` and writes `to`, which has as many partitions.
    pub fn start(bootstrap: &str, group: &str, (from, to): (&str, &str), guarantee: Guarantee) -> Processor {
        let shared = Arc::new(Shared {
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            topics: (from.to_owned(), to.to_owned()),
            guarantee,
            transactional_id: unique("processor"),
            stop: AtomicBool::new(false),
            done: AtomicU64::new(0),
        });
        let its = shared.clone();
        let work = move || its.work();
        let thread = thread::Builder::new().name("processor".into()).spawn(work).expect("a thread can be started");
        Processor { shared, thread: Some(thread) }
    }

    /// Records read, written and committed so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Ends behind the step in hand; how many records were processed.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.done()
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("a processor panicked");
        }
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// As a service manager would: what fails begins again where the group stands.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.run() {
                eprintln!("the processor of {} begins again: {error}", self.group);
            }
        }
    }

    fn run(&self) -> KafkaResult<()> {
        let (from, to) = &self.topics;
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", &self.group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("session.timeout.ms", "6000")
            .create()?;
        consumer.subscribe(&[from])?;
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.bootstrap).set("linger.ms", "1");
        let transactional = self.guarantee == Guarantee::Transactional;
        if transactional {
            settings.set("transactional.id", &self.transactional_id);
        }
        let producer: BaseProducer<Reports> = settings.create_with_context(Reports::default())?;
        if transactional {
            producer.init_transactions(SOON)?;
        }
        while !self.stop.load(Ordering::Relaxed) {
            let inputs = inputs(&consumer)?;
            if inputs.is_empty() {
                continue;
            }
            let mut next = TopicPartitionList::new();
            if transactional {
                producer.begin_transaction()?;
            }
            for (partition, offset, id) in &inputs {
                let order = Record::order(*id, OUTPUT);
                let (key, value) = (order.key.unwrap_or_default(), order.value.unwrap_or_default());
                let record = BaseRecord::to(to).partition(*partition).key(&key).payload(&value);
                producer.send(record.timestamp(order.timestamp)).map_err(|(error, _)| error)?;
                // The last one of a partition stands.
                match next.find_partition(from, *partition) {
                    Some(mut at) => at.set_offset(Offset::Offset(offset + 1))?,
                    None => next.add_partition_offset(from, *partition, Offset::Offset(offset + 1))?,
                }
            }
            producer.flush(SOON)?;
            if let Some(error) = producer.context().failed() {
                return Err(error);
            }
            if transactional {
                let group = consumer.group_metadata().expect("it has a group");
                producer.send_offsets_to_transaction(&next, &group, SOON)?;
                producer.commit_transaction(SOON)?;
            } else {
                consumer.commit(&next, CommitMode::Sync)?;
            }
            self.done.fetch_add(inputs.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What can be read now, at most a step: partition, offset and id.
fn inputs(consumer: &BaseConsumer) -> KafkaResult<Vec<(i32, i64, u64)>> {
    let (mut inputs, mut patience) = (Vec::new(), Duration::from_millis(20));
    while inputs.len() < STEP
        && let Some(message) = consumer.poll(patience)
    {
        let message = message?;
        let order = Record { value: message.payload().map(<[u8]>::to_vec), ..Record::default() };
        inputs.push((message.partition(), message.offset(), order.id().expect("every order begins with its id")));
        patience = Duration::ZERO;
    }
    Ok(inputs)
}

/// Remembers the first record that could not be delivered.
#[derive(Default)]
struct Reports(Mutex<Option<KafkaError>>);

impl Reports {
    fn failed(&self) -> Option<KafkaError> {
        self.0.lock().expect("no panic while held").clone()
    }
}

impl ClientContext for Reports {}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = report {
            self.0.lock().expect("no panic while held").get_or_insert(error.clone());
        }
    }
}
