//! Contract of the ledger's storage: two compacted topics on the target, appended in transactions, followed committed.

use async_trait::async_trait;
use bytes::Bytes;

use crate::endpoint::Result;
use crate::model::{LinkName, TopicName};

/// Which of a link's two ledger topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LedgerTopic {
    /// `__twinlog.<link>.map`
    Map,
    /// `__twinlog.<link>.control`
    Control,
}

impl LedgerTopic {
    /// The topic's name on the target.
    pub fn name(self, link: &LinkName) -> TopicName {
        TopicName::from(format!("__twinlog.{link}.{}", self.suffix()))
    }

    /// Whose control topic a topic is by its name, if it is one.
    pub fn owner_of_control(topic: &TopicName) -> Option<LinkName> {
        let link = topic.as_str().strip_prefix("__twinlog.")?.strip_suffix(".control")?;
        Some(LinkName::from(link))
    }

    /// `map` or `control`; also the last part of the transactional id.
    pub fn suffix(self) -> &'static str {
        match self {
            LedgerTopic::Map => "map",
            LedgerTopic::Control => "control",
        }
    }
}

/// Largest value of an entry a store must take, bytes.
pub const MAX_LEDGER_VALUE_BYTES: usize = 8 * 1024 * 1024;

/// A keyed value; `None` is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Compaction key.
    pub key: Bytes,
    /// Value, or deletion.
    pub value: Option<Bytes>,
}

/// One link's ledger, for those who only look.
#[async_trait]
pub trait LedgerReader: Send + Sync {
    /// Starts reading a topic committed from its beginning and goes on live. The first entries up to the end at the time
    /// of the call are followed by one [`LedgerEvent::CaughtUp`]. What was appended a moment before may come after it:
    /// Kafka acknowledges a commit before it writes the markers that make it visible. Only a claim waits for them.
    async fn follow(&self, topic: LedgerTopic) -> Result<Box<dyn LedgerFollower>>;
}

/// The ledgers on a cluster, whosever they are.
pub trait Ledgers: Send + Sync {
    /// The ledger of `link`; that it exists shows when it is followed.
    fn of(&self, link: &LinkName) -> Box<dyn LedgerReader>;
}

/// Storage of one link's ledger.
#[async_trait]
pub trait LedgerStore: LedgerReader {
    /// Fences every earlier appender of the link (aborting its open transaction) and returns the only one that may
    /// append. Call it only when the lease permits (DESIGN §6).
    async fn claim(&self) -> Result<Box<dyn LedgerAppender>>;
}

/// What a follower sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerEvent {
    /// An entry that is committed.
    Entry(LedgerEntry),
    /// Everything that was committed when following began has been delivered. Sent once.
    CaughtUp,
}

/// A live, ordered reading of one ledger topic.
#[async_trait]
pub trait LedgerFollower: Send {
    /// The next event; waits for it; cancel-safe.
    async fn next(&mut self) -> Result<LedgerEvent>;
}

/// The right to append.
#[async_trait]
pub trait LedgerAppender: Send + Sync {
    /// Appends all entries or none, in order; durable on return. An error of kind `Fenced` means a successor claimed; an
    /// error of kind `Retryable` means nothing was appended and the same call may be repeated.
    async fn append(&self, topic: LedgerTopic, entries: Vec<LedgerEntry>) -> Result<()>;
}
