//! A second look at one partition, apart from the shared fetch, before an odd answer is believed.

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::{ListOffsetsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use std::sync::Arc;
use std::time::Duration;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{LeaderEpoch, Offset};
use crate::wire::fetch::Shared;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::desk::{Doubt, Mail};
use crate::wire::fetch::exchange::{Measure, fetch};
use crate::wire::fetch::verdict::{Verdict, verdict};
use crate::wire::{ApiKey, Connection, error_of};

/// ListOffsets timestamps with a meaning of their own.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
/// First offset in the leader's own log: what lies below is in remote storage (KIP-405; ListOffsets v8).
const EARLIEST_LOCAL: i64 = -4;
const EARLIEST_LOCAL_SINCE: i16 = 8;

/// Bytes asked for by a probe; a larger first batch comes all the same (KIP-74), and is a no as good as any.
const PROBE_BYTES: u32 = 16 * 1024;

/// Looks, and answers how the partition goes on. Cancel-safe; writes nothing.
pub(super) async fn examine(shared: &Arc<Shared>, mut cursor: Box<Cursor>, doubt: Doubt) -> Mail {
    let looked = async {
        let connection = shared.cluster.broker(cursor.leader.broker_id).await?;
        match doubt {
            Doubt::TrailingHole => trailing_hole(shared, &connection, &mut cursor).await,
            Doubt::OutOfRange => out_of_range(shared, &connection, &mut cursor).await,
        }
    };
    match looked.await {
        Ok(()) => Mail::Seeking(cursor),
        Err(error) => Mail::Astray(cursor, error),
    }
}

/// Believes that nothing is left between `next` and the last stable offset only if a fetch of this partition alone says
/// so: nothing came although nothing stood in the way, and the offset is in the leader's own log.
///
/// Several partitions share a response's size, so there an empty answer says nothing; a throttled answer is empty
/// without meaning it, and so is one that would have to come from remote storage and took too long.
async fn trailing_hole(shared: &Arc<Shared>, connection: &Connection, cursor: &mut Cursor) -> Result<()> {
    // Held until the answer is gone.
    let _reserved = shared.budget.reserve(PROBE_BYTES.into()).await;
    let (response_bytes, partition_bytes) = (PROBE_BYTES, PROBE_BYTES);
    // The leader itself is asked, whoever serves us else: only it says where its own log begins.
    let measure = Measure { response_bytes, partition_bytes, wait: Duration::ZERO, rack: StrBytes::default() };
    let mut answers = fetch(connection, &[cursor], measure).await?;
    let what = |why| {
        let sentence = format!("{}: {} at offset {}: {why}", shared.cluster.alias(), cursor.at, cursor.next);
        Error::new(ErrorKind::Retryable, sentence)
    };
    let Some((_, data)) = answers.partitions.pop().filter(|_| answers.throttle.is_zero()) else {
        return Err(what("a quota of the brokers throttles us"));
    };
    match verdict(shared.cluster.alias(), cursor, &data) {
        Verdict::Good => {}
        Verdict::Astray(error) | Verdict::Damaged(error) => return Err(error),
        Verdict::Moved(..) => return Err(what("its leader is moving")),
        Verdict::Nearer(_) => return Err(what("its leader sends us to another replica")),
        Verdict::OutOfRange => return out_of_range(shared, connection, cursor).await,
        Verdict::Fatal(error) => {
            cursor.feed.fail(error);
            return Ok(());
        }
    }
    let end = Offset(data.last_stable_offset);
    if data.records.is_some_and(|records| !records.is_empty()) || end <= cursor.next {
        return Ok(());
    }
    if connection.version(ApiKey::ListOffsets)? >= EARLIEST_LOCAL_SINCE {
        let local = list_offset(shared, connection, cursor, EARLIEST_LOCAL).await?;
        if local < 0 || Offset(local) > cursor.next {
            return Err(what("its broker has not yet fetched that part of the log from remote storage"));
        }
    }
    cursor.skip_hole(end);
    Ok(())
}

/// Holds the offset against the ends of the log: below its start or above its end the reader is told. Within them the
/// broker had no word on our epoch (its log predates epochs), so none is sent any more.
async fn out_of_range(shared: &Arc<Shared>, connection: &Connection, cursor: &mut Cursor) -> Result<()> {
    let start = Offset(list_offset(shared, connection, cursor, EARLIEST).await?);
    let end = Offset(list_offset(shared, connection, cursor, LATEST).await?);
    let what = format!("{}: {}", shared.cluster.alias(), cursor.at);
    if cursor.next < start {
        let sentence = format!(
            "{what}: offset {} is below the log start {start}: retention removed what was to be read",
            cursor.next
        );
        cursor.feed.fail(Error::new(ErrorKind::BelowLogStart(start), sentence));
    } else if cursor.next > end {
        let sentence = format!("{what}: offset {} is above the log end {end}: the log was truncated", cursor.next);
        cursor.feed.fail(Error::new(ErrorKind::Truncated(end), sentence));
    } else if cursor.epoch == LeaderEpoch::UNKNOWN {
        let sentence = format!("{what}: offset {} is called out of range {start}..{end}, which it is in", cursor.next);
        return Err(Error::new(ErrorKind::Retryable, sentence));
    }
    cursor.epoch = LeaderEpoch::UNKNOWN;
    Ok(())
}

/// One special offset of the partition, under the leader epoch known: a broker that is not the leader refuses, and one
/// whose high watermark is not known yet answers 78, so that the ends are those of the log proper.
async fn list_offset(shared: &Shared, connection: &Connection, cursor: &Cursor, timestamp: i64) -> Result<i64> {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(cursor.at.partition)
        .with_current_leader_epoch(cursor.leader.epoch.0)
        .with_timestamp(timestamp);
    let topic = ListOffsetsTopic::default()
        .with_name(TopicName(StrBytes::from_string(cursor.at.topic.to_string())))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    let response = connection.call(request).await?;
    let what = || format!("{}: ends of {}", shared.cluster.alias(), cursor.at);
    let answer = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let ListOffsetsPartitionResponse { error_code, offset, .. } =
        answer.ok_or_else(|| Error::new(ErrorKind::Protocol, format!("{}: the broker does not answer", what())))?;
    match error_of(error_code, what()) {
        Some(error) => Err(error),
        None => Ok(offset),
    }
}
