//! What becomes of a group's positions on the target (DESIGN §7): whose they are, and what is to be written.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{Offset, TopicPartition};

/// Target offsets by target partition.
pub type Positions = BTreeMap<TopicPartition, Offset>;

/// When positions may be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// Once the mirror has passed the ends that the source had after they were read; partitions that lag more than this
    /// are left out.
    Cut {
        /// The bound.
        lag_max: Duration,
    },
    /// As soon as each of them is mirrored.
    Latest,
}

/// What a partition that a group reads without a position gets on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NoPosition {
    /// Nothing: the application's reset rule decides.
    #[default]
    Leave,
    /// The first mirrored offset.
    Seed,
}

/// What becomes of positions on the target that the source has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deletions {
    /// They stand until they expire, and are named.
    #[default]
    Report,
    /// They are deleted there too.
    Carry,
}

/// What is known of a group when its positions are decided.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The positions it should have.
    pub wanted: &'a Positions,
    /// Its positions on mirrored partitions, as the target's coordinator holds them now.
    pub target: &'a Positions,
    /// What we last wrote and saw confirmed.
    pub confirmed: &'a Positions,
    /// What we intended to write, and may have written before a crash or may still write behind a later commit.
    pub intents: &'a [&'a Positions],
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Commit these positions (only those that change, in either direction).
    Commit(Positions),
    /// The target holds what is wanted.
    Synced,
    /// Somebody else set this position: the group belongs to an application on the target.
    Foreign(TopicPartition, Offset),
}

/// Decides for one group. A position on the target that is neither confirmed nor intended by us belongs to an application.
/// Ours follow the source wherever it goes, also back, and are written again where they vanished.
pub fn decide(known: Known<'_>) -> Decision {
    let ours = |at: &TopicPartition, offset: &Offset| {
        known.intents.iter().chain([&known.confirmed]).any(|written| written.get(at) == Some(offset))
    };
    if let Some((at, offset)) = known.target.iter().find(|(at, offset)| !ours(at, offset)) {
        return Decision::Foreign(at.clone(), *offset);
    }
    let changed: Positions = known
        .wanted
        .iter()
        .filter(|(at, wanted)| known.target.get(*at) != Some(wanted))
        .map(|(at, wanted)| (at.clone(), *wanted))
        .collect();
    if changed.is_empty() { Decision::Synced } else { Decision::Commit(changed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> Positions {
        Positions::from([(TopicPartition::new("orders", 0), Offset(offset))])
    }

    fn decide_with(wanted: &Positions, target: &Positions, confirmed: &Positions, intent: &Positions) -> Decision {
        decide(Known { wanted, target, confirmed, intents: &[intent] })
    }

    #[test]
    fn a_new_or_moved_position_is_committed() {
        let none = Positions::new();
        assert_eq!(decide_with(&at(5), &none, &none, &none), Decision::Commit(at(5)));
        assert_eq!(decide_with(&at(5), &at(3), &at(3), &none), Decision::Commit(at(5)));
        assert_eq!(decide_with(&at(3), &at(5), &at(5), &none), Decision::Commit(at(3)), "reset at the source");
        assert_eq!(decide_with(&at(5), &at(5), &at(5), &none), Decision::Synced);
    }

    #[test]
    fn what_we_intended_before_a_crash_is_ours() {
        assert_eq!(decide_with(&at(7), &at(5), &at(3), &at(5)), Decision::Commit(at(7)));
    }

    #[test]
    fn a_foreign_position_takes_the_group_over_also_where_we_never_wrote() {
        let (place, none) = (TopicPartition::new("orders", 0), Positions::new());
        let foreign = Decision::Foreign(place, Offset(4));
        assert_eq!(decide_with(&at(7), &at(4), &at(3), &at(5)), foreign);
        assert_eq!(decide_with(&none, &at(4), &none, &none), foreign);
    }

    #[test]
    fn a_vanished_position_is_rewritten_not_read_as_foreign() {
        assert_eq!(decide_with(&at(5), &Positions::new(), &at(5), &Positions::new()), Decision::Commit(at(5)));
    }
}
