//! The only match from configuration to adapters: which implementation stands behind each contract.

use std::sync::Arc;

use crate::config::{ClusterConfig, Config, LinkConfig};
use crate::librdkafka::{ClusterAccess, RdLedgerStore, RdLedgers, RecordSettings, RecordSink};
use crate::link::{SourceSide, TargetSide};
use crate::model::LinkName;
use crate::runtime::memory::MemoryBudget;
use crate::runtime::tasks::TaskScope;
use crate::wire::fetch::{FetchSettings, FetchSource};
use crate::wire::produce::{ProduceSettings, ProduceSink};
use crate::wire::{Cluster, Commits, Points};

/// Both ends of a link. Nothing connects before it is used; connections live in `scope`.
pub fn sides(
    config: &Config,
    name: &LinkName,
    link: &LinkConfig,
    budget: &MemoryBudget,
    scope: &TaskScope,
) -> (SourceSide, TargetSide) {
    let client_id = format!("twinlog.{name}");
    let cluster = |alias: &str| {
        let ClusterConfig { bootstrap, security, .. } = &config.clusters[alias];
        Cluster::new(alias, bootstrap, security.clone(), &client_id)
    };
    let access = |alias: &str, cluster: &Cluster| {
        let ClusterConfig { bootstrap, security, .. } = config.clusters[alias].clone();
        ClusterAccess { alias: alias.to_owned(), bootstrap, security, tokens: cluster.tokens() }
    };
    let (from, to) = (cluster(&link.source), cluster(&link.target));
    let (access_from, access_to) = (access(&link.source, &from), access(&link.target, &to));
    let rack = config.clusters[&link.source].rack.clone();
    let fetch = FetchSettings { rack, ..FetchSettings::for_budget(budget.total_bytes()) };
    let source = SourceSide {
        alias: link.source.clone(),
        catalog: Arc::new(from.clone()),
        records: Arc::new(FetchSource::new(from.clone(), budget.clone(), scope.child(), fetch)),
        points: Arc::new(Points::new(from.clone())),
        commits: Arc::new(Commits::new(from.clone(), scope.child())),
        groups: Arc::new(from),
        ledgers: Arc::new(RdLedgers(access_from)),
    };
    let batches = Arc::new(ProduceSink::new(to.clone(), scope.child(), ProduceSettings::default()));
    let records = RecordSettings::for_budget(budget.total_bytes());
    let target = TargetSide {
        alias: link.target.clone(),
        catalog: Arc::new(to.clone()),
        admin: Arc::new(to.clone()),
        records: Arc::new(RecordSink::new(access_to.clone(), Arc::new(to.clone()), batches.clone(), records)),
        batches,
        points: Arc::new(Points::new(to.clone())),
        groups: Arc::new(to.clone()),
        group_writer: Arc::new(to),
        ledger: Arc::new(RdLedgerStore::new(access_to.clone(), name)),
        ledgers: Arc::new(RdLedgers(access_to)),
    };
    (source, target)
}
