//! Keeps the target's topics fitting for the source's: created with their settings, grown, settings changed by
//! difference. What fits is published as routes; what does not is a named problem with a way out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::{Catalog, Error, ErrorKind, Result, TopicAdmin, TopicInfo, TopicSpec};
use crate::metadata::neighbours::Neighbours;
use crate::model::{Route, TopicId, TopicName, TopicPartition};
use crate::policy::naming::Naming;
use crate::policy::selection::{Patterns, Selection};
use crate::policy::topic_config::{self, Configs, Retention, Wanted};

/// Settings of topics that exist on both sides are compared this often.
const CONFIG_INTERVAL: Duration = Duration::from_secs(5);

/// Topics that one pass creates: their records move while those behind them are created.
const CREATED_BY_A_PASS: usize = 200;

/// Topics that one notice names.
const NAMED_AT_MOST: usize = 5;

/// The rules of a link about topics.
#[derive(Debug, Clone)]
pub struct TopicRules {
    /// Which source topics are mirrored.
    pub selection: Selection,
    /// How they are called on the target.
    pub naming: Naming,
    /// Replication factor on the target; the source's, capped by the target's brokers, when absent.
    pub replication: Option<i16>,
    /// How long the target keeps records.
    pub retention: Retention,
    /// Settings that are the target's own affair.
    pub exclude_configs: Patterns,
    /// A topic that vanished from the list is believed deleted after the cluster has said so by name for this long: a
    /// broker that just started may not list what it does not know yet.
    pub deletion_grace: Duration,
}

/// Keeps topics; one per link.
pub struct Topics {
    source: Arc<dyn Catalog>,
    target: Arc<dyn Catalog>,
    admin: Arc<dyn TopicAdmin>,
    neighbours: Neighbours,
    rules: TopicRules,
    /// Source topics that earlier processes mirrored too.
    born: BTreeSet<TopicName>,
    routes: BTreeMap<TopicName, Vec<Route>>,
    vanished: BTreeMap<TopicName, Instant>,
    configs_compared: Option<Instant>,
    config_problems: BTreeMap<TopicName, String>,
    /// Why source topics have no copy although creating it was tried, and the last one that was tried: the next pass goes
    /// on behind it.
    uncreated: BTreeMap<TopicName, String>,
    tried_last: Option<TopicName>,
    /// Settings the target's brokers know; empty until asked.
    known_settings: BTreeSet<String>,
    wanted: BTreeMap<TopicName, Wanted>,
    /// Source topics whose target was seen to store the times it is sent; no other is routed.
    keeping_times: BTreeSet<TopicName>,
}

/// What a pass found.
#[derive(Debug, Default)]
pub struct TopicsReport {
    /// Source topics to be mirrored, with the number of their partitions, whether or not a route to them exists yet.
    pub sources: BTreeMap<TopicName, i32>,
    /// All routes of the link, by source topic.
    pub routes: Vec<Route>,
    /// Whether more are left to be created than one pass does: the next one should follow at once.
    pub more: bool,
    /// Sentences, each naming a topic, what is wrong and what to do.
    pub problems: Vec<String>,
    /// Settings that the target has otherwise on purpose, with the topics concerned.
    pub notices: Vec<String>,
    /// Per target topic, settings wanted after hand-over.
    pub after_hand_over: BTreeMap<TopicName, BTreeMap<String, String>>,
}

impl Topics {
    /// Topics of a link between two clusters, which has mirrored the source topics `born` so far.
    pub fn new(
        (source, target): (Arc<dyn Catalog>, Arc<dyn Catalog>),
        admin: Arc<dyn TopicAdmin>,
        neighbours: Neighbours,
        rules: TopicRules,
        born: BTreeSet<TopicName>,
    ) -> Self {
        let born = born.into_iter().filter(|topic| rules.selection.takes_topic(topic, false)).collect();
        Self {
            born,
            source,
            target,
            admin,
            neighbours,
            rules,
            routes: BTreeMap::new(),
            vanished: BTreeMap::new(),
            configs_compared: None,
            config_problems: BTreeMap::new(),
            uncreated: BTreeMap::new(),
            tried_last: None,
            known_settings: BTreeSet::new(),
            wanted: BTreeMap::new(),
            keeping_times: BTreeSet::new(),
        }
    }

