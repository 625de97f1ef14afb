//! `[links.<name>.intervals]`: how often what is not driven by records is looked at.

use std::time::Duration;

use super::section::Section;

/// Periods of a link's passes. Shorter than 100 ms only costs the brokers; the upper bounds are promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intervals {
    /// Topics at the source: new ones, new partitions, changed configs.
    pub topics: Duration,
    /// Consumer group positions.
    pub groups: Duration,
    /// Writing the map's news into the ledger.
    pub flush: Duration,
    /// Ends of the source's partitions, for lag.
    pub bounds: Duration,
}

impl Intervals {
    /// A new topic is promised to be found within 5 s of its creation, creation on the target included.
    pub const TOPICS: Duration = Duration::from_secs(2);
    /// A commit is promised to show on the target within 2 s; a pass over 1,000 groups takes some 30 ms.
    pub const GROUPS: Duration = Duration::from_secs(1);
    /// Bounds what a start must match again, and costs one transaction; unflushed beyond 10 s a partition stops.
    pub const FLUSH: Duration = Duration::from_secs(1);
    /// As fine as lag is worth knowing; one bulk request per broker.
    pub const BOUNDS: Duration = Duration::from_secs(1);

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut every = |key, default, longest| {
            section.duration(key, Duration::from_millis(100)..=Duration::from_secs(longest)).unwrap_or(default)
        };
        let intervals = Self {
            // Beyond this a topic can live and die unseen for longer than anybody expects of a twin.
            topics: every("topics", Self::TOPICS, 3600),
            groups: every("groups", Self::GROUPS, 3600),
            // Half of what stops a partition as MAP_STALLED.
            flush: every("flush", Self::FLUSH, 5),
            // The source ends kept in the ledger are promised to be at most 5 s old.
            bounds: every("bounds", Self::BOUNDS, 5),
        };
        section.finish();
        intervals
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self { topics: Self::TOPICS, groups: Self::GROUPS, flush: Self::FLUSH, bounds: Self::BOUNDS }
    }
}
