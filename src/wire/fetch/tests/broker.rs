//! A broker that serves logs from memory by the rules of a real one, and misbehaves on demand.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Duration, sleep};
use uuid::Uuid;

use super::sessions::Sessions;
use crate::batch::RawBatch;

/// The one topic.
pub(super) const TOPIC: &str = "orders";
/// Its id.
pub(super) const TOPIC_ID: Uuid = Uuid::from_u128(7);

/// One partition's log and how its leader behaves.
#[derive(Debug, Default, Clone)]
pub(super) struct Log {
    pub(super) batches: Vec<RawBatch>,
    pub(super) last_stable: i64,
    /// Below it nothing is in the leader's own log, and reads of remote storage come back empty.
    pub(super) local_start: i64,
    pub(super) leader: i32,
    pub(super) epoch: i32,
    /// Codes that the next fetches of the partition are answered with.
    pub(super) codes: VecDeque<i16>,
}

/// What the brokers share.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) logs: BTreeMap<i32, Log>,
    /// Who leads by the metadata, where that is behind.
    pub(super) stale_leaders: BTreeMap<i32, i32>,
    /// Answers to fetches that are empty because of a quota.
    pub(super) throttled: usize,
    /// Connections are closed instead of answering this many fetches.
    pub(super) hang_ups: usize,
    /// Fetches by (broker, connection).
    pub(super) fetches: BTreeMap<(i32, usize), usize>,
    pub(super) sessions: Sessions,
    pub(super) addresses: Vec<(i32, u16)>,
    pub(super) connections: usize,
}

/// Brokers on loopback.
#[derive(Clone, Default)]
pub(super) struct Brokers(Arc<Mutex<World>>);

