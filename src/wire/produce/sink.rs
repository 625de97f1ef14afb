//! Opens writers: finds the leader, brings up its lane, and waits there until the partition's end is true and stable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::attach::{Ends, Look, Sight};
use super::lanes::Lanes;
use super::sequence;
use super::writer::PartitionWriter;
use crate::endpoint::{Error, ErrorKind, Opened, Result, Sink};
use crate::model::{LeaderEpoch, ProducerIdentity, ProtectionLevel, Route, TopicId, TopicPartition};
use crate::runtime::retry::Pace;
use crate::runtime::tasks::TaskScope;
use crate::wire::{Cluster, Leader};

/// How long opening waits for an election or for replicas before it says what it waits for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bounds of producing. Memory is bounded elsewhere: batches hold their permits.
#[derive(Debug, Clone)]
pub struct ProduceSettings {
    /// Bytes of batches in one request, unless a single batch is larger; below the brokers' `socket.request.max.bytes`.
    pub request_bytes_max: usize,
    /// Requests in flight per broker, at least 1, over a short path. A broker works on one at a time: more hide the round
    /// trip, and over a long path there are as many as that takes.
    pub requests_in_flight: usize,
    /// Batches in flight per partition once its first ack has come, at least 1, over a short path; more over a long one.
    /// Brokers recognise the last 5 as duplicates; more are safe too (compare-and-append) and cost an attach after a
    /// disconnect.
    pub batches_in_flight_per_partition: usize,
    /// How long a leader may wait for the in-sync replicas. While it waits it works on nothing else of the same lane, so
    /// this is also how long a partition with a frozen follower can hold up its neighbours.
    pub timeout: Duration,
}

