//! One run of the map.

use super::place::Place;
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

impl MapRun {
    pub(super) fn start(&self) -> Place {
        Place { source: self.source, target: self.target }
    }

    /// The place behind its last record (exclusive on both sides).
    pub(super) fn end(&self) -> Place {
        Place { source: self.source + self.length, target: self.target + self.length }
    }

    /// Whether `next` goes on exactly where this run ends, on both sides and in the same epoch.
    pub(super) fn joins(&self, next: &MapRun) -> bool {
        self.end() == next.start() && self.epoch == next.epoch
    }
}
