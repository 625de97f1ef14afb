//! Makes connections: TCP, TLS, agreement on versions, SASL.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::endpoint::{BearerTokens, Error, ErrorKind, Result, Security};
use crate::wire::connection::Connection;
use crate::wire::line::Line;
use crate::wire::tls::{TlsFiles, what_certificate_to_show};
use crate::wire::token::Tokens;
use crate::wire::{api, fault, sasl};

/// For each of: name resolution and TCP, TLS, and each answer of the handshake.
const STEP: Duration = Duration::from_secs(10);
/// Unacknowledged bytes or a silent peer for this long end a connection.
const SILENCE: Duration = Duration::from_secs(30);
const UNSUPPORTED_VERSION: i16 = 35;

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Makes the connections of one cluster.
pub(super) struct Dialer {
    alias: Arc<str>,
    client_id: String,
    security: Security,
    tls: TlsFiles,
    tokens: Option<Arc<Tokens>>,
}

impl Dialer {
    /// No I/O yet.
    pub(super) fn new(alias: Arc<str>, security: Security, client_id: &str) -> Self {
        let tls = TlsFiles::new(alias.clone(), security.clone());
        let tokens = security.token.clone().map(|source| Arc::new(Tokens::new(alias.clone(), source)));
        Self { alias, client_id: client_id.to_owned(), security, tls, tokens }
    }

    /// The cluster's tokens, where it wants some.
    pub(super) fn tokens(&self) -> Option<Arc<dyn BearerTokens>> {
        self.tokens.clone().map(|tokens| tokens as Arc<dyn BearerTokens>)
    }

    /// A new connection, authenticated and ready. `broker_id` is −1 when unknown. Cancel-safe: dropping the future
    /// closes what was opened.
    pub(super) async fn dial(&self, address: &Address, broker_id: i32) -> Result<Connection> {
        let peer: Arc<str> = match broker_id {
            -1 => format!("cluster {}: broker {address}", self.alias).into(),
            id => format!("cluster {}: broker {id} ({address})", self.alias).into(),
        };
        let lost = |why: String| Error::new(ErrorKind::Retryable, format!("{peer}: {why}"));
        let stream = match timeout(STEP, tcp(address)).await {
            Ok(connected) => connected.map_err(|e| lost(format!("cannot connect: {e}")))?,
            Err(_) => return Err(lost(format!("cannot connect within {STEP:?}"))),
        };
        let line = if self.security.protocol.uses_tls() {
            let shaking = self.tls.now()?.connect(&address.host, &address.to_string(), stream).await;
            let (reading, writing) = tokio::io::split(shaking?);
            Line::open(peer.clone(), reading, writing)
        } else {
            let (reading, writing) = stream.into_split();
            Line::open(peer.clone(), reading, writing)
        };
        let mut connection = Connection::new(line, broker_id, &self.client_id);
        let versions = versions(&connection).await.map_err(|e| self.hint_at_protocol(e))?;
        connection.set_versions(versions);
        if self.security.protocol.uses_sasl() {
            let session =
                sasl::authenticate(&connection, &self.alias, &self.security, self.tokens.as_deref(), STEP).await?;
            session.into_iter().for_each(|lifetime| connection.set_session(lifetime));
        }
        Ok(connection)
    }

    /// A broker that expects another protocol just hangs up at our first request, and in TLS 1.3 one that does not like our
    /// certificate does so too.
    fn hint_at_protocol(&self, error: Error) -> Error {
        let alias = &self.alias;
        let advice = match error.kind {
            ErrorKind::Retryable => format!("if this stays, check clusters.{alias}.security.protocol and the port"),
            ErrorKind::Denied if self.security.protocol.uses_tls() => {
                what_certificate_to_show(alias, self.security.identity.is_some())
            }
            _ => return error,
        };
        Error::new(error.kind, format!("{} ({advice})", error.message))
    }
}

/// Connects to the first address of the host that answers.
async fn tcp(address: &Address) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE).with_interval(Duration::from_secs(5)))?;
    // Without it, a peer that vanished with our bytes unacknowledged is noticed after some 15 minutes.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(SILENCE))?;
    Ok(stream)
}

/// Asks what the broker speaks. A broker that does not know our version of the question answers in version 0 with
/// error 35, and is asked again in version 0.
async fn versions(connection: &Connection) -> Result<HashMap<i16, (i16, i16)>> {
    let mut version = 3;
    let mut answer = ask(connection, version).await?;
    if version > 0 && answer.first_chunk().is_some_and(|code| i16::from_be_bytes(*code) == UNSUPPORTED_VERSION) {
        version = 0;
        answer = ask(connection, version).await?;
    }
    let row = api::find(ApiKey::ApiVersions).expect("the table has ApiVersions");
    let outline = row.check(version, &answer).map_err(|e| e.to_string());
    let decoded = outline.and_then(|_| ApiVersionsResponse::decode(&mut answer, version).map_err(|e| e.to_string()));
    let decoded = decoded.map_err(|why| {
        Error::new(
            ErrorKind::Protocol,
            format!("{}: the answer to ApiVersions makes no sense: {why}", connection.peer()),
        )
    })?;
    match fault::error_of(decoded.error_code, connection.peer()) {
        Some(error) => Err(error),
        None => Ok(decoded.api_keys.into_iter().map(|k| (k.api_key, (k.min_version, k.max_version))).collect()),
    }
}

async fn ask(connection: &Connection, version: i16) -> Result<Bytes> {
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("twinlog"))
        .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
    let mut body = BytesMut::new();
    request.encode(&mut body, version).map_err(|e| {
        Error::new(ErrorKind::Protocol, format!("{}: cannot encode ApiVersions v{version}: {e}", connection.peer()))
    })?;
    connection.start_frame(ApiKey::ApiVersions, version, vec![body.freeze()], STEP).await
}

#[cfg(test)]
#[path = "dialer_tests.rs"]
mod tests;
