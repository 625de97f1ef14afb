//! The topic pass against two clusters in memory, on the paused clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::neighbours::{Neighbours, Side};
use super::topics::{TopicRules, Topics, TopicsReport};
use crate::endpoint::memory::{Call, MemoryCluster};
use crate::endpoint::{Catalog, ConfigChange, ConfigOrigin, ErrorKind, TopicAdmin};
use crate::model::TopicName;
use crate::policy::naming::Naming;
use crate::policy::selection::{Patterns, Selection};
use crate::policy::topic_config::Retention;

struct Twin {
    source: MemoryCluster,
    target: MemoryCluster,
    topics: Topics,
}

impl Twin {
    fn new(naming: Naming) -> Self {
        let (source, target) = (MemoryCluster::new("paris-id"), MemoryCluster::new("lyon-id"));
        // A link's ledger is there before its first topic pass.
        target.create("__twinlog.dr.control", 1, &[]);
        let selection = Selection::new(&[".*".to_owned()], &[]).expect("a valid pattern");
        let (retention, deletion_grace) = (Retention::Same, Duration::from_secs(30));
        let rules = TopicRules {
            selection,
            naming,
            replication: None,
            retention,
            exclude_configs: Patterns::default(),
            deletion_grace,
        };
        let (from, to) = (Arc::new(source.clone()), Arc::new(target.clone()));
        let side = |alias: &str, ledgers| Side { alias: alias.into(), cluster: format!("{alias}-id").into(), ledgers };
        let neighbours = Neighbours::new("dr".into(), side("paris", from.clone()), side("lyon", to.clone()));
        Self { topics: Topics::new((from, to.clone()), to, neighbours, rules, BTreeSet::new()), source, target }
    }

    async fn pass(&mut self) -> TopicsReport {
        self.topics.pass().await.expect("both clusters answer")
    }

    async fn own_settings(&self, topic: &str) -> BTreeMap<String, String> {
        let told = self.target.topic_configs(&[topic.into()]).await.pop().expect("one answer").expect("it exists");
        let own = told.into_iter().filter(|(_, entry)| entry.origin == ConfigOrigin::Topic);
        own.map(|(name, entry)| (name, entry.value.unwrap_or_default())).collect()
    }

    async fn partitions(&self, topic: &str) -> usize {
        let told = self.target.describe_topics(&[topic.into()]).await.pop().expect("one answer");
        told.map_or(0, |info| info.partitions.len())
    }
}

