//! The point-read contract: one partition, one place, raw, on connections that serve nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{ApiKey, FetchRequest, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::endpoint::{Error, ErrorKind, PointReader, Result, View, Window};
use crate::model::{LeaderEpoch, Offset, OffsetRange, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::connection::{Connection, DEFAULT_TIMEOUT};
use crate::wire::ends::{self, Found, Question};
use crate::wire::fault::{error_needing, error_of};
use crate::wire::metadata::Leader;
use crate::wire::transactions::Transactions;
use crate::wire::window::window;

/// First Fetch version that names topics by id.
const BY_ID: i16 = 13;
/// First ListOffsets version that tells where the leader's own log begins (KIP-405).
const LOCAL_START_SINCE: i16 = 8;
/// Idle connections kept per broker.
const KEPT: usize = 2;

/// Point reads of one cluster.
pub struct Points {
    cluster: Cluster,
    idle: Mutex<HashMap<i32, Vec<Connection>>>,
}

impl Points {
    /// No I/O yet.
    pub fn new(cluster: Cluster) -> Self {
        Self { cluster, idle: Mutex::default() }
    }

    async fn read_once(&self, at: &TopicPartition, range: OffsetRange, view: View, max_bytes: u32) -> Result<Window> {
        let leader = self.cluster.leader(at).await?;
        let connection = self.take(leader.broker_id).await?;
        let seen = self.fetch(&connection, at, leader, range, view, max_bytes).await;
        self.put_back(leader.broker_id, connection);
        seen
    }

    async fn fetch(
        &self,
        connection: &Connection,
        at: &TopicPartition,
        leader: Leader,
        range: OffsetRange,
        view: View,
        max_bytes: u32,
    ) -> Result<Window> {
        let offered = connection.version(ApiKey::Fetch)?;
        let version = if leader.topic_id.is_some() { offered } else { offered.min(BY_ID - 1) };
        let request = request(at, leader, range.start, view, max_bytes, version);
        let answer = connection.start_version(request, version, DEFAULT_TIMEOUT).await?;
        let what = format!("cluster {}: read of {at} at offset {}", self.cluster.alias(), range.start);
        if let Some(error) = error_of(answer.error_code, &what) {
            return Err(error);
        }
        let throttled = answer.throttle_time_ms > 0;
        let data = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let left_out = || Error::new(ErrorKind::Protocol, format!("{what}: the broker left it out of its answer"));
        let mut data = data.filter(|data| data.partition_index == at.partition).ok_or_else(left_out)?;
        if let Some(error) = error_needing(format!("Read on topic {}", at.topic), data.error_code, &what) {
            return self.refused(at, range, &data, error).await;
        }
        let shown = match view {
            View::Committed => Offset(data.last_stable_offset),
            View::Log => Offset(data.high_watermark),
        };
        let range = OffsetRange::new(range.start, range.end.min(shown).max(range.start));
        if range.is_empty() {
            return Ok(Window { records: Vec::new(), range });
        }
        let section = data.records.take().unwrap_or_default();
        if section.is_empty() {
            // Alone in its request and not held back, so the log has nothing more up to what the view shows: the one
            // proof of a hole at the end (facts/live-measurements §5.1).
            if throttled {
                let why = format!("{what}: a quota of the brokers throttles us");
                return Err(Error::new(ErrorKind::Retryable, why));
            }
            self.hold_local(connection, at, range.start, &what).await?;
            return Ok(Window { records: Vec::new(), range });
        }
        let aborted = data.aborted_transactions.take().unwrap_or_default();
        let aborted = aborted.iter().map(|t| (t.producer_id.0, Offset(t.first_offset)));
        let damaged = |why| Error::new(ErrorKind::Corrupt, format!("{what}: {why}"));
        let seen = window(section, range, Transactions::aborted(aborted)).map_err(|why| damaged(why.to_string()))?;
        if seen.range.is_empty() {
            return Err(damaged("the broker serves not one whole batch".to_owned()));
        }
        Ok(seen)
    }

    /// What an error means for this read.
    async fn refused(
        &self,
        at: &TopicPartition,
        range: OffsetRange,
        data: &PartitionData,
        error: Error,
    ) -> Result<Window> {
        const OFFSET_OUT_OF_RANGE: i16 = 1;
        let (hinted, epoch) = (data.current_leader.leader_id.0, data.current_leader.leader_epoch);
        self.cluster.leader_hint(at, hinted, LeaderEpoch(epoch));
        if data.error_code != OFFSET_OUT_OF_RANGE {
            // A broker speaks for itself only: whether the topic is gone, metadata say.
            let passing = matches!(error.kind, ErrorKind::UnknownTopic | ErrorKind::Recreated);
            return Err(if passing { Error::new(ErrorKind::Retryable, error.message) } else { error });
        }
        let mut told = ends::ask(&self.cluster, std::slice::from_ref(at), &[Question::LogStart]).await;
        let log_start = match told.remove(at) {
            Some(Ok(found)) => found.first().map(|Found { offset, .. }| *offset).ok_or(error)?,
            Some(Err(error)) => return Err(error),
            None => return Err(error),
        };
        if range.start < log_start {
            let why = format!(
                "cluster {}: {at}: offset {} is below the log start {log_start}: retention or DeleteRecords removed it",
                self.cluster.alias(),
                range.start
            );
            return Err(Error::new(ErrorKind::BelowLogStart(log_start), why));
        }
        Ok(Window { records: Vec::new(), range: OffsetRange::new(range.start, range.start) })
    }

    /// An empty answer also comes where the offset is in remote storage and that was slow: not a proof.
    async fn hold_local(&self, connection: &Connection, at: &TopicPartition, start: Offset, what: &str) -> Result<()> {
        if connection.version(ApiKey::ListOffsets)? < LOCAL_START_SINCE {
            return Ok(());
        }
        let mut told = ends::ask(&self.cluster, std::slice::from_ref(at), &[Question::LocalStart]).await;
        let found = told.remove(at).and_then(|answer| answer.ok()?.first().copied());
        match found {
            Some(local) if (0..=start.0).contains(&local.offset.0) => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Retryable,
                format!("{what}: its broker has not yet fetched that part of the log from remote storage"),
            )),
        }
    }

    async fn take(&self, broker_id: i32) -> Result<Connection> {
        let fresh = |c: &Connection| !c.is_closed() && c.renew_at().is_none_or(|at| Instant::now() < at);
        let kept = std::iter::from_fn(|| self.idle().get_mut(&broker_id)?.pop()).find(fresh);
        match kept {
            Some(connection) => Ok(connection),
            None => self.cluster.dial(broker_id).await,
        }
    }

    fn put_back(&self, broker_id: i32, connection: Connection) {
        let mut idle = self.idle();
        let kept = idle.entry(broker_id).or_default();
        if !connection.is_closed() && kept.len() < KEPT {
            kept.push(connection);
        }
    }

    fn idle(&self) -> MutexGuard<'_, HashMap<i32, Vec<Connection>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl PointReader for Points {
    async fn read(&self, at: &TopicPartition, range: OffsetRange, view: View, max_bytes: u32) -> Result<Window> {
        match self.read_once(at, range, view, max_bytes).await {
            // The leader may have moved: the cluster is asked, and the read repeated once.
            Err(error) if error.is_retryable() => {
                self.cluster.refresh().await?;
                self.read_once(at, range, view, max_bytes).await
            }
            seen => seen,
        }
    }
}

fn request(
    at: &TopicPartition,
    leader: Leader,
    from: Offset,
    view: View,
    max_bytes: u32,
    version: i16,
) -> FetchRequest {
    let max_bytes = i32::try_from(max_bytes).unwrap_or(i32::MAX).max(1);
    let partition = FetchPartition::default()
        .with_partition(at.partition)
        .with_current_leader_epoch(leader.epoch.0)
        .with_fetch_offset(from.0)
        .with_partition_max_bytes(max_bytes);
    let topic = match leader.topic_id {
        Some(id) if version >= BY_ID => FetchTopic::default().with_topic_id(id.uuid()),
        _ => FetchTopic::default().with_topic(WireName(StrBytes::from_string(at.topic.as_str().to_owned()))),
    };
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_isolation_level(i8::from(view == View::Committed))
        .with_topics(vec![topic.with_partitions(vec![partition])])
}
