//! The token with which librdkafka logs in, asked for on the thread that serves its events.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rdkafka::client::OAuthToken;
use tokio::runtime::Handle;

use crate::endpoint::{BearerTokens, Error};
use crate::librdkafka::access::ClusterAccess;

/// The cluster's tokens, for threads outside of the runtime.
pub(super) struct Login {
    tokens: Arc<dyn BearerTokens>,
    /// Whoever waits for the token waits in here.
    pub(super) runtime: Handle,
}

impl Login {
    /// `None` where no token is wanted. Call it within the runtime.
    pub(super) fn of(cluster: &ClusterAccess) -> Option<Self> {
        let tokens = cluster.tokens.clone()?;
        Some(Self { tokens, runtime: Handle::current() })
    }

    /// Blocks.
    pub(super) fn token(&self) -> Result<OAuthToken, Error> {
        let token = self.runtime.block_on(self.tokens.token())?;
        let expires = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(OAuthToken {
            token: token.text.reveal().to_owned(),
            principal_name: token.principal,
            lifetime_ms: i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
        })
    }
}

/// What librdkafka's callback answers with.
pub(super) fn answer(login: Option<&Login>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let login = login.ok_or("no token is configured")?;
    Ok(login.token()?)
}
