//! A tiny broker for tests: accepts connections and answers frames as a script says.

use std::future::Future;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::runtime::tasks::TaskScope;

/// One accepted connection.
pub(super) struct Peer {
    stream: TcpStream,
}

/// A request as it arrived.
pub(super) struct Asked {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation: i32,
    pub(super) body: Bytes,
}

/// Serves every connection on a loopback port with `script`; returns the address and the scope that ends it.
pub(super) async fn serve<F, S>(script: S) -> (String, TaskScope)
where
    S: Fn(Peer) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let scope = TaskScope::new();
    let connections = scope.clone();
    scope.spawn_until_stopped(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn_until_stopped(script(Peer { stream }));
        }
    });
    (address, scope)
}

impl Peer {
    /// The next request; `None` when the client has closed.
    pub(super) async fn next(&mut self) -> Option<Asked> {
        let length = self.stream.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame).await.ok()?;
        let mut frame = Bytes::from(frame);
        let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
        let key = ApiKey::try_from(key).expect("a known request");
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).expect("a header");
        Some(Asked { key, version, correlation: header.correlation_id, body: frame })
    }

    /// Answers a request.
    pub(super) async fn answer<T: Encodable + HeaderVersion>(&mut self, asked: &Asked, version: i16, answer: &T) {
        let mut body = BytesMut::new();
        if T::header_version(version) >= 1 {
            body.put_u8(0);
        }
        answer.encode(&mut body, version).expect("a valid answer");
        self.answer_raw(asked.correlation, &body).await;
    }

    /// Answers with whatever bytes.
    pub(super) async fn answer_raw(&mut self, correlation: i32, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u32(body.len() as u32 + 4);
        frame.put_i32(correlation);
        frame.put_slice(body);
        self.write(&frame).await;
    }

    /// Writes bytes as they are.
    pub(super) async fn write(&mut self, bytes: &[u8]) {
        // The client may be gone already, as some scripts want.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Answers ApiVersions with everything a table offers, in any version asked.
    pub(super) async fn greet(&mut self, offers: &[(ApiKey, i16, i16)]) {
        let asked = self.next().await.expect("ApiVersions");
        assert_eq!(asked.key, ApiKey::ApiVersions, "the first request");
        self.answer(&asked, asked.version, &offered(offers)).await;
    }
}

/// An ApiVersions response.
pub(super) fn offered(offers: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
    let keys = offers.iter().map(|(key, min, max)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*min).with_max_version(*max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}
