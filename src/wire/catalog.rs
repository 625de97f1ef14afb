//! The catalog contract: topics, their settings and their ends, read in bulk.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use futures::future::join_all;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, DescribeConfigsRequest, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest,
    TopicName as WireName,
};
use kafka_protocol::protocol::StrBytes;

use crate::endpoint::{
    Bounds, Catalog, ClusterInfo, ConfigEntry, ConfigOrigin, EpochEnd, Error, ErrorKind, PartitionInfo, Result,
    TopicInfo,
};
use crate::model::{ClusterId, LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;
use crate::wire::ends::{self, Question};
use crate::wire::fault::{error_needing, error_of, in_their_words};
use crate::wire::metadata::Leader;

/// Topics whose settings are asked for in one request: some 3 KB each in the answer.
const CONFIGS_AT_ONCE: usize = 500;
/// A topic among the kinds of things that have settings.
const TOPIC: i8 = 2;
/// The source of a setting that stands on the topic itself.
const SET_ON_TOPIC: i8 = 1;

#[async_trait]
impl Catalog for Cluster {
    async fn cluster(&self) -> Result<ClusterInfo> {
        let answer = metadata(self, Some(&[])).await?;
        let unnamed = || Error::new(ErrorKind::Unsupported, format!("cluster {}: it has no cluster.id", self.alias()));
        let id = answer.cluster_id.as_ref().map(|id| ClusterId::from(id.as_str())).ok_or_else(unnamed)?;
        Ok(ClusterInfo { id, brokers: answer.brokers.len() })
    }

    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let answer = metadata(self, None).await?;
        // A topic in trouble, such as one just being created, is left out: absence from this list means nothing.
        Ok(answer.topics.into_iter().filter_map(|topic| info(self, topic).ok()).collect())
    }

    async fn describe_topics(&self, names: &[TopicName]) -> Vec<Result<TopicInfo>> {
        if names.is_empty() {
            return Vec::new();
        }
        let answer = match metadata(self, Some(names)).await {
            Ok(answer) => answer,
            Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
        };
        let told = answer.topics.into_iter().filter_map(|topic| Some((topic.name.as_ref()?.to_string(), topic)));
        let mut told: HashMap<_, _> = told.collect();
        let answers = names.iter().map(|name| match told.remove(name.as_str()) {
            Some(topic) => info(self, topic),
            None => Err(left_out(self, format_args!("topic {name}"))),
        });
        answers.collect()
    }

    async fn topic_configs(&self, names: &[TopicName]) -> Vec<Result<BTreeMap<String, ConfigEntry>>> {
        let asked = names.chunks(CONFIGS_AT_ONCE).map(|some| configs(self, some));
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn bounds(&self, of: &[TopicPartition]) -> Vec<Result<Bounds>> {
        // In this order each is at most the next, however the log grows meanwhile.
        let questions = [Question::LogStart, Question::LastStable, Question::HighWatermark];
        let told = ends::ask(self, of, &questions).await;
        let answers = of.iter().map(|at| match told.get(at) {
            Some(Ok(found)) => match found[..] {
                [log_start, last_stable, high_watermark] => Ok(Bounds {
                    log_start: log_start.offset,
                    last_stable: last_stable.offset,
                    high_watermark: high_watermark.offset,
                    leader_epoch: high_watermark.epoch,
                }),
                _ => Err(left_out(self, at)),
            },
            Some(Err(error)) => Err(error.clone()),
            None => Err(left_out(self, at)),
        });
        answers.collect()
    }

    async fn high_watermarks(&self, of: &[TopicPartition]) -> Vec<Result<Offset>> {
        one_end(self, of, Question::HighWatermark).await
    }

    async fn log_starts(&self, of: &[TopicPartition]) -> Vec<Result<Offset>> {
        one_end(self, of, Question::LogStart).await
    }

    async fn offset_at_time(&self, of: &TopicPartition, timestamp_ms: i64) -> Result<Option<Offset>> {
        if timestamp_ms < 0 {
            let why =
                format!("cluster {}: {of}: {timestamp_ms} ms is before 1970, where Kafka has no times", self.alias());
            return Err(Error::new(ErrorKind::Refused, why));
        }
        let mut told = ends::ask(self, std::slice::from_ref(of), &[Question::AtTime(timestamp_ms)]).await;
        let found = told.remove(of).unwrap_or_else(|| Err(left_out(self, of)))?;
        Ok(found.first().map(|f| f.offset).filter(|offset| offset.0 >= 0))
    }

    async fn epoch_end(&self, of: &TopicPartition, epoch: LeaderEpoch) -> Result<EpochEnd> {
        let leader = self.leader(of).await?;
        match epoch_end_at(self, of, leader, epoch).await {
            Err(error) if error.is_retryable() => {
                self.refresh().await?;
                epoch_end_at(self, of, self.leader(of).await?, epoch).await
            }
            answered => answered,
        }
    }
}

/// One end of each partition, in the same order.
async fn one_end(cluster: &Cluster, of: &[TopicPartition], question: Question) -> Vec<Result<Offset>> {
    let told = ends::ask(cluster, of, &[question]).await;
    let answers = of.iter().map(|at| match told.get(at) {
        Some(Ok(found)) => found.first().map(|f| f.offset).ok_or_else(|| left_out(cluster, at)),
        Some(Err(error)) => Err(error.clone()),
        None => Err(left_out(cluster, at)),
    });
    answers.collect()
}

/// Asks any broker for metadata; `None` = of all topics.
async fn metadata(cluster: &Cluster, names: Option<&[TopicName]>) -> Result<MetadataResponse> {
    let topics = names.map(|names| {
        let topics = names.iter().map(|name| MetadataRequestTopic::default().with_name(Some(wire_name(name))));
        topics.collect()
    });
    let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
    let connection = cluster.any().await?;
    let answer = connection.call(request).await?;
    match error_of(answer.error_code, connection.peer()) {
        Some(error) => Err(error),
        None => Ok(answer),
    }
}

fn info(cluster: &Cluster, told: MetadataResponseTopic) -> Result<TopicInfo> {
    let name = TopicName::from(told.name.as_ref().map_or("", |name| name.as_str()));
    let what = format!("cluster {}: topic {name}", cluster.alias());
    if let Some(error) = error_needing(format_args!("Describe on topic {name}"), told.error_code, &what) {
        return Err(error);
    }
    let mut partitions = told.partitions;
    partitions.sort_by_key(|p| p.partition_index);
    if partitions.iter().enumerate().any(|(index, p)| usize::try_from(p.partition_index) != Ok(index)) {
        return Err(Error::new(ErrorKind::Protocol, format!("{what}: its partition numbers have holes")));
    }
    let partitions = partitions
        .iter()
        .map(|p| PartitionInfo { leader_epoch: LeaderEpoch(p.leader_epoch), replicas: p.replica_nodes.len() })
        .collect();
    Ok(TopicInfo { name, id: TopicId::known(told.topic_id), internal: told.is_internal, partitions })
}

async fn configs(cluster: &Cluster, names: &[TopicName]) -> Vec<Result<BTreeMap<String, ConfigEntry>>> {
    let resources = names.iter().map(|name| {
        let name = StrBytes::from_string(name.as_str().to_owned());
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(name)
            .with_configuration_keys(None)
    });
    let request = DescribeConfigsRequest::default().with_resources(resources.collect());
    let answered = async { cluster.any().await?.call(request).await }.await;
    let results = match answered {
        Ok(answer) => answer.results,
        Err(error) => return names.iter().map(|_| Err(error.clone())).collect(),
    };
    let mut told: HashMap<_, _> = results.into_iter().map(|r| (r.resource_name.to_string(), r)).collect();
    let answers = names.iter().map(|name| match told.remove(name.as_str()) {
        Some(result) => settings(cluster, name, result),
        None => Err(left_out(cluster, format_args!("settings of topic {name}"))),
    });
    answers.collect()
}

fn settings(cluster: &Cluster, name: &TopicName, told: DescribeConfigsResult) -> Result<BTreeMap<String, ConfigEntry>> {
    let what = format!("cluster {}: settings of topic {name}", cluster.alias());
    let right = format!("DescribeConfigs on topic {name}");
    if let Some(error) = error_needing(right, told.error_code, what) {
        return Err(in_their_words(error, told.error_message.as_deref()));
    }
    let entries = told.configs.into_iter().map(|c| {
        let origin = if c.config_source == SET_ON_TOPIC { ConfigOrigin::Topic } else { ConfigOrigin::Inherited };
        let value = c.value.filter(|_| !c.is_sensitive).map(|value| value.to_string());
        (c.name.to_string(), ConfigEntry { value, origin })
    });
    Ok(entries.collect())
}

async fn epoch_end_at(cluster: &Cluster, of: &TopicPartition, leader: Leader, epoch: LeaderEpoch) -> Result<EpochEnd> {
    let partition = OffsetForLeaderPartition::default()
        .with_partition(of.partition)
        .with_current_leader_epoch(leader.epoch.0)
        .with_leader_epoch(epoch.0);
    let topic = OffsetForLeaderTopic::default().with_topic(wire_name(&of.topic)).with_partitions(vec![partition]);
    // As a consumer; version 3 on knows the field.
    let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    let answer = cluster.broker(leader.broker_id).await?.call(request).await?;
    let told = answer.topics.iter().flat_map(|t| &t.partitions).find(|p| p.partition == of.partition);
    let told = told.ok_or_else(|| left_out(cluster, of))?;
    let what = format!("cluster {}: {of}: end of leader epoch {epoch}", cluster.alias());
    match error_needing(format_args!("Describe on topic {}", of.topic), told.error_code, what) {
        // A broker speaks for itself only; metadata say whether the topic is gone.
        Some(error) if error.kind == ErrorKind::UnknownTopic => Err(Error::new(ErrorKind::Retryable, error.message)),
        Some(error) => Err(error),
        None => Ok(EpochEnd { epoch: LeaderEpoch(told.leader_epoch), end: Offset(told.end_offset.max(0)) }),
    }
}

fn left_out(cluster: &Cluster, what: impl std::fmt::Display) -> Error {
    let why = format!("cluster {}: {what}: the broker left it out of its answer", cluster.alias());
    Error::new(ErrorKind::Protocol, why)
}

fn wire_name(name: &TopicName) -> WireName {
    WireName(StrBytes::from_string(name.as_str().to_owned()))
}
