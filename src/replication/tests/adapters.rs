//! The ends of a replicator in tests: the cluster in memory itself, or the adapters of the wire on its model brokers.

use std::sync::Arc;

use crate::endpoint::memory::{MemoryCluster, ModelBrokers};
use crate::endpoint::{Catalog, PointReader, Security, Sink, Source};
use crate::runtime::memory::MemoryBudget;
use crate::runtime::tasks::TaskScope;
use crate::wire::fetch::{FetchSettings, FetchSource};
use crate::wire::produce::{ProduceSettings, ProduceSink};
use crate::wire::{Cluster, Points};

/// What reaches one cluster.
pub(super) struct Adapters {
    pub(super) catalog: Arc<dyn Catalog>,
    pub(super) source: Arc<dyn Source>,
    pub(super) points: Arc<dyn PointReader>,
    pub(super) sink: Arc<dyn Sink>,
}

impl Adapters {
    /// The cluster in memory itself.
    pub(super) fn of(memory: &MemoryCluster) -> Self {
        let cluster = Arc::new(memory.clone());
        Self { catalog: cluster.clone(), source: cluster.clone(), points: cluster.clone(), sink: cluster }
    }

    /// The adapters of the wire, whose tasks are the scope's.
    pub(super) fn through(brokers: &ModelBrokers, alias: &str, scope: &TaskScope) -> Self {
        const BUDGET_BYTES: u64 = 4 << 20;
        let cluster = Cluster::new(alias, &brokers.bootstrap(), Security::default(), "test");
        let (budget, settings) = (MemoryBudget::new(BUDGET_BYTES), FetchSettings::for_budget(BUDGET_BYTES));
        Self {
            catalog: Arc::new(cluster.clone()),
            source: Arc::new(FetchSource::new(cluster.clone(), budget, scope.clone(), settings)),
            points: Arc::new(Points::new(cluster.clone())),
            sink: Arc::new(ProduceSink::new(cluster, scope.clone(), ProduceSettings::default())),
        }
    }
}
