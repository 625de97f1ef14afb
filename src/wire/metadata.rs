//! What is known of a cluster: brokers, controller, and who leads the partitions somebody asked for.
//!
//! Pure state; epochs only go forward, so an answer from a broker that lags never undoes what a newer one said.

use std::collections::HashMap;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

use crate::endpoint::{Error, ErrorKind};
use crate::model::{LeaderEpoch, TopicId, TopicName, TopicPartition};
use crate::wire::dialer::Address;
use crate::wire::fault::error_of;

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leader {
    /// The broker.
    pub broker_id: i32,
    /// Its term; `UNKNOWN` where the brokers do not tell.
    pub epoch: LeaderEpoch,
    /// Id of the topic; `None` where the brokers do not tell.
    pub topic_id: Option<TopicId>,
}

/// The cache.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    brokers: HashMap<i32, Address>,
    controller: Option<i32>,
    topics: HashMap<TopicName, Topic>,
}

#[derive(Debug)]
enum Topic {
    /// Asked for, not answered yet.
    Wanted,
    /// What the cluster last said, when that was an error; not asked again unless wanted again.
    Failed(Error),
    /// As last told.
    Known { id: Option<TopicId>, partitions: HashMap<i32, (i32, LeaderEpoch)> },
}

/// Stands for "no leader now" among broker ids.
const NOBODY: i32 = -1;

impl Metadata {
    /// Ids of the brokers that live, as last told.
    pub(super) fn brokers(&self) -> Vec<i32> {
        self.brokers.keys().copied().collect()
    }

    /// Where a broker listens.
    pub(super) fn address(&self, broker_id: i32) -> Option<&Address> {
        self.brokers.get(&broker_id)
    }

    /// The controller; in KRaft clusters any broker, which forwards.
    pub(super) fn controller(&self) -> Option<i32> {
        self.controller
    }

    /// Includes a topic in the next refresh.
    pub(super) fn want(&mut self, topic: &TopicName) {
        match self.topics.get_mut(topic) {
            None => drop(self.topics.insert(topic.clone(), Topic::Wanted)),
            Some(known @ Topic::Failed(_)) => *known = Topic::Wanted,
            Some(_) => {}
        }
    }

    /// The topics a refresh asks for.
    pub(super) fn wanted(&self) -> Vec<TopicName> {
        let wanted = self.topics.iter().filter(|(_, topic)| !matches!(topic, Topic::Failed(_)));
        wanted.map(|(name, _)| name.clone()).collect()
    }

    /// Who leads a partition, when that is known.
    pub(super) fn leader(&self, at: &TopicPartition) -> Option<Leader> {
        let Some(Topic::Known { id, partitions }) = self.topics.get(&at.topic) else { return None };
        let (broker_id, epoch) = partitions.get(&at.partition).copied().filter(|(broker, _)| *broker != NOBODY)?;
        Some(Leader { broker_id, epoch, topic_id: *id })
    }

    /// Why [`leader`](Self::leader) has no answer, right after a refresh.
    pub(super) fn excuse(&self, alias: &str, at: &TopicPartition) -> Error {
        match self.topics.get(&at.topic) {
            Some(Topic::Failed(error)) => error.clone(),
            Some(Topic::Known { partitions, .. }) if !partitions.contains_key(&at.partition) => {
                let why = format!("cluster {alias}: {at}: the topic has only {} partitions", partitions.len());
                Error::new(ErrorKind::UnknownTopic, why)
            }
            _ => Error::new(ErrorKind::Retryable, format!("cluster {alias}: {at} has no leader now")),
        }
    }

    /// Believes a leader named in an error response (KIP-951) if its term is newer.
    pub(super) fn hint(&mut self, at: &TopicPartition, broker_id: i32, epoch: LeaderEpoch) {
        if let Some(Topic::Known { partitions, .. }) = self.topics.get_mut(&at.topic) {
            let known = partitions.entry(at.partition).or_insert((NOBODY, LeaderEpoch::UNKNOWN));
            if epoch > known.1 && broker_id != NOBODY {
                *known = (broker_id, epoch);
            }
        }
    }

    /// Takes over an answer.
    pub(super) fn absorb(&mut self, alias: &str, answer: MetadataResponse) {
        if !answer.brokers.is_empty() {
            let brokers = answer.brokers.iter().filter_map(|b| {
                let port = u16::try_from(b.port).ok()?;
                Some((b.node_id.0, Address { host: b.host.as_str().to_owned(), port }))
            });
            self.brokers = brokers.collect();
        }
        self.controller = Some(answer.controller_id.0).filter(|id| self.brokers.contains_key(id));
        for topic in answer.topics {
            if let Some(name) = topic.name.as_ref().map(|n| TopicName::from(n.as_str())) {
                let old = self.topics.remove(&name);
                self.topics.insert(name.clone(), merge(alias, &name, old, topic));
            }
        }
    }
}

