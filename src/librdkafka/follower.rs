//! Reading a ledger topic committed, from its first record, then live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::endpoint::{Error, ErrorKind, LedgerEntry, LedgerEvent, LedgerFollower, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::errors::{Complaints, Quiet, explain, kind_of};
use crate::librdkafka::login::Login;
use crate::model::TopicName;

/// Events read ahead of whoever follows.
const READ_AHEAD: usize = 1024;
/// How long the thread may be deaf to the follower's end.
const DEAF: Duration = Duration::from_millis(100);
/// Longest wait for a broker's word on the topic; the thread is deaf to its end meanwhile.
const WORD: Duration = Duration::from_secs(1);

/// The near end of a reading thread. Dropping it ends the thread, without waiting for it.
pub(super) struct RdFollower {
    events: mpsc::Receiver<Result<LedgerEvent>>,
    /// Once an event is received, the thread is asked to stop by closing the channel; while it polls, by this.
    stop: Arc<AtomicBool>,
}

impl RdFollower {
    /// Starts the thread; errors, even of configuration that only librdkafka checks, come out of
    /// [`LedgerFollower::next`].
    pub fn start(cluster: &ClusterAccess, group: &str, topic: TopicName) -> Result<Self> {
        let mut config = cluster.client_config()?;
        set_for_reading(&mut config, group);
        let (send, events) = mpsc::channel(READ_AHEAD);
        let (stop, login) = (Arc::new(AtomicBool::new(false)), Login::of(cluster));
        let thread = Thread { cluster: cluster.alias.clone(), topic, config, send, stop: stop.clone() };
        std::thread::Builder::new()
            .name("ledger-read".to_owned())
            .spawn(move || thread.run(login))
            .map_err(|e| Error::new(ErrorKind::Retryable, format!("cannot start a thread to read the ledger: {e}")))?;
        Ok(Self { events, stop })
    }
}

impl Drop for RdFollower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl LedgerFollower for RdFollower {
    async fn next(&mut self) -> Result<LedgerEvent> {
        self.events.recv().await.unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Retryable, "this reading of the ledger ended with its first error".to_owned()))
        })
    }
}

fn set_for_reading(config: &mut ClientConfig, group: &str) {
    config
        // assign() refuses to work without one; the group never joins and never commits.
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .set("enable.partition.eof", "true")
        // The end is reported by the first fetch that answers empty, which takes this long.
        .set("fetch.wait.max.ms", "10")
        .set("fetch.min.bytes", "1")
        .set("fetch.error.backoff.ms", "50")
        // The default of 1 s makes small queues crawl.
        .set("fetch.queue.backoff.ms", "5")
        // A slow follower blocks the poll; there is no group to be thrown out of.
        .set("max.poll.interval.ms", "86400000")
        .set("fetch.message.max.bytes", "4194304")
        .set("queued.max.messages.kbytes", "8192")
        .set("queued.min.messages", "1000");
}

struct Thread {
    cluster: String,
    topic: TopicName,
    config: ClientConfig,
    send: mpsc::Sender<Result<LedgerEvent>>,
    stop: Arc<AtomicBool>,
}

impl Thread {
    fn run(self, login: Option<Login>) {
        if let Err(error) = self.read(login) {
            // Nobody listens any more: then nobody misses it.
            let _ = self.send.blocking_send(Err(error));
        }
    }

    fn read(&self, login: Option<Login>) -> Result<()> {
        let consumer: BaseConsumer<Quiet> = self
            .config
            .create_with_context(Quiet { cluster: self.cluster.clone(), complaints: Complaints::default(), login })
            .map_err(|e| self.failed("create a consumer", &e, None))?;
        let failed = |attempted: &str, error: &KafkaError| {
            self.failed(attempted, error, consumer.context().complaints.standing())
        };
        let mut start = TopicPartitionList::new();
        // Compaction never moves the log start: a ledger topic that no longer starts at 0 has lost something.
        start
            .add_partition_offset(self.topic.as_str(), 0, Offset::Offset(0))
            .and_then(|()| consumer.assign(&start))
            .map_err(|e| failed("start reading", &e))?;
        let (mut behind, mut admitted) = (true, false);
        while !self.stop.load(Ordering::Relaxed) {
            let event = match consumer.poll(DEAF) {
                None => {
                    // A topic that may not even be seen is taken for one that will appear, and waited for in silence.
                    admitted = admitted || self.may_see_topic(&consumer)?;
                    continue;
                }
                Some(Ok(message)) => LedgerEvent::Entry(LedgerEntry {
                    key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
                    value: message.payload().map(Bytes::copy_from_slice),
                }),
                Some(Err(KafkaError::PartitionEOF(_))) if behind => {
                    behind = false;
                    LedgerEvent::CaughtUp
                }
                Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) if mends_itself(&error) => {
                    tracing::debug!(cluster = %self.cluster, topic = %self.topic, %error, "reading the ledger");
                    continue;
                }
                Some(Err(error)) => return Err(failed("read", &error)),
            };
            if self.send.blocking_send(Ok(event)).is_err() {
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
                Err(self.failed("read", &KafkaError::MetadataFetch(code), None))
            }
            error => Ok(error.is_none()),
        }
    }

    fn failed(&self, attempted: &str, error: &KafkaError, complaint: Option<(ErrorKind, String)>) -> Error {
        let (kind, what) = explain(error);
        let (cluster, topic) = (&self.cluster, &self.topic);
        // That all brokers are down is what is left of a refusal to let us in.
        let (kind, advice) = match (kind, complaint) {
            (ErrorKind::Retryable | ErrorKind::Denied, Some((ErrorKind::Denied, why))) => {
                (ErrorKind::Denied, format!(" ({why})"))
            }
            (ErrorKind::Corrupt, _) => {
                (kind, ": records of the ledger were deleted or damaged from outside".to_owned())
            }
            (ErrorKind::UnknownTopic, _) => (kind, ": the ledger's topic does not exist".to_owned()),
            (ErrorKind::Denied, _) => {
                (kind, format!(": check clusters.{cluster}.security, and the rights to read this topic"))
            }
            _ => (kind, String::new()),
        };
        Error::new(kind, format!("cluster {cluster}, topic {topic}: cannot {attempted}: {what}{advice}"))
    }
}

/// Whether librdkafka goes on by itself and nothing was missed. That all brokers are down ends the reading, because a
/// successor must not take silence for the end of a lease.
fn mends_itself(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    match error.rdkafka_error_code() {
        // The coordinator is looked up though the group is never used.
        Some(Code::GroupAuthorizationFailed) => true,
        Some(Code::AllBrokersDown) | None => false,
        Some(code) => kind_of(code) == ErrorKind::Retryable,
    }
}
