//! Which settings a target topic gets, and the smallest change that makes it so.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::endpoint::{ConfigChange, ConfigEntry, ConfigOrigin};
use crate::policy::selection::Patterns;

/// Settings of every topic, by name.
pub type Configs = BTreeMap<String, ConfigEntry>;

/// How long the target keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retention {
    /// As the source.
    #[default]
    Same,
    /// As the source, but never shorter than this.
    AtLeast(Duration),
}

/// Never copied: they describe the source's brokers or replicas, or would endanger the copy.
const NEVER_COPIED: [&str; 9] = [
    "leader.replication.throttled.replicas",
    "follower.replication.throttled.replicas",
    "unclean.leader.election.enable",
    "remote.storage.enable",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "local.retention.ms",
    "local.retention.bytes",
    "message.format.version",
];

/// Decide how long a record can be read. Their values in force travel, wherever the source has them from: by another
/// default of its own brokers the target would delete what the source still has. All other settings that the source
/// inherits are inherited on the target too.
const LIFETIME: [&str; 5] =
    ["cleanup.policy", "retention.ms", "retention.bytes", "delete.retention.ms", "min.compaction.lag.ms"];

/// Overridden on the target while mirrored, so that it stores what it is sent (facts/raw-batches §4.1).
const OVERRIDDEN: [(&str, &str); 5] = [
    ("message.timestamp.type", "CreateTime"),
    ("message.timestamp.before.max.ms", MAX_LONG),
    ("message.timestamp.after.max.ms", MAX_LONG),
    ("message.timestamp.difference.max.ms", MAX_LONG),
    ("compression.type", "producer"),
];
const MAX_LONG: &str = "9223372036854775807";

/// What the target topic should have of its own, and what it should have once handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Settings while mirrored.
    pub now: BTreeMap<String, String>,
    /// The source's own values of overridden settings, to be restored at hand-over.
    pub after_hand_over: BTreeMap<String, String>,
}

/// The settings a target topic should have. `known` are the settings the target's brokers know: others are left out
/// (4.0 no longer has what 3.9 had, and has what 2.8 had not). `replication` is the target's replication factor,
/// `target_max_message_bytes` the limit the target topic has or would inherit (`None` when unknown).
pub fn wanted(
    source: &Configs,
    known: impl Fn(&str) -> bool,
    retention: Retention,
    replication: i16,
    target_max_message_bytes: Option<i64>,
) -> Wanted {
    let own = |name: &str| source.get(name).filter(|e| e.origin == ConfigOrigin::Topic).and_then(|e| e.value.clone());
    let effective = |name: &str| source.get(name).and_then(|e| e.value.clone());
    let mut now: BTreeMap<String, String> = source
        .keys()
        .filter(|name| !NEVER_COPIED.contains(&name.as_str()))
        .filter_map(|name| Some((name.clone(), own(name)?)))
        .chain(LIFETIME.iter().filter_map(|name| Some(((*name).to_owned(), effective(name)?))))
        .collect();
    let mut after_hand_over = BTreeMap::new();
    for (name, value) in OVERRIDDEN {
        if let Some(value) = now.remove(name) {
            after_hand_over.insert(name.to_owned(), value);
        }
        now.insert(name.to_owned(), value.to_owned());
    }
    // Never lowered: a source whose limit was lowered later may hold larger batches that are yet to be copied.
    now.remove("max.message.bytes");
    if let Some(limit) = effective("max.message.bytes").and_then(|v| v.parse::<i64>().ok())
        && target_max_message_bytes.is_none_or(|target| target < limit)
    {
        now.insert("max.message.bytes".into(), limit.to_string());
    }
    if let Some(wanted) = own("min.insync.replicas").and_then(|v| v.parse::<i16>().ok())
        && wanted > replication
    {
        now.insert("min.insync.replicas".into(), replication.to_string());
        after_hand_over.insert("min.insync.replicas".into(), wanted.to_string());
    }
    if let Retention::AtLeast(least) = retention {
        let least_ms = i64::try_from(least.as_millis()).unwrap_or(i64::MAX);
        let source_ms = effective("retention.ms").and_then(|v| v.parse::<i64>().ok()).unwrap_or(0);
        if source_ms >= 0 && source_ms < least_ms {
            now.insert("retention.ms".into(), least_ms.to_string());
        }
        // A size bound could still delete earlier.
        if now.contains_key("retention.bytes") {
            now.insert("retention.bytes".into(), "-1".into());
        }
    }
    now.retain(|name, _| known(name));
    Wanted { now, after_hand_over }
}

