//! How a source topic is called on the target.

use std::collections::BTreeMap;

use crate::model::TopicName;

/// The naming rule of a link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Naming {
    /// Same name on both sides.
    #[default]
    Identity,
    /// A fixed text in front.
    Prefix(String),
    /// Named topics get another name, all others keep theirs.
    Rename(BTreeMap<TopicName, TopicName>),
}

impl Naming {
    /// The target's name for a source topic.
    pub fn target(&self, source: &TopicName) -> TopicName {
        match self {
            Naming::Identity => source.clone(),
            Naming::Prefix(prefix) => TopicName::from(format!("{prefix}{source}")),
            Naming::Rename(table) => table.get(source).unwrap_or(source).clone(),
        }
    }

    /// Target topics that more than one of `sources` would be written to, with those sources: never allowed.
    pub fn collisions<'a>(&self, sources: impl Iterator<Item = &'a TopicName>) -> BTreeMap<TopicName, Vec<TopicName>> {
        let mut by_target: BTreeMap<TopicName, Vec<TopicName>> = BTreeMap::new();
        for source in sources {
            by_target.entry(self.target(source)).or_default().push(source.clone());
        }
        by_target.retain(|_, sources| sources.len() > 1);
        by_target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename() -> Naming {
        Naming::Rename(BTreeMap::from([("a".into(), "b".into())]))
    }

    #[test]
    fn every_rule_names_as_documented() {
        let orders = TopicName::from("orders");
        assert_eq!(Naming::Identity.target(&orders), orders);
        assert_eq!(Naming::Prefix("paris.".into()).target(&orders), "paris.orders".into());
        assert_eq!(rename().target(&"a".into()), "b".into());
        assert_eq!(rename().target(&orders), orders);
    }

    #[test]
    fn two_sources_of_one_target_are_found() {
        let topics = ["a".into(), "b".into(), "c".into()];
        let found = rename().collisions(topics.iter());
        assert_eq!(found, BTreeMap::from([("b".into(), vec!["a".into(), "b".into()])]));
        assert!(Naming::Prefix("x".into()).collisions(topics.iter()).is_empty());
    }
}
