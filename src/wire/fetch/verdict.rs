//! What follows from a partition's answer: each row of the fetch error table as a rule.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;

use crate::endpoint::{Error, ErrorKind};
use crate::model::{LeaderEpoch, Offset};
use crate::wire::error_of;
use crate::wire::fetch::cursor::Cursor;

/// What an answer means for its partition.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Records, or none, are there to be taken.
    Good,
    /// Passing: look for the leader again, after a pause.
    Astray(Error),
    /// The broker names another leader of a newer epoch (KIP-951): go there.
    Moved(i32, LeaderEpoch),
    /// The leader sends us to a replica that is nearer (KIP-392).
    Nearer(i32),
    /// The offset is outside the log, or the broker cannot tell where our epoch ended: ask for the log's ends.
    OutOfRange,
    /// The batch at `next` is damaged at the broker.
    Damaged(Error),
    /// The reader must be told.
    Fatal(Error),
}

/// Judges a partition's answer; `who` is the cluster's alias.
pub(super) fn verdict(who: &str, cursor: &Cursor, data: &PartitionData) -> Verdict {
    let what = format_args!("{who}: fetch of {} at offset {}", cursor.at, cursor.next);
    if data.error_code == 0 {
        let (diverging, redirected) = (&data.diverging_epoch, data.preferred_read_replica.0);
        if diverging.epoch >= 0 || diverging.end_offset >= 0 {
            // KIP-320: below `next` the leader's log is not the one that was read.
            let end = Offset(diverging.end_offset.clamp(0, cursor.next.0));
            let sentence = format!(
                "{what}: what was read below it under leader epoch {} is gone: the leader's log differs from {end} on",
                cursor.epoch
            );
            return Verdict::Fatal(Error::new(ErrorKind::Truncated(end), sentence));
        }
        if redirected >= 0 && data.records.as_ref().is_none_or(|records| records.is_empty()) {
            return Verdict::Nearer(redirected);
        }
        return Verdict::Good;
    }
    let Some(error) = error_of(data.error_code, what) else { return Verdict::Good };
    match ResponseError::try_from_code(data.error_code) {
        // A follower may be behind; the leader knows.
        Some(ResponseError::OffsetOutOfRange) if cursor.is_with_follower() => Verdict::Astray(error),
        Some(ResponseError::OffsetOutOfRange) => Verdict::OutOfRange,
        Some(ResponseError::CorruptMessage) => Verdict::Damaged(error),
        Some(ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch)
            if data.current_leader.leader_epoch > cursor.leader.epoch.0 && data.current_leader.leader_id.0 >= 0 =>
        {
            Verdict::Moved(data.current_leader.leader_id.0, LeaderEpoch(data.current_leader.leader_epoch))
        }
        Some(ResponseError::TopicAuthorizationFailed) => {
            let sentence = format!("{what}: our principal may not read it; grant Read on topic {}", cursor.at.topic);
            Verdict::Fatal(Error::new(ErrorKind::Denied, sentence))
        }
        // A broker's word about ids can lag behind; the desk asks the metadata and believes that.
        Some(
            ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId | ResponseError::InconsistentTopicId,
        ) => Verdict::Astray(error),
        _ if error.is_retryable() => Verdict::Astray(error),
        _ => Verdict::Fatal(error),
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{EpochEndOffset, LeaderIdAndEpoch};

    use super::*;
    use crate::model::{Route, TopicPartition};
    use crate::wire::fetch::feed::Feed;

    fn cursor() -> Box<Cursor> {
        let at = TopicPartition::new("orders", 3);
        let route = Route { source: at.clone(), source_id: None, target: at, target_id: None };
        let mut cursor = Cursor::new(&route, Offset(50), LeaderEpoch(4), Feed::new());
        cursor.leader.epoch = LeaderEpoch(5);
        cursor
    }

    fn judged(data: PartitionData) -> Verdict {
        verdict("paris", &cursor(), &data)
    }

    #[test]
    fn every_code_of_the_fetch_table_has_its_rule() {
        let code = |code| judged(PartitionData::default().with_error_code(code));
        assert!(matches!(code(0), Verdict::Good));
        assert!(matches!(code(1), Verdict::OutOfRange));
        assert!(matches!(code(2), Verdict::Damaged(_)));
        for passing in [-1, 3, 5, 6, 8, 9, 56, 74, 75, 78, 100, 103, 109] {
            assert!(matches!(code(passing), Verdict::Astray(_)), "code {passing}");
        }
        for (fatal, kind) in [
            (29, ErrorKind::Denied),
            (31, ErrorKind::Denied),
            (35, ErrorKind::Unsupported),
            (42, ErrorKind::Protocol),
            (43, ErrorKind::Denied),
            (76, ErrorKind::Refused),
        ] {
            let Verdict::Fatal(error) = code(fatal) else { panic!("code {fatal}") };
            assert_eq!(error.kind, kind, "code {fatal}");
            assert!(error.message.contains("paris") && error.message.contains("orders/3"), "{error}");
        }
    }

    #[test]
    fn a_newer_leader_that_the_broker_names_is_followed_and_an_older_one_is_not() {
        let named = |id: i32, epoch| {
            let leader = LeaderIdAndEpoch::default().with_leader_id(id.into()).with_leader_epoch(epoch);
            judged(PartitionData::default().with_error_code(6).with_current_leader(leader))
        };
        assert!(matches!(named(2, 6), Verdict::Moved(2, LeaderEpoch(6))));
        assert!(matches!(named(2, 5), Verdict::Astray(_)));
        assert!(matches!(named(-1, 6), Verdict::Astray(_)));
    }

    #[test]
    fn a_diverging_epoch_is_a_truncation_never_above_what_was_read() {
        for (end_offset, truncated) in [(44, 44), (90, 50)] {
            let diverging = EpochEndOffset::default().with_epoch(3).with_end_offset(end_offset);
            let Verdict::Fatal(error) = judged(PartitionData::default().with_diverging_epoch(diverging)) else {
                panic!("not told")
            };
            assert_eq!(error.kind, ErrorKind::Truncated(Offset(truncated)));
        }
    }

    #[test]
    fn an_empty_answer_that_sends_us_to_a_follower_is_never_taken_for_nothing() {
        let redirected = PartitionData::default().with_preferred_read_replica(2.into());
        assert!(matches!(judged(redirected), Verdict::Nearer(2)));
    }

    #[test]
    fn an_offset_that_a_follower_does_not_have_is_asked_of_the_leader() {
        let mut cursor = cursor();
        cursor.follow(2, tokio::time::Instant::now());
        let data = PartitionData::default().with_error_code(1);
        assert!(matches!(verdict("paris", &cursor, &data), Verdict::Astray(_)));
    }
}
