//! Opens partitions for writing record by record.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::endpoint::{Catalog, Error, ErrorKind, MessageFormat, Opened, Result, Sink};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::records::lanes::Lanes;
use crate::librdkafka::records::tally::Standing;
use crate::librdkafka::records::writer::{Limits, RecordWriter};
use crate::model::{ProducerIdentity, ProtectionLevel, Route, TopicName};

/// Larger batches gain nothing (`facts/rust-crates` §2.3), smaller ones cost.
const BATCH_BYTES: usize = 1_000_000;
/// Between a batch's own size and a topic's limit: the header, and the framing librdkafka counts roughly.
const MARGIN_BYTES: usize = 512;

/// A broker would leave them out without a word.
const NO_TIMES: &str = "the target's topic stores a message format before 0.10, which carries neither times nor headers: \
     raise its message.format.version to 0.11 or above, or remove that setting where brokers ignore it (3.0 on)";

/// Sizes of the records plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordSettings {
    /// Bytes of records that librdkafka may hold, over all routes; a single batch above that is held all the same.
    pub queue_bytes: u64,
}

impl RecordSettings {
    /// Settings that fit a memory budget: the other three quarters are for what is fetched and not opened yet.
    pub fn for_budget(budget_bytes: u64) -> Self {
        Self { queue_bytes: (budget_bytes / 4).clamp(1 << 20, 64 << 20) }
    }
}

/// The records plane's writers. Nothing connects before it is used.
///
/// What the target refuses as a double on the batches plane, it takes here: the level is `DetectOnly`. Everything that is
/// not about records (a partition's true end, its limits) is asked of the contracts that are handed in.
pub struct RecordSink {
    shared: Arc<Shared>,
    catalog: Arc<dyn Catalog>,
    ends: Arc<dyn Sink>,
}

pub(super) struct Shared {
    pub lanes: Lanes,
    room: Arc<Semaphore>,
    queue_bytes: usize,
}

impl RecordSink {
    /// A sink that learns of topics from `catalog`, and of the true ends of partitions from `ends`.
    pub fn new(
        access: ClusterAccess,
        catalog: Arc<dyn Catalog>,
        ends: Arc<dyn Sink>,
        settings: RecordSettings,
    ) -> Self {
        let queue_bytes = usize::try_from(settings.queue_bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(queue_bytes));
        Self { shared: Arc::new(Shared { lanes: Lanes::new(access), room, queue_bytes }), catalog, ends }
    }

    async fn limits(&self, topic: &TopicName) -> Limits {
        let answer = self.catalog.topic_configs(std::slice::from_ref(topic)).await.pop();
        // Without the right to ask, the broker's refusal tells.
        let settings = answer.and_then(Result::ok).unwrap_or_default();
        let value = |key: &str| settings.get(key).and_then(|entry| entry.value.as_deref());
        let most = value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(BATCH_BYTES);
        Limits {
            batch_bytes: most.saturating_sub(MARGIN_BYTES).clamp(1, BATCH_BYTES),
            record_bytes: most,
            format: MessageFormat::of(&settings),
            needs_keys: value("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
        }
    }
}

impl Shared {
    /// Waits for room in memory. Cancel-safe.
    pub(super) async fn room_for(&self, bytes: usize) -> OwnedSemaphorePermit {
        let bytes = u32::try_from(bytes.min(self.queue_bytes)).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(bytes).await.expect("the semaphore is never closed")
    }
}

#[async_trait]
impl Sink for RecordSink {
    async fn open(&self, route: &Route, producer: ProducerIdentity) -> Result<Opened> {
        let limits = self.limits(&route.target.topic).await;
        if limits.format == MessageFormat::V0 {
            return Err(Error::new(ErrorKind::Refused, format!("{}: {NO_TIMES}", route.target)));
        }
        let Opened { end, log_start, leader_epoch, writer, .. } = self.ends.open(route, producer).await?;
        writer.close().await;
        let writer = RecordWriter {
            shared: self.shared.clone(),
            at: route.target.clone(),
            limits,
            next: end,
            is_careful: false,
            standing: Arc::new(watch::Sender::new(Standing::default())),
            lane: None,
            opened: None,
            altered: 0,
        };
        Ok(Opened { end, log_start, leader_epoch, level: ProtectionLevel::DetectOnly, writer: Box::new(writer) })
    }
}
