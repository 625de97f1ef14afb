//! `[links.<name>]`: one direction, what it carries and how.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use config::ValueKind;
use regex::RegexBuilder;

use super::intervals::Intervals;
use super::section::{Section, expected, from_environment, text};
use crate::model::Plane;
pub use crate::policy::group::{Consistency, Deletions, NoPosition};
pub use crate::policy::naming::Naming;
pub use crate::policy::plane::PlaneRule;
pub use crate::policy::resolution::RetentionOvertook;
pub use crate::policy::start::Start;
pub use crate::policy::topic_config::Retention;

/// One link. Patterns are anchored regular expressions, known to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Alias of the cluster records are read from.
    pub source: String,
    /// Alias of the cluster records are written to; never the source.
    pub target: String,
    /// Topics to mirror: at least one pattern.
    pub topics: Vec<String>,
    /// Topics not to mirror; beats `topics`.
    pub exclude_topics: Vec<String>,
    /// Consumer groups whose positions are translated; empty for none.
    pub groups: Vec<String>,
    /// Groups to leave alone; beats `groups`.
    pub exclude_groups: Vec<String>,
    /// When positions may be published on the target.
    pub consistency: Consistency,
    /// What a partition that a group reads without a position gets.
    pub no_position: NoPosition,
    /// What becomes of positions that the source has deleted.
    pub group_deletions: Deletions,
    /// Where copying begins in topics that exist when the link is born.
    pub start: Start,
    /// What a topic is called on the target.
    pub naming: Naming,
    /// How payloads travel.
    pub plane: PlaneRule,
    /// Replication factor of topics created on the target; `None`: the source's, capped by the number of brokers.
    pub replication_factor: Option<i16>,
    /// How long the target keeps records.
    pub retention: Retention,
    /// Topic settings that are not carried over: the target's own affair.
    pub exclude_configs: Vec<String>,
    /// Bytes per second of record batches, over all partitions; a `limit` verb overrides it durably.
    pub rate_limit_bytes: Option<u64>,
    /// Weights by topic pattern, with which topics share the rate while it is limited; 1 for all others.
    pub priorities: BTreeMap<String, u32>,
    /// What to do when the source removed records before they were copied.
    pub retention_overtook: RetentionOvertook,
    /// How long the source must deny a topic, by name, before its deletion is believed and reported.
    pub deletion_grace: Duration,
    /// How often what is not driven by records is looked at.
    pub intervals: Intervals,
}

impl LinkConfig {
    /// The twin carries every group unless told otherwise: a position left behind is found out only in a disaster.
    pub const GROUPS: &'static str = ".*";

    /// Longer than a restarted broker takes to learn of the topics there are.
    pub const DELETION_GRACE: Duration = Duration::from_secs(30);

    /// Beyond it, what waits for one partition costs all groups more than what that partition may lack.
    pub const CUT_LAG_MAX: Duration = Duration::from_secs(10);

    pub(super) fn read(mut section: Section<'_>, aliases: &BTreeSet<String>) -> Self {
        let source = cluster(&mut section, "source", aliases);
        let target = cluster(&mut section, "target", aliases);
        if source.is_some() && source == target {
            section.refuse("target", "is the source: a link needs two different clusters");
        }
        let topics = section.required("topics", patterns);
        if topics.as_ref().is_some_and(Vec::is_empty) {
            section.refuse("topics", "names no topic; [\".*\"] is every topic");
        }
        let link = Self {
            source: source.unwrap_or_default(),
            target: target.unwrap_or_default(),
            topics: topics.unwrap_or_default(),
            exclude_topics: patterns(&mut section, "exclude_topics").unwrap_or_default(),
            groups: patterns(&mut section, "groups").unwrap_or_else(|| vec![Self::GROUPS.to_owned()]),
            exclude_groups: patterns(&mut section, "exclude_groups").unwrap_or_default(),
            consistency: consistency(&mut section),
            no_position: section
                .choice("no_position", &[("leave", NoPosition::Leave), ("seed", NoPosition::Seed)])
                .unwrap_or_default(),
            group_deletions: section
                .choice("group_deletions", &[("report", Deletions::Report), ("carry", Deletions::Carry)])
                .unwrap_or_default(),
            start: start(&mut section).unwrap_or_default(),
            naming: naming(&mut section).unwrap_or_default(),
            plane: section
                .choice(
                    "plane",
                    &[
                        ("auto", PlaneRule::Auto),
                        ("batches", PlaneRule::Only(Plane::Batches)),
                        ("records", PlaneRule::Only(Plane::Records)),
                    ],
                )
                .unwrap_or_default(),
            replication_factor: section
                .integer("replication_factor", 1..=i64::from(i16::MAX))
                .and_then(|factor| i16::try_from(factor).ok()),
            retention: retention(&mut section).unwrap_or_default(),
            exclude_configs: patterns(&mut section, "exclude_configs").unwrap_or_default(),
            rate_limit_bytes: section.bytes("rate_limit", 1024),
            priorities: priorities(&mut section).unwrap_or_default(),
            retention_overtook: section
                .choice(
                    "retention_overtook",
                    &[("halt", RetentionOvertook::Halt), ("continue", RetentionOvertook::Continue)],
                )
                .unwrap_or_default(),
            deletion_grace: section
                .duration("deletion_grace", Duration::from_secs(1)..=Duration::from_secs(86_400))
                .unwrap_or(Self::DELETION_GRACE),
            intervals: Intervals::read(section.section("intervals")),
        };
        section.finish();
        link
    }
}