impl Default for ProduceSettings {
    fn default() -> Self {
        Self {
            request_bytes_max: 8 * 1024 * 1024,
            requests_in_flight: 5,
            batches_in_flight_per_partition: 5,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Writes to a cluster by compare-and-append.
pub struct ProduceSink {
    shared: Arc<Shared>,
    lanes: Lanes,
    /// Highest leader epoch seen per partition of a topic: metadata that says less is old. A topic created again counts anew.
    epochs: Mutex<HashMap<TopicPartition, (Option<TopicId>, LeaderEpoch)>>,
}

/// What lanes and sink know together.
pub(super) struct Shared {
    pub cluster: Cluster,
    pub settings: ProduceSettings,
    metadata_in_doubt: AtomicBool,
}

impl Shared {
    /// Leaders moved or a connection broke: metadata is asked again before the next attach.
    pub fn doubt_metadata(&self) {
        self.metadata_in_doubt.store(true, Ordering::Relaxed);
    }
}

/// An attempt to open that did not succeed yet.
enum Attempt {
    Wait { reason: String, metadata_is_stale: bool },
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        match error.kind {
            ErrorKind::Retryable | ErrorKind::Attach => {
                Attempt::Wait { reason: error.message, metadata_is_stale: true }
            }
            _ => Attempt::Failed(error),
        }
    }
}

impl ProduceSink {
    /// A sink for `cluster`. No I/O; lanes are tasks of `scope`, which fail what is in flight when it stops.
    pub fn new(cluster: Cluster, scope: TaskScope, settings: ProduceSettings) -> Self {
        let shared = Shared { cluster, settings, metadata_in_doubt: AtomicBool::new(false) };
        let shared = Arc::new(shared);
        Self { lanes: Lanes::new(shared.clone(), scope), shared, epochs: Mutex::default() }
    }

    async fn attempt(&self, route: &Route, producer: ProducerIdentity) -> Result<Opened, Attempt> {
        let Shared { cluster, settings, .. } = &*self.shared;
        let at = &route.target;
        let leader = self.leader(route).await?;
        let lane = self.lanes.to(leader.broker_id).await?;
        let turn = lane.turn_to_open().await;
        let Some(connection) = lane.connection() else {
            let reason = format!("waiting for a connection to broker {} of {}", leader.broker_id, cluster.alias());
            return Err(Attempt::Wait { reason, metadata_is_stale: true });
        };
        let timeout = lane.patience(settings.timeout);
        let sight =
            Sight { connection: &connection, alias: cluster.alias(), at, epoch: leader.epoch, producer, timeout };
        // Boxed, because partitions that are not looking now need not hold the room for it.
        let limit = lane.limits().get(&connection, &at.topic, timeout);
        let (look, batch_bytes_max) = Box::pin(futures::future::join(sight.look(), limit)).await;
        drop(turn);
        let Ends { end, log_start, state } = match look? {
            Look::Stable(ends) => ends,
            Look::Wait { reason, metadata_is_stale } => return Err(Attempt::Wait { reason, metadata_is_stale }),
        };
        let start = sequence::start(at, producer, end, state)
            .map_err(|error| Attempt::Failed(error.context(cluster.alias())))?;
        // The topic id makes the broker refuse a topic that was re-created meanwhile.
        let shared_at = Arc::new(at.clone());
        let place = lane.join(shared_at.clone(), leader.topic_id)?;
        let writer = PartitionWriter {
            alias: cluster.alias().into(),
            at: shared_at,
            place,
            producer,
            next: end,
            sequence: start.sequence,
            batch_bytes_max,
        };
        Ok(Opened {
            end,
            log_start,
            leader_epoch: leader.epoch,
            level: if start.guarded { ProtectionLevel::Guarded } else { ProtectionLevel::ProbeOnly },
            writer: Box::new(writer),
        })
    }

    /// The leader, if it is that of the route's topic and no older than one seen before.
    async fn leader(&self, route: &Route) -> Result<Leader, Attempt> {
        let Route { target: at, target_id, .. } = route;
        let Shared { cluster, metadata_in_doubt, .. } = &*self.shared;
        if metadata_in_doubt.swap(false, Ordering::Relaxed) {
            Box::pin(cluster.refresh()).await.inspect_err(|_| self.shared.doubt_metadata())?;
        }
        let leader = Box::pin(cluster.leader(at)).await.inspect_err(|error| {
            if error.kind == ErrorKind::UnknownTopic {
                self.epochs().remove(at);
            }
        })?;
        if let (Some(ours), Some(theirs)) = (target_id, leader.topic_id)
            && *ours != theirs
        {
            // What we know may be of the former topic.
            self.shared.doubt_metadata();
            return Err(Attempt::Failed(Error::new(
                ErrorKind::Recreated,
                format!("{}: topic {} has id {theirs}, but the route was made for {ours}", cluster.alias(), at.topic),
            )));
        }
        let mut epochs = self.epochs();
        let seen = epochs.entry(at.clone()).or_insert((leader.topic_id, leader.epoch));
        if seen.0 != leader.topic_id {
            *seen = (leader.topic_id, leader.epoch);
        }
        let highest = &mut seen.1;
        if leader.epoch < *highest {
            let reason = format!(
                "waiting for the leader of {at} ({}: metadata says leader epoch {}, but {highest} was seen)",
                cluster.alias(),
                leader.epoch
            );
            return Err(Attempt::Wait { reason, metadata_is_stale: true });
        }
        *highest = leader.epoch;
        Ok(leader)
    }

    fn epochs(&self) -> MutexGuard<'_, HashMap<TopicPartition, (Option<TopicId>, LeaderEpoch)>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Sink for ProduceSink {
    async fn open(&self, route: &Route, producer: ProducerIdentity) -> Result<Opened> {
        if producer.id < 0 || producer.epoch < 0 {
            let message = format!("{route}: producer {producer:?} is not guarded by brokers; it was never allocated");
            return Err(Error::new(ErrorKind::Protocol, message));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut pace = Pace::new(Duration::from_millis(10), Duration::from_millis(200));
        loop {
            let reason = match self.attempt(route, producer).await {
                Ok(opened) => return Ok(opened),
                Err(Attempt::Failed(error)) => return Err(error),
                Err(Attempt::Wait { reason, metadata_is_stale }) => {
                    if metadata_is_stale {
                        self.shared.doubt_metadata();
                    }
                    reason
                }
            };
            let pause = pace.next_delay();
            if Instant::now() + pause >= deadline {
                return Err(Error::new(ErrorKind::Retryable, reason));
            }
            sleep(pause).await;
        }
    }
}
