//! librdkafka's errors as the contracts' kinds, and what a client said outside of any call.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::endpoint::ErrorKind;
use crate::librdkafka::login::{Login, answer};

/// What follows from an error code at the ledger.
pub(super) fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => ErrorKind::Fenced,
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => ErrorKind::UnknownTopic,
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => ErrorKind::TooLarge,
        Code::InvalidRecord | Code::PolicyViolation | Code::InvalidTransactionTimeout => ErrorKind::Refused,
        Code::TopicAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::SSL => ErrorKind::Denied,
        Code::BadMessage | Code::InvalidMessage | Code::OffsetOutOfRange | Code::AutoOffsetReset => ErrorKind::Corrupt,
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented => ErrorKind::Unsupported,
        _ => ErrorKind::Retryable,
    }
}

/// The code and the sentence of an error, as far as it has them.
pub(super) fn explain(error: &KafkaError) -> (ErrorKind, String) {
    match error {
        KafkaError::Transaction(e) => (kind_of(e.code()), e.string()),
        KafkaError::ClientConfig(_, what, key, _) => (ErrorKind::Denied, format!("setting {key}: {what}")),
        KafkaError::ClientCreation(what) => (ErrorKind::Denied, what.clone()),
        other => match other.rdkafka_error_code() {
            Some(code) => (kind_of(code), code.to_string()),
            None => (ErrorKind::Retryable, other.to_string()),
        },
    }
}

/// Which config keys are behind an error code; empty when it is about rights, or about nothing of ours.
fn keys_behind(code: Code) -> &'static [&'static str] {
    match code {
        Code::SSL => &["ca", "certificate", "key"],
        Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => &["mechanism", "username", "password", "token"],
        _ => &[],
    }
}

/// Remembers why a client cannot reach its cluster: a call that times out does not know.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<Option<(ErrorKind, String)>>,
}

impl Complaints {
    /// The last complaint since all was well. librdkafka repeats itself only every 30 s.
    pub fn standing(&self) -> Option<(ErrorKind, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All is well.
    pub fn clear(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Remembers that a right is missing.
    pub fn refused(&self, reason: &str) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((ErrorKind::Denied, reason.to_owned()));
    }

    /// Remembers one. That a connection or all brokers are lost does not replace the reason why.
    pub fn note(&self, cluster: &str, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        // In TLS 1.3 a broker refuses our certificate behind the handshake, which librdkafka takes for a lost connection.
        let code = if reason.contains("SSL alert number") { Code::SSL } else { code };
        let kind = kind_of(code);
        let keys = keys_behind(code).iter().map(|key| format!("clusters.{cluster}.security.{key}"));
        let keys = keys.collect::<Vec<_>>().join(", ");
        let reason = if keys.is_empty() { reason.to_owned() } else { format!("{reason}; check {keys}") };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref().is_none_or(|(known, _)| kind == ErrorKind::Denied || *known != ErrorKind::Denied) {
            *last = Some((kind, reason));
        }
    }
}

/// Sends librdkafka's log lines to tracing (without rdkafka's `tracing` feature they go to the `log` crate).
pub(super) fn log(cluster: &str, level: RDKafkaLogLevel, facility: &str, line: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::warn!(cluster, facility, "librdkafka: {line}");
        }
        _ => tracing::debug!(cluster, facility, "librdkafka: {line}"),
    }
}

/// The consumer's side of the conversation.
pub(super) struct Quiet {
    pub cluster: String,
    pub complaints: Complaints,
    pub login: Option<Login>,
}

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        answer(self.login.as_ref())
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(&self.cluster, level, facility, line);
    }

    // A consumer's errors also come out of its poll, which is where they are dealt with.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(cluster = %self.cluster, %error, "librdkafka: {reason}");
        self.complaints.note(&self.cluster, &error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}
