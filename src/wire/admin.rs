//! The admin contract: topics created, grown and reconfigured at the controller; producer ids allocated.

use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, CreateTopicsResponse, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ProducerId, TopicName as WireName,
};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::time::sleep;

use crate::endpoint::{ConfigChange, Error, ErrorKind, Result, TopicAdmin, TopicSpec};
use crate::model::{ProducerIdentity, TopicName};
use crate::runtime::retry::Pace;
use crate::wire::brokers::Cluster;
use crate::wire::fault::{error_needing, in_their_words};

/// Topics created by one request. A broker that gets many new partitions at once serves no other meanwhile.
const CREATED_AT_ONCE: usize = 20;
/// Partitions created by one request, unless a single topic has more: a KRaft controller refuses an operation of more than
/// 10,000 records as a whole, one of which is each partition.
const PARTITIONS_AT_ONCE: usize = 2_000;
/// How long the controller may take to finish a change, and we wait for its word.
const CHANGE: Duration = Duration::from_secs(30);
/// A broker that is not ready is asked this often, with pauses, before the caller is told.
const TRIES: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const NOT_CONTROLLER: i16 = 41;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;
const PRODUCER_EXPIRATION: &str = "producer.id.expiration.ms";
/// What governs producer state on brokers before 3.4, which have no setting of its own.
const OLDER_EXPIRATION: &str = "transactional.id.expiration.ms";

#[async_trait]
impl TopicAdmin for Cluster {
    async fn create_topics(&self, specs: &[TopicSpec]) -> Vec<Result<()>> {
        let mut answers = Vec::with_capacity(specs.len());
        for specs in in_operations(specs) {
            answers.extend(create(self, specs).await);
        }
        answers
    }

    async fn grow_topic(&self, name: &TopicName, partitions: i32) -> Result<()> {
        let topic = CreatePartitionsTopic::default()
            .with_name(WireName(text(name.as_str())))
            .with_count(partitions)
            .with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(CHANGE.as_millis() as i32);
        let what = format!("grow topic {name} to {partitions} partitions");
        change(self, request, what, format!("Alter on topic {name}"), |answer| {
            answer.results.first().map(|t| (t.error_code, t.error_message.clone()))
        })
        .await
        .map(drop)
    }

    async fn change_configs(&self, name: &TopicName, changes: &[ConfigChange]) -> Result<()> {
        let configs = changes.iter().map(|change| {
            let (key, operation, value) = match change {
                ConfigChange::Set(key, value) => (key, SET, Some(text(value))),
                ConfigChange::Unset(key) => (key, DELETE, None),
            };
            AlterableConfig::default().with_name(text(key)).with_config_operation(operation).with_value(value)
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(name.as_str()))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let what = format!("change settings of topic {name}");
        change(self, request, what, format!("AlterConfigs on topic {name}"), |answer| {
            answer.responses.first().map(|r| (r.error_code, r.error_message.clone()))
        })
        .await
        .map(drop)
    }

    async fn allocate_producer_id(&self) -> Result<ProducerIdentity> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(CHANGE.as_millis() as i32)
            .with_producer_id(ProducerId(-1))
            .with_producer_epoch(-1);
        let right = "IdempotentWrite on the cluster, or Write on some topic,";
        let mut pace = Pace::new(FIRST_PAUSE, LONGEST_PAUSE);
        for last in (0..TRIES).map(|n| n + 1 == TRIES) {
            let connection = self.any().await?;
            let answer = connection.call(request.clone()).await?;
            let what = format!("{}: allocate a producer id", connection.peer());
            match error_needing(right, answer.error_code, &what) {
                // A broker that just started is still fetching its block of ids.
                Some(error) if error.is_retryable() && !last => sleep(pace.next_delay()).await,
                Some(error) => return Err(error),
                None if answer.producer_id.0 < 0 => {
                    let why = format!("{what}: the broker answers with {}", answer.producer_id.0);
                    return Err(Error::new(ErrorKind::Protocol, why));
                }
                None => return Ok(ProducerIdentity { id: answer.producer_id.0, epoch: answer.producer_epoch }),
            }
        }
        unreachable!("the last try returns")
    }

    async fn producer_expiration_ms(&self) -> Result<i64> {
        shortest_setting(self, &[PRODUCER_EXPIRATION, OLDER_EXPIRATION]).await
    }
}

