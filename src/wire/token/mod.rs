//! Tokens for OAUTHBEARER: fetched when the last one is old, and shared by all connections of a cluster.

mod claims;
mod command;
mod grant;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::endpoint::{BearerToken, BearerTokens, Error, ErrorKind, Result, Secret, TokenSource};

/// Another token is fetched when this part of the last one's life is over. librdkafka counts the same way.
const USED_UP: f64 = 0.8;
/// How long a token is taken to live that does not say so.
const UNKNOWN_LIFE: Duration = Duration::from_secs(60);
/// For a program to print a token, and for an endpoint to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The tokens of one cluster.
pub(super) struct Tokens {
    alias: Arc<str>,
    source: TokenSource,
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    token: BearerToken,
    fresh_until: SystemTime,
}

/// A token as its source gave it.
struct Given {
    text: Secret,
    /// What the source said of its life; the token's own word counts more.
    life: Option<Duration>,
}

impl Tokens {
    /// No I/O yet.
    pub(super) fn new(alias: Arc<str>, source: TokenSource) -> Self {
        Self { alias, source, kept: Mutex::default() }
    }

    /// Brokers refused the last token: the next caller gets another one.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    async fn fetch(&self) -> Result<BearerToken> {
        let fault = |kind: ErrorKind, key: &str, why: String| {
            let alias = &self.alias;
            Error::new(kind, format!("cluster {alias}: clusters.{alias}.security.token.{key}: {why}"))
        };
        let given = match &self.source {
            TokenSource::File(file) => match tokio::fs::read_to_string(file).await {
                Ok(text) => Ok(Given { text: Secret::new(text.trim()), life: None }),
                Err(error) => Err(fault(ErrorKind::Denied, "file", format!("cannot read {}: {error}", file.display()))),
            },
            TokenSource::Command(words) => {
                command::run(words).await.map_err(|why| fault(ErrorKind::Retryable, "command", why))
            }
            TokenSource::Endpoint(endpoint) => {
                let answer = tokio::time::timeout(PATIENCE, grant::ask(endpoint)).await;
                let answer = answer.unwrap_or_else(|_| {
                    Err(grant::Failure::passing("endpoint", format!("no answer within {PATIENCE:?}")))
                });
                answer.map_err(|grant::Failure { kind, key, why }| fault(kind, key, why))
            }
        }?;
        let key = match self.source {
            TokenSource::File(_) => "file",
            TokenSource::Command(_) => "command",
            TokenSource::Endpoint(_) => "endpoint",
        };
        // What has other characters would change the message it travels in (RFC 7628: 0x01 ends a field).
        let sound = |c: u8| c.is_ascii_graphic();
        if given.text.reveal().is_empty() || !given.text.reveal().bytes().all(sound) {
            return Err(fault(
                ErrorKind::Denied,
                key,
                "gives no token: one is a single word of visible characters".into(),
            ));
        }
        let now = SystemTime::now();
        let claims = claims::of(given.text.reveal());
        let expires = claims.expires.unwrap_or_else(|| now + given.life.unwrap_or(UNKNOWN_LIFE));
        if expires <= now {
            let ago = now.duration_since(expires).unwrap_or_default().as_secs();
            let why = format!("gives a token that expired {ago} s ago (or this machine's clock is wrong)");
            return Err(fault(ErrorKind::Retryable, key, why));
        }
        Ok(BearerToken { text: given.text, principal: claims.subject.unwrap_or_else(|| "unknown".into()), expires })
    }
}

#[async_trait]
impl BearerTokens for Tokens {
    async fn token(&self) -> Result<BearerToken> {
        // Held over the fetch, so that callers at the same time share it.
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some(Kept { token, fresh_until }) = &*kept
            && now < *fresh_until
        {
            return Ok(token.clone());
        }
        match (self.fetch().await, &*kept) {
            (Ok(token), _) => {
                let now = SystemTime::now();
                let life = token.expires.duration_since(now).unwrap_or_default();
                *kept = Some(Kept { token: token.clone(), fresh_until: now + life.mul_f64(USED_UP) });
                Ok(token)
            }
            (Err(error), Some(Kept { token, .. })) if SystemTime::now() < token.expires => {
                tracing::warn!(%error, "no new token: going on with the last one, which has not expired yet");
                Ok(token.clone())
            }
            (Err(error), _) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
