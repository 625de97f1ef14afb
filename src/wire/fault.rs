//! Kafka's error codes as this program's errors: what follows from each, and a sentence that says what to do.

use std::fmt::Display;

use kafka_protocol::error::ResponseError;

use crate::endpoint::{Error, ErrorKind};

/// The generic meaning of an error code; `None` for 0. `what` names cluster, topic and partition, as far as known, and
/// comes first in the sentence. Call sites override where a code means something special to them.
pub fn error_of(code: i16, what: impl Display) -> Option<Error> {
    let error = ResponseError::try_from_code(code)?;
    Some(Error::new(kind_of(error), format!("{what}: {}", sentence(error))))
}

/// [`error_of`] for a call that needs a certain right, such as `Describe on topic orders`: when it is missing, the
/// sentence names it.
pub(super) fn error_needing(right: impl Display, code: i16, what: impl Display) -> Option<Error> {
    let error = error_of(code, &what)?;
    let missing = matches!(
        ResponseError::try_from_code(code),
        Some(
            ResponseError::TopicAuthorizationFailed
                | ResponseError::GroupAuthorizationFailed
                | ResponseError::ClusterAuthorizationFailed
        )
    );
    if !missing {
        return Some(error);
    }
    Some(Error::new(
        ErrorKind::Denied,
        format!("{what}: our principal may not do this: grant it {right} (code {code})"),
    ))
}

/// Adds the broker's own words to an error, where it gave any.
pub(super) fn in_their_words(error: Error, words: Option<&str>) -> Error {
    match words.map(str::trim).filter(|words| !words.is_empty()) {
        Some(words) => Error::new(error.kind, format!("{}; the broker says: {words}", error.message)),
        None => error,
    }
}

fn kind_of(error: ResponseError) -> ErrorKind {
    use ResponseError::*;
    match error {
        CorruptMessage => ErrorKind::Corrupt,
        UnknownTopicOrPartition | UnknownTopicId => ErrorKind::UnknownTopic,
        InconsistentTopicId => ErrorKind::Recreated,
        MessageTooLarge | RecordListTooLarge => ErrorKind::TooLarge,
        InvalidRecord
        | UnsupportedCompressionType
        | TopicAlreadyExists
        | InvalidPartitions
        | InvalidReplicationFactor
        | InvalidReplicaAssignment
        | InvalidConfig
        | InvalidTopicException
        | InvalidGroupId
        | OffsetMetadataTooLarge => ErrorKind::Refused,
        OutOfOrderSequenceNumber | DuplicateSequenceNumber | UnknownProducerId => ErrorKind::Attach,
        InvalidProducerEpoch | ProducerFenced | TransactionCoordinatorFenced => ErrorKind::Fenced,
        TopicAuthorizationFailed
        | GroupAuthorizationFailed
        | ClusterAuthorizationFailed
        | TransactionalIdAuthorizationFailed
        | SecurityDisabled
        | PolicyViolation
        | InvalidTimestamp
        | UnsupportedForMessageFormat
        | SaslAuthenticationFailed
        | UnsupportedSaslMechanism
        | IllegalSaslState => ErrorKind::Denied,
        UnknownMemberId
        | IllegalGeneration
        | RebalanceInProgress
        | NonEmptyGroup
        | FencedInstanceId
        | GroupSubscribedToTopic
        | StaleMemberEpoch
        | FencedMemberEpoch => ErrorKind::GroupBusy,
        UnsupportedVersion => ErrorKind::Unsupported,
        InvalidRequest | InvalidRequiredAcks | InvalidTxnState | InvalidProducerIdMapping => ErrorKind::Protocol,
        // Leaders moving, brokers behind, quotas, time-outs, and whatever a newer broker may invent: try again, paced.
        _ => ErrorKind::Retryable,
    }
}

