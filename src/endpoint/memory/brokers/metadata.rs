//! What there is and who leads it; settings; topics and producer ids made.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    InitProducerIdResponse, MetadataRequest, MetadataResponse, ProducerId,
};
use uuid::Uuid;

use crate::endpoint::memory::State;
use crate::endpoint::memory::brokers::{Asked, Shared, code, text, wire_name};
use crate::endpoint::memory::topics::PRODUCER_EXPIRATION_MS;
use crate::endpoint::{ConfigEntry, ConfigOrigin, TopicSpec};
use crate::model::{TopicName, TopicPartition};

const TOPIC: i8 = 2;
/// Where a setting comes from, as DescribeConfigs numbers it.
const SET_ON_TOPIC: i8 = 1;
const BUILT_IN: i8 = 5;

impl Shared {
    pub(super) fn metadata(&self, asked: &Asked, request: MetadataRequest) -> MetadataResponse {
        let brokers = self.node_ids().filter(|node| self.is_up(*node)).map(|node| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(node))
                .with_host(text("127.0.0.1"))
                .with_port(self.nodes[node as usize - 1].port.into())
        });
        let state = self.cluster.state();
        let names: Vec<TopicName> = match request.topics {
            None => state.topics.keys().cloned().collect(),
            Some(topics) => topics.iter().filter_map(|t| Some(t.name.as_ref()?.as_str().into())).collect(),
        };
        let topics = names.iter().map(|name| self.topic(asked, &state, name));
        MetadataResponse::default()
            .with_throttle_time_ms(asked.throttle_ms())
            .with_cluster_id(Some(text(self.cluster.shared.id.as_str())))
            .with_brokers(brokers.collect())
            .with_controller_id(BrokerId(asked.node))
            .with_topics(topics.collect())
    }

    fn topic(&self, asked: &Asked, state: &State, name: &TopicName) -> MetadataResponseTopic {
        let told = MetadataResponseTopic::default().with_name(Some(wire_name(name)));
        let (Ok(topic), None) = (state.topic(name), asked.refusal) else {
            return told.with_error_code(asked.refusal.unwrap_or(code::UNKNOWN_TOPIC_OR_PARTITION));
        };
        let everybody: Vec<_> = self.node_ids().map(BrokerId).collect();
        let partitions = (0..).zip(&topic.partitions).map(|(partition, log)| {
            let at = TopicPartition { topic: name.clone(), partition };
            MetadataResponsePartition::default()
                .with_partition_index(partition)
                .with_leader_id(BrokerId(self.leader(&at, log)))
                .with_leader_epoch(log.leader_epoch().0)
                .with_replica_nodes(everybody.clone())
                .with_isr_nodes(everybody.clone())
        });
        told.with_topic_id(state.told_id(topic).map_or(Uuid::nil(), |id| id.uuid()))
            .with_partitions(partitions.collect())
    }

    pub(super) fn describe_configs(&self, asked: &Asked, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
        let state = self.cluster.state();
        let results = request.resources.into_iter().map(|resource| {
            let told = DescribeConfigsResult::default()
                .with_resource_type(resource.resource_type)
                .with_resource_name(resource.resource_name.clone());
            let entries = match resource.resource_type {
                TOPIC => state.topic(&resource.resource_name.as_str().into()).map(|topic| topic.entries()),
                _ => Ok(broker_entries()),
            };
            let (Ok(entries), None) = (entries, asked.refusal) else {
                return told.with_error_code(asked.refusal.unwrap_or(code::UNKNOWN_TOPIC_OR_PARTITION));
            };
            let wanted = |name: &str| {
                resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name))
            };
            let configs = entries.into_iter().filter(|(name, _)| wanted(name)).map(|(name, entry)| {
                let source = if entry.origin == ConfigOrigin::Topic { SET_ON_TOPIC } else { BUILT_IN };
                DescribeConfigsResourceResult::default()
                    .with_name(text(&name))
                    .with_value(entry.value.as_deref().map(text))
                    .with_config_source(source)
            });
            told.with_configs(configs.collect())
        });
        DescribeConfigsResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_results(results.collect())
    }

    pub(super) fn create_topics(&self, asked: &Asked, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let topics = request.topics.into_iter().map(|topic| {
            let told = CreatableTopicResult::default().with_name(topic.name.clone());
            let configs =
                topic.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())));
            let spec = TopicSpec {
                name: topic.name.as_str().into(),
                partitions: topic.num_partitions,
                replication: topic.replication_factor,
                configs: configs.collect(),
            };
            let refusal = asked.refusal.or_else(|| {
                let is_new = self.cluster.change(|state| state.create(&spec));
                (!is_new).then_some(code::TOPIC_ALREADY_EXISTS)
            });
            told.with_error_code(refusal.unwrap_or(0))
        });
        let topics = topics.collect();
        CreateTopicsResponse::default().with_throttle_time_ms(asked.throttle_ms()).with_topics(topics)
    }

    pub(super) fn init_producer_id(&self, asked: &Asked) -> InitProducerIdResponse {
        let told = InitProducerIdResponse::default().with_throttle_time_ms(asked.throttle_ms());
        if let Some(code) = asked.refusal {
            return told.with_error_code(code).with_producer_id(ProducerId(-1)).with_producer_epoch(-1);
        }
        let given = self.cluster.change(State::next_producer);
        told.with_producer_id(ProducerId(given.id)).with_producer_epoch(given.epoch)
    }
}

fn broker_entries() -> BTreeMap<String, ConfigEntry> {
    let value = Some(PRODUCER_EXPIRATION_MS.to_string());
    [("producer.id.expiration.ms".to_owned(), ConfigEntry { value, origin: ConfigOrigin::Inherited })].into()
}
