//! Which topics and groups a link carries: anchored patterns, exclusion beats inclusion, internals never.

use regex::Regex;

use crate::model::{GroupId, TopicName};

/// A set of anchored patterns to take and to leave.
#[derive(Debug, Clone)]
pub struct Selection {
    include: Vec<(String, Regex)>,
    exclude: Patterns,
}

/// Anchored patterns, of which one must match a whole name.
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Regex>);

impl Patterns {
    /// Compiles them.
    pub fn new(patterns: &[String]) -> Result<Self, InvalidPattern> {
        patterns.iter().map(|pattern| anchored(pattern)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one of them matches.
    pub fn match_name(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(name))
    }
}

/// A pattern that is no regular expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?} is not a valid regular expression: {reason}")]
pub struct InvalidPattern {
    /// The pattern as written.
    pub pattern: String,
    /// The parser's words.
    pub reason: String,
}

impl Selection {
    /// Compiles the patterns; each must match a whole name.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, InvalidPattern> {
        let include = include.iter().map(|p| Ok((p.clone(), anchored(p)?))).collect::<Result<_, _>>()?;
        Ok(Self { include, exclude: Patterns::new(exclude)? })
    }

    /// Whether a topic is mirrored. Broker internals, `__*` and MirrorMaker's own topics never are; the internal topics
    /// of Kafka Streams only when a pattern names their suffix.
    pub fn takes_topic(&self, topic: &TopicName, internal: bool) -> bool {
        let name = topic.as_str();
        if internal || name.starts_with("__") || is_mirror_maker_internal(name) || self.exclude.match_name(name) {
            return false;
        }
        let streams_suffix = ["-changelog", "-repartition"].into_iter().find(|suffix| name.ends_with(suffix));
        self.include.iter().any(|(text, pattern)| {
            pattern.is_match(name) && streams_suffix.is_none_or(|suffix| text.contains(suffix) || text == name)
        })
    }

    /// Whether a group is carried. Twinlog's own groups never are.
    pub fn takes_group(&self, group: &GroupId) -> bool {
        let name = group.as_str();
        !name.starts_with("twinlog.")
            && !self.exclude.match_name(name)
            && self.include.iter().any(|(_, pattern)| pattern.is_match(name))
    }
}

pub(super) fn anchored(pattern: &str) -> Result<Regex, InvalidPattern> {
    let invalid = |e: regex::Error| InvalidPattern { pattern: pattern.to_owned(), reason: e.to_string() };
    // Compiled alone first: `a)(b` is invalid although it becomes valid inside the anchoring group.
    Regex::new(pattern).map_err(invalid)?;
    Regex::new(&format!("^(?:{pattern})$")).map_err(invalid)
}

/// MirrorMaker 2's topics (offset syncs, checkpoints, heartbeats) and those of its Connect workers.
fn is_mirror_maker_internal(name: &str) -> bool {
    name == "heartbeats"
        || name.ends_with(".heartbeats")
        || name.ends_with(".checkpoints.internal")
        || (name.starts_with("mm2-") && name.ends_with(".internal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        Selection::new(&own(include), &own(exclude)).unwrap()
    }

    #[test]
    fn patterns_match_whole_names_and_exclusion_wins() {
        let s = selection(&["orders", "payments\\..*"], &["payments\\.test"]);
        for (name, taken) in
            [("orders", true), ("orders2", false), ("payments.eu", true), ("payments.test", false), ("x.orders", false)]
        {
            assert_eq!(s.takes_topic(&name.into(), false), taken, "{name}");
        }
    }

    #[test]
    fn internals_are_never_taken() {
        let s = selection(&[".*"], &[]);
        for name in [
            "__consumer_offsets",
            "__twinlog.dr.map",
            "heartbeats",
            "paris.heartbeats",
            "mm2-offset-syncs.lyon.internal",
            "paris.checkpoints.internal",
        ] {
            assert!(!s.takes_topic(&name.into(), false), "{name}");
        }
        assert!(!s.takes_topic(&"plain".into(), true));
        assert!(s.takes_topic(&"_schemas".into(), false));
    }

    #[test]
    fn streams_topics_only_when_named() {
        assert!(!selection(&[".*"], &[]).takes_topic(&"app-store-changelog".into(), false));
        assert!(selection(&[".*-changelog"], &[]).takes_topic(&"app-store-changelog".into(), false));
        assert!(selection(&["app-x-repartition"], &[]).takes_topic(&"app-x-repartition".into(), false));
    }

    #[test]
    fn own_groups_are_never_taken() {
        let s = selection(&[".*"], &[]);
        assert!(s.takes_group(&"billing".into()));
        assert!(!s.takes_group(&"twinlog.dr".into()));
    }

    #[test]
    fn an_invalid_pattern_names_itself() {
        let error = Selection::new(&["a)(b".into()], &[]).unwrap_err();
        assert_eq!(error.pattern, "a)(b");
    }
}
