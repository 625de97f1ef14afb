//! What other links do on the two clusters: a topic has one writer, and records never travel in a circle.
//!
//! Their control topics tell: on the target, which topics they fill there; on the source, which of its topics are filled
//! from our target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::endpoint::{Error, ErrorKind, LedgerTopic, Ledgers, TopicInfo};
use crate::ledger::View;
use crate::model::{ClusterId, LinkName, TopicName};

/// Neighbours are looked at again after this long: what they fill changes.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// Twice as long each time nothing was found, up to this: a whole ledger is read each time, and whoever comes later looks
/// for itself.
const LOOK_AGAIN_IN_PEACE: Duration = Duration::from_secs(600);
/// A ledger whose broker is away is not waited for longer: it says nothing, not even that.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ledgers on one cluster.
pub struct Side {
    /// The cluster's alias, for people.
    pub alias: String,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// Where they are read.
    pub ledgers: Arc<dyn Ledgers>,
}

/// The other links on both clusters of one.
pub struct Neighbours {
    link: LinkName,
    source: Side,
    target: Side,
    judged: BTreeSet<(TopicName, TopicName)>,
    known: (BTreeSet<LinkName>, BTreeSet<LinkName>),
    looked_at: Instant,
    look_after: Duration,
    objections: Objections,
}

/// What must not be mirrored, and what is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objections {
    /// By source topic: why not, and what to do.
    pub refused: BTreeMap<TopicName, String>,
    /// Ledgers that could not be read.
    pub unknown: Vec<String>,
}

/// What one other link was seen to fill on the cluster of its ledger.
struct Neighbour {
    link: LinkName,
    source: ClusterId,
    fills: BTreeMap<TopicName, TopicName>,
}

impl Neighbours {
    /// The neighbours of `link`; nothing is read yet.
    pub fn new(link: LinkName, source: Side, target: Side) -> Self {
        let (judged, known) = (BTreeSet::new(), (BTreeSet::new(), BTreeSet::new()));
        let (looked_at, look_after) = (Instant::now(), LOOK_AGAIN);
        Self { link, source, target, judged, known, looked_at, look_after, objections: Objections::default() }
    }

    /// Objections to mirroring `pairs` (source topic, target topic), given all topics of both clusters. Other links' ledgers
    /// are read when there is something new to judge, and now and then.
    pub async fn objections(
        &mut self,
        pairs: impl Iterator<Item = (TopicName, TopicName)>,
        on_source: &[TopicInfo],
        on_target: &[TopicInfo],
    ) -> Objections {
        let pairs: BTreeSet<_> = pairs.collect();
        let known = (self.others(on_source), self.others(on_target));
        let nobody = known.0.is_empty() && known.1.is_empty();
        let is_old = known == self.known && pairs.is_subset(&self.judged);
        if is_old && (nobody || self.looked_at.elapsed() < self.look_after) {
            return self.objections.clone();
        }
        let mut found = Objections::default();
        for neighbour in read_all(&self.target, &known.1, &mut found).await {
            for (ours, target) in pairs.iter().filter(|(_, target)| neighbour.fills.contains_key(target)) {
                let theirs = &neighbour.fills[target];
                let why = format!(
                    "topic {ours} is not mirrored: link {} (from {theirs} of cluster {}) fills {target} on {} already; {}",
                    neighbour.link,
                    neighbour.source,
                    self.target.alias,
                    way_out(&neighbour.link, &self.target.alias)
                );
                found.refused.insert(ours.clone(), why);
            }
        }
        for neighbour in read_all(&self.source, &known.0, &mut found).await {
            if neighbour.source != self.target.cluster {
                continue;
            }
            for (ours, _) in pairs.iter().filter(|(ours, _)| neighbour.fills.contains_key(ours)) {
                let why = format!(
                    "topic {ours} is not mirrored: link {} fills it on {} from {} of {}, so its records would travel in a \
                     circle; {}",
                    neighbour.link,
                    self.source.alias,
                    neighbour.fills[ours],
                    self.target.alias,
                    way_out(&neighbour.link, &self.source.alias)
                );
                found.refused.insert(ours.clone(), why);
            }
        }
        let is_peace = is_old && found == Objections::default();
        self.look_after = if is_peace { (self.look_after * 2).min(LOOK_AGAIN_IN_PEACE) } else { LOOK_AGAIN };
        (self.judged, self.known, self.looked_at, self.objections) = (pairs, known, Instant::now(), found);
        self.objections.clone()
    }

    fn others(&self, topics: &[TopicInfo]) -> BTreeSet<LinkName> {
        topics.iter().filter_map(|t| LedgerTopic::owner_of_control(&t.name)).filter(|link| *link != self.link).collect()
    }
}

fn way_out(link: &LinkName, alias: &str) -> String {
    let (control, map) = (LedgerTopic::Control.name(link), LedgerTopic::Map.name(link));
    format!(
        "exclude the topic from this link, or, once link {link} no longer fills it, delete {control} and {map} on {alias}"
    )
}