    /// One look at both sides. An error means nothing could be learnt; problems of single topics are in the report.
    pub async fn pass(&mut self) -> Result<TopicsReport> {
        let mut problems = Vec::new();
        let (source, target) = tokio::try_join!(self.source.topics(), self.target.topics())?;
        let mut selected: BTreeMap<TopicName, TopicInfo> = source
            .iter()
            .filter(|topic| self.rules.selection.takes_topic(&topic.name, topic.internal))
            .map(|topic| (topic.name.clone(), topic.clone()))
            .collect();
        let sources = selected.values().map(|t| (t.name.clone(), t.partitions.len() as i32)).collect();
        for (target, sources) in self.rules.naming.collisions(selected.keys()) {
            problems.push(format!(
                "topics {sources:?} would all be written to {target} on the target: change naming or exclude all but one"
            ));
            selected.retain(|name, _| !sources.contains(name));
        }
        let pairs = selected.keys().map(|name| (name.clone(), self.rules.naming.target(name)));
        let objections = self.neighbours.objections(pairs, &source, &target).await;
        selected.retain(|name, _| !objections.refused.contains_key(name));
        self.routes.retain(|name, _| !objections.refused.contains_key(name));
        problems.extend(objections.refused.into_values().chain(objections.unknown));
        let internal: BTreeSet<&TopicName> = target.iter().filter(|t| t.internal).map(|t| &t.name).collect();
        selected.retain(|name, _| {
            let target = self.rules.naming.target(name);
            let is_fit = !target.as_str().starts_with("__") && !internal.contains(&target);
            if !is_fit {
                problems
                    .push(format!("topic {name} would be {target} on the target, which is internal there: rename it"));
            }
            is_fit
        });
        let mut existing: BTreeMap<TopicName, TopicInfo> = target.into_iter().map(|t| (t.name.clone(), t)).collect();
        let more = self.create_missing(&selected, &mut existing).await?;
        problems.extend(self.uncreated.values().cloned());
        self.grow(&selected, &mut existing, &mut problems).await;
        self.equalize_configs(&selected, &existing).await;
        problems.extend(self.config_problems.values().cloned());
        self.publish(&selected, &existing);
        self.note_vanished(&selected, &mut problems).await;
        let after_hand_over = self
            .wanted
            .iter()
            .filter(|(_, wanted)| !wanted.after_hand_over.is_empty())
            .map(|(source, wanted)| (self.rules.naming.target(source), wanted.after_hand_over.clone()))
            .collect();
        let routes = self.routes.values().flatten().cloned().collect();
        Ok(TopicsReport { sources, routes, more, problems, notices: self.notices(), after_hand_over })
    }

