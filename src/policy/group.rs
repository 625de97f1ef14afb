//! What becomes of a group's positions on the target (DESIGN §7, core rules).

use std::collections::BTreeMap;

use crate::model::{Offset, TopicPartition};

/// Target offsets by target partition.
pub type Positions = BTreeMap<TopicPartition, Offset>;

/// What is known of a group when its positions are decided.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Translated positions, as far as the mirror has come.
    pub wanted: &'a Positions,
    /// What the target's coordinator holds now.
    pub target: &'a Positions,
    /// What we last wrote and saw confirmed.
    pub confirmed: &'a Positions,
    /// What we intended to write and may have written before a crash.
    pub intent: &'a Positions,
    /// Whether the group has members on the target now.
    pub has_members_on_target: bool,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Commit these positions (only those that change).
    Commit(Positions),
    /// The target holds what is wanted.
    Synced,
    /// The group is in use on the target, or somebody else moved it there: not written.
    TakenOver,
}

/// Decides for one group. Positions never go backwards; a position on the target that is neither confirmed nor intended
/// by us belongs to the application.
pub fn decide(known: Known<'_>) -> Decision {
    if known.has_members_on_target {
        return Decision::TakenOver;
    }
    let ours = |at: &TopicPartition, offset: &Offset| {
        known.confirmed.get(at) == Some(offset) || known.intent.get(at) == Some(offset)
    };
    if known.target.iter().any(|(at, offset)| known.wanted.contains_key(at) && !ours(at, offset)) {
        return Decision::TakenOver;
    }
    let changed: Positions = known
        .wanted
        .iter()
        .filter(|(at, wanted)| known.target.get(*at).is_none_or(|now| now < *wanted))
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
        decide(Known { wanted, target, confirmed, intent, has_members_on_target: false })
    }

    #[test]
    fn a_new_or_advanced_position_is_committed() {
        let none = Positions::new();
        assert_eq!(decide_with(&at(5), &none, &none, &none), Decision::Commit(at(5)));
        assert_eq!(decide_with(&at(5), &at(3), &at(3), &none), Decision::Commit(at(5)));
        assert_eq!(decide_with(&at(5), &at(5), &at(5), &none), Decision::Synced);
    }

    #[test]
    fn a_position_never_goes_backwards() {
        assert_eq!(decide_with(&at(3), &at(5), &at(5), &Positions::new()), Decision::Synced);
    }

    #[test]
    fn what_we_intended_before_a_crash_is_ours() {
        assert_eq!(decide_with(&at(7), &at(5), &at(3), &at(5)), Decision::Commit(at(7)));
    }

    #[test]
    fn a_foreign_position_is_left_alone() {
        assert_eq!(decide_with(&at(7), &at(4), &at(3), &at(5)), Decision::TakenOver);
    }

    #[test]
    fn a_vanished_position_is_rewritten_not_read_as_foreign() {
        assert_eq!(decide_with(&at(5), &Positions::new(), &at(5), &Positions::new()), Decision::Commit(at(5)));
    }

    #[test]
    fn members_on_the_target_keep_us_away() {
        let none = Positions::new();
        let known =
            Known { wanted: &at(5), target: &none, confirmed: &none, intent: &none, has_members_on_target: true };
        assert_eq!(decide(known), Decision::TakenOver);
    }
}