/// The least value any broker has of a setting that is a number, under the first of these names that it knows: brokers
/// may differ, and any of them may come to lead.
pub(super) async fn shortest_setting(cluster: &Cluster, names: &[&'static str]) -> Result<i64> {
    let brokers = cluster.brokers().await?;
    let told = try_join_all(brokers.into_iter().map(|id| setting_at(cluster, id, names))).await?;
    let nobody = || Error::new(ErrorKind::Retryable, format!("cluster {}: it lists no broker", cluster.alias()));
    told.into_iter().min().ok_or_else(nobody)
}

/// Creates topics by one request.
async fn create(cluster: &Cluster, specs: &[TopicSpec]) -> Vec<Result<()>> {
    let topic = |spec: &TopicSpec| {
        let configs = spec
            .configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value))));
        CreatableTopic::default()
            .with_name(WireName(text(spec.name.as_str())))
            .with_num_partitions(spec.partitions)
            .with_replication_factor(spec.replication)
            .with_configs(configs.collect())
    };
    let topics = specs.iter().map(topic).collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(CHANGE.as_millis() as i32);
    // Only what concerns all of them alike; what became of each is read below.
    let misplaced = |answer: &CreateTopicsResponse| {
        let misplaced = answer.topics.iter().any(|t| t.error_code == NOT_CONTROLLER);
        Some((if misplaced { NOT_CONTROLLER } else { 0 }, None))
    };
    let attempted = match specs {
        [one] => format!("create topic {}", one.name),
        many => format!("create {} topics", many.len()),
    };
    let answer = match change(cluster, request, attempted, "Create".into(), misplaced).await {
        Ok(answer) => answer,
        Err(error) => return vec![Err(error); specs.len()],
    };
    let outcome = |spec: &TopicSpec| {
        let what = format!("cluster {}: create topic {}", cluster.alias(), spec.name);
        let Some(answer) = answer.topics.iter().find(|topic| topic.name.as_str() == spec.name.as_str()) else {
            return Err(Error::new(ErrorKind::Protocol, format!("{what}: the broker left it out of its answer")));
        };
        match error_needing(format!("Create on topic {}", spec.name), answer.error_code, &what) {
            Some(error) => Err(in_their_words(error, answer.error_message.as_deref())),
            None => Ok(()),
        }
    };
    specs.iter().map(outcome).collect()
}

/// Asks the controller, and a new one while brokers point elsewhere.
async fn change<R: Request + Clone + 'static>(
    cluster: &Cluster,
    request: R,
    attempted: String,
    right: String,
    verdict: impl Fn(&R::Response) -> Option<(i16, Option<StrBytes>)>,
) -> Result<R::Response> {
    let mut pace = Pace::new(FIRST_PAUSE, LONGEST_PAUSE);
    let what = format!("cluster {}: {attempted}", cluster.alias());
    let mut tries = TRIES;
    loop {
        let connection = cluster.controller().await?;
        // Twice the time: the controller's own limit is to be heard before ours runs out.
        let answer = connection.start(request.clone(), CHANGE * 2).await?;
        let (code, words) = verdict(&answer)
            .ok_or_else(|| Error::new(ErrorKind::Protocol, format!("{what}: the broker left it out of its answer")))?;
        tries -= 1;
        match error_needing(&right, code, &what) {
            Some(_) if code == NOT_CONTROLLER && tries > 0 => {
                sleep(pace.next_delay()).await;
                cluster.refresh().await?;
            }
            Some(error) => return Err(in_their_words(error, words.as_deref())),
            None => return Ok(answer),
        }
    }
}

async fn setting_at(cluster: &Cluster, broker: i32, names: &[&'static str]) -> Result<i64> {
    let keys = names.iter().map(|name| StrBytes::from_static_str(name)).collect();
    let resource = DescribeConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(text(&broker.to_string()))
        .with_configuration_keys(Some(keys));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    // A broker's own settings are answered by that broker only.
    let connection = cluster.broker(broker).await?;
    let answer = connection.call(request).await?;
    let what = format!("{}: read {}", connection.peer(), names[0]);
    let unsaid = || Error::new(ErrorKind::Unsupported, format!("{what}: the broker does not tell it"));
    let result = answer.results.first().ok_or_else(unsaid)?;
    if let Some(error) = error_needing("DescribeConfigs on the cluster", result.error_code, &what) {
        return Err(in_their_words(error, result.error_message.as_deref()));
    }
    let value = |name: &str| {
        let entry = result.configs.iter().find(|c| c.name.as_str() == name)?;
        entry.value.as_ref()?.parse().ok()
    };
    names.iter().find_map(|name| value(name)).ok_or_else(unsaid)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// The specs in order, cut into requests.
fn in_operations(mut specs: &[TopicSpec]) -> impl Iterator<Item = &[TopicSpec]> {
    std::iter::from_fn(move || {
        let mut partitions = 0;
        let fits = |spec: &&TopicSpec| {
            partitions += usize::try_from(spec.partitions).unwrap_or(0);
            partitions <= PARTITIONS_AT_ONCE
        };
        let fitting = specs.iter().take(CREATED_AT_ONCE).take_while(fits).count();
        let (now, rest) = specs.split_at(fitting.max(1).min(specs.len()));
        specs = rest;
        (!now.is_empty()).then_some(now)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn topics_are_created_in_operations_that_a_controller_takes() {
        let spec =
            |partitions| TopicSpec { name: "orders".into(), partitions, replication: 1, configs: BTreeMap::new() };
        let cut = |partitions: &[i32]| {
            let specs: Vec<TopicSpec> = partitions.iter().map(|count| spec(*count)).collect();
            in_operations(&specs).map(<[TopicSpec]>::len).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[]), [0; 0]);
        assert_eq!(cut(&[1; 45]), [20, 20, 5]);
        assert_eq!(cut(&[1_000; 5]), [2, 2, 1]);
        assert_eq!(cut(&[9_000, 1, 1, 2_000, 1]), [1, 2, 1, 1]);
    }
}
