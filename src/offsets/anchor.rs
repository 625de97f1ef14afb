//! Records remembered by content, by which an attach sees that neither side was rewritten.

use crate::model::Offset;

/// One copied record: where it lies on both sides, and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Its source offset.
    pub source: Offset,
    /// Its target offset.
    pub target: Offset,
    /// `batch::content_hash` of the record.
    pub hash: u64,
}

/// How many anchors are kept: if the newest is compacted or expired, those before it serve.
pub(super) const KEPT: usize = 8;

/// Adds the newest anchor and thins the list to [`KEPT`].
///
/// The newest two and the oldest stay; of the others goes the one whose loss leaves the smallest gap in proportion to its
/// age. So distances grow into the past, and a truncation or compaction of any depth leaves an anchor not far below it.
pub(super) fn add(anchors: &mut Vec<Anchor>, newest: Anchor) {
    anchors.retain(|a| a.source < newest.source);
    anchors.push(newest);
    if anchors.len() <= KEPT {
        return;
    }
    let gap_to_age = |i: usize| {
        let gap = anchors[i + 1].source - anchors[i - 1].source;
        let age = newest.source - anchors[i].source;
        gap as f64 / age as f64
    };
    let victim = (1..anchors.len() - 2).min_by(|&a, &b| gap_to_age(a).total_cmp(&gap_to_age(b)));
    anchors.remove(victim.expect("more anchors than the three that stay"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_reach_far_back_with_growing_distances() {
        let mut anchors = Vec::new();
        for i in 0..100_000 {
            add(&mut anchors, Anchor { source: Offset(i), target: Offset(i), hash: 0 });
        }
        let ages: Vec<i64> = anchors.iter().map(|a| 99_999 - a.source.0).collect();
        assert_eq!((anchors.len(), ages[0], ages[7], ages[6]), (KEPT, 99_999, 0, 1));
        for pair in ages[..6].windows(2) {
            assert!(pair[0] <= pair[1] * 20, "a gap of more than 20 times the age: {ages:?}");
        }
    }
}