    /// Creates a portion of what is missing; whether that worked for some and others are left.
    async fn create_missing(
        &mut self,
        selected: &BTreeMap<TopicName, TopicInfo>,
        existing: &mut BTreeMap<TopicName, TopicInfo>,
    ) -> Result<bool> {
        let mut missing: Vec<TopicName> =
            selected.keys().filter(|name| !existing.contains_key(&self.rules.naming.target(name))).cloned().collect();
        self.uncreated.retain(|name, _| missing.binary_search(name).is_ok());
        if missing.is_empty() {
            return Ok(false);
        }
        let tried = missing.partition_point(|name| self.tried_last.as_ref().is_some_and(|last| name <= last));
        missing.rotate_left(tried);
        let are_left = missing.len() > CREATED_BY_A_PASS;
        missing.truncate(CREATED_BY_A_PASS);
        self.tried_last = missing.last().cloned();
        self.uncreated.retain(|name, _| !missing.contains(name));
        let brokers = self.target.cluster().await?.brokers;
        self.learn_known_settings(existing).await?;
        let configs = self.source.topic_configs(&missing).await;
        let why =
            |target: &TopicName, error: Error| format!("topic {target} could not be created on the target: {error}");
        let mut failed = BTreeMap::new();
        let (mut specs, mut planned) = (Vec::new(), Vec::new());
        for (name, configs) in missing.into_iter().zip(configs) {
            match configs {
                Ok(configs) => {
                    let (spec, wanted) = self.plan(&selected[&name], &configs, brokers);
                    specs.push(spec);
                    planned.push((name, wanted));
                }
                Err(error) => drop(failed.insert(name.clone(), why(&self.rules.naming.target(&name), error))),
            }
        }
        let mut created = Vec::new();
        let answers = self.admin.create_topics(&specs).await;
        for ((spec, (name, wanted)), answer) in specs.into_iter().zip(planned).zip(answers) {
            let TopicSpec { name: target, partitions, replication, .. } = spec;
            match answer {
                Ok(()) => {
                    tracing::info!(topic = %target, partitions, replication, "created topic");
                    self.keeping_times.insert(name.clone());
                    self.remember(&name, &target, wanted);
                    created.push(target);
                }
                // Somebody was faster; whether it fits is seen when it is described.
                Err(error) if error.kind == ErrorKind::Refused && error.message.contains("exists") => {
                    created.push(target);
                }
                Err(error) => drop(failed.insert(name, why(&target, error))),
            }
        }
        self.uncreated.append(&mut failed);
        for (name, described) in created.iter().zip(self.target.describe_topics(&created).await) {
            match described {
                Ok(info) => drop(existing.insert(name.clone(), info)),
                // Not yet known to the broker that was asked: the next pass sees it.
                Err(error) => tracing::debug!(topic = %name, %error, "created topic not visible yet"),
            }
        }
        Ok(are_left && !created.is_empty())
    }

    /// Any topic of the target tells which settings its brokers know; a ledger topic is there and readable by right.
    async fn learn_known_settings(&mut self, existing: &BTreeMap<TopicName, TopicInfo>) -> Result<()> {
        let ledger = existing.keys().find(|name| name.as_str().starts_with("__twinlog."));
        if let (true, Some(any)) = (self.known_settings.is_empty(), ledger.or(existing.keys().next())) {
            let configs = self.target.topic_configs(std::slice::from_ref(any)).await;
            let configs = configs.into_iter().next().expect("one answer per topic asked for")?;
            self.known_settings = configs.into_keys().collect();
        }
        Ok(())
    }

    /// How a source topic is to be created.
    fn plan(&self, source: &TopicInfo, configs: &Configs, brokers: usize) -> (TopicSpec, Wanted) {
        let replication = self.replication(source, brokers);
        let configs = topic_config::managed(configs, &self.rules.exclude_configs);
        let wanted = topic_config::wanted(
            &configs,
            |n| self.known_settings.contains(n),
            self.rules.retention,
            replication,
            None,
        );
        let spec = TopicSpec {
            name: self.rules.naming.target(&source.name),
            partitions: source.partitions.len() as i32,
            replication,
            configs: wanted.now.clone(),
        };
        (spec, wanted)
    }

