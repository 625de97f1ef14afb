//! The two topics of a link's ledger: how they must be set, and what is wrong with them.

use std::collections::BTreeMap;

use crate::endpoint::{ConfigEntry, LedgerTopic, MAX_LEDGER_VALUE_BYTES, MessageFormat, TopicSpec};
use crate::model::{LinkName, TopicName};

/// Settings given at creation beside those that [`verify`] insists on.
///
/// The active segment is never compacted, so segments are small and rolled often: what a start has to read stays near
/// what is live. Tombstones stay for an hour, longer than any reading takes.
const FOR_SPEED: [(&str, &str); 8] = [
    ("segment.bytes", "4194304"),
    ("segment.ms", "600000"),
    ("min.cleanable.dirty.ratio", "0.1"),
    ("min.compaction.lag.ms", "0"),
    ("max.compaction.lag.ms", "600000"),
    ("delete.retention.ms", "3600000"),
    ("compression.type", "producer"),
    ("message.timestamp.type", "CreateTime"),
];

/// Both topics as they are to be created: one partition, compacted, one replica fewer than `replication` required to be
/// in sync where there are at least three. The caller caps `replication` by the brokers.
pub fn specs(link: &LinkName, replication: i16) -> Vec<TopicSpec> {
    let required = [
        ("cleanup.policy", "compact".to_owned()),
        ("max.message.bytes", max_message_bytes().to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("min.insync.replicas", if replication >= 3 { "2" } else { "1" }.to_owned()),
    ];
    let configs: BTreeMap<String, String> = required
        .into_iter()
        .chain(FOR_SPEED.map(|(key, value)| (key, value.to_owned())))
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    let spec =
        |topic: LedgerTopic| TopicSpec { name: topic.name(link), partitions: 1, replication, configs: configs.clone() };
    vec![spec(LedgerTopic::Control), spec(LedgerTopic::Map)]
}

/// What of the effective settings would make the topic forget or refuse: one sentence per setting, naming topic, key,
/// value and the way out. Empty = fit for use. Settings that only make reading slow are nobody's fault.
pub fn verify(topic: &TopicName, configs: &BTreeMap<String, ConfigEntry>) -> Vec<String> {
    let value = |key: &str| configs.get(key).and_then(|entry| entry.value.as_deref());
    let mut wrong = Vec::new();
    let mut complain = |key: &str, harm: &str, must: &str| {
        let is = value(key).unwrap_or("not told by the broker");
        wrong.push(format!("ledger topic {topic}: {key} is {is}, {harm}: set it to {must}"));
    };
    if value("cleanup.policy") != Some("compact") {
        complain("cleanup.policy", "which would delete the link's memory", "compact");
    }
    if value("max.message.bytes").and_then(|v| v.parse::<usize>().ok()).is_none_or(|v| v < max_message_bytes()) {
        complain(
            "max.message.bytes",
            "too little for the ledger's largest records",
            &format!("at least {}", max_message_bytes()),
        );
    }
    if MessageFormat::of(configs) < MessageFormat::V2 {
        complain(MessageFormat::SETTING, "a format without transactions", "0.11 or above");
    }
    if value("unclean.leader.election.enable") == Some("true") {
        complain("unclean.leader.election.enable", "which can lose acknowledged ledger records", "false");
    }
    wrong
}

/// Largest batch a store sends: one largest value with its framing.
fn max_message_bytes() -> usize {
    MAX_LEDGER_VALUE_BYTES + 128 * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::ConfigOrigin;

    fn effective(configs: &BTreeMap<String, String>) -> BTreeMap<String, ConfigEntry> {
        let entry = |value: &String| ConfigEntry { value: Some(value.clone()), origin: ConfigOrigin::Topic };
        configs.iter().map(|(key, value)| (key.clone(), entry(value))).collect()
    }

    #[test]
    fn what_is_created_is_fit_for_use() {
        for spec in specs(&"dr".into(), 3) {
            assert_eq!(verify(&spec.name, &effective(&spec.configs)), [""; 0]);
            assert_eq!(spec.partitions, 1);
        }
        let names: Vec<_> = specs(&"dr".into(), 1).into_iter().map(|spec| spec.name.to_string()).collect();
        assert_eq!(names, ["__twinlog.dr.control", "__twinlog.dr.map"]);
    }

    #[test]
    fn a_setting_that_would_forget_or_refuse_is_named_with_topic_and_remedy() {
        for (key, bad) in [
            ("cleanup.policy", "compact,delete"),
            ("max.message.bytes", "1048588"),
            ("unclean.leader.election.enable", "true"),
            ("message.format.version", "0.10.2-IV0"),
        ] {
            let mut spec = specs(&"dr".into(), 3).remove(0);
            spec.configs.insert(key.to_owned(), bad.to_owned());
            let wrong = verify(&spec.name, &effective(&spec.configs));
            let [sentence] = &wrong[..] else { panic!("{key}: {wrong:?}") };
            for part in ["__twinlog.dr.control", key, bad] {
                assert!(sentence.contains(part), "{sentence}");
            }
        }
    }
}
