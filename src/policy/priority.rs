//! Which part of a limited rate a topic gets: weights by pattern.

use std::collections::BTreeMap;

use regex::Regex;

use crate::model::TopicName;
use crate::policy::selection::{InvalidPattern, anchored};

/// Weights of topics, by anchored patterns.
#[derive(Debug, Clone, Default)]
pub struct Priorities(Vec<(String, Regex, u32)>);

impl Priorities {
    /// What no pattern matches weighs so much.
    pub const DEFAULT: u32 = 1;

    /// Compiles the patterns.
    pub fn new(weights: &BTreeMap<String, u32>) -> Result<Self, InvalidPattern> {
        let compiled = weights.iter().map(|(pattern, weight)| Ok((pattern.clone(), anchored(pattern)?, *weight)));
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The weights by pattern, as they were given.
    pub fn weights(&self) -> BTreeMap<String, u32> {
        self.0.iter().map(|(pattern, _, weight)| (pattern.clone(), *weight)).collect()
    }

    /// The greatest weight of those whose pattern matches the topic's whole name at the source.
    pub fn weight(&self, topic: &TopicName) -> u32 {
        let matching = self.0.iter().filter(|(_, pattern, _)| pattern.is_match(topic.as_str()));
        matching.map(|(.., weight)| *weight).max().unwrap_or(Self::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_weighs_as_its_greatest_pattern_says_or_one() {
        let weights = [("payments\\..*", 10), ("payments\\.eu", 3), (".*-audit", 20)];
        let priorities =
            Priorities::new(&weights.map(|(pattern, weight)| (pattern.to_owned(), weight)).into()).unwrap();
        for (topic, weight) in
            [("payments.eu", 10), ("payments.us-audit", 20), ("payments", 1), ("old-payments.eu", 1), ("orders", 1)]
        {
            assert_eq!(priorities.weight(&topic.into()), weight, "{topic}");
        }
        assert!(Priorities::new(&[("(".to_owned(), 2)].into()).is_err());
    }
}