    /// What the target deliberately has otherwise than the source, a sentence per setting and value.
    fn notices(&self) -> Vec<String> {
        let mut topics: BTreeMap<(&str, &str, &str), Vec<&TopicName>> = BTreeMap::new();
        for (topic, wanted) in &self.wanted {
            for (setting, value) in &wanted.after_hand_over {
                if let Some(now) = wanted.now.get(setting).filter(|now| *now != value) {
                    topics.entry((setting, value, now)).or_default().push(topic);
                }
            }
        }
        let sentence = |((setting, value, now), topics): (_, Vec<&TopicName>)| {
            let some: Vec<&str> = topics.iter().take(NAMED_AT_MOST).map(|topic| topic.as_str()).collect();
            let more = topics.len().saturating_sub(NAMED_AT_MOST);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!(
                "{setting} is {value} at the source but {now} on the target until a hand-over: {}{more}",
                some.join(", ")
            )
        };
        topics.into_iter().map(sentence).collect()
    }

    /// Keeps what the target should have, and logs what it deliberately has otherwise than the source.
    fn remember(&mut self, source: &TopicName, target: &TopicName, wanted: Wanted) {
        let before = self.wanted.get(source).map(|known| &known.after_hand_over);
        for (setting, value) in &wanted.after_hand_over {
            let now = wanted.now.get(setting).filter(|now| *now != value);
            if let Some(now) = now.filter(|_| before.and_then(|b| b.get(setting)) != Some(value)) {
                tracing::warn!(
                    topic = %target,
                    "{setting} is {value} at the source but {now} on the target while it is mirrored, so that records are \
                     stored as they are; the source's value is kept for the hand-over"
                );
            }
        }
        self.wanted.insert(source.clone(), wanted);
    }

    fn replication(&self, source: &TopicInfo, brokers: usize) -> i16 {
        let as_source = source.partitions.iter().map(|p| p.replicas).max().unwrap_or(1);
        self.rules.replication.unwrap_or(as_source.min(brokers).max(1) as i16)
    }

    async fn grow(
        &self,
        selected: &BTreeMap<TopicName, TopicInfo>,
        existing: &mut BTreeMap<TopicName, TopicInfo>,
        problems: &mut Vec<String>,
    ) {
        for source in selected.values() {
            let target = self.rules.naming.target(&source.name);
            let Some(info) = existing.get(&target) else { continue };
            let (wanted, have) = (source.partitions.len(), info.partitions.len());
            if have > wanted {
                problems.push(format!(
                    "topic {target} has {have} partitions on the target but {} has {wanted} at the source: keyed producers \
                     would spread differently after a switch; recreate it with {wanted}",
                    source.name
                ));
            }
            if have >= wanted {
                continue;
            }
            match self.admin.grow_topic(&target, wanted as i32).await {
                Ok(()) => {
                    tracing::info!(topic = %target, from = have, to = wanted, "grew topic");
                    if let Some(Ok(grown)) = self.target.describe_topics(std::slice::from_ref(&target)).await.pop() {
                        existing.insert(target, grown);
                    }
                }
                Err(error) => {
                    problems
                        .push(format!("topic {target} could not be grown from {have} to {wanted} partitions: {error}"));
                }
            }
        }
    }