async fn read_all(side: &Side, links: &BTreeSet<LinkName>, found: &mut Objections) -> Vec<Neighbour> {
    let mut neighbours = Vec::new();
    for link in links {
        let ledger = side.ledgers.of(link);
        let read = timeout(PATIENCE, View::read_control(&*ledger)).await.unwrap_or_else(|_| {
            let message = format!("its ledger was not read within {PATIENCE:?}");
            Err(Error::new(ErrorKind::Unsupported, message))
        });
        match read {
            Ok(view) => {
                let Some(clusters) = view.link() else { continue };
                let fills =
                    view.routes().into_iter().map(|b| (b.route.target.topic.clone(), b.route.source.topic.clone()));
                let source = clusters.source_cluster_id;
                neighbours.push(Neighbour { link: link.clone(), source, fills: fills.collect() });
            }
            Err(error) => found.unknown.push(format!(
                "what link {link} does on {} is not known, so nothing keeps the two links apart: {error}",
                side.alias
            )),
        }
    }
    neighbours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::memory::{Call, MemoryCluster};
    use crate::endpoint::{Catalog, LedgerStore};
    use crate::ledger::ControlRecord;
    use crate::ledger::record::{Born, LinkRecord};
    use crate::model::{Offset, Route, TopicPartition};

    /// A link that has filled topics, each from one of the same name with `from.` before it.
    async fn other_link(on: &MemoryCluster, name: &str, source: &str, fills: &[&str]) {
        on.create(&format!("__twinlog.{name}.control"), 1, &[]);
        let link = LinkRecord { source_cluster_id: source.into(), target_cluster_id: "its-target".into() };
        let mut records = vec![ControlRecord::Link(link)];
        records.extend(fills.iter().map(|topic| {
            let (source, target) = (TopicPartition::new(format!("from.{topic}"), 0), TopicPartition::new(*topic, 0));
            let route = Route { source, source_id: None, target, target_id: None };
            ControlRecord::Born(Born { route, first_source: Offset(0), target_start: Offset(0) })
        }));
        let store = on.ledger(name);
        let appender = store.claim().await.unwrap();
        appender.append(LedgerTopic::Control, records.iter().map(ControlRecord::to_entry).collect()).await.unwrap();
    }

    async fn judge(source: &MemoryCluster, target: &MemoryCluster) -> Objections {
        look(&mut neighbours(source, target), source, target, &["orders", "payments"]).await
    }

    fn neighbours(source: &MemoryCluster, target: &MemoryCluster) -> Neighbours {
        let side = |alias: &str, cluster: &MemoryCluster, id: &str| {
            let (alias, cluster, ledgers) = (alias.to_owned(), id.into(), Arc::new(cluster.clone()));
            Side { alias, cluster, ledgers }
        };
        let (from, to) = (side("paris", source, "paris-id"), side("lyon", target, "lyon-id"));
        Neighbours::new("dr".into(), from, to)
    }

    async fn look(
        neighbours: &mut Neighbours,
        source: &MemoryCluster,
        target: &MemoryCluster,
        topics: &[&str],
    ) -> Objections {
        let pairs = topics.iter().map(|topic| (TopicName::from(*topic), TopicName::from(format!("copy.{topic}"))));
        let (on_source, on_target) = (source.topics().await.unwrap(), target.topics().await.unwrap());
        neighbours.objections(pairs, &on_source, &on_target).await
    }

    #[tokio::test(start_paused = true)]
    async fn neighbours_at_peace_are_read_ever_less_often_and_what_is_new_is_judged_at_once() {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        other_link(&target, "nice", "nice-id", &["copy.payments", "elsewhere"]).await;
        let mut neighbours = neighbours(&source, &target);
        let mut pauses = Vec::new();
        let mut looked_at = neighbours.looked_at;
        for _ in 0..3600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(look(&mut neighbours, &source, &target, &["orders"]).await, Objections::default());
            if neighbours.looked_at != looked_at {
                pauses.push((neighbours.looked_at - looked_at).as_secs());
                looked_at = neighbours.looked_at;
            }
        }
        assert_eq!(pauses[..6], [1, 30, 60, 120, 240, 480], "{pauses:?}");
        assert!(pauses[6..].iter().all(|pause| *pause == 600), "{pauses:?}");
        for pause in [0, 30] {
            tokio::time::sleep(Duration::from_secs(pause)).await;
            let found = look(&mut neighbours, &source, &target, &["orders", "payments"]).await;
            assert!(found.refused.contains_key(&TopicName::from("payments")), "{found:?}");
            assert_eq!(neighbours.looked_at, Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_another_link_fills_gets_no_second_source() {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        other_link(&target, "nice", "nice-id", &["copy.orders", "orders"]).await;
        other_link(&target, "dr", "paris-id", &["copy.payments"]).await;
        let found = judge(&source, &target).await;
        assert_eq!(found.refused.keys().map(TopicName::as_str).collect::<Vec<_>>(), ["orders"]);
        let why = &found.refused[&TopicName::from("orders")];
        for name in ["nice", "nice-id", "copy.orders", "from.copy.orders", "lyon", "__twinlog.nice.control"] {
            assert!(why.contains(name), "{why}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_topic_that_comes_from_our_target_does_not_go_back() {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        other_link(&source, "back", "lyon-id", &["payments"]).await;
        other_link(&source, "elsewhere", "nice-id", &["orders"]).await;
        let found = judge(&source, &target).await;
        assert_eq!(found.refused.keys().map(TopicName::as_str).collect::<Vec<_>>(), ["payments"]);
        assert!(found.refused[&TopicName::from("payments")].contains("circle"), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_cannot_be_read_is_named() {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        other_link(&target, "nice", "nice-id", &["copy.orders"]).await;
        let newer = crate::endpoint::LedgerEntry { key: "journal/x".into(), value: Some("{\"v\":1}".into()) };
        target.ledger("nice").plant(LedgerTopic::Control, newer);
        let found = judge(&source, &target).await;
        assert!(found.refused.is_empty());
        assert!(found.unknown.len() == 1 && found.unknown[0].contains("link nice"), "{found:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_does_not_answer_is_named_and_not_waited_for() {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        other_link(&target, "nice", "nice-id", &["copy.orders"]).await;
        target.delay(Call::Follow, Duration::from_secs(3600));
        let begun = Instant::now();
        let found = judge(&source, &target).await;
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(found.refused.is_empty() && found.unknown.len() == 1, "{found:?}");
    }
}
