//! librdkafka's errors as the contracts' kinds, and what a client said outside of any call.

use std::sync::{Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::endpoint::ErrorKind;

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

/// Remembers why a client cannot reach its cluster: a call that times out does not know.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    last: Mutex<Option<(ErrorKind, String)>>,
}

impl Complaints {
    /// The last complaint since the last call.
    pub fn take(&self) -> Option<(ErrorKind, String)> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Remembers one. That all brokers are down does not replace the reason why.
    pub fn note(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if code != Code::AllBrokersDown || last.is_none() {
            *last = Some((kind_of(code), reason.to_owned()));
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
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log(&self.cluster, level, facility, line);
    }

    // A consumer's errors also come out of its poll, which is where they are dealt with.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(cluster = %self.cluster, %error, "librdkafka: {reason}");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}