impl Brokers {
    /// Starts brokers with ids from 1 on.
    pub(super) async fn start(count: i32, world: World) -> Brokers {
        let brokers = Brokers(Arc::new(Mutex::new(world)));
        for id in 1..=count {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let port = listener.local_addr().expect("an address").port();
            brokers.world().addresses.push((id, port));
            let serving = brokers.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serving.clone().serve(id, stream));
                }
            });
        }
        brokers
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no test panics while it holds the world")
    }

    pub(super) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.world().addresses[0].1)
    }

    async fn serve(self, id: i32, mut stream: TcpStream) {
        let connection = {
            let mut world = self.world();
            world.connections += 1;
            world.connections
        };
        while let Ok(length) = stream.read_u32().await {
            let mut frame = vec![0; length as usize];
            if stream.read_exact(&mut frame).await.is_err() {
                return;
            }
            let mut frame = Bytes::from(frame);
            let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).expect("a key");
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).expect("a header");
            let mut answer = BytesMut::new();
            ResponseHeader::default()
                .with_correlation_id(header.correlation_id)
                .encode(&mut answer, key.response_header_version(version))
                .expect("a header");
            if !self.answer(id, connection, key, version, frame, &mut answer).await {
                return;
            }
            let mut whole = BytesMut::new();
            whole.put_u32(answer.remaining() as u32);
            whole.put(answer);
            if stream.write_all(&whole).await.is_err() {
                return;
            }
        }
    }

    async fn answer(&self, id: i32, from: usize, key: ApiKey, version: i16, body: Bytes, to: &mut BytesMut) -> bool {
        let mut body = body;
        match key {
            ApiKey::ApiVersions => self.versions().encode(to, version),
            ApiKey::Metadata => self.metadata().encode(to, version),
            ApiKey::ListOffsets => self
                .list_offsets(ListOffsetsRequest::decode(&mut body, version).expect("a request"))
                .encode(to, version),
            ApiKey::Fetch => {
                let request = FetchRequest::decode(&mut body, version).expect("a request");
                *self.world().fetches.entry((id, from)).or_default() += 1;
                let entered = self.world().sessions.enter(request);
                let (request, session) = match entered {
                    Ok(entered) => entered,
                    Err(code) => {
                        let refusal = FetchResponse::default().with_error_code(code).encode(to, version);
                        return refusal.is_ok();
                    }
                };
                let mut waited = 0;
                loop {
                    let (response, is_due) = self.fetch(id, &request);
                    let Some(response) = response else { return false };
                    if is_due || waited >= request.max_wait_ms {
                        break self.world().sessions.leave(session, response).encode(to, version);
                    }
                    sleep(Duration::from_millis(5)).await;
                    waited += 5;
                }
            }
            other => panic!("{other:?} is not served here"),
        }
        .expect("an answer that can be encoded");
        true
    }

    fn versions(&self) -> ApiVersionsResponse {
        let spoken = [(ApiKey::ApiVersions, 3), (ApiKey::Metadata, 12), (ApiKey::Fetch, 16), (ApiKey::ListOffsets, 9)];
        let keys = spoken.map(|(key, max)| ApiVersion::default().with_api_key(key as i16).with_max_version(max));
        ApiVersionsResponse::default().with_api_keys(keys.to_vec())
    }

    fn metadata(&self) -> MetadataResponse {
        let world = self.world();
        let host = StrBytes::from_static_str("127.0.0.1");
        let brokers = world.addresses.iter().map(|(id, port)| {
            MetadataResponseBroker::default()
                .with_node_id((*id).into())
                .with_host(host.clone())
                .with_port((*port).into())
        });
        let partitions = world.logs.iter().map(|(index, log)| {
            let leader = world.stale_leaders.get(index).unwrap_or(&log.leader);
            MetadataResponsePartition::default()
                .with_partition_index(*index)
                .with_leader_id((*leader).into())
                .with_leader_epoch(log.epoch - i32::from(world.stale_leaders.contains_key(index)))
        });
        let topic = MetadataResponseTopic::default()
            .with_name(Some(TopicName(StrBytes::from_static_str(TOPIC))))
            .with_topic_id(TOPIC_ID)
            .with_partitions(partitions.collect());
        MetadataResponse::default().with_brokers(brokers.collect()).with_topics(vec![topic])
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let asked = &request.topics[0].partitions[0];
        let world = self.world();
        let log = &world.logs[&asked.partition_index];
        let offset = match asked.timestamp {
            -4 => log.local_start,
            -2 => log.batches.first().map_or(log.last_stable, |batch| batch.header.base_offset),
            _ => log.last_stable,
        };
        let partition =
            ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index).with_offset(offset);
        let topic = ListOffsetsTopicResponse::default().with_name(request.topics[0].name.clone());
        ListOffsetsResponse::default().with_topics(vec![topic.with_partitions(vec![partition])])
    }

    /// The answer now and whether it is due now; `None` hangs up.
    fn fetch(&self, id: i32, request: &FetchRequest) -> (Option<FetchResponse>, bool) {
        let mut world = self.world();
        if world.hang_ups > 0 {
            world.hang_ups -= 1;
            return (None, true);
        }
        if world.throttled > 0 {
            world.throttled -= 1;
            return (Some(FetchResponse::default().with_throttle_time_ms(5)), true);
        }
        // Like a real one: each partition takes up to its limit of what the ones before it left; only the very first
        // batch comes whole in any case.
        let (mut left, mut is_due, mut topics) = (request.max_bytes as usize, false, Vec::new());
        let mut is_first = true;
        for topic in &request.topics {
            assert_eq!(topic.topic_id, TOPIC_ID);
            let mut answered = Vec::new();
            for asked in &topic.partitions {
                let log = world.logs.get_mut(&asked.partition).expect("a partition that exists");
                let data = PartitionData::default()
                    .with_partition_index(asked.partition)
                    .with_log_start_offset(0)
                    .with_last_stable_offset(log.last_stable)
                    .with_high_watermark(log.last_stable);
                let code = log.codes.pop_front().unwrap_or(if log.leader == id { 0 } else { 6 });
                if code != 0 {
                    is_due = true;
                    let leader =
                        LeaderIdAndEpoch::default().with_leader_id(log.leader.into()).with_leader_epoch(log.epoch);
                    answered.push(data.with_error_code(code).with_current_leader(leader));
                    continue;
                }
                let is_behind = asked.fetch_offset < log.last_stable;
                let mut section = BytesMut::new();
                let most = left.min(asked.partition_max_bytes as usize);
                for batch in &log.batches {
                    let next = batch.header.next_offset().0;
                    let is_local = asked.fetch_offset >= log.local_start;
                    if next <= asked.fetch_offset || next > log.last_stable || !is_local {
                        continue;
                    }
                    if section.len() + batch.bytes.len() <= most || (is_first && section.is_empty()) {
                        section.extend_from_slice(&batch.bytes);
                    } else if !section.is_empty() {
                        section.extend_from_slice(&batch.bytes[..most - section.len()]);
                        break;
                    } else {
                        break;
                    }
                }
                left = left.saturating_sub(section.len());
                is_first &= section.is_empty();
                is_due |= is_behind;
                answered.push(data.with_records(Some(section.freeze())));
            }
            topics.push(FetchableTopicResponse::default().with_topic_id(TOPIC_ID).with_partitions(answered));
        }
        (Some(FetchResponse::default().with_responses(topics)), is_due)
    }
}
