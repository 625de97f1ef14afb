//! Bearer tokens for SASL OAUTHBEARER: where they come from, and who hands them out.

use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use hyper::Uri;

use crate::endpoint::{Result, Secret, SecretSource};

/// A token as brokers take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BearerToken {
    /// The token itself.
    pub text: Secret,
    /// Whom it is for, as far as it says so itself; for messages.
    pub principal: String,
    /// When brokers stop taking it.
    pub expires: SystemTime,
}

/// Hands out the token of a cluster. Everybody who connects to the cluster shares one.
#[async_trait]
pub trait BearerTokens: Send + Sync {
    /// A token with a good part of its life before it; fetches another one when the last is old.
    ///
    /// # Errors
    /// Name the cluster and the config key. `Retryable` when whoever gives tokens is not there.
    async fn token(&self) -> Result<BearerToken>;
}

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// A file that somebody else keeps fresh.
    File(PathBuf),
    /// What this program prints: its path (or name, found by PATH) and its arguments. No shell is involved.
    Command(Vec<String>),
    /// A token endpoint that is asked with the client credentials grant.
    Endpoint(TokenEndpoint),
}

/// Whom to ask for tokens (RFC 6749, 4.4), and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenEndpoint {
    /// `https`, or `http` on a loopback address.
    pub url: Uri,
    /// PEM file with the authorities to trust; the machine's own roots when absent.
    pub ca: Option<PathBuf>,
    /// Our name there.
    pub client_id: String,
    /// What proves it.
    pub client_secret: SecretSource,
    /// What the token shall be good for, where the endpoint wants to hear it.
    pub scope: Option<String>,
}