fn consistency(section: &mut Section<'_>) -> Consistency {
    let lag_max = section.duration("cut_lag_max", Duration::from_secs(1)..=Duration::from_secs(3600));
    let cut = Consistency::Cut { lag_max: lag_max.unwrap_or(LinkConfig::CUT_LAG_MAX) };
    section.choice("consistency", &[("cut", cut), ("latest", Consistency::Latest)]).unwrap_or(cut)
}

fn cluster(section: &mut Section<'_>, key: &'static str, aliases: &BTreeSet<String>) -> Option<String> {
    section.required(key, |section, key| {
        section.read(key, |_, value| {
            let alias = text(value)?;
            if aliases.contains(&alias) {
                return Ok(alias);
            }
            let known = aliases.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("no cluster is called {alias:?}; [clusters] has: {known}"))
        })
    })
}

/// Patterns that compile on their own (`a)|(?:b` would only compile between anchors, and undo them).
fn patterns(section: &mut Section<'_>, key: &'static str) -> Option<Vec<String>> {
    let patterns = section.texts(key)?;
    for reason in patterns.iter().filter_map(|pattern| not_a_pattern(pattern)) {
        section.refuse(key, reason);
    }
    Some(patterns)
}

/// Why a text is no pattern.
fn not_a_pattern(text: &str) -> Option<String> {
    // The bound keeps a pattern such as `(a{1000}){1000}` from taking the memory budget.
    let error = RegexBuilder::new(text).size_limit(1 << 20).build().err()?.to_string();
    // The last line says what is wrong; those before it draw the expression.
    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
    Some(format!("{text:?} is not a regular expression: {reason}"))
}

fn priorities(section: &mut Section<'_>) -> Option<BTreeMap<String, u32>> {
    section.read("priorities", |section, value| {
        let weights = section.inner("priorities", value).into_integers(1..=1000);
        match weights.keys().find_map(|pattern| not_a_pattern(pattern)) {
            Some(reason) => Err(reason),
            None => Ok(weights.into_iter().map(|(pattern, weight)| (pattern, weight as u32)).collect()),
        }
    })
}

fn start(section: &mut Section<'_>) -> Option<Start> {
    const HINT: &str = "expected \"earliest\", \"latest\", a time such as \"2026-11-21T08:00:00Z\", or milliseconds since \
                        1970";
    section.read("start", |_, value| {
        let overridden = from_environment(&value);
        let millis = match value.kind {
            ValueKind::String(word) => match word.as_str() {
                "earliest" => return Ok(Start::Earliest),
                "latest" => return Ok(Start::Latest),
                digits if overridden && digits.parse::<i64>().is_ok() => digits.parse().unwrap_or_default(),
                time => {
                    let time = humantime::parse_rfc3339_weak(time).map_err(|_| HINT.to_owned())?;
                    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| HINT.to_owned())?;
                    return i64::try_from(since.as_millis()).map(Start::Time).map_err(|_| HINT.to_owned());
                }
            },
            ValueKind::I64(millis) => millis,
            _ => return Err(HINT.to_owned()),
        };
        // Ten digits are seconds of our time, which read as milliseconds would be January 1970: the whole log.
        if millis < 100_000_000_000 {
            return Err(format!("{millis} looks like seconds: {HINT}"));
        }
        Ok(Start::Time(millis))
    })
}

fn naming(section: &mut Section<'_>) -> Option<Naming> {
    const HINT: &str = "\"identity\", { prefix = \"paris.\" } or { rename = { \"orders\" = \"orders-paris\" } }";
    section.read("naming", |section, value| match &value.kind {
        ValueKind::String(word) if word == "identity" => Ok(Naming::Identity),
        ValueKind::Table(_) => {
            let mut table = section.inner("naming", value);
            let naming = match table.either("prefix", "rename") {
                Some("prefix") => table.text("prefix").map_or(Ok(Naming::Identity), prefix),
                Some(_) => rename(table.section("rename")),
                None => return Err(format!("expected {HINT}")),
            };
            table.finish();
            naming
        }
        other => Err(expected(HINT, other)),
    })
}

fn prefix(prefix: String) -> Result<Naming, String> {
    if !prefix.is_empty() && prefix.chars().all(is_topic_character) {
        Ok(Naming::Prefix(prefix))
    } else {
        Err(format!("prefix {prefix:?} cannot begin a topic name: letters, digits, '.', '_' and '-' can"))
    }
}

fn rename(section: Section<'_>) -> Result<Naming, String> {
    let mut sources = BTreeMap::new();
    for (from, to) in section.into_texts() {
        if let Some(bad) = [&from, &to].into_iter().find(|name| !is_topic_name(name)) {
            return Err(format!("{bad:?} is not a topic name"));
        }
        if let Some(other) = sources.insert(to.clone(), from.clone()) {
            return Err(format!("{other:?} and {from:?} would both be written to {to:?}: a target has one source"));
        }
    }
    Ok(Naming::Rename(sources.into_iter().map(|(to, from)| (from.into(), to.into())).collect()))
}

fn retention(section: &mut Section<'_>) -> Option<Retention> {
    section
        .read("retention", |section, value| match &value.kind {
            ValueKind::String(word) if word == "same" => Ok(Some(Retention::Same)),
            ValueKind::Table(_) => {
                let mut table = section.inner("retention", value);
                // Kafka counts retention in milliseconds of an i64; a century is beyond every use and within that.
                let century = Duration::from_secs(100 * 365 * 86_400);
                let least =
                    table.required("at_least", |table, key| table.duration(key, Duration::from_secs(60)..=century));
                table.finish();
                Ok(least.map(Retention::AtLeast))
            }
            other => Err(expected("\"same\" or { at_least = \"7d\" }", other)),
        })
        .flatten()
}

fn is_topic_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Kafka's rule for topic names.
fn is_topic_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 249 && name.chars().all(is_topic_character)
}
