//! One tenure of a link under its lease: everything that runs while this process owns the ledger.
//!
//! Starting a session is recovering: identities are checked, the ledger is read and claimed, routes attach. Losing the
//! lease ends it; the link then starts another one, which waits for the lease again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use crate::endpoint::{Catalog, ClusterInfo, Error, ErrorKind, Result, TopicAdmin};
use crate::ledger::record::{BirthTopics, Observed};
use crate::ledger::{self, Acquiring, Claimant, Clusters, ControlRecord, Ledger};
use crate::link::settings::LinkSettings;
use crate::link::sides::{SourceSide, TargetSide};
use crate::metadata::groups::Board;
use crate::model::{LinkName, Route, TopicName};
use crate::replication::{Assigned, Ends, Planes, Supervisor};
use crate::runtime::limit::ByteRate;
use crate::runtime::tasks::TaskScope;

/// Routes that attach at a time: each costs a handful of small requests on both sides.
const ATTACH_AT_ONCE: usize = 64;
/// Routes that match a tail at a time: each holds some 3 MiB of both logs, beside the memory budget.
const TAILS_AT_ONCE: usize = 4;
/// Replication of the ledger's topics, capped by the target's brokers.
const LEDGER_REPLICATION: usize = 3;

/// What a session's tasks share.
pub(super) struct Session {
    pub(super) settings: Arc<LinkSettings>,
    pub(super) source: Arc<SourceSide>,
    pub(super) target: Arc<TargetSide>,
    pub(super) clusters: (ClusterInfo, ClusterInfo),
    pub(super) ledger: Ledger,
    pub(super) supervisor: Supervisor,
    pub(super) rate: ByteRate,
    pub(super) map_stalled: watch::Sender<bool>,
    pub(super) started: Instant,
    assigned: Mutex<Vec<Assigned>>,
    /// Serialises orders: they read and write one record.
    pub(super) ordering: tokio::sync::Mutex<()>,
    /// Where what must not be dropped half done runs.
    tasks: TaskScope,
    /// Serialises changes of what runs.
    applying: tokio::sync::Mutex<()>,
    observed: Mutex<Observed>,
    /// What is otherwise than at the source, on purpose.
    pub(super) notices: Mutex<Vec<String>>,
    /// Problems by the pass that found them.
    problems: Mutex<BTreeMap<&'static str, Vec<String>>>,
    /// What is known of the groups.
    pub(super) groups: Board,
}

impl Session {
    /// Checks both clusters, claims the ledger and prepares the data path; nothing is copied yet.
    pub(super) async fn start(
        settings: Arc<LinkSettings>,
        source: Arc<SourceSide>,
        target: Arc<TargetSide>,
        claimant: &Claimant,
        scope: &TaskScope,
        progress: &watch::Sender<Acquiring>,
    ) -> Result<Self> {
        let clusters = tokio::try_join!(source.catalog.cluster(), target.catalog.cluster())?;
        let (from, to) = (&clusters.0.id, &clusters.1.id);
        if from == to {
            let message = format!(
                "link {}: source {} and target {} are the same cluster ({from}): a link needs two",
                settings.name, source.alias, target.alias
            );
            return Err(Error::new(ErrorKind::Denied, message));
        }
        prepare_ledger_topics(&settings.name, &*target.catalog, &*target.admin, clusters.1.brokers).await?;
        let ids = Clusters { source: from.clone(), target: to.clone() };
        let ledger = Ledger::acquire(target.ledger.clone(), claimant, ids, scope, progress).await?;
        let producer = match ledger.view().producer() {
            Some(producer) => producer,
            None => {
                let producer = target.admin.allocate_producer_id().await?;
                ledger.append(vec![ControlRecord::Producer(producer)]).await?;
                producer
            }
        };
        let expiration_ms = target.admin.producer_expiration_ms().await?;
        let desired = ledger.view().desired();
        let rate = ByteRate::unlimited();
        rate.set(desired.rate.in_force(settings.rate_limit_bytes));
        let map_stalled = watch::Sender::new(false);
        let ends = Ends {
            catalog: source.catalog.clone(),
            link: settings.name.clone(),
            source: source.records.clone(),
            source_points: source.points.clone(),
            planes: Planes { rule: settings.plane, batches: target.batches.clone(), records: target.records.clone() },
            target_points: target.points.clone(),
            ledger: ledger.clone(),
            producer,
            producer_expiration: Duration::from_millis(u64::try_from(expiration_ms).unwrap_or(0)),
            rate: rate.clone(),
            priorities: settings.priorities.clone(),
            retention_overtook: settings.retention_overtook,
            map_stalled: map_stalled.subscribe(),
            attach_turns: Semaphore::new(ATTACH_AT_ONCE),
            tail_turns: Semaphore::new(TAILS_AT_ONCE),
        };
        let observed = ledger.view().observed();
        Ok(Self {
            supervisor: Supervisor::new(Arc::new(ends)),
            settings,
            source,
            target,
            clusters,
            ledger,
            rate,
            map_stalled,
            started: Instant::now(),
            assigned: Mutex::default(),
            ordering: tokio::sync::Mutex::default(),
            tasks: scope.child(),
            applying: tokio::sync::Mutex::default(),
            observed: Mutex::new(observed),
            notices: Mutex::default(),
            problems: Mutex::default(),
            groups: Board::default(),
        })
    }

