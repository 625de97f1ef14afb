//! Topics: what exists, with which settings, and the contracts that read and change that.

use std::collections::BTreeMap;

use async_trait::async_trait;
use uuid::Uuid;

use crate::endpoint::memory::log::{Limits, Log};
use crate::endpoint::memory::{Call, MemoryCluster, State, unknown};
use crate::endpoint::{
    Bounds, Catalog, ClusterInfo, ConfigChange, ConfigEntry, ConfigOrigin, EpochEnd, ErrorKind, PartitionInfo, Result,
    TopicAdmin, TopicInfo, TopicSpec,
};
use crate::model::{LeaderEpoch, Offset, ProducerIdentity, TopicId, TopicName, TopicPartition};

/// What Kafka's brokers say of the settings that matter here, unless a topic has its own.
const INHERITED: [(&str, &str); 5] = [
    ("cleanup.policy", "delete"),
    ("compression.type", "producer"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.type", "CreateTime"),
    ("retention.ms", "604800000"),
];

/// Kafka's default `producer.id.expiration.ms`: a day.
pub(super) const PRODUCER_EXPIRATION_MS: i64 = 86_400_000;

pub(super) struct Topic {
    pub id: TopicId,
    configs: BTreeMap<String, String>,
    pub partitions: Vec<Log>,
}

impl Topic {
    pub fn limits(&self) -> Limits {
        let effective = |name| self.effective(name).unwrap_or_default();
        Limits {
            batch_bytes: effective("max.message.bytes").parse().unwrap_or(usize::MAX),
            needs_keys: effective("cleanup.policy").contains("compact"),
        }
    }

    fn effective(&self, name: &str) -> Option<&str> {
        let inherited = || INHERITED.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        self.configs.get(name).map(String::as_str).or_else(inherited)
    }

    pub(super) fn entries(&self) -> BTreeMap<String, ConfigEntry> {
        let entry = |value: &str, origin| ConfigEntry { value: Some(value.into()), origin };
        let inherited = INHERITED.iter().map(|(name, value)| ((*name).into(), entry(value, ConfigOrigin::Inherited)));
        let own = self.configs.iter().map(|(name, value)| (name.clone(), entry(value, ConfigOrigin::Topic)));
        inherited.chain(own).collect()
    }

    fn resize(&mut self, partitions: i32) {
        self.partitions.resize_with(partitions as usize, Log::new);
    }
}

impl State {
    /// Creates a topic; `false` when there is one of that name.
    pub(super) fn create(&mut self, spec: &TopicSpec) -> bool {
        if self.topics.contains_key(&spec.name) {
            return false;
        }
        self.topics_created += 1;
        let id = TopicId::known(Uuid::from_u128(self.topics_created.into())).expect("the count of topics is not zero");
        let mut topic = Topic { id, configs: spec.configs.clone(), partitions: Vec::new() };
        topic.resize(spec.partitions);
        self.topics.insert(spec.name.clone(), topic);
        true
    }

    fn info(&self, name: &TopicName) -> Result<TopicInfo> {
        let topic = self.topic(name)?;
        let partition = |log: &Log| PartitionInfo { leader_epoch: log.leader_epoch(), replicas: 1 };
        Ok(TopicInfo {
            name: name.clone(),
            id: self.told_id(topic),
            internal: name.as_str() == "__consumer_offsets",
            partitions: topic.partitions.iter().map(partition).collect(),
        })
    }

    pub(super) fn told_id(&self, topic: &Topic) -> Option<TopicId> {
        (!self.tells_no_topic_ids).then_some(topic.id)
    }

    /// The topic with this id.
    pub(super) fn name_of(&self, id: TopicId) -> Option<TopicName> {
        let found = self.topics.iter().find(|(_, topic)| self.told_id(topic) == Some(id));
        found.map(|(name, _)| name.clone())
    }

    /// Whether the topic still is the one with this id, as far as both are known.
    pub(super) fn same_topic(&self, at: &TopicPartition, id: Option<TopicId>) -> Result<()> {
        self.log(at)?;
        let now = self.told_id(self.topic(&at.topic)?);
        match (id, now) {
            (Some(id), Some(now)) if id != now => Err(crate::endpoint::Error::new(
                ErrorKind::Recreated,
                format!("topic {} was created again: its id is {now}, not {id}", at.topic),
            )),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Catalog for MemoryCluster {
    async fn cluster(&self) -> Result<ClusterInfo> {
        self.enter(Call::Catalog).await?;
        Ok(ClusterInfo { id: self.shared.id.clone(), brokers: 1 })
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        self.enter(Call::Catalog).await?;
        let state = self.state();
        state.topics.keys().map(|name| state.info(name)).collect()
    }

    async fn describe_topics(&self, names: &[TopicName]) -> Vec<Result<TopicInfo>> {
        if let Err(error) = self.enter(Call::Catalog).await {
            return vec![Err(error); names.len()];
        }
        let state = self.state();
        names.iter().map(|name| state.info(name)).collect()
    }

    async fn topic_configs(&self, names: &[TopicName]) -> Vec<Result<BTreeMap<String, ConfigEntry>>> {
        if let Err(error) = self.enter(Call::Catalog).await {
            return vec![Err(error); names.len()];
        }
        let state = self.state();
        names.iter().map(|name| Ok(state.topic(name)?.entries())).collect()
    }

    async fn bounds(&self, of: &[TopicPartition]) -> Vec<Result<Bounds>> {
        if let Err(error) = self.enter(Call::Catalog).await {
            return vec![Err(error); of.len()];
        }
        let mut state = self.state();
        let bounds = |at| {
            state.faults.due_at(Call::Catalog, at)?;
            Ok(state.log(at)?.bounds())
        };
        of.iter().map(bounds).collect()
    }

    async fn high_watermarks(&self, of: &[TopicPartition]) -> Vec<Result<Offset>> {
        self.bounds(of).await.into_iter().map(|told| told.map(|bounds| bounds.high_watermark)).collect()
    }

    async fn log_starts(&self, of: &[TopicPartition]) -> Vec<Result<Offset>> {
        self.bounds(of).await.into_iter().map(|told| told.map(|bounds| bounds.log_start)).collect()
    }

    async fn offset_at_time(&self, of: &TopicPartition, timestamp_ms: i64) -> Result<Option<Offset>> {
        self.enter_at(Call::Catalog, of).await?;
        Ok(self.state().log(of)?.first_since(timestamp_ms))
    }

    async fn epoch_end(&self, of: &TopicPartition, epoch: LeaderEpoch) -> Result<EpochEnd> {
        self.enter_at(Call::Catalog, of).await?;
        Ok(self.state().log(of)?.epoch_end(epoch))
    }
}

impl MemoryCluster {
    fn create_one(&self, spec: &TopicSpec) -> Result<()> {
        if spec.partitions < 1 || spec.replication != 1 {
            let what = format!("topic {}: a cluster of one broker needs partitions and one replica", spec.name);
            return Err(self.error(ErrorKind::Refused, what));
        }
        match self.change(|s| s.create(spec)) {
            true => Ok(()),
            false => Err(self.error(ErrorKind::Refused, format!("topic {} exists already", spec.name))),
        }
    }
}

#[async_trait]
impl TopicAdmin for MemoryCluster {
    async fn create_topics(&self, specs: &[TopicSpec]) -> Vec<Result<()>> {
        let mut answers = Vec::new();
        for spec in specs {
            // A fault hits a single topic, as a refusal does.
            answers.push(self.enter(Call::Admin).await.and_then(|()| self.create_one(spec)));
        }
        answers
    }

    async fn grow_topic(&self, name: &TopicName, partitions: i32) -> Result<()> {
        self.enter(Call::Admin).await?;
        self.change(|s| {
            let topic = s.topic_mut(name)?;
            if partitions <= topic.partitions.len() as i32 {
                let what = format!("topic {name} has {} partitions already", topic.partitions.len());
                return Err(self.error(ErrorKind::Refused, what));
            }
            topic.resize(partitions);
            Ok(())
        })
    }

    async fn change_configs(&self, name: &TopicName, changes: &[ConfigChange]) -> Result<()> {
        self.enter(Call::Admin).await?;
        self.change(|s| {
            let topic = s.topics.get_mut(name).ok_or_else(|| unknown(name))?;
            for change in changes {
                match change {
                    ConfigChange::Set(key, value) => drop(topic.configs.insert(key.clone(), value.clone())),
                    ConfigChange::Unset(key) => drop(topic.configs.remove(key)),
                }
            }
            Ok(())
        })
    }

    async fn allocate_producer_id(&self) -> Result<ProducerIdentity> {
        self.enter(Call::Admin).await?;
        Ok(self.change(State::next_producer))
    }

    async fn producer_expiration_ms(&self) -> Result<i64> {
        self.enter(Call::Admin).await?;
        Ok(PRODUCER_EXPIRATION_MS)
    }
}
