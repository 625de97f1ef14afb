//! Whether the records behind the map's end on the target are ours: matched with the source by content, in order.
//!
//! A crash leaves records on the target that the durable map does not know yet. They are taken over only if each of them
//! is the next committed record of the source; a run that repeats what was just matched is a named duplicate, a record
//! the source may have lost since (compacted, expired) is unverifiable, anything else was written by a stranger.

use std::collections::VecDeque;

use crate::endpoint::RecordDigest;
use crate::model::Offset;

/// How many matched records are remembered to recognise a repeated run: five batches of 10,000 records.
pub const REMEMBERED_MAX: usize = 50_000;

/// What one target record turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The copy of this source record.
    Matched(RecordDigest),
    /// Repeats a record already matched.
    Duplicate,
    /// Its source record is gone: there is a hole in the source where it can have been.
    Unverifiable,
    /// Not ours.
    Foreign,
}

/// Matches a target tail record by record.
#[derive(Debug)]
pub struct TailMatch {
    /// Source offset behind the last one accounted for.
    position: Offset,
    /// Below this, source records may have vanished since they were copied.
    vanished_below: Offset,
    /// Records taken as unverifiable since the last match; cannot exceed the hole.
    unverifiable_run: i64,
    matched: VecDeque<u64>,
    /// Index into `matched` of the next expected record of a repeated run.
    repeating: Option<usize>,
}

impl TailMatch {
    /// Begins at the map's position on the source. Source records below `vanished_below` may be gone although they were
    /// copied: those below its log start, and all that are committed where the topic is compacted.
    pub fn new(position: Offset, vanished_below: Offset) -> Self {
        Self { position, vanished_below, unverifiable_run: 0, matched: VecDeque::new(), repeating: None }
    }

    /// What lies on the target right before the tail, in order: it is ours, and may be repeated too. (On the records plane
    /// a process that wakes from a freeze sends what it had queued, however much its successor has copied since.)
    pub fn remember(&mut self, earlier: impl DoubleEndedIterator<Item = u64>) {
        let room = REMEMBERED_MAX.saturating_sub(self.matched.len());
        earlier.rev().take(room).for_each(|hash| self.matched.push_front(hash));
    }

    /// Judges the next target record. `source` is the source's next committed record at or behind the position, if there
    /// is one; it is consumed exactly when the verdict is [`Verdict::Matched`].
    pub fn judge(&mut self, target: RecordDigest, source: Option<RecordDigest>) -> Verdict {
        if let Some(source) = source
            && source.hash == target.hash
        {
            self.position = source.offset + 1;
            self.unverifiable_run = 0;
            self.repeating = None;
            self.matched.push_back(target.hash);
            if self.matched.len() > REMEMBERED_MAX {
                self.matched.pop_front();
            }
            return Verdict::Matched(source);
        }
        let goes_on = self.repeating.filter(|next| self.matched.get(*next) == Some(&target.hash));
        let repeats_at = goes_on.or_else(|| self.matched.iter().rposition(|hash| *hash == target.hash));
        if let Some(index) = repeats_at {
            self.repeating = Some(index + 1).filter(|next| *next < self.matched.len());
            return Verdict::Duplicate;
        }
        let hole_end = source.map_or(self.vanished_below, |s| s.offset.min(self.vanished_below));
        if self.unverifiable_run < hole_end - self.position {
            self.unverifiable_run += 1;
            return Verdict::Unverifiable;
        }
        Verdict::Foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;

    fn record(offset: i64, hash: u64) -> RecordDigest {
        RecordDigest { offset: Offset(offset), leader_epoch: LeaderEpoch(0), hash }
    }

    /// Runs a whole tail against a source; letters: m matched, d duplicate, u unverifiable, f foreign (stops).
    fn run(position: i64, vanished_below: i64, source: &[(i64, u64)], target: &[u64]) -> String {
        let mut tail = TailMatch::new(Offset(position), Offset(vanished_below));
        let mut source = source.iter().map(|(o, h)| record(*o, *h)).peekable();
        let mut letters = String::new();
        for (i, hash) in target.iter().enumerate() {
            let letter = match tail.judge(record(i as i64, *hash), source.peek().copied()) {
                Verdict::Matched(_) => {
                    source.next();
                    'm'
                }
                Verdict::Duplicate => 'd',
                Verdict::Unverifiable => 'u',
                Verdict::Foreign => 'f',
            };
            letters.push(letter);
            if letter == 'f' {
                break;
            }
        }
        letters
    }

    #[test]
    fn a_tail_that_equals_the_source_is_ours() {
        assert_eq!(run(5, 0, &[(5, 1), (6, 2), (9, 3)], &[1, 2, 3]), "mmm");
    }

    #[test]
    fn a_strangers_record_of_equal_count_is_foreign() {
        assert_eq!(run(5, 0, &[(5, 1), (6, 2)], &[1, 99]), "mf");
        assert_eq!(run(5, 0, &[(5, 1)], &[1, 99]), "mf");
    }

    #[test]
    fn a_repeated_run_is_a_duplicate() {
        assert_eq!(run(0, 0, &[(0, 1), (1, 2), (2, 3), (3, 4)], &[1, 2, 3, 2, 3, 4]), "mmmddm");
    }

    #[test]
    fn what_lies_before_the_tail_may_be_repeated_in_any_runs_of_it() {
        let mut tail = TailMatch::new(Offset(5), Offset(0));
        let mut judge = |hash| tail.judge(record(9, hash), None);
        assert_eq!(judge(2), Verdict::Foreign);
        tail.remember([1, 2, 3, 4].into_iter());
        let mut judge = |hash| tail.judge(record(9, hash), None);
        assert_eq!([2, 3, 2, 3, 4, 1].map(&mut judge), [Verdict::Duplicate; 6]);
        assert_eq!(judge(9), Verdict::Foreign);
    }

    #[test]
    fn equal_neighbours_at_the_source_are_no_duplicates() {
        assert_eq!(run(0, 0, &[(0, 7), (1, 7), (2, 7)], &[7, 7, 7]), "mmm");
    }

    #[test]
    fn what_the_source_lost_since_is_unverifiable_up_to_the_holes_size() {
        assert_eq!(run(0, 9, &[(0, 1), (3, 4)], &[1, 2, 3, 4]), "muum");
        assert_eq!(run(0, 9, &[(0, 1), (2, 4)], &[1, 2, 3, 4]), "muf");
        assert_eq!(run(0, 0, &[(0, 1), (3, 4)], &[1, 2, 3, 4]), "mf");
    }

    #[test]
    fn nothing_can_have_vanished_behind_the_sources_end_or_above_its_log_start() {
        assert_eq!(run(0, 3, &[(0, 1)], &[1, 2, 3, 4]), "muuf");
        assert_eq!(run(0, 1, &[(0, 1)], &[1, 2]), "mf");
        assert_eq!(run(0, 2, &[(2, 3), (5, 6)], &[1, 2, 3, 4]), "uumf");
    }
}
