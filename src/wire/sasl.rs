//! SASL on a fresh connection: mechanism agreed, token shown or password proven, and with SCRAM the server's knowledge of it too.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use rand::Rng;
use rand::distr::Alphanumeric;

use crate::endpoint::{BearerTokens, Error, ErrorKind, Mechanism, Result, Security};
use crate::wire::connection::Connection;
use crate::wire::fault::error_of;
use crate::wire::scram::{Exchange, Failure, Hash};
use crate::wire::token::Tokens;

const UNSUPPORTED_MECHANISM: i16 = 33;
const AUTHENTICATION_FAILED: i16 = 58;

/// Authenticates. Returns how long the broker lets the session live; `None` without limit.
///
/// # Errors
/// `Denied`, naming cluster, user and config keys, when the broker refuses or is not to be trusted.
pub(super) async fn authenticate(
    connection: &Connection,
    alias: &str,
    security: &Security,
    tokens: Option<&Tokens>,
    timeout: Duration,
) -> Result<Option<Duration>> {
    let denied = |why: String| Error::new(ErrorKind::Denied, format!("{}: {why}", connection.peer()));
    let keys = format!("clusters.{alias}.security");
    let missing = |key: &str| denied(format!("SASL is on but {keys}.{key} is not set"));
    let mechanism = security.mechanism.ok_or_else(|| missing("mechanism"))?;

    let name = StrBytes::from_static_str(mechanism.name());
    let agreed = connection.start(SaslHandshakeRequest::default().with_mechanism(name), timeout).await?;
    if agreed.error_code == UNSUPPORTED_MECHANISM {
        let offered: Vec<_> = agreed.mechanisms.iter().map(|m| m.as_str()).collect();
        let (ours, theirs) = (mechanism.name(), offered.join(", "));
        return Err(denied(format!("the broker does not offer {ours} but {theirs}: set {keys}.mechanism")));
    }
    if let Some(error) = error_of(agreed.error_code, connection.peer()) {
        return Err(error);
    }

    let dialogue = |who: &str, check: String| Dialogue {
        connection,
        timeout,
        refused: format!("{who} with {}", mechanism.name()),
        check: format!("check {check} and {keys}.mechanism"),
    };
    if mechanism == Mechanism::OauthBearer {
        let tokens = tokens.ok_or_else(|| missing("token"))?;
        let token = tokens.token().await?;
        let dialogue = dialogue(&format!("the token of `{}`", token.principal), format!("{keys}.token"));
        let outcome = dialogue.bearer(token.text.reveal()).await;
        if outcome.as_ref().is_err_and(|error| error.kind == ErrorKind::Denied) {
            tokens.forget().await;
        }
        return outcome;
    }
    let username = security.username.as_deref().ok_or_else(|| missing("username"))?;
    // Read anew: it may have been replaced since the last connection.
    let password = security.password.as_ref().ok_or_else(|| missing("password"))?;
    let password = password.read().map_err(|why| denied(format!("{keys}.password: {why}")))?;
    let password = password.reveal();
    let dialogue = dialogue(&format!("user `{username}`"), format!("{keys}.username, {keys}.password"));
    match mechanism {
        Mechanism::ScramSha256 => dialogue.scram(Hash::Sha256, username, password).await,
        Mechanism::ScramSha512 => dialogue.scram(Hash::Sha512, username, password).await,
        _ => dialogue.say(format!("\0{username}\0{password}")).await.map(|answer| answer.session),
    }
}

struct Dialogue<'a> {
    connection: &'a Connection,
    timeout: Duration,
    /// Who is being authenticated, for the refusal.
    refused: String,
    /// What to do about it.
    check: String,
}

struct Answer {
    bytes: Bytes,
    session: Option<Duration>,
}

impl Dialogue<'_> {
    async fn say(&self, message: String) -> Result<Answer> {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
        let answer = self.connection.start(request, self.timeout).await?;
        if answer.error_code == AUTHENTICATION_FAILED {
            return Err(self.refusal(answer.error_message.as_deref().unwrap_or("authentication failed")));
        }
        if let Some(error) = error_of(answer.error_code, self.connection.peer()) {
            return Err(error);
        }
        let session = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        Ok(Answer { bytes: answer.auth_bytes, session })
    }

    /// RFC 7628. A broker that refuses says why in a challenge; only when that is acknowledged does it end the exchange.
    async fn bearer(&self, token: &str) -> Result<Option<Duration>> {
        let answer = self.say(format!("n,,\x01auth=Bearer {token}\x01\x01")).await?;
        if answer.bytes.is_empty() {
            return Ok(answer.session);
        }
        let why = String::from_utf8_lossy(&answer.bytes).into_owned();
        match self.say("\x01".to_owned()).await {
            Err(error) if error.is_retryable() => Err(error),
            _ => Err(self.refusal(&why)),
        }
    }

    async fn scram(&self, hash: Hash, username: &str, password: &str) -> Result<Option<Duration>> {
        let nonce: String = rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
        let exchange = Exchange::new(hash, username, password, &nonce);
        let challenge = self.say(exchange.first_message()).await?;
        let (proof, proving) = exchange.answer(&challenge.bytes).map_err(|e| self.failure(&e))?;
        let answer = self.say(proof).await?;
        proving.verify(&answer.bytes).map_err(|e| self.failure(&e))?;
        Ok(answer.session)
    }

    fn failure(&self, failure: &Failure) -> Error {
        match failure {
            Failure::Refused(why) => self.refusal(why),
            Failure::Untrusted(_) => {
                Error::new(ErrorKind::Denied, format!("{}: SCRAM: {failure}", self.connection.peer()))
            }
        }
    }

    fn refusal(&self, why: &str) -> Error {
        let Dialogue { connection, refused, check, .. } = self;
        Error::new(ErrorKind::Denied, format!("{}: {refused} is refused ({why}): {check}", connection.peer()))
    }
}
