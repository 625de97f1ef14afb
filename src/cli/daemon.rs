//! Asks the running daemon, over the HTTP address of the same configuration.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::failed::{Exit, Failed};
use crate::config::{Environment, HttpConfig};
use crate::endpoint::Secret;
use crate::http::Failure;

/// A verb is durable on the target cluster before it is answered, and that cluster may be electing a leader just now.
const PATIENCE: Duration = Duration::from_secs(60);

/// Far above the report of a hundred thousand partitions.
const LONGEST_ANSWER_BYTES: usize = 256 << 20;

/// Where the daemon answers.
pub(super) struct Daemon {
    address: SocketAddr,
    token: Option<Secret>,
    config: PathBuf,
}

impl Daemon {
    /// The daemon that runs with the configuration `file`.
    pub(super) fn of(file: &Path, environment: &Environment) -> Result<Self, Failed> {
        let http = HttpConfig::load(file, environment)?;
        let mut address = http.listen;
        // A daemon that listens everywhere is asked on this machine.
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(Self { address, token: http.token, config: file.to_owned() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.exchange(Request::get(path), Body::empty()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failed> {
        let body = serde_json::to_vec(body).expect("requests are plain data");
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        self.exchange(request, Body::from(body)).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: axum::http::request::Builder,
        body: Body,
    ) -> Result<T, Failed> {
        let request = request
            .header(header::HOST, self.address.to_string())
            .body(body)
            .map_err(|error| Failed::new(Exit::Usage, format!("cannot ask the daemon: {error}")))?;
        let (status, answer) = timeout(PATIENCE, self.send(request))
            .await
            .map_err(|_| self.unreachable(format!("no answer within {}", humantime::format_duration(PATIENCE))))??;
        if status.is_success() {
            return serde_json::from_slice(&answer).map_err(|error| self.stranger(status, &error.to_string()));
        }
        Err(match serde_json::from_slice::<Failure>(&answer) {
            Ok(failure) => Failed::new(Exit::Failed, failure.error),
            Err(error) => self.stranger(status, &error.to_string()),
        })
    }

    async fn send(&self, request: Request<Body>) -> Result<(StatusCode, Vec<u8>), Failed> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| self.unreachable(error.to_string()))?;
        let broken = |error: &dyn std::fmt::Display| self.unreachable(format!("the connection broke: {error}"));
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let asked = async move {
            let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
            let status = response.status();
            let answer = to_bytes(Body::new(response.into_body()), LONGEST_ANSWER_BYTES).await;
            Ok((status, answer.map_err(|error| broken(&error))?.to_vec()))
        };
        // The connection ends by itself once its sender, which `asked` owns, is gone; its errors show there.
        let (answer, _) = tokio::join!(asked, connection);
        answer
    }

    fn unreachable(&self, reason: String) -> Failed {
        let message = format!(
            "no daemon answers at {} (http.listen of {}): {reason}; start one with `twinlog run --config {}`",
            self.address,
            self.config.display(),
            self.config.display()
        );
        Failed::new(Exit::Unreachable, message)
    }

    fn stranger(&self, status: StatusCode, reason: &str) -> Failed {
        let message = format!(
            "what answers at {} (http.listen of {}) is not a Twinlog of this version: status {status}, {reason}",
            self.address,
            self.config.display()
        );
        Failed::new(Exit::Failed, message)
    }
}