    /// Applies setting changes by difference: now and then for all topics, at once for one never compared before. Failures
    /// stay named until a later comparison succeeds.
    async fn equalize_configs(
        &mut self,
        selected: &BTreeMap<TopicName, TopicInfo>,
        existing: &BTreeMap<TopicName, TopicInfo>,
    ) {
        let all_due = self.configs_compared.is_none_or(|at| at.elapsed() >= CONFIG_INTERVAL);
        let (sources, targets): (Vec<_>, Vec<_>) = selected
            .keys()
            .filter(|name| all_due || !self.wanted.contains_key(*name))
            .map(|name| (name.clone(), self.rules.naming.target(name)))
            .filter(|(_, target)| existing.contains_key(target))
            .unzip();
        if sources.is_empty() {
            return;
        }
        let (source_configs, target_configs) =
            tokio::join!(self.source.topic_configs(&sources), self.target.topic_configs(&targets));
        for (((name, target), ours), theirs) in sources.iter().zip(&targets).zip(source_configs).zip(target_configs) {
            let replicas = existing[target].partitions.first().map_or(1, |p| p.replicas) as i16;
            let outcome = match (ours, theirs) {
                (Ok(ours), Ok(theirs)) => {
                    if topic_config::keeps_times(&theirs) {
                        self.keeping_times.insert(name.clone());
                    }
                    self.equalize(name, target, &ours, &theirs, replicas).await
                }
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            match outcome {
                Ok(()) => drop(self.config_problems.remove(name)),
                Err(error) => {
                    let problem = format!("settings of topic {target} could not be made equal to {name}'s: {error}");
                    self.config_problems.insert(name.clone(), problem);
                }
            }
        }
        self.config_problems.retain(|name, _| selected.contains_key(name));
        if all_due {
            self.configs_compared = Some(Instant::now());
        }
    }

    async fn equalize(
        &mut self,
        name: &TopicName,
        target: &TopicName,
        ours: &Configs,
        theirs: &Configs,
        replicas: i16,
    ) -> Result<()> {
        let limit = theirs.get("max.message.bytes").and_then(|e| e.value.as_deref()).and_then(|v| v.parse().ok());
        let [ours, theirs] = [ours, theirs].map(|all| topic_config::managed(all, &self.rules.exclude_configs));
        let wanted =
            topic_config::wanted(&ours, |name| theirs.contains_key(name), self.rules.retention, replicas, limit);
        let changes = topic_config::changes(&wanted.now, &theirs);
        if !changes.is_empty() {
            self.admin.change_configs(target, &changes).await?;
            tracing::info!(topic = %target, ?changes, "changed topic settings");
        }
        self.keeping_times.insert(name.clone());
        self.remember(name, target, wanted);
        Ok(())
    }

    fn publish(&mut self, selected: &BTreeMap<TopicName, TopicInfo>, existing: &BTreeMap<TopicName, TopicInfo>) {
        for source in selected.values() {
            let target = self.rules.naming.target(&source.name);
            let Some(info) = existing.get(&target) else { continue };
            // Named by the comparison that failed: what would be stored with other times is not sent.
            if !self.keeping_times.contains(&source.name) {
                continue;
            }
            let both = source.partitions.len().min(info.partitions.len()) as i32;
            let routes = (0..both).map(|partition| route(source, info, partition)).collect();
            self.routes.insert(source.name.clone(), routes);
        }
    }

    /// Topics that were mirrored and are no longer listed: asked for by name before anything is believed; their routes stay
    /// (deletion is reported, never applied).
    async fn note_vanished(&mut self, selected: &BTreeMap<TopicName, TopicInfo>, problems: &mut Vec<String>) {
        let known: BTreeSet<&TopicName> = self.routes.keys().chain(&self.born).collect();
        let gone: Vec<TopicName> = known.into_iter().filter(|name| !selected.contains_key(*name)).cloned().collect();
        let still_gone: BTreeSet<&TopicName> = gone.iter().collect();
        self.vanished.retain(|name, _| still_gone.contains(name));
        if gone.is_empty() {
            return;
        }
        for (name, answer) in gone.iter().zip(self.source.describe_topics(&gone).await) {
            match answer {
                Err(Error { kind: ErrorKind::UnknownTopic, .. }) => {
                    let since = *self.vanished.entry(name.clone()).or_insert_with(Instant::now);
                    if since.elapsed() >= self.rules.deletion_grace {
                        problems.push(format!(
                            "topic {name} was deleted at the source; its copy {} stays on the target",
                            self.rules.naming.target(name)
                        ));
                    }
                }
                _ => drop(self.vanished.remove(name)),
            }
        }
    }
}

fn route(source: &TopicInfo, target: &TopicInfo, partition: i32) -> Route {
    let at = |topic: &TopicInfo| TopicPartition { topic: topic.name.clone(), partition };
    let id = |topic: &TopicInfo| -> Option<TopicId> { topic.id };
    Route { source: at(source), source_id: id(source), target: at(target), target_id: id(target) }
}