/// What is left to manage when an operator leaves settings to the target. What the copy depends on is always managed.
pub fn managed(configs: &Configs, left_alone: &Patterns) -> Configs {
    let needed = |name: &str| name == "max.message.bytes" || OVERRIDDEN.iter().any(|(own, _)| *own == name);
    let kept = configs.iter().filter(|(name, _)| needed(name) || !left_alone.match_name(name));
    kept.map(|(name, entry)| (name.clone(), entry.clone())).collect()
}

/// Whether a topic stores the times it is sent, not those of its brokers.
pub fn keeps_times(target: &Configs) -> bool {
    target.get("message.timestamp.type").and_then(|e| e.value.as_deref()) == Some("CreateTime")
}

/// The changes that turn the target's own settings into `wanted`. Settings Twinlog does not manage (never-copied ones) are
/// left as they are; own settings of the target that the source does not have fall back to inherited.
pub fn changes(wanted: &BTreeMap<String, String>, target: &Configs) -> Vec<ConfigChange> {
    let set = wanted.iter().filter_map(|(name, value)| {
        let entry = target.get(name)?;
        (entry.value.as_ref() != Some(value)).then(|| ConfigChange::Set(name.clone(), value.clone()))
    });
    let unset = target
        .iter()
        .filter(|(name, entry)| {
            entry.origin == ConfigOrigin::Topic
                && !wanted.contains_key(*name)
                && !NEVER_COPIED.contains(&name.as_str())
                && name.as_str() != "max.message.bytes"
        })
        .map(|(name, _)| ConfigChange::Unset(name.clone()));
    set.chain(unset).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(entries: &[(&str, &str, ConfigOrigin)]) -> Configs {
        entries
            .iter()
            .map(|(n, v, o)| (n.to_string(), ConfigEntry { value: Some(v.to_string()), origin: *o }))
            .collect()
    }
    use ConfigOrigin::{Inherited, Topic};

    /// A target that knows what the source knows.
    fn of(source: &Configs) -> impl Fn(&str) -> bool + '_ {
        |name| source.contains_key(name)
    }

    #[test]
    fn what_is_left_to_the_target_is_neither_set_nor_unset_but_what_the_copy_needs_is() {
        let left_alone = Patterns::new(&["retention\\..*".into(), "compression.type".into()]).unwrap();
        let source = configs(&[("retention.ms", "7", Topic), ("segment.ms", "5", Topic)]);
        let target =
            [("retention.ms", "9", Topic), ("retention.bytes", "1", Topic), ("compression.type", "lz4", Topic)];
        let target = configs(&target.into_iter().chain([("segment.ms", "1", Inherited)]).collect::<Vec<_>>());
        let (ours, theirs) = (managed(&source, &left_alone), managed(&target, &left_alone));
        let want = wanted(&ours, of(&theirs), Retention::Same, 1, None);
        let set = |name: &str, value: &str| ConfigChange::Set(name.into(), value.into());
        assert_eq!(changes(&want.now, &theirs), [set("compression.type", "producer"), set("segment.ms", "5")]);
    }

    #[test]
    fn what_the_targets_brokers_do_not_know_is_left_out_and_what_only_they_know_is_overridden() {
        let old = configs(&[("message.timestamp.difference.max.ms", "5", Topic), ("segment.ms", "7", Topic)]);
        let known = |name: &str| matches!(name, "segment.ms" | "message.timestamp.after.max.ms");
        let expected = [("message.timestamp.after.max.ms", MAX_LONG), ("segment.ms", "7")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(wanted(&old, known, Retention::Same, 1, None).now, BTreeMap::from(expected));
    }

    #[test]
    fn only_the_topics_own_settings_travel() {
        let source = configs(&[("cleanup.policy", "compact", Topic), ("segment.bytes", "1000", Inherited)]);
        let w = wanted(&source, of(&source), Retention::Same, 3, None);
        assert_eq!(w.now, BTreeMap::from([("cleanup.policy".into(), "compact".into())]));
    }

    #[test]
    fn what_decides_how_long_records_live_travels_also_when_the_source_inherits_it() {
        let source = configs(&[("retention.ms", "500", Inherited), ("segment.ms", "7", Inherited)]);
        let w = wanted(&source, of(&source), Retention::Same, 3, None);
        assert_eq!(w.now, BTreeMap::from([("retention.ms".into(), "500".into())]));
        let at_least = wanted(&source, of(&source), Retention::AtLeast(Duration::from_millis(400)), 3, None);
        assert_eq!(at_least.now["retention.ms"], "500", "the target's own default could be shorter");
    }

    #[test]
    fn what_would_change_records_is_overridden_and_kept_for_hand_over() {
        let source = configs(&[
            ("compression.type", "zstd", Topic),
            ("message.timestamp.type", "LogAppendTime", Topic),
            ("message.timestamp.after.max.ms", "3600000", Inherited),
            ("unclean.leader.election.enable", "true", Topic),
        ]);
        let w = wanted(&source, of(&source), Retention::Same, 3, None);
        assert_eq!(w.now["compression.type"], "producer");
        assert_eq!(w.now["message.timestamp.type"], "CreateTime");
        assert_eq!(w.now["message.timestamp.after.max.ms"], MAX_LONG);
        assert!(!w.now.contains_key("unclean.leader.election.enable"));
        assert_eq!(w.after_hand_over["compression.type"], "zstd");
        assert_eq!(w.after_hand_over["message.timestamp.type"], "LogAppendTime");
    }

    #[test]
    fn message_size_is_raised_to_the_sources_and_never_lowered() {
        for origin in [Inherited, Topic] {
            let source = configs(&[("max.message.bytes", "2000000", origin)]);
            let limit = |target| {
                let now = wanted(&source, of(&source), Retention::Same, 1, target).now;
                now.get("max.message.bytes").cloned()
            };
            assert_eq!(limit(Some(1_048_588)).as_deref(), Some("2000000"));
            assert_eq!(limit(None).as_deref(), Some("2000000"));
            assert_eq!(limit(Some(3_000_000)), None);
        }
    }

    #[test]
    fn min_isr_never_exceeds_the_replicas_there_are() {
        let source = configs(&[("min.insync.replicas", "2", Topic)]);
        let w = wanted(&source, of(&source), Retention::Same, 1, None);
        assert_eq!(
            (w.now["min.insync.replicas"].as_str(), w.after_hand_over["min.insync.replicas"].as_str()),
            ("1", "2")
        );
    }

    #[test]
    fn retention_can_be_longer_but_never_shorter() {
        let at_least = Retention::AtLeast(Duration::from_secs(86_400));
        let short = configs(&[("retention.ms", "1000", Topic), ("retention.bytes", "5", Topic)]);
        let w = wanted(&short, of(&short), at_least, 1, None);
        assert_eq!((w.now["retention.ms"].as_str(), w.now["retention.bytes"].as_str()), ("86400000", "-1"));
        for (value, expected) in [("-1", Some("-1")), ("99999999999", Some("99999999999"))] {
            let source = configs(&[("retention.ms", value, Topic)]);
            assert_eq!(
                wanted(&source, of(&source), at_least, 1, None).now.get("retention.ms").map(String::as_str),
                expected
            );
        }
    }

    #[test]
    fn the_diff_is_minimal_and_removes_what_the_source_no_longer_has() {
        let want = BTreeMap::from([("a".to_string(), "1".to_string()), ("b".to_string(), "2".to_string())]);
        let target = configs(&[
            ("a", "1", Topic),
            ("b", "9", Inherited),
            ("c", "3", Topic),
            ("remote.storage.enable", "true", Topic),
        ]);
        assert_eq!(
            changes(&want, &target),
            [ConfigChange::Set("b".into(), "2".into()), ConfigChange::Unset("c".into())]
        );
        assert!(changes(&want, &configs(&[("a", "1", Topic), ("b", "2", Topic)])).is_empty());
    }
}
