//! What is said of a group: a verdict for it and for each of its positions, and what it would re-read and skip if
//! applications switched over now.

use crate::endpoint::GroupProtocol;
use crate::ledger::record::GroupRecord;
use crate::metadata::groups::group::Group;
use crate::metadata::groups::standing::{Mirrored, MirroredRoute, Standing};
use crate::metadata::groups::wanted::{gone, unpositioned};
use crate::model::{GroupId, Offset, TopicPartition};

/// A group as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub id: GroupId,
    /// The group's verdict.
    pub verdict: GroupVerdict,
    /// Its positions and what became of them.
    pub partitions: Vec<PositionState>,
}

/// One position as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionState {
    /// Source partition.
    pub source: TopicPartition,
    /// Committed there.
    pub offset: Option<Offset>,
    /// What stands on the target by us.
    pub written: Option<Offset>,
    /// The position's verdict.
    pub verdict: PositionVerdict,
    /// What a switch-over now would cost.
    pub cost: Cost,
}

/// What a switch-over now would cost, in target offsets (source offsets for what is before the mirror).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Read at the source, and read again on the target.
    pub re_read: i64,
    /// Not read at the source, and passed over on the target.
    pub skip: i64,
    /// Without a position on the target: what its reset rule makes of these nobody here knows.
    pub at_risk: i64,
    /// Part of `skip`: deleted on the target while the source still has them.
    pub lost: i64,
}

/// Verdict on a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PositionVerdict {
    /// The target holds it.
    Synced,
    /// The mirror has not come that far, or the position was read too recently to be published.
    Waiting,
    /// The map begins later: this many source offsets lie between.
    BeforeTheMirror(i64),
    /// The group reads the partition and never committed there.
    NoPosition,
    /// Set to the target's log start; this many offsets before it are lost to the group.
    ClampedUp(i64),
    /// The source no longer has it; what was written stands.
    Gone,
    /// An open transaction may replace it.
    Pending,
    /// Its partition is not mirrored.
    NotMirrored,
}

/// Verdict on a whole group, the most urgent that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupVerdict {
    /// The target holds every position.
    Synced,
    /// Some positions lie ahead of the mirror, or were not read since the start.
    WaitingForTheMirror,
    /// Some partitions that it reads have records and no position.
    NoPosition,
    /// Some positions lie before the mirror.
    BeforeTheMirror,
    /// Some positions were clamped up.
    ClampedUp,
    /// In use on the target, or moved there by somebody else: left alone.
    TakenOver(String),
    /// The source no longer has the group.
    Gone,
    /// The target has another kind of group under this id.
    TypeConflict(String),
    /// Listed only: share groups have no committed offsets.
    ShareGroup,
    /// Could not be read or written now.
    Failed(String),
}

impl GroupVerdict {
    /// The verdict in the words of status and documentation.
    pub fn words(&self) -> &'static str {
        match self {
            GroupVerdict::Synced => "synced",
            GroupVerdict::WaitingForTheMirror => "waiting for the mirror",
            GroupVerdict::NoPosition => "no position",
            GroupVerdict::BeforeTheMirror => "before the mirror",
            GroupVerdict::ClampedUp => "clamped up",
            GroupVerdict::TakenOver(_) => "taken over",
            GroupVerdict::Gone => "gone at the source",
            GroupVerdict::TypeConflict(_) => "type conflict",
            GroupVerdict::ShareGroup => "share group",
            GroupVerdict::Failed(_) => "failed",
        }
    }

    /// Whether Twinlog keeps the group's positions.
    pub fn is_ours(&self) -> bool {
        !matches!(self, GroupVerdict::TakenOver(_) | GroupVerdict::TypeConflict(_) | GroupVerdict::ShareGroup)
    }

    /// What more there is to say.
    pub fn detail(&self) -> Option<&str> {
        match self {
            GroupVerdict::TakenOver(why) | GroupVerdict::TypeConflict(why) | GroupVerdict::Failed(why) => Some(why),
            _ => None,
        }
    }
}

impl GroupState {
    /// What a switch-over now would cost, over all partitions; nobody knows for groups that are not ours.
    pub fn cost(&self) -> Option<Cost> {
        if !self.verdict.is_ours() {
            return None;
        }
        let plus = |a: Cost, b: Cost| Cost {
            re_read: a.re_read + b.re_read,
            skip: a.skip + b.skip,
            at_risk: a.at_risk + b.at_risk,
            lost: a.lost + b.lost,
        };
        Some(self.partitions.iter().map(|p| p.cost).fold(Cost::default(), plus))
    }
}

