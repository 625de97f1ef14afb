//! Topics, their configs and their replicas.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, ElectLeadersRequest, IncrementalAlterConfigsRequest,
};

use super::{Client, Result, accepted, name_of, text};

/// Resource type of a topic in config requests.
const TOPIC: i8 = 2;
/// Resource type of a broker in config requests.
const BROKER: i8 = 4;

/// Which leader an election may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Election {
    /// The first replica of the assignment.
    Preferred = 0,
    /// Any live replica, even one that was not in sync: acknowledged records can vanish.
    Unclean = 1,
}

impl Client {
    /// Creates a topic with the cluster's own replication factor and waits until every partition has a leader.
    pub fn create_topic(&self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        self.create_topics(&[name.to_owned()], partitions, configs)
    }

    /// Creates topics that are alike, in one request.
    pub fn create_topics(&self, names: &[String], partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let config = |(key, value): &(&str, &str)| {
            CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
        };
        let topic = |name: &String| {
            CreatableTopic::default()
                .with_name(name_of(name))
                .with_num_partitions(partitions)
                .with_replication_factor(-1)
                .with_configs(configs.iter().map(config).collect())
        };
        let request =
            CreateTopicsRequest::default().with_topics(names.iter().map(topic).collect()).with_timeout_ms(30_000);
        let mut tries = 0;
        self.again(|| {
            tries += 1;
            let answer = self.ask_any(&request, 7)?;
            for topic in &answer.topics {
                // 36: exists, from a try whose answer was lost.
                let code = if topic.error_code == 36 && tries > 1 { 0 } else { topic.error_code };
                let name = topic.name.as_str();
                accepted(code, format_args!("create {name}: {:?}", topic.error_message))?;
            }
            Ok(())
        })?;
        self.again(|| {
            let mut all = names.iter().flat_map(|name| (0..partitions).map(move |p| (name, p)));
            all.try_for_each(|(name, partition)| self.bounds(name, partition).map(drop))
        })
    }

    /// Deletes a topic and waits until metadata no longer has it.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        self.delete_topics(&[name.to_owned()])
    }

    /// Deletes topics in one request and waits until metadata no longer has them.
    pub fn delete_topics(&self, names: &[String]) -> Result<()> {
        let topic = |name: &String| DeleteTopicState::default().with_name(Some(name_of(name)));
        let topics = names.iter().map(topic).collect();
        let request = DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
        let answer = self.ask_controller(&request, 6)?;
        for topic in &answer.responses {
            let name = topic.name.as_ref().map_or("", |name| name.as_str());
            accepted(topic.error_code, format_args!("delete {name}"))?;
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.again(|| {
            let left = self.metadata(Some(&names))?.topics.into_iter().find(|t| t.error_code != 3);
            let name = left.as_ref().and_then(|t| t.name.as_ref()).map_or("", |name| name.as_str());
            accepted(if left.is_none() { 0 } else { 5 }, format_args!("{name} is still there"))
        })
    }

    /// Grows a topic to `count` partitions.
    pub fn create_partitions(&self, name: &str, count: i32) -> Result<()> {
        let topic = CreatePartitionsTopic::default().with_name(name_of(name)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
        let answer = self.ask_controller(&request, 3)?;
        answer.results.iter().try_for_each(|t| accepted(t.error_code, format_args!("grow {name}")))?;
        self.again(|| (0..count).try_for_each(|p| self.bounds(name, p).map(drop)))
    }

    /// How many partitions a topic has; 0 when there is none of that name.
    pub fn partitions(&self, name: &str) -> Result<i32> {
        let answer = self.metadata(Some(&[name]))?;
        Ok(answer.topics.iter().map(|t| t.partitions.len() as i32).sum())
    }

    /// Sets (or with `None` removes) configs of a topic.
    pub fn alter_topic(&self, name: &str, configs: &[(&str, Option<&str>)]) -> Result<()> {
        self.alter(TOPIC, name, configs)
    }

    /// Sets (or with `None` removes) dynamic configs of every broker.
    pub fn alter_brokers(&self, configs: &[(&str, Option<&str>)]) -> Result<()> {
        self.alter(BROKER, "", configs)
    }

    fn alter(&self, kind: i8, name: &str, configs: &[(&str, Option<&str>)]) -> Result<()> {
        let config = |(key, value): &(&str, Option<&str>)| {
            AlterableConfig::default()
                .with_name(text(key))
                .with_config_operation(if value.is_some() { 0 } else { 1 })
                .with_value(value.map(text))
        };
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configs(configs.iter().map(config).collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.ask_controller(&request, 1)?;
        answer.responses.iter().try_for_each(|r| accepted(r.error_code, format_args!("{name}: {:?}", r.error_message)))
    }

    /// A topic's configs: name to (value, where it comes from: 1 = set on the topic, 5 = default).
    pub fn topic_configs(&self, name: &str) -> Result<BTreeMap<String, (Option<String>, i8)>> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        self.again(|| {
            let answer = self.ask_any(&request, 4)?;
            let mut configs = BTreeMap::new();
            for result in answer.results {
                accepted(result.error_code, format_args!("configs of {name}"))?;
                for config in result.configs {
                    let value = config.value.map(|v| v.to_string());
                    configs.insert(config.name.to_string(), (value, config.config_source));
                }
            }
            Ok(configs)
        })
    }

    /// Elects the leader of a partition.
    pub fn elect(&self, topic: &str, partition: i32, election: Election) -> Result<()> {
        let which = TopicPartitions::default().with_topic(name_of(topic)).with_partitions(vec![partition]);
        let request = ElectLeadersRequest::default()
            .with_election_type(election as i8)
            .with_topic_partitions(Some(vec![which]))
            .with_timeout_ms(30_000);
        let answer = self.ask_controller(&request, 2)?;
        accepted(answer.error_code, "election")?;
        self.forget_leader(topic, partition);
        let mut results = answer.replica_election_results.iter().flat_map(|t| &t.partition_result);
        // 84: it leads already.
        let done = |code: i16| if code == 84 { 0 } else { code };
        results.try_for_each(|p| accepted(done(p.error_code), format_args!("election of {topic}/{partition}")))
    }

    /// Gives a partition these replicas, the first as preferred leader; returns once begun, not done.
    pub fn reassign(&self, topic: &str, partition: i32, replicas: &[i32]) -> Result<()> {
        let replicas = replicas.iter().map(|r| (*r).into()).collect();
        let which = ReassignablePartition::default().with_partition_index(partition).with_replicas(Some(replicas));
        let which = ReassignableTopic::default().with_name(name_of(topic)).with_partitions(vec![which]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![which]).with_timeout_ms(30_000);
        let answer = self.ask_controller(&request, 0)?;
        accepted(answer.error_code, "reassignment")?;
        let mut results = answer.responses.iter().flat_map(|t| &t.partitions);
        results.try_for_each(|p| accepted(p.error_code, format_args!("reassignment of {topic}/{partition}")))
    }
}
