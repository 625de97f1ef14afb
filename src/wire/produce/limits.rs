//! How large a batch each target topic accepts, asked once per topic and kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;

use crate::model::TopicName;
use crate::wire::Connection;

const TOPIC: i8 = 2;
/// A batch above the first is answered MESSAGE_TOO_LARGE, above the second RECORD_LIST_TOO_LARGE.
const KEYS: [&str; 2] = ["max.message.bytes", "segment.bytes"];
/// A raised limit is noticed after this; a lowered one at the first refusal.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// Known limits by topic.
#[derive(Debug, Default)]
pub(super) struct TopicLimits {
    topics: Mutex<HashMap<TopicName, Arc<tokio::sync::Mutex<Option<Known>>>>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: Option<usize>,
    since: Instant,
}

impl TopicLimits {
    /// Bytes of the largest batch the topic accepts; `None` when it cannot be learnt (DescribeConfigs not allowed or not
    /// spoken), so that only the broker's refusal tells. Concurrent callers share one question.
    pub async fn get(&self, connection: &Connection, topic: &TopicName, timeout: Duration) -> Option<usize> {
        let slot = self.slot(topic);
        let mut known = slot.lock().await;
        match *known {
            Some(Known { bytes, since }) if since.elapsed() < KEPT_FOR => bytes,
            _ => {
                let bytes = ask(connection, topic, timeout).await;
                *known = Some(Known { bytes, since: Instant::now() });
                bytes
            }
        }
    }

    /// The broker refused a batch for its size: what is known is wrong.
    pub fn forget(&self, topic: &TopicName) {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    fn slot(&self, topic: &TopicName) -> Arc<tokio::sync::Mutex<Option<Known>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).entry(topic.clone()).or_default().clone()
    }
}

async fn ask(connection: &Connection, topic: &TopicName, timeout: Duration) -> Option<usize> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(topic.to_string()))
        .with_configuration_keys(Some(KEYS.map(StrBytes::from_static_str).to_vec()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let response = connection.start(request, timeout).await.ok()?;
    let result = response.results.into_iter().next().filter(|result| result.error_code == 0)?;
    result
        .configs
        .iter()
        .filter(|config| KEYS.contains(&&*config.name))
        .filter_map(|c| c.value.as_ref()?.parse().ok())
        .min()
}
