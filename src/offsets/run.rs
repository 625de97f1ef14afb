//! One run of the map.

use crate::model::{LeaderEpoch, Offset};

/// `length` records that lie at consecutive offsets on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapRun {
    /// First source offset.
    pub source: Offset,
    /// First target offset.
    pub target: Offset,
    /// Number of records, at least 1.
    pub length: i64,
    /// Source leader epoch of all of them; a new epoch starts a new run.
    pub epoch: LeaderEpoch,
}
