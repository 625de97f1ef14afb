//! Config → App → run → drain: the daemon from its configuration to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::adapters;
use crate::config::{Config, LinkConfig};
use crate::http::{Links, Server};
use crate::link::{Link, LinkSettings, Order, absent};
use crate::metadata::groups::GroupRules;
use crate::metadata::topics::TopicRules;
use crate::model::LinkName;
use crate::policy::priority::Priorities;
use crate::policy::selection::{InvalidPattern, Patterns, Selection};
use crate::runtime::memory::MemoryBudget;
use crate::runtime::tasks::TaskScope;
use crate::telemetry::metrics::Exporter;

/// How long links may take to drain after the first SIGTERM.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// Runs every link of the configuration until SIGTERM or SIGINT: then what is in flight is drained, the maps are flushed
/// and the leases released. A second signal ends the process at once and still loses nothing: the next start matches
/// what was in flight.
///
/// # Errors
/// A sentence, when the daemon cannot start or a link cannot go on without people.
pub async fn run(config: Config) -> Result<(), String> {
    crate::telemetry::tracing::init(config.log.format, &config.log.level)?;
    let exporter = Exporter::install(config.http.partition_metrics)?;
    let registry = Links::expecting(config.links.keys().cloned());
    let server =
        Server::bind(config.http.listen, config.http.token.clone(), registry.clone(), exporter.clone()).await?;
    tracing::info!(address = %server.address(), "serving metrics, health and status");
    let (stop, faces, links) = (CancellationToken::new(), TaskScope::new(), TaskScope::new());
    let served_until = faces.stopping().clone();
    faces.spawn(server.serve(async move { served_until.cancelled().await }));
    faces.spawn_until_stopped(async move { exporter.upkeep().await });
    let connections = TaskScope::new();
    let budget = MemoryBudget::new(config.memory.budget_bytes);
    let mut running = Vec::new();
    for (name, settings) in &config.links {
        let (source, target) = adapters::sides(&config, name, settings, &budget, &connections);
        let settings = link_settings(name, settings).map_err(|e| format!("link {name}: {e}"))?;
        let link = Arc::new(Link::new(settings, source, target, budget.clone()));
        registry.insert(name.clone(), link.clone());
        let stop = stop.child_token();
        running.push((name.clone(), links.spawn(async move { link.run(stop).await })));
    }
    let mut failures = Vec::new();
    let all_ended = async {
        for (name, link) in running {
            match link.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::error!(link = %name, %error, "link failed");
                    failures.push(format!("link {name}: {error}"));
                }
                Err(panic) => failures.push(format!("link {name} ended unexpectedly: {panic}")),
            }
        }
    };
    let signals = async {
        terminated().await?;
        tracing::info!("stopping: draining what is in flight");
        stop.cancel();
        tokio::select! {
            second = terminated() => second,
            () = tokio::time::sleep(DRAIN_DEADLINE) => Ok(()),
        }
    };
    tokio::select! {
        () = all_ended => {}
        leave = signals => {
            leave.map_err(|e| format!("signals cannot be received: {e}"))?;
            tracing::warn!("leaving without draining; the next start matches what was in flight");
            return Ok(());
        }
    }
    connections.stop().await;
    faces.stop().await;
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

/// Obeys an order to a link that no daemon runs; answers with what is true then. Only the target is asked.
///
/// # Errors
/// A sentence, when the order could not be recorded.
pub async fn order(config: Config, link: LinkName, order: Order) -> Result<String, String> {
    let Some(settings) = config.links.get(&link) else {
        let known: Vec<&str> = config.links.keys().map(LinkName::as_str).collect();
        return Err(format!("no link is called {link}; there is: {}", known.join(", ")));
    };
    let (connections, budget) = (TaskScope::new(), MemoryBudget::new(config.memory.budget_bytes));
    let (_, target) = adapters::sides(&config, &link, settings, &budget, &connections);
    let outcome = absent::obey(&link, &target, &order).await;
    connections.stop().await;
    outcome
}

/// Resolves at the next SIGTERM or SIGINT.
async fn terminated() -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn link_settings(name: &LinkName, config: &LinkConfig) -> Result<LinkSettings, InvalidPattern> {
    Ok(LinkSettings {
        name: name.clone(),
        topics: TopicRules {
            selection: Selection::new(&config.topics, &config.exclude_topics)?,
            naming: config.naming.clone(),
            replication: config.replication_factor,
            retention: config.retention,
            exclude_configs: Patterns::new(&config.exclude_configs)?,
            deletion_grace: config.deletion_grace,
        },
        groups: GroupRules {
            selection: Selection::new(&config.groups, &config.exclude_groups)?,
            consistency: config.consistency,
            no_position: config.no_position,
            deletions: config.group_deletions,
            deletion_grace: config.deletion_grace,
        },
        start: config.start,
        retention_overtook: config.retention_overtook,
        plane: config.plane,
        rate_limit_bytes: config.rate_limit_bytes,
        priorities: Priorities::new(&config.priorities)?,
        topics_interval: config.intervals.topics,
        groups_interval: config.intervals.groups,
        flush_interval: config.intervals.flush,
        bounds_interval: config.intervals.bounds,
    })
}