fn merge(alias: &str, name: &TopicName, old: Option<Topic>, told: MetadataResponseTopic) -> Topic {
    let error = error_of(told.error_code, format!("cluster {alias}: topic {name}"));
    match (error, old) {
        // Passing trouble does not make the cluster forget a topic.
        (Some(error), Some(known @ Topic::Known { .. })) if error.is_retryable() => known,
        (Some(error), Some(Topic::Wanted)) if error.is_retryable() => Topic::Wanted,
        (Some(error), _) => Topic::Failed(error),
        (None, old) => {
            let id = TopicId::known(told.topic_id);
            // Terms compare only within one topic; without ids a topic may be another one under the same name.
            let before = match old {
                Some(Topic::Known { id: old_id, partitions }) if id.is_some() && old_id == id => partitions,
                _ => HashMap::new(),
            };
            let partitions = told.partitions.iter().map(|p| (p.partition_index, newest(&before, p))).collect();
            Topic::Known { id, partitions }
        }
    }
}

fn newest(before: &HashMap<i32, (i32, LeaderEpoch)>, told: &MetadataResponsePartition) -> (i32, LeaderEpoch) {
    let now = (told.leader_id.0, LeaderEpoch(told.leader_epoch));
    match before.get(&told.partition_index) {
        Some(old) if old.1 > now.1 => *old,
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, TopicName as WireName};
    use kafka_protocol::protocol::StrBytes;
    use uuid::Uuid;

    fn answer(id: u128, error: i16, leader: i32, epoch: i32) -> MetadataResponse {
        let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(WireName(StrBytes::from_static_str("orders"))))
            .with_topic_id(Uuid::from_u128(id))
            .with_error_code(error)
            .with_partitions(if error == 0 { vec![partition] } else { vec![] });
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_port(9092);
        MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic])
    }

    fn at() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn leader(cache: &Metadata) -> Option<(i32, i32)> {
        cache.leader(&at()).map(|l| (l.broker_id, l.epoch.0))
    }

    #[test]
    fn a_lagging_broker_does_not_bring_an_old_leader_back() {
        let mut cache = Metadata::default();
        cache.absorb("a", answer(7, 0, 2, 5));
        cache.absorb("a", answer(7, 0, 1, 4));
        assert_eq!(leader(&cache), Some((2, 5)));
        cache.hint(&at(), 3, LeaderEpoch(5));
        assert_eq!(leader(&cache), Some((2, 5)));
        cache.hint(&at(), 3, LeaderEpoch(6));
        assert_eq!(leader(&cache), Some((3, 6)));
    }

    #[test]
    fn a_recreated_topic_starts_its_terms_anew() {
        let mut cache = Metadata::default();
        cache.absorb("a", answer(7, 0, 2, 5));
        cache.absorb("a", answer(8, 0, 1, 0));
        assert_eq!(leader(&cache), Some((1, 0)));
        cache.absorb("a", answer(0, 0, 1, 9));
        cache.absorb("a", answer(0, 0, 2, 3));
        assert_eq!(leader(&cache), Some((2, 3)), "a zero id is unknown, never equal");
    }

    #[test]
    fn an_unknown_topic_is_said_and_not_asked_again_until_wanted() {
        let mut cache = Metadata::default();
        cache.want(&at().topic);
        assert_eq!(cache.wanted().len(), 1);
        cache.absorb("a", answer(0, 3, 0, 0));
        assert_eq!(leader(&cache), None);
        assert_eq!(cache.excuse("a", &at()).kind, ErrorKind::UnknownTopic);
        assert!(cache.wanted().is_empty());
        cache.want(&at().topic);
        assert_eq!(cache.wanted().len(), 1);
    }

    #[test]
    fn a_partition_without_a_leader_is_waited_for() {
        let mut cache = Metadata::default();
        cache.absorb("a", answer(7, 0, NOBODY, 3));
        assert_eq!(leader(&cache), None);
        assert_eq!(cache.excuse("a", &at()).kind, ErrorKind::Retryable);
        let beyond = TopicPartition::new("orders", 1);
        assert_eq!(cache.excuse("a", &beyond).kind, ErrorKind::UnknownTopic);
    }
}
