//! A consumer on a thread of its own, assigned by hand: what following a ledger and hearing of commits have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::endpoint::{Error, ErrorKind, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::errors::{Quiet, explain, kind_of};
use crate::model::{Offset, TopicName};

/// How long the thread may be deaf to the end of its reading.
const DEAF: Duration = Duration::from_millis(100);
/// Longest wait for a broker's word on the topic; the thread is deaf to its end meanwhile.
const WORD: Duration = Duration::from_secs(1);

/// What is to be read.
pub(super) struct Reading {
    pub cluster: ClusterAccess,
    pub topic: TopicName,
    /// Partitions, each with the first offset wanted.
    pub from: Vec<(i32, Offset)>,
    /// Whether it ends when no broker can be reached, instead of waiting for one.
    pub needs_brokers: bool,
}

/// Takes what a reading brings, on the reading's thread.
pub(super) trait Listener: Send + 'static {
    /// Takes a record. `false` ends the reading.
    fn record(&mut self, record: &BorrowedMessage<'_>) -> bool;
    /// A partition was read to its end; called with `enable.partition.eof` only. `false` ends the reading.
    fn at_end(&mut self) -> bool {
        true
    }
    /// The reading failed and is over.
    fn failed(&mut self, error: Error);
}

/// Keeps a reading going. Dropping it ends the thread, without waiting for it.
pub(super) struct Going(Arc<AtomicBool>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Reading {
    /// The settings that every reading starts from, for a client of this purpose. The group is only named: it never
    /// joins and never commits.
    pub fn client_config(&self, purpose: &str, group: &str) -> Result<ClientConfig> {
        let mut config = self.cluster.client_config(purpose)?;
        config
            // assign() refuses to work without one.
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "50")
            // The default of 1 s makes small queues crawl.
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", "8192")
            // A slow listener blocks the poll; there is no group to be thrown out of.
            .set("max.poll.interval.ms", "86400000");
        Ok(config)
    }

    /// Starts the thread; errors, even of configuration that only librdkafka checks, reach the listener.
    pub fn start(self, thread: &str, config: ClientConfig, mut listener: impl Listener) -> Result<Going> {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, topic) = (stop.clone(), self.topic.clone());
        let run = move || {
            if let Err(error) = self.read(&config, &mut listener, &stopped) {
                listener.failed(error);
            }
        };
        let unstarted =
            |e| Error::new(ErrorKind::Retryable, format!("cannot start a thread to read topic {topic}: {e}"));
        std::thread::Builder::new().name(thread.to_owned()).spawn(run).map_err(unstarted)?;
        Ok(Going(stop))
    }

    fn read(&self, config: &ClientConfig, listener: &mut impl Listener, stop: &AtomicBool) -> Result<()> {
        let consumer: BaseConsumer<Quiet> = config
            .create_with_context(Quiet { cluster: self.cluster.alias.clone() })
            .map_err(|e| self.failed("create a consumer", &e))?;
        self.start_list().and_then(|list| consumer.assign(&list)).map_err(|e| self.failed("start reading", &e))?;
        let mut admitted = false;
        while !stop.load(Ordering::Relaxed) {
            let wanted = match consumer.poll(DEAF) {
                // A topic that may not even be seen is taken for one that will appear, and waited for in silence.
                None => {
                    admitted = admitted || self.may_see_topic(&consumer)?;
                    true
                }
                Some(Ok(record)) => listener.record(&record),
                Some(Err(KafkaError::PartitionEOF(_))) => listener.at_end(),
                Some(Err(error)) if self.mends_itself(&error) => {
                    tracing::debug!(cluster = %self.cluster.alias, topic = %self.topic, %error, "reading");
                    true
                }
                Some(Err(error)) => return Err(self.failed("read", &error)),
            };
            if !wanted {
                break;
            }
        }
        Ok(())
    }

    /// Whether a broker says so; not, while none says anything. An error when it says no.
    fn may_see_topic(&self, consumer: &BaseConsumer<Quiet>) -> Result<bool> {
        let Ok(told) = consumer.fetch_metadata(Some(self.topic.as_str()), WORD) else { return Ok(false) };
        match told.topics().iter().find_map(MetadataTopic::error).map(RDKafkaErrorCode::from) {
            Some(code) if kind_of(code) == ErrorKind::Denied => {
                Err(self.failed("read", &KafkaError::MetadataFetch(code)))
            }
            error => Ok(error.is_none()),
        }
    }

    fn start_list(&self) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::with_capacity(self.from.len());
        for (partition, offset) in &self.from {
            list.add_partition_offset(self.topic.as_str(), *partition, rdkafka::Offset::Offset(offset.0))?;
        }
        Ok(list)
    }

    /// Whether librdkafka goes on by itself and nothing was missed.
    fn mends_itself(&self, error: &KafkaError) -> bool {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            // The coordinator is looked up though the group is never used.
            Some(Code::GroupAuthorizationFailed) => true,
            Some(Code::AllBrokersDown) => !self.needs_brokers,
            Some(code) => kind_of(code) == ErrorKind::Retryable,
            None => false,
        }
    }

    fn failed(&self, attempted: &str, error: &KafkaError) -> Error {
        let (kind, what) = explain(error);
        let (cluster, topic) = (&self.cluster.alias, &self.topic);
        let advice = match (kind, error.rdkafka_error_code()) {
            (_, Some(RDKafkaErrorCode::TopicAuthorizationFailed)) => format!(": grant Read on topic {topic}"),
            (ErrorKind::Denied, _) => format!(": check clusters.{cluster}.security"),
            _ => String::new(),
        };
        Error::new(kind, format!("cluster {cluster}, topic {topic}: cannot {attempted}: {what}{advice}"))
    }
}
