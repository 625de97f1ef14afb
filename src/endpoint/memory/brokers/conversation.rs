//! One connection: requests are read, treated and answered one at a time, in order, as brokers do it.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::endpoint::memory::brokers::{Mishap, Shared};

/// What these brokers speak: a broker of version 4, as far as this program reads and writes through it.
const SPOKEN: [(ApiKey, i16, i16); 10] = [
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
    (ApiKey::DescribeConfigs, 1, 4),
    (ApiKey::DescribeProducers, 0, 0),
];
/// `socket.request.max.bytes`.
const LARGEST_REQUEST: usize = 100 * 1024 * 1024;

/// A request as it arrived at a broker.
pub(super) struct Asked {
    pub node: i32,
    pub key: ApiKey,
    pub version: i16,
    correlation: i32,
    body: Bytes,
    /// The code each partition or topic is to be refused with.
    pub refusal: Option<i16>,
    pub throttle: Duration,
}

/// Serves a connection until it ends.
pub(super) async fn converse(shared: Arc<Shared>, node: i32, mut stream: TcpStream) {
    // Only an unreadable socket would refuse it, and that is noticed next.
    let _ = stream.set_nodelay(true);
    while let Ok(Some(mut asked)) = hear(node, &mut stream).await {
        let mishap = shared.whim().as_mut().map_or(Mishap::None, |whim| whim(asked.key));
        match mishap {
            Mishap::LoseRequest => return,
            Mishap::TreatLate(by) => sleep(by).await,
            Mishap::Refuse(code) => asked.refusal = Some(code),
            Mishap::Throttle(by) => asked.throttle = by,
            _ => {}
        }
        let Some(frame) = shared.treat(&asked).await else { return };
        let frame = match mishap {
            Mishap::LoseAnswer => return,
            Mishap::FallSilent => return pending().await,
            Mishap::HalveAnswer => {
                let _ = stream.write_all(&frame[..frame.len() / 2]).await;
                return;
            }
            Mishap::AnswerLate(by) => {
                sleep(by).await;
                frame
            }
            Mishap::Forge(forge) => forge(frame.into()).into(),
            _ => frame,
        };
        if stream.write_all(&frame).await.is_err() {
            return;
        }
        if !asked.throttle.is_zero() {
            sleep(asked.throttle).await;
        }
    }
}

/// The next request; `None` for one that no broker would take.
async fn hear(node: i32, stream: &mut TcpStream) -> io::Result<Option<Asked>> {
    let length = stream.read_u32().await? as usize;
    if !(8..=LARGEST_REQUEST).contains(&length) {
        return Ok(None);
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    let mut body = Bytes::from(frame);
    let (key, version) = (i16::from_be_bytes([body[0], body[1]]), i16::from_be_bytes([body[2], body[3]]));
    let Ok(key) = ApiKey::try_from(key) else { return Ok(None) };
    let Ok(header) = RequestHeader::decode(&mut body, key.request_header_version(version)) else { return Ok(None) };
    let correlation = header.correlation_id;
    Ok(Some(Asked { node, key, version, correlation, body, refusal: None, throttle: Duration::ZERO }))
}

impl Asked {
    pub fn throttle_ms(&self) -> i32 {
        self.throttle.as_millis() as i32
    }

    fn read<R: Request>(&self) -> Option<R> {
        R::decode(&mut self.body.clone(), self.version).ok()
    }

    /// The frame of an answer.
    ///
    /// # Panics
    /// When it says what its version cannot say: a mistake in the model.
    fn frame<A: Encodable + HeaderVersion>(&self, answer: A) -> Option<Bytes> {
        let mut frame = BytesMut::new();
        frame.put_u32(0);
        frame.put_i32(self.correlation);
        if A::header_version(self.version) >= 1 {
            frame.put_u8(0);
        }
        let encoded = answer.encode(&mut frame, self.version);
        encoded.unwrap_or_else(|e| panic!("an answer to {:?} v{}: {e}", self.key, self.version));
        let length = u32::try_from(frame.len() - 4).expect("the model's answers are small");
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Some(frame.freeze())
    }
}

impl Shared {
    /// The answer's frame; `None` where a broker would close the connection. Waits while the cluster is frozen.
    async fn treat(&self, asked: &Asked) -> Option<Bytes> {
        self.cluster.wait_for(|state| (!state.faults.frozen).then_some(())).await;
        match asked.key {
            ApiKey::ApiVersions => asked.frame(spoken()),
            ApiKey::Metadata => asked.frame(self.metadata(asked, asked.read()?)),
            ApiKey::DescribeConfigs => asked.frame(self.describe_configs(asked, asked.read()?)),
            ApiKey::CreateTopics => asked.frame(self.create_topics(asked, asked.read()?)),
            ApiKey::InitProducerId => asked.frame(self.init_producer_id(asked)),
            ApiKey::ListOffsets => asked.frame(self.list_offsets(asked, asked.read()?)),
            ApiKey::OffsetForLeaderEpoch => asked.frame(self.epoch_ends(asked, asked.read()?)),
            ApiKey::DescribeProducers => asked.frame(self.describe_producers(asked, asked.read()?)),
            ApiKey::Fetch => asked.frame(self.fetch(asked, asked.read()?).await),
            ApiKey::Produce => asked.frame(self.produce(asked, asked.read()?).await),
            _ => None,
        }
    }
}

fn spoken() -> ApiVersionsResponse {
    let keys = SPOKEN.map(|(key, min, max)| {
        ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.to_vec())
}
