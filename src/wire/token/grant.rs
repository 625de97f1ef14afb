//! A token from a token endpoint, by the client credentials grant (RFC 6749, 4.4).

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Given;
use crate::endpoint::{ErrorKind, Secret, TokenEndpoint};
use crate::wire::tls;

/// Far above any token.
const LONGEST_ANSWER_BYTES: usize = 1 << 20;

/// Why there is no token: what follows from it, and the config key behind it.
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) key: &'static str,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn passing(key: &'static str, why: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Retryable, key, why: why.into() }
    }

    fn lasting(key: &'static str, why: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Denied, key, why: why.into() }
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// Asks for a token.
pub(super) async fn ask(endpoint: &TokenEndpoint) -> Result<Given, Failure> {
    let url = &endpoint.url;
    let host = url.host().unwrap_or_default();
    let encrypted = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
    let lost = |error: &dyn std::fmt::Display| Failure::passing("endpoint", format!("cannot ask {url}: {error}"));
    let request = request(endpoint)?;
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((name, port)).await.map_err(|e| lost(&e))?;
    let (status, body) = if encrypted {
        let connector = tls::connector(endpoint.ca.as_deref()).map_err(|why| Failure::lasting("ca", why))?;
        let name = tls::server_name(name).map_err(|why| Failure::lasting("endpoint", why))?;
        // That may be a certificate, which is for people to look at.
        let stream = connector.connect(name, stream).await;
        let stream =
            stream.map_err(|e| Failure::lasting("endpoint", format!("{url}: TLS failed: {e}; see also token.ca")))?;
        exchange(stream, request).await.map_err(|e| lost(&e))?
    } else {
        exchange(stream, request).await.map_err(|e| lost(&e))?
    };
    // What an endpoint says besides is not repeated: it may hold what it was sent.
    match status {
        StatusCode::OK => {}
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let why = format!("{url} refuses it (HTTP {status}); see also token.client_secret and token.scope");
            return Err(Failure::lasting("client_id", why));
        }
        _ => return Err(lost(&format!("HTTP {status}"))),
    }
    let answer: Answer =
        serde_json::from_slice(&body).map_err(|_| lost(&"the answer holds no access_token in JSON"))?;
    Ok(Given { text: Secret::new(answer.access_token), life: answer.expires_in.map(Duration::from_secs) })
}

fn request(endpoint: &TokenEndpoint) -> Result<Request<Body>, Failure> {
    let TokenEndpoint { url, client_id, client_secret, scope, .. } = endpoint;
    let secret = client_secret.read().map_err(|why| Failure::lasting("client_secret", why))?;
    let credentials = STANDARD.encode(format!("{}:{}", form(client_id), form(secret.reveal())));
    let mut body = "grant_type=client_credentials".to_owned();
    if let Some(scope) = scope {
        body += &format!("&scope={}", form(scope));
    }
    Request::post(url.path_and_query().map_or("/", |at| at.as_str()))
        .header(header::HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(header::AUTHORIZATION, format!("Basic {credentials}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(Body::from(body))
        .map_err(|error| Failure::lasting("endpoint", error.to_string()))
}

/// As forms write it: RFC 6749 wants it for name and secret too, before they are joined.
fn form(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    let written = text.bytes().map(|byte| match byte {
        b' ' => "+".to_owned(),
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    });
    written.collect()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Body>,
) -> Result<(StatusCode, Vec<u8>), String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = response.status();
        let body = to_bytes(Body::new(response.into_body()), LONGEST_ANSWER_BYTES).await;
        Ok((status, body.map_err(|e| e.to_string())?.to_vec()))
    };
    // The connection ends by itself once its sender, which `asked` owns, is gone; its errors show there.
    let (answer, _) = tokio::join!(asked, connection);
    answer
}
