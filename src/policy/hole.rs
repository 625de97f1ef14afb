//! How many of our records the target has compacted away (or let expire) right before one that it still has.
//!
//! Records are sent in order: a record found on the target proves that everything before it was sent too. What stood in the
//! hole is therefore among the source records before its own, and never more of them than the hole is long.

use std::ops::ControlFlow;

use crate::endpoint::RecordDigest;
use crate::model::Offset;

/// Looks for the source record of a target record behind a hole of the target; shown the source's committed records in
/// order, from the first one not accounted for on.
#[derive(Debug)]
pub struct HoleSearch {
    wanted: u64,
    /// Offsets without a record right before the target record.
    hole: u64,
    /// Source offset that comes next if the source has no hole itself.
    dense: Option<Offset>,
    seen: u64,
    found: Option<u64>,
}

impl HoleSearch {
    /// Searches for the content of `target`, which stands behind a hole of `hole` offsets, in a source accounted for below
    /// `position`.
    pub fn new(target: RecordDigest, hole: u64, position: Offset) -> Self {
        Self { wanted: target.hash, hole, dense: Some(position), seen: 0, found: None }
    }

    /// Takes the source's next record. Breaks when more of them cannot change the answer.
    pub fn look(&mut self, source: RecordDigest) -> ControlFlow<()> {
        self.dense = self.dense.filter(|next| *next == source.offset).map(|next| next + 1);
        if source.hash == self.wanted {
            // Of equal records the first: at worst some are sent again, none is left out. Where no source record is
            // missing, the hole's length tells which one it is.
            if self.seen == self.hole && self.dense.is_some() {
                self.found = Some(self.seen);
            }
            self.found.get_or_insert(self.seen);
        }
        self.seen += 1;
        let decided = self.seen > self.hole || (self.found.is_some() && self.dense.is_none());
        if decided { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// How many source records, from the first one shown on, stood in the hole; 0 as well when the target record was not
    /// found.
    pub fn lost(&self) -> u64 {
        self.found.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LeaderEpoch;

    /// Source records by offset and hash, from position 10 on; how many stood in the hole, and how many were looked at.
    fn search(wanted: u64, hole: u64, source: &[(i64, u64)]) -> (u64, u64) {
        let record = |offset, hash| RecordDigest { offset: Offset(offset), leader_epoch: LeaderEpoch(0), hash };
        let mut search = HoleSearch::new(record(0, wanted), hole, Offset(10));
        for (offset, hash) in source {
            if search.look(record(*offset, *hash)).is_break() {
                break;
            }
        }
        (search.lost(), search.seen)
    }

    #[test]
    fn a_record_behind_a_hole_is_found_where_the_hole_allows() {
        assert_eq!(search(3, 2, &[(10, 1), (11, 2), (12, 3), (13, 4)]), (2, 3));
        assert_eq!(search(3, 1, &[(10, 1), (11, 2), (12, 3)]), (0, 2), "one record more than the hole is long");
    }

    #[test]
    fn what_both_sides_lost_does_not_count() {
        assert_eq!(search(3, 2, &[(12, 3), (13, 4)]), (0, 1));
        assert_eq!(search(3, 2, &[(11, 2), (12, 3), (13, 4)]), (1, 2));
    }

    #[test]
    fn of_equal_records_the_holes_length_decides_or_else_the_first_is_taken() {
        assert_eq!(search(7, 2, &[(10, 7), (11, 7), (12, 7), (13, 7)]), (2, 3));
        assert_eq!(search(7, 2, &[(10, 1), (12, 7), (13, 7)]), (1, 2));
    }

    #[test]
    fn a_record_that_is_not_there_is_not_found() {
        assert_eq!(search(9, 3, &[(10, 1), (11, 2)]), (0, 2));
    }
}