fn sentence(error: ResponseError) -> String {
    use ResponseError::*;
    let hint = match error {
        TopicAuthorizationFailed => {
            "our principal lacks a right on this topic: grant Describe and DescribeConfigs, Read \
                                     where it is copied from, and Write, Create and AlterConfigs where it is copied to"
        }
        GroupAuthorizationFailed => {
            "our principal lacks a right on this group: grant Describe on it where it is read, and \
                                     Read where its offsets are written"
        }
        ClusterAuthorizationFailed => {
            "our principal lacks a right on the cluster: grant Describe and DescribeConfigs, \
                                       and on the target Create, AlterConfigs and IdempotentWrite"
        }
        TransactionalIdAuthorizationFailed => {
            "our principal lacks a right: grant Describe and Write on the transactional ids twinlog.*"
        }
        SecurityDisabled => "the brokers have no authorizer",
        PolicyViolation => "a policy of the brokers forbids this",
        InvalidTimestamp => {
            "a record's time is outside the bounds of the topic: open message.timestamp.before.max.ms and \
                             message.timestamp.after.max.ms"
        }
        UnsupportedForMessageFormat => "the topic has an old message format: upgrade it to version 2",
        UnknownTopicOrPartition | UnknownTopicId => "the cluster does not know this topic or partition",
        InconsistentTopicId => "the topic was deleted and created again",
        NotLeaderOrFollower | LeaderNotAvailable | FencedLeaderEpoch | UnknownLeaderEpoch => "the leader is moving",
        OffsetNotAvailable => "the new leader does not know its high watermark yet",
        UnstableOffsetCommit => "a transaction that commits offsets is still open",
        CoordinatorNotAvailable | NotCoordinator | CoordinatorLoadInProgress => "the coordinator is moving",
        NotEnoughReplicas | NotEnoughReplicasAfterAppend => "fewer in-sync replicas than min.insync.replicas",
        NonEmptyGroup | UnknownMemberId | RebalanceInProgress | IllegalGeneration => "the group has members",
        GroupSubscribedToTopic => "members of the group read this topic",
        ThrottlingQuotaExceeded => "a quota of the brokers throttles this",
        _ => return format!("the broker answers {error} ({})", error.code()),
    };
    format!("{hint} ({error}, {})", error.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_no_error_and_unknown_codes_are_tried_again() {
        assert!(error_of(0, "x").is_none());
        let unknown = error_of(31_000, "lyon: orders/3").expect("an error");
        assert_eq!(unknown.kind, ErrorKind::Retryable);
        assert!(unknown.message.contains("lyon: orders/3") && unknown.message.contains("31000"), "{unknown}");
    }

    #[test]
    fn every_row_of_the_error_tables_has_its_kind() {
        let rows = [
            (-1, ErrorKind::Retryable),
            (1, ErrorKind::Retryable),
            (2, ErrorKind::Corrupt),
            (3, ErrorKind::UnknownTopic),
            (5, ErrorKind::Retryable),
            (6, ErrorKind::Retryable),
            (7, ErrorKind::Retryable),
            (10, ErrorKind::TooLarge),
            (18, ErrorKind::TooLarge),
            (19, ErrorKind::Retryable),
            (20, ErrorKind::Retryable),
            (22, ErrorKind::GroupBusy),
            (25, ErrorKind::GroupBusy),
            (29, ErrorKind::Denied),
            (30, ErrorKind::Denied),
            (31, ErrorKind::Denied),
            (32, ErrorKind::Denied),
            (35, ErrorKind::Unsupported),
            (42, ErrorKind::Protocol),
            (44, ErrorKind::Denied),
            (45, ErrorKind::Attach),
            (46, ErrorKind::Attach),
            (47, ErrorKind::Fenced),
            (52, ErrorKind::Fenced),
            (56, ErrorKind::Retryable),
            (58, ErrorKind::Denied),
            (59, ErrorKind::Attach),
            (68, ErrorKind::GroupBusy),
            (74, ErrorKind::Retryable),
            (75, ErrorKind::Retryable),
            (78, ErrorKind::Retryable),
            (86, ErrorKind::GroupBusy),
            (87, ErrorKind::Refused),
            (89, ErrorKind::Retryable),
            (90, ErrorKind::Fenced),
            (100, ErrorKind::UnknownTopic),
            (103, ErrorKind::Recreated),
        ];
        for (code, kind) in rows {
            assert_eq!(error_of(code, "x").expect("not zero").kind, kind, "code {code}");
        }
    }
}
