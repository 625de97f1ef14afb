//! The two clusters of a link as contracts: what a link may do at each side is a matter of these types.

use std::sync::Arc;

use crate::endpoint::{
    Catalog, CommitFeed, GroupReader, GroupWriter, LedgerStore, Ledgers, PointReader, Sink, Source, TopicAdmin,
};

/// The source: reads only.
pub struct SourceSide {
    /// Its alias in the configuration.
    pub alias: String,
    /// Topics, bounds, settings.
    pub catalog: Arc<dyn Catalog>,
    /// The shared fetch.
    pub records: Arc<dyn Source>,
    /// Single looks.
    pub points: Arc<dyn PointReader>,
    /// Group positions.
    pub groups: Arc<dyn GroupReader>,
    /// Which groups' positions change.
    pub commits: Arc<dyn CommitFeed>,
    /// Ledgers of links that fill topics here.
    pub ledgers: Arc<dyn Ledgers>,
}

/// The target: written, and the home of all durable state.
pub struct TargetSide {
    /// Its alias in the configuration.
    pub alias: String,
    /// Topics, bounds, settings.
    pub catalog: Arc<dyn Catalog>,
    /// Changes of topics.
    pub admin: Arc<dyn TopicAdmin>,
    /// Writers of the batches plane.
    pub batches: Arc<dyn Sink>,
    /// Writers of the records plane.
    pub records: Arc<dyn Sink>,
    /// Single looks.
    pub points: Arc<dyn PointReader>,
    /// Group positions.
    pub groups: Arc<dyn GroupReader>,
    /// Commits of group positions.
    pub group_writer: Arc<dyn GroupWriter>,
    /// Ledgers of other links that fill topics here.
    pub ledgers: Arc<dyn Ledgers>,
    /// The ledger's storage.
    pub ledger: Arc<dyn LedgerStore>,
}
