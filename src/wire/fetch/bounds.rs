//! A partition's ends as its leader tells them beside records, so that those who need them about every second need not ask.

use std::collections::VecDeque;

use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::time::Instant;

use crate::endpoint::{Bounds, FetchedEnds};
use crate::model::{LeaderEpoch, Offset};
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::exchange::Answers;

/// Passes on what a good answer, come `at`, tells of the partition's ends.
pub(super) fn hear(cursor: &Cursor, data: &PartitionData, at: Instant) {
    // Old versions do not tell all three.
    let are_told = data.log_start_offset >= 0 && data.last_stable_offset >= 0 && data.high_watermark >= 0;
    if !are_told || !is_by_leader(cursor) {
        return;
    }
    let bounds = Bounds {
        log_start: Offset(data.log_start_offset),
        last_stable: Offset(data.last_stable_offset),
        // Brokers read it a moment before the stable offset, which is never above it.
        high_watermark: Offset(data.high_watermark.max(data.last_stable_offset)),
        leader_epoch: cursor.leader.epoch,
    };
    cursor.feed.told_ends(FetchedEnds { bounds, at });
}

/// Passes on what an answer, come `at`, tells of those that were `asked` for and that it leaves out: their high watermark
/// and log start are unchanged. So is the last stable offset if it cannot grow, or if records up to it would have come:
/// with records of others there may have been no room for them.
pub(super) fn hear_of_left_out(ring: &VecDeque<Box<Cursor>>, asked: &[usize], answers: &Answers, at: Instant) {
    if !answers.left_out_unchanged {
        return;
    }
    let has_room = answers.record_bytes == 0;
    let mut answered = answers.partitions.iter().map(|(order, _)| *order).peekable();
    for (order, place) in asked.iter().enumerate() {
        if answered.next_if_eq(&order).is_some() {
            continue;
        }
        let cursor = &ring[*place];
        if is_by_leader(cursor) {
            cursor.feed.ends_held(at, |told| {
                told.leader_epoch == cursor.leader.epoch && (has_room || told.last_stable == told.high_watermark)
            });
        }
    }
}

/// Followers know older ends. Without the leader's epoch a broker that lost its office and got it back would not be noticed.
fn is_by_leader(cursor: &Cursor) -> bool {
    !cursor.is_with_follower() && cursor.leader.epoch != LeaderEpoch::UNKNOWN
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::endpoint::EndsByFetch;
    use crate::model::{Route, TopicPartition};
    use crate::wire::Leader;
    use crate::wire::fetch::feed::Feed;

    fn cursor(epoch: i32) -> Box<Cursor> {
        let at = TopicPartition::new("orders", 3);
        let route = Route { source: at.clone(), source_id: None, target: at, target_id: None };
        let mut cursor = Cursor::new(&route, Offset(50), LeaderEpoch(4), Feed::new());
        cursor.lead_by(Leader { broker_id: 1, epoch: LeaderEpoch(epoch), topic_id: None });
        cursor
    }

    fn told(last_stable: i64, high_watermark: i64) -> PartitionData {
        let data = PartitionData::default().with_log_start_offset(7);
        data.with_last_stable_offset(last_stable).with_high_watermark(high_watermark)
    }

    fn answers(record_bytes: u64, left_out_unchanged: bool) -> Answers {
        let (partitions, throttle, bytes) = (Vec::new(), Duration::ZERO, record_bytes);
        Answers { partitions, in_order: false, left_out_unchanged, throttle, bytes, record_bytes }
    }

    /// When the cursor's ends were last known to be right, after an answer that leaves it out.
    fn heard(cursor: Box<Cursor>, asked: &[usize], answers: &Answers, at: Instant) -> Instant {
        let ring = [cursor].into();
        hear_of_left_out(&ring, asked, answers, at);
        ring[0].feed.last_told().expect("it was told").at
    }

    #[tokio::test]
    async fn who_is_left_out_ends_where_it_did_only_if_it_was_asked_for_and_would_have_come() {
        let (then, now) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let level = || {
            let cursor = cursor(5);
            hear(&cursor, &told(90, 90), then);
            cursor
        };
        assert_eq!(heard(level(), &[0], &answers(0, true), now), now);
        assert_eq!(heard(level(), &[0], &answers(900, true), now), now);
        assert_eq!(heard(level(), &[], &answers(0, true), now), then, "not asked for: full, or with the desk");
        assert_eq!(heard(level(), &[0], &answers(0, false), now), then, "no session, or a throttled answer");
        // Behind an open transaction the stable end may have moved, and others have taken the room of its records.
        let unstable = || {
            let cursor = cursor(5);
            hear(&cursor, &told(80, 90), then);
            cursor
        };
        assert_eq!(heard(unstable(), &[0], &answers(0, true), now), now);
        assert_eq!(heard(unstable(), &[0], &answers(900, true), now), then);
        let mut elsewhere = level();
        elsewhere.lead_by(Leader { broker_id: 2, epoch: LeaderEpoch(6), topic_id: None });
        assert_eq!(heard(elsewhere, &[0], &answers(0, true), now), then, "the former leader told them");
    }

    #[tokio::test]
    async fn a_follower_or_a_leader_of_unknown_term_tells_no_ends() {
        let now = Instant::now();
        let mut following = cursor(5);
        following.follow(2, now);
        for cursor in [following, cursor(-1)] {
            hear(&cursor, &told(90, 90), now);
            assert_eq!(cursor.feed.last_told(), None);
        }
        let old = cursor(5);
        hear(&old, &told(90, 90).with_log_start_offset(-1), now);
        assert_eq!(old.feed.last_told(), None, "an old broker does not say where its log starts");
    }
}