fn routed(report: &TopicsReport) -> Vec<String> {
    report.routes.iter().map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_internal_on_the_target_is_refused_before_anything_is_changed() {
    let mut twin = Twin::new(Naming::Prefix("__twinlog.dr.".into()));
    twin.source.create("control", 3, &[("cleanup.policy", "delete")]);
    let report = twin.pass().await;
    assert_eq!(report.routes.len(), 0);
    assert!(report.problems.iter().any(|p| p.contains("__twinlog.dr.control")), "{:?}", report.problems);
    assert_eq!(twin.own_settings("__twinlog.dr.control").await.len(), 0);
    assert_eq!(twin.partitions("__twinlog.dr.control").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_topic_is_created_with_the_sources_settings_and_routed_with_both_ids() {
    let mut twin = Twin::new(Naming::Prefix("paris.".into()));
    let settings =
        [("cleanup.policy", "compact"), ("retention.ms", "1000"), ("message.timestamp.type", "LogAppendTime")];
    let id = twin.source.create("orders", 3, &settings);
    let report = twin.pass().await;
    assert_eq!(routed(&report)[..2], ["orders/0 → paris.orders/0", "orders/1 → paris.orders/1"]);
    assert_eq!((report.routes.len(), report.problems.len()), (3, 0), "{:?}", report.problems);
    assert!(report.routes.iter().all(|route| route.source_id == Some(id) && route.target_id.is_some()));
    let own = twin.own_settings("paris.orders").await;
    assert_eq!((&*own["cleanup.policy"], &*own["retention.ms"]), ("compact", "1000"));
    assert_eq!(own["message.timestamp.type"], "CreateTime", "the target must keep the records' own times");
    let after = &report.after_hand_over[&TopicName::from("paris.orders")];
    assert_eq!(after["message.timestamp.type"], "LogAppendTime", "what is wanted at hand-over is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn partitions_added_at_the_source_are_added_and_routed() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 2, &[]);
    twin.pass().await;
    twin.source.grow_topic(&"orders".into(), 5).await.expect("grown");
    assert_eq!(routed(&twin.pass().await).last().expect("routes"), "orders/4 → orders/4");
    assert_eq!(twin.partitions("orders").await, 5);
}

#[tokio::test(start_paused = true)]
async fn changed_settings_follow_by_difference_and_the_targets_inherited_ones_stay() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 1, &[("retention.ms", "1000")]);
    twin.pass().await;
    let before = twin.own_settings("orders").await;
    for (change, expected) in [
        (ConfigChange::Set("retention.ms".into(), "2000".into()), Some("2000")),
        // Not what the target's brokers would keep, but what the source's now do.
        (ConfigChange::Unset("retention.ms".into()), Some("604800000")),
    ] {
        twin.source.change_configs(&"orders".into(), &[change]).await.expect("changed");
        tokio::time::advance(Duration::from_secs(6)).await;
        twin.pass().await;
        let own = twin.own_settings("orders").await;
        assert_eq!(own.get("retention.ms").map(String::as_str), expected);
        assert!(own.iter().all(|(name, value)| name == "retention.ms" || before.get(name) == Some(value)), "{own:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_is_believed_only_after_the_cluster_said_so_by_name_for_the_grace() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 1, &[]);
    twin.pass().await;
    twin.source.delete_topic("orders");
    for _ in 0..5 {
        let report = twin.pass().await;
        assert_eq!((report.routes.len(), report.problems.len()), (1, 0), "{:?}", report.problems);
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    twin.source.create("orders", 1, &[]);
    assert_eq!(twin.pass().await.problems, [""; 0]);
    twin.source.delete_topic("orders");
    twin.pass().await;
    tokio::time::advance(Duration::from_secs(20)).await;
    assert_eq!(twin.pass().await.problems, [""; 0], "the grace begins with each disappearance anew");
    tokio::time::advance(Duration::from_secs(11)).await;
    let report = twin.pass().await;
    assert!(report.problems[0].contains("topic orders was deleted at the source"), "{:?}", report.problems);
    assert_eq!((report.routes.len(), twin.partitions("orders").await), (1, 1), "reported, never applied");
}

#[tokio::test(start_paused = true)]
async fn two_sources_for_one_target_are_refused_and_others_go_on() {
    let mut twin = Twin::new(Naming::Rename(BTreeMap::from([("a".into(), "b".into())])));
    for topic in ["a", "b", "c"] {
        twin.source.create(topic, 1, &[]);
    }
    let report = twin.pass().await;
    assert_eq!(routed(&report), ["c/0 → c/0"]);
    assert!(report.problems[0].contains("would all be written to b"), "{:?}", report.problems);
    assert_eq!(twin.partitions("b").await, 0, "nothing is created for a refused topic");
}

#[tokio::test(start_paused = true)]
async fn a_topic_created_again_gets_routes_with_its_new_id() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 1, &[]);
    let former = twin.pass().await.routes;
    let id = twin.source.recreate_topic("orders");
    let now = twin.pass().await.routes;
    assert_ne!(former[0].source_id, Some(id));
    assert_eq!((now.len(), now[0].source_id, now[0].target_id), (1, Some(id), former[0].target_id));
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_was_there_with_more_partitions_is_a_named_problem() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 2, &[]);
    twin.target.create("orders", 3, &[]);
    let report = twin.pass().await;
    assert_eq!(report.routes.len(), 2);
    assert!(report.problems[0].contains("topic orders has 3 partitions on the target"), "{:?}", report.problems);
}

#[tokio::test(start_paused = true)]
async fn one_topic_that_cannot_be_created_is_named_and_keeps_no_other_waiting() {
    let mut twin = Twin::new(Naming::Identity);
    for topic in ["a", "b"] {
        twin.source.create(topic, 1, &[]);
    }
    twin.target.fail_next(Call::Admin, 1, ErrorKind::Denied);
    let report = twin.pass().await;
    assert_eq!(routed(&report), ["b/0 → b/0"]);
    assert!(report.problems[0].contains("topic a could not be created"), "{:?}", report.problems);
    let report = twin.pass().await;
    assert_eq!((routed(&report).len(), report.problems.len()), (2, 0), "tried again with the next pass");
}

#[tokio::test(start_paused = true)]
async fn many_new_topics_are_routed_in_portions_and_the_denied_ones_keep_none_waiting() {
    let mut twin = Twin::new(Naming::Identity);
    for n in 0..700 {
        twin.source.create(&format!("t{n:03}"), 1, &[]);
    }
    let mut passes = Vec::new();
    for denied in [200, 50, 0, 0, 0] {
        twin.target.fail_next(Call::Admin, denied, ErrorKind::Denied);
        let report = twin.pass().await;
        passes.push((report.routes.len(), report.problems.len(), report.more));
    }
    let expected = [(0, 200, false), (150, 250, true), (350, 250, true), (550, 150, true), (700, 0, false)];
    assert_eq!(passes, expected);
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_learns_nothing_changes_nothing() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 1, &[]);
    twin.pass().await;
    twin.source.fail_next(Call::Catalog, 1, ErrorKind::Retryable);
    assert!(twin.topics.pass().await.is_err());
    assert_eq!(twin.pass().await.routes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_would_store_other_times_is_not_routed_before_it_is_put_right() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("first", 1, &[]);
    twin.pass().await;
    twin.source.create("orders", 1, &[]);
    twin.target.create("orders", 1, &[("message.timestamp.type", "LogAppendTime")]);
    twin.target.fail_next(Call::Admin, 1, ErrorKind::Denied);
    let report = twin.pass().await;
    assert_eq!(routed(&report), ["first/0 → first/0"]);
    assert!(report.problems[0].contains("settings of topic orders could not be made equal"), "{:?}", report.problems);
    let report = twin.pass().await;
    assert_eq!((routed(&report).len(), report.problems.len()), (2, 0), "{:?}", report.problems);
    assert_eq!(twin.own_settings("orders").await["message.timestamp.type"], "CreateTime");
}

#[tokio::test(start_paused = true)]
async fn what_is_to_be_mirrored_is_told_also_of_topics_that_cannot_be_routed_yet() {
    let mut twin = Twin::new(Naming::Identity);
    twin.source.create("orders", 3, &[]);
    twin.target.fail_next(Call::Admin, 1, ErrorKind::Retryable);
    let report = twin.pass().await;
    assert_eq!((report.routes.len(), report.sources), (0, BTreeMap::from([("orders".into(), 3)])));
}
