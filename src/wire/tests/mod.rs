//! The adapter as a whole against model brokers: real sockets, and the rules and faults of the cluster in memory.

mod conformance;
mod hostile;

use crate::endpoint::Security;
use crate::endpoint::memory::{MemoryCluster, ModelBrokers};
use crate::runtime::memory::MemoryBudget;
use crate::runtime::tasks::TaskScope;
use crate::wire::fetch::{FetchSettings, FetchSource};
use crate::wire::produce::{ProduceSettings, ProduceSink};
use crate::wire::{Cluster, Points};

const BUDGET_BYTES: u64 = 16 << 20;

/// A cluster behind sockets, and everything this adapter makes of it.
struct Wired {
    memory: MemoryCluster,
    brokers: ModelBrokers,
    cluster: Cluster,
    source: FetchSource,
    sink: ProduceSink,
    points: Points,
    scope: TaskScope,
}

impl Wired {
    async fn new(brokers: usize) -> Wired {
        let memory = MemoryCluster::new("paris-id");
        let brokers = memory.serve(brokers).await;
        let cluster = Cluster::new("paris", &brokers.bootstrap(), Security::default(), "test");
        let scope = TaskScope::new();
        let budget = MemoryBudget::new(BUDGET_BYTES);
        let settings = FetchSettings::for_budget(BUDGET_BYTES);
        Wired {
            source: FetchSource::new(cluster.clone(), budget, scope.clone(), settings),
            sink: ProduceSink::new(cluster.clone(), scope.clone(), ProduceSettings::default()),
            points: Points::new(cluster.clone()),
            memory,
            brokers,
            cluster,
            scope,
        }
    }
}
