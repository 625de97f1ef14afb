//! What follows from each error code a broker answers to a Produce request, as one table.

use crate::endpoint::ErrorKind;

/// What to do about one refused batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What the owner of the partition does.
    pub kind: ErrorKind,
    /// Whether the code says that the leader moved or metadata is old, so that it is asked for again before the next
    /// attach.
    pub metadata_is_stale: bool,
    /// The code in words, with the way out where people must act.
    pub meaning: &'static str,
}

/// Reads a produce error code; `None` for success. Every code that leaves in doubt whether the batch was appended is
/// [`ErrorKind::Attach`]: the lane never repeats a batch itself, attaching finds out. An unknown code is such a doubt too.
pub(super) fn verdict(code: i16) -> Option<Verdict> {
    let (kind, metadata_is_stale, meaning) = match code {
        0 => return None,
        -1 => (ErrorKind::Attach, false, "the broker failed on it (UNKNOWN_SERVER_ERROR): see the broker's log"),
        2 => (
            ErrorKind::Corrupt,
            false,
            "the batch fails its checksum at the broker (CORRUPT_MESSAGE): it was damaged on the way or in memory",
        ),
        // A single broker's word: attaching asks the cluster, which knows whether the topic is gone or was re-created.
        3 => (ErrorKind::Attach, true, "the broker does not know the partition (UNKNOWN_TOPIC_OR_PARTITION)"),
        100 => (ErrorKind::Attach, true, "the broker does not know the topic id (UNKNOWN_TOPIC_ID)"),
        103 => (ErrorKind::Attach, true, "the topic has another id there (INCONSISTENT_TOPIC_ID)"),
        5 => (ErrorKind::Attach, true, "the partition has no leader (LEADER_NOT_AVAILABLE)"),
        // May come after a local append: only the log end tells.
        6 => (ErrorKind::Attach, true, "the leader moved (NOT_LEADER_OR_FOLLOWER)"),
        8 => (ErrorKind::Attach, true, "the broker is not available (BROKER_NOT_AVAILABLE)"),
        9 => (ErrorKind::Attach, true, "the replica is not available (REPLICA_NOT_AVAILABLE)"),
        56 => (ErrorKind::Attach, true, "the leader's disk failed (KAFKA_STORAGE_ERROR)"),
        72 => (ErrorKind::Attach, true, "the leader has no such listener (LISTENER_NOT_FOUND)"),
        74 => (ErrorKind::Attach, true, "the leader epoch is old (FENCED_LEADER_EPOCH)"),
        75 => (ErrorKind::Attach, true, "the broker does not know the leader epoch yet (UNKNOWN_LEADER_EPOCH)"),
        78 => (ErrorKind::Attach, true, "the new leader does not know its end yet (OFFSET_NOT_AVAILABLE)"),
        7 => (ErrorKind::Attach, false, "the in-sync replicas did not confirm in time (REQUEST_TIMED_OUT)"),
        13 => (ErrorKind::Attach, true, "the broker lost its connection (NETWORK_EXCEPTION)"),
        19 => (
            ErrorKind::Attach,
            false,
            "fewer replicas are in sync than min.insync.replicas asks for (NOT_ENOUGH_REPLICAS)",
        ),
        20 => (
            ErrorKind::Attach,
            false,
            "fewer replicas were in sync after the append than min.insync.replicas asks for \
             (NOT_ENOUGH_REPLICAS_AFTER_APPEND)",
        ),
        10 => (ErrorKind::TooLarge, false, "the batch exceeds the topic's max.message.bytes (MESSAGE_TOO_LARGE)"),
        18 => (ErrorKind::TooLarge, false, "the batch exceeds the topic's segment.bytes (RECORD_LIST_TOO_LARGE)"),
        17 => (ErrorKind::Protocol, false, "the topic's name is refused (INVALID_TOPIC_EXCEPTION)"),
        21 => (ErrorKind::Protocol, false, "acks=all is refused (INVALID_REQUIRED_ACKS)"),
        42 => (ErrorKind::Protocol, false, "the request is refused (INVALID_REQUEST)"),
        35 => (ErrorKind::PlaneRefused, false, "the broker does not speak this version (UNSUPPORTED_VERSION)"),
        29 => (
            ErrorKind::Denied,
            false,
            "the right to write is missing (TOPIC_AUTHORIZATION_FAILED): grant Write on the topic",
        ),
        31 => (
            ErrorKind::Denied,
            false,
            "the right to produce idempotently is missing (CLUSTER_AUTHORIZATION_FAILED): grant IdempotentWrite on \
             the cluster",
        ),
        53 => (
            ErrorKind::Denied,
            false,
            "the transactional bit was set (TRANSACTIONAL_ID_AUTHORIZATION_FAILED), which Twinlog never sends: \
             something between us and the broker changes batches",
        ),
        32 => (
            ErrorKind::Denied,
            false,
            "the topic refuses the records' times (INVALID_TIMESTAMP): open message.timestamp.before.max.ms and \
             message.timestamp.after.max.ms",
        ),
        43 => (
            ErrorKind::PlaneRefused,
            false,
            "the topic stores an old message format (UNSUPPORTED_FOR_MESSAGE_FORMAT): raise message.format.version",
        ),
        44 => (ErrorKind::Denied, false, "a policy of the cluster refuses the write (POLICY_VIOLATION)"),
        45 => (
            ErrorKind::Attach,
            false,
            "the log does not end where we thought (OUT_OF_ORDER_SEQUENCE_NUMBER): another owner or an earlier \
             refusal",
        ),
        46 => (ErrorKind::Attach, false, "the batch was written before (DUPLICATE_SEQUENCE_NUMBER)"),
        59 => (ErrorKind::Attach, false, "the leader lost the producer's state (UNKNOWN_PRODUCER_ID)"),
        47 => (ErrorKind::Fenced, false, "a higher producer epoch stands in the log (INVALID_PRODUCER_EPOCH)"),
        90 => (ErrorKind::Fenced, false, "a newer producer was fenced in (PRODUCER_FENCED)"),
        48 => (ErrorKind::Protocol, false, "a transaction was assumed (INVALID_TXN_STATE)"),
        49 => (ErrorKind::Protocol, false, "a transactional producer was assumed (INVALID_PRODUCER_ID_MAPPING)"),
        51 => (ErrorKind::Protocol, false, "a transaction was assumed (CONCURRENT_TRANSACTIONS)"),
        120 => (ErrorKind::Protocol, false, "a transaction was assumed (TRANSACTION_ABORTABLE)"),
        76 => (
            ErrorKind::PlaneRefused,
            false,
            "the broker does not know the batch's compression (UNSUPPORTED_COMPRESSION_TYPE)",
        ),
        87 => (
            ErrorKind::Refused,
            false,
            "the broker refuses a record for good (INVALID_RECORD), such as a null key on a compacted topic",
        ),
        89 => (ErrorKind::Attach, false, "a quota is exhausted (THROTTLING_QUOTA_EXCEEDED)"),
        _ => (ErrorKind::Attach, true, "an error code Twinlog does not know"),
    };
    Some(Verdict { kind, metadata_is_stale, meaning })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ErrorKind::{Attach, Corrupt, Denied, Fenced, PlaneRefused, Protocol, Refused, TooLarge};

    /// One row per code of the produce table in `facts/raw-batches` §6.7: code, kind, metadata asked again.
    const TABLE: &[(i16, ErrorKind, bool)] = &[
        (-1, Attach, false),
        (2, Corrupt, false),
        (3, Attach, true),
        (100, Attach, true),
        (5, Attach, true),
        (6, Attach, true),
        (8, Attach, true),
        (56, Attach, true),
        (7, Attach, false),
        (20, Attach, false),
        (13, Attach, true),
        (19, Attach, false),
        (10, TooLarge, false),
        (18, TooLarge, false),
        (17, Protocol, false),
        (21, Protocol, false),
        (35, PlaneRefused, false),
        (42, Protocol, false),
        (29, Denied, false),
        (31, Denied, false),
        (53, Denied, false),
        (32, Denied, false),
        (43, PlaneRefused, false),
        (44, Denied, false),
        (45, Attach, false),
        (46, Attach, false),
        (47, Fenced, false),
        (90, Fenced, false),
        (48, Protocol, false),
        (49, Protocol, false),
        (51, Protocol, false),
        (120, Protocol, false),
        (59, Attach, false),
        (74, Attach, true),
        (75, Attach, true),
        (78, Attach, true),
        (76, PlaneRefused, false),
        (87, Refused, false),
        (89, Attach, false),
        (103, Attach, true),
    ];

    #[test]
    fn every_row_of_the_produce_table_has_its_consequence() {
        for &(code, kind, metadata_is_stale) in TABLE {
            let verdict = verdict(code).unwrap_or_else(|| panic!("code {code} is an error"));
            assert_eq!((verdict.kind, verdict.metadata_is_stale), (kind, metadata_is_stale), "code {code}");
        }
    }

    #[test]
    fn success_needs_no_verdict_and_an_unknown_code_means_look_again() {
        assert_eq!(verdict(0), None);
        assert_eq!(verdict(31_000).map(|v| v.kind), Some(Attach));
    }
}
