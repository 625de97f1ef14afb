//! One authenticated connection to one broker: typed requests, pipelined, in versions both sides know.

use std::collections::HashMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};
use tokio::time::Instant;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::wire::api::{self, Api};
use crate::wire::line::{Line, Outgoing, State};

/// How long an answer may take unless the caller says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection. Requests are written in the order of the calls and a broker answers them in that order; one that times
/// out or whose answer breaks the protocol closes the connection, because its state is then unknown. Dropping the connection closes it
/// and fails whatever still waits.
pub struct Connection {
    line: Line,
    broker_id: i32,
    client_id: StrBytes,
    versions: HashMap<i16, (i16, i16)>,
    renew_at: Option<Instant>,
}

impl Connection {
    /// A connection over a fresh line, for the handshake: knows no versions yet.
    pub(super) fn new(line: Line, broker_id: i32, client_id: &str) -> Self {
        let client_id = StrBytes::from_string(client_id.to_owned());
        Self { line, broker_id, client_id, versions: HashMap::new(), renew_at: None }
    }

    /// What the broker said it speaks, by API key.
    pub(super) fn set_versions(&mut self, versions: HashMap<i16, (i16, i16)>) {
        self.versions = versions;
    }

    /// When the broker's session ends unless authenticated anew (KIP-368).
    pub(super) fn set_session(&mut self, lifetime: Duration) {
        self.renew_at = Some(Instant::now() + lifetime.mul_f64(0.85));
    }

    /// The broker's id; −1 for a connection made from the bootstrap list.
    pub fn broker_id(&self) -> i32 {
        self.broker_id
    }

    /// Cluster alias, broker and address, for messages.
    pub fn peer(&self) -> &str {
        self.state().peer()
    }

    /// When a new connection should take over, because the broker ends authenticated sessions (KIP-368: it closes the
    /// connection at the first request behind the session's end). `None`: never.
    pub fn renew_at(&self) -> Option<Instant> {
        self.renew_at
    }

    /// The highest version of a request that both sides know.
    ///
    /// # Errors
    /// `Unsupported` when there is none.
    pub fn version(&self, key: ApiKey) -> Result<i16> {
        let api = self.spoken(key)?;
        let common = self.versions.get(&(key as i16)).map(|(min, max)| (api.min.max(*min), api.max.min(*max)));
        match common {
            Some((min, max)) if min <= max => Ok(max),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "{}: the broker does not offer {key:?} in the versions {}–{} that twinlog speaks",
                    self.peer(),
                    api.min,
                    api.max
                ),
            )),
        }
    }

    /// Queues a request in its highest common version before this call returns, so that the order of calls is the order
    /// on the wire; the future awaits the response until `timeout` after the call. Dropping the future forgets the
    /// response, not the request.
    pub fn start<R: Request + 'static>(
        &self,
        request: R,
        timeout: Duration,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let started = api_of::<R>().and_then(|key| self.version(key)).map(|v| self.start_version(request, v, timeout));
        async move { started?.await }
    }

    /// [`start`](Self::start) in a version of the caller's choice; it must be one that
    /// [`version`](Self::version) does not exceed.
    pub fn start_version<R: Request + 'static>(
        &self,
        request: R,
        version: i16,
        timeout: Duration,
    ) -> impl Future<Output = Result<R::Response>> + Send + 'static + use<R> {
        let state = self.state().clone();
        let started = api_of::<R>().and_then(|key| {
            let api = self.spoken(key)?;
            let mut body = BytesMut::new();
            request.encode(&mut body, version).map_err(|e| {
                Error::new(ErrorKind::Protocol, format!("{}: cannot encode {key:?} v{version}: {e}", self.peer()))
            })?;
            Ok((api, self.start_frame(key, version, vec![body.freeze()], timeout)))
        });
        async move {
            let (api, answer) = started?;
            decode::<R>(&state, api, version, answer.await?)
        }
    }

    /// Sends a request and awaits its response for at most [`DEFAULT_TIMEOUT`].
    pub async fn call<R: Request + 'static>(&self, request: R) -> Result<R::Response> {
        self.start(request, DEFAULT_TIMEOUT).await
    }

    /// Queues a request whose body is already encoded, in call order like [`start`](Self::start); the pieces are written
    /// without being copied. The future yields the response's body, unchecked, behind its header.
    pub fn start_frame(
        &self,
        key: ApiKey,
        version: i16,
        body: Vec<Bytes>,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes>> + Send + 'static + use<> {
        let started = self.head(key, version, body.iter().map(Bytes::len).sum()).map(|head| {
            let response_header = key.response_header_version(version);
            self.line.send(Outgoing { head, body, response_header, what: format!("{key:?} v{version}") }, timeout)
        });
        async move { started?.await }
    }

    /// Waits until the connection is closed, by either side.
    pub async fn closed(&self) {
        self.state().ended().await;
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.state().has_ended()
    }

    /// Closes the connection because what it said is not to be trusted; everything that waits on it fails with `cause`.
    pub fn condemn(&self, cause: Error) {
        self.state().end(cause);
    }

    fn state(&self) -> &Arc<State> {
        self.line.state()
    }

    fn spoken(&self, key: ApiKey) -> Result<&'static Api> {
        let unknown = || Error::new(ErrorKind::Unsupported, format!("{}: twinlog does not speak {key:?}", self.peer()));
        api::find(key).ok_or_else(unknown)
    }

    /// Length and request header; the correlation id is left to the writer.
    fn head(&self, key: ApiKey, version: i16, body_bytes: usize) -> Result<BytesMut> {
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_client_id(Some(self.client_id.clone()));
        let mut head = BytesMut::with_capacity(32 + self.client_id.len());
        head.put_u32(0);
        let failed = |why: String| Error::new(ErrorKind::Protocol, format!("{}: {key:?}: {why}", self.peer()));
        header.encode(&mut head, key.request_header_version(version)).map_err(|e| failed(e.to_string()))?;
        let length = i32::try_from(head.len() - 4 + body_bytes).map_err(|_| failed("request above 2 GiB".into()))?;
        head[..4].copy_from_slice(&length.to_be_bytes());
        Ok(head)
    }
}

fn api_of<R: Request>() -> Result<ApiKey> {
    ApiKey::try_from(R::KEY).map_err(|()| Error::new(ErrorKind::Protocol, format!("no request has the key {}", R::KEY)))
}

/// A body whose outline is broken ends the connection. One with a sound outline may still fail, on text that is not
/// UTF-8; the frames behind it are sound, so only this answer is lost.
fn decode<R: Request>(state: &State, api: &Api, version: i16, mut body: Bytes) -> Result<R::Response> {
    let senseless = |why: &dyn Display| {
        let why = format!("{}: the answer to {:?} v{version} makes no sense: {why}", state.peer(), api.key);
        Error::new(ErrorKind::Protocol, why)
    };
    if let Err(why) = api.check(version, &body) {
        let error = senseless(&why);
        state.end(error.clone());
        return Err(error);
    }
    R::Response::decode(&mut body, version).map_err(|why| senseless(&why))
}