    /// Publishes routes: starts what is new, stops what is gone. What the source has when a link is born is its `sources`
    /// *at birth*, to which the start rule applies; that list is durable before any route starts. (Not the routes: the
    /// target may show a topic only a pass after it was created.)
    pub(super) async fn publish(&self, sources: BTreeMap<TopicName, i32>, routes: Vec<Route>) -> Result<()> {
        let at_birth = match self.ledger.view().birth_topics() {
            Some(birth) => birth,
            None => {
                let birth = BirthTopics { topics: sources };
                self.ledger.append(vec![ControlRecord::BirthTopics(birth.clone())]).await?;
                Arc::new(birth)
            }
        };
        let assigned = routes
            .into_iter()
            .map(|route| Assigned { start: self.settings.start.for_topic(at_birth.includes(&route.source)), route })
            .collect();
        *self.assigned.lock().expect("no panic while held") = assigned;
        self.apply().await;
        Ok(())
    }

    /// The same for a caller who may be gone before it is done.
    pub(super) async fn apply_whole(self: &Arc<Self>) {
        let session = self.clone();
        // It ends early only with the session, which stops everything.
        let _ = self.tasks.spawn(async move { session.apply().await }).await;
    }

    /// Makes what runs follow routes and desired state. Must not be dropped half done: a replicator could be started beside
    /// one that still drains.
    pub(super) async fn apply(&self) {
        let _turn = self.applying.lock().await;
        let assigned = self.assigned.lock().expect("no panic while held").clone();
        self.supervisor.apply(&assigned, self.ledger.view().desired().paused).await;
    }

    /// What is observed now, with one of its times set anew: two timers write the one record.
    pub(super) fn observed(&self, set: impl FnOnce(&mut Observed)) -> ControlRecord {
        let mut observed = self.observed.lock().expect("no panic while held");
        set(&mut observed);
        ControlRecord::Observed(*observed)
    }

    /// Replaces what a pass has to complain about; each new sentence is logged once.
    pub(super) fn set_problems(&self, pass: &'static str, found: Vec<String>) {
        let mut problems = self.problems.lock().expect("no panic while held");
        let known = problems.entry(pass).or_default();
        for problem in found.iter().filter(|p| !known.contains(p)) {
            tracing::warn!(link = %self.settings.name, pass, "{problem}");
        }
        *known = found;
    }

    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.lock().expect("no panic while held").values().flatten().cloned().collect()
    }
}

/// Creates the link's two ledger topics where they are missing and checks their settings at every start: a ledger topic
/// with a deleting cleanup policy would forget the map.
async fn prepare_ledger_topics(
    link: &LinkName,
    catalog: &dyn Catalog,
    admin: &dyn TopicAdmin,
    brokers: usize,
) -> Result<()> {
    let specs = ledger::topics::specs(link, brokers.clamp(1, LEDGER_REPLICATION) as i16);
    let names: Vec<TopicName> = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut created = false;
    for (spec, known) in specs.iter().zip(catalog.describe_topics(&names).await) {
        match known {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::UnknownTopic => {
                created = true;
                match admin.create_topic(spec).await {
                    Err(error) if !error.message.contains("exists") => return Err(error),
                    _ => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    for (name, configs) in names.iter().zip(catalog.topic_configs(&names).await) {
        let configs = match configs {
            // A broker may not have heard of it yet; the next start looks again.
            Err(_) if created => continue,
            told => told?,
        };
        let wrong = ledger::topics::verify(name, &configs);
        if !wrong.is_empty() {
            return Err(Error::new(ErrorKind::Denied, wrong.join("; ")));
        }
    }
    Ok(())
}
