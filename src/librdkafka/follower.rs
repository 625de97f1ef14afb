//! Reading a ledger topic committed, from its first record, then live.

use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::mpsc;

use crate::endpoint::{Error, ErrorKind, LedgerEntry, LedgerEvent, LedgerFollower, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::reading::{Going, Listener, Reading};
use crate::model::{Offset, TopicName};

/// Events read ahead of whoever follows.
const READ_AHEAD: usize = 1024;

/// The near end of a reading thread. Dropping it ends the thread, without waiting for it.
pub(super) struct RdFollower {
    events: mpsc::Receiver<Result<LedgerEvent>>,
    /// Once an event is received, the thread is asked to stop by closing the channel; while it polls, by this.
    _going: Going,
}

impl RdFollower {
    /// Starts the thread; errors, even of configuration that only librdkafka checks, come out of
    /// [`LedgerFollower::next`].
    pub fn start(cluster: &ClusterAccess, group: &str, topic: TopicName) -> Result<Self> {
        // Compaction never moves the log start: a ledger topic that no longer starts at 0 has lost something. And a
        // successor must not take silence for the end of a lease.
        let from = vec![(0, Offset(0))];
        let reading = Reading { cluster: cluster.clone(), topic, from, needs_brokers: true };
        let mut config = reading.client_config("ledger", group)?;
        config
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            // The end is reported by the first fetch that answers empty, which takes this long.
            .set("fetch.wait.max.ms", "10")
            .set("fetch.message.max.bytes", "4194304")
            .set("queued.min.messages", "1000");
        let (send, events) = mpsc::channel(READ_AHEAD);
        let _going = reading.start("ledger-read", config, Sender { events: send, behind: true })?;
        Ok(Self { events, _going })
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

/// The thread's end of the channel.
struct Sender {
    events: mpsc::Sender<Result<LedgerEvent>>,
    behind: bool,
}

impl Listener for Sender {
    fn record(&mut self, record: &BorrowedMessage<'_>) -> bool {
        let entry = LedgerEntry {
            key: Bytes::copy_from_slice(record.key().unwrap_or_default()),
            value: record.payload().map(Bytes::copy_from_slice),
        };
        self.events.blocking_send(Ok(LedgerEvent::Entry(entry))).is_ok()
    }

    fn at_end(&mut self) -> bool {
        !std::mem::take(&mut self.behind) || self.events.blocking_send(Ok(LedgerEvent::CaughtUp)).is_ok()
    }

    fn failed(&mut self, error: Error) {
        let advice = match error.kind {
            ErrorKind::Corrupt => ": records of the ledger were deleted or damaged from outside",
            ErrorKind::UnknownTopic => ": the ledger's topic does not exist",
            _ => "",
        };
        // Nobody listens any more: then nobody misses it.
        let _ = self.events.blocking_send(Err(Error { message: error.message + advice, ..error }));
    }
}
