//! `[http]`, `[memory]` and `[log]`: what belongs to the process rather than to a link.

use std::net::{Ipv4Addr, SocketAddr};

use super::secret::secret;
use super::section::{Section, text};
use crate::endpoint::Secret;
use crate::telemetry::tracing::LogFormat;

/// Where metrics, health and the verbs are served, and where the command line finds the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Address to listen on. Verbs that change something are served without a token on loopback addresses only.
    pub listen: SocketAddr,
    /// Bearer token those verbs ask for, where set.
    pub token: Option<Secret>,
    /// Whether the metrics of data carry a `partition` label; else they are summed up per topic.
    pub partition_metrics: bool,
}

impl HttpConfig {
    /// Loopback, because status and verbs are for the operator of this machine until somebody decides otherwise.
    pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9644);
    /// Off, because ten thousand partitions times a dozen metrics is more than most Prometheus servers want from one
    /// process.
    pub const PARTITION_METRICS: bool = false;

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = section.read("listen", |_, value| {
            text(value)?.parse().map_err(|_| "expected an IP address and a port, such as \"127.0.0.1:9644\"".to_owned())
        });
        let token = secret(&mut section, "token");
        let partition_metrics = section.flag("partition_metrics");
        section.finish();
        Self {
            listen: listen.unwrap_or(Self::LISTEN),
            token,
            partition_metrics: partition_metrics.unwrap_or(Self::PARTITION_METRICS),
        }
    }
}

/// The memory bound of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryConfig {
    /// Bytes of record batches in flight, over all links.
    pub budget_bytes: u64,
}

impl MemoryConfig {
    /// Measured to fill a local network from six partitions; a far cluster wants bandwidth × round trip.
    pub const BUDGET_BYTES: u64 = 16 << 20;
    /// Less would not hold one batch of Kafka's default `max.message.bytes`.
    pub const LEAST_BUDGET_BYTES: u64 = 2 << 20;

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let budget_bytes = section.bytes("budget", Self::LEAST_BUDGET_BYTES).unwrap_or(Self::BUDGET_BYTES);
        section.finish();
        Self { budget_bytes }
    }
}

/// How the process logs, always to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Text for people or JSON for machines.
    pub format: LogFormat,
    /// A level, or `tracing` directives such as `info,twinlog::wire=debug`.
    pub level: String,
}

impl LogConfig {
    /// What happens to a link and its partitions, without what happens to each request.
    pub const LEVEL: &'static str = "info";

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let format = section.choice("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
        let level = section.read("level", |_, value| {
            let level = text(value)?;
            crate::telemetry::tracing::check_level(&level).map_err(|error| {
                format!("expected a level, such as \"info\" or \"info,twinlog::wire=debug\": {error}")
            })?;
            Ok(level)
        });
        section.finish();
        Self { format: format.unwrap_or_default(), level: level.unwrap_or_else(|| Self::LEVEL.to_owned()) }
    }
}