/// Holds what is known of a group against what was written for it and where the mirror is.
pub fn account(id: &GroupId, group: &Group, record: &GroupRecord, mirrored: &Mirrored) -> GroupState {
    let partitions = positions(group, record, mirrored);
    let any = |wanted: fn(&PositionState) -> bool| partitions.iter().any(wanted);
    let verdict = if group.protocol == GroupProtocol::Share {
        GroupVerdict::ShareGroup
    } else if let Some(taken) = &record.taken_over {
        GroupVerdict::TakenOver(taken.why.clone())
    } else if let Some(conflict) = &group.conflict {
        GroupVerdict::TypeConflict(conflict.clone())
    } else if let Some(why) = group.unread.as_ref().or(group.unwritten.as_ref()) {
        GroupVerdict::Failed(why.clone())
    } else if group.gone {
        GroupVerdict::Gone
    } else if any(|p| matches!(p.verdict, PositionVerdict::ClampedUp(_))) {
        GroupVerdict::ClampedUp
    } else if any(|p| matches!(p.verdict, PositionVerdict::BeforeTheMirror(_))) {
        GroupVerdict::BeforeTheMirror
    } else if any(|p| p.verdict == PositionVerdict::NoPosition && p.cost.at_risk > 0) {
        GroupVerdict::NoPosition
    } else if group.read.is_none() || any(|p| p.verdict == PositionVerdict::Waiting) {
        GroupVerdict::WaitingForTheMirror
    } else {
        GroupVerdict::Synced
    };
    GroupState { id: id.clone(), verdict, partitions }
}

fn positions(group: &Group, record: &GroupRecord, mirrored: &Mirrored) -> Vec<PositionState> {
    let share = group.share_starts.iter().map(|(source, offset)| PositionState {
        source: source.clone(),
        offset: Some(*offset),
        written: None,
        verdict: PositionVerdict::NotMirrored,
        cost: Cost::default(),
    });
    let mut states: Vec<PositionState> = share.collect();
    let Some(read) = &group.read else { return states };
    let written = |route: &MirroredRoute| record.confirmed.get(&route.target).copied();
    for (source, committed) in &read.offsets {
        let (written, (verdict, cost)) = match mirrored.of(source) {
            None => (None, (PositionVerdict::NotMirrored, Cost::default())),
            Some(route) => (written(route), position(committed.offset, written(route), route)),
        };
        states.push(PositionState { source: source.clone(), offset: Some(committed.offset), written, verdict, cost });
    }
    let others =
        read.pending.iter().filter_map(|source| Some((source, mirrored.of(source)?, PositionVerdict::Pending)));
    let others = others
        .chain(unpositioned(read, &group.assigned, record, mirrored).map(|(s, r)| (s, r, PositionVerdict::NoPosition)))
        .chain(gone(read, record, mirrored).map(|(s, r)| (s, r, PositionVerdict::Gone)));
    for (source, route, verdict) in others {
        let written = written(route);
        let at_risk = match (&verdict, written, route.first_mirrored(), route.target_end()) {
            (PositionVerdict::NoPosition, None, Some(first), Some(end)) => (end - first).max(0),
            _ => 0,
        };
        let cost = Cost { at_risk, ..Cost::default() };
        states.push(PositionState { source: source.clone(), offset: None, written, verdict, cost });
    }
    states.sort_by(|a, b| a.source.cmp(&b.source));
    states
}

fn position(committed: Offset, written: Option<Offset>, route: &MirroredRoute) -> (PositionVerdict, Cost) {
    let end = || route.target_end();
    // From `written` to where it should stand; without a position, everything from there on is at risk.
    let between = |should: Offset, lost: i64| match written {
        Some(written) => {
            Cost { re_read: (should - written).max(0), skip: (written - should).max(0) + lost, lost, at_risk: 0 }
        }
        None => Cost { at_risk: end().map_or(0, |end| (end - should).max(0)), skip: lost, lost, re_read: 0 },
    };
    match route.stand(committed) {
        Standing::At(at) if written == Some(at) => (PositionVerdict::Synced, Cost::default()),
        Standing::At(at) => (PositionVerdict::Waiting, between(at, 0)),
        Standing::ClampedUp { at, lost } if written == Some(at) => {
            (PositionVerdict::ClampedUp(lost), Cost { skip: lost, lost, ..Cost::default() })
        }
        Standing::ClampedUp { at, lost } => (PositionVerdict::Waiting, between(at, lost)),
        Standing::Waiting => {
            let cost = end().map_or(Cost::default(), |end| between(end, 0));
            (PositionVerdict::Waiting, cost)
        }
        Standing::BeforeTheMirror(offsets) => {
            (PositionVerdict::BeforeTheMirror(offsets), Cost { skip: offsets, ..Cost::default() })
        }
    }
}
