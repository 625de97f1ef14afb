//! Where a source position stands on the target: the map's answer, held against what both logs still have.

use std::collections::BTreeMap;

use crate::ledger::RouteMap;
use crate::model::{Offset, TopicPartition};
use crate::offsets::{OffsetMap, Translation};
use crate::policy::cut::Progress;

/// A route, as far as groups depend on it.
#[derive(Debug, Clone)]
pub struct MirroredRoute {
    /// Target partition.
    pub target: TopicPartition,
    /// Its map; `None` while it has not attached, or where one of the logs is no longer the one that was mapped.
    pub map: Option<RouteMap>,
    /// First offset the source still has, as last read.
    pub source_start: Option<Offset>,
    /// First offset the target still has, as last read.
    pub target_start: Option<Offset>,
    /// How its mirror stands.
    pub progress: Progress,
    /// Another number once the route has attached again: the same source offset may lie elsewhere then.
    pub attachment: u64,
}

/// The routes of a link.
#[derive(Debug, Clone, Default)]
pub struct Mirrored {
    routes: BTreeMap<TopicPartition, MirroredRoute>,
    sources: BTreeMap<TopicPartition, TopicPartition>,
}

/// Where a position stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At exactly this target offset.
    At(Offset),
    /// At the target's log start, because the target has deleted `lost` offsets that the group has not read and the
    /// source still has.
    ClampedUp {
        /// The target's log start.
        at: Offset,
        /// Target offsets between where the group should stand and there; above 0.
        lost: i64,
    },
    /// The mirror has not come that far.
    Waiting,
    /// The mirror begins this many source offsets later.
    BeforeTheMirror(i64),
}

impl FromIterator<(TopicPartition, MirroredRoute)> for Mirrored {
    fn from_iter<I: IntoIterator<Item = (TopicPartition, MirroredRoute)>>(routes: I) -> Self {
        let routes: BTreeMap<_, _> = routes.into_iter().collect();
        let sources = routes.iter().map(|(source, route)| (route.target.clone(), source.clone())).collect();
        Self { routes, sources }
    }
}

impl Mirrored {
    /// All routes by source partition.
    pub fn routes(&self) -> &BTreeMap<TopicPartition, MirroredRoute> {
        &self.routes
    }

    /// The route of a source partition.
    pub fn of(&self, source: &TopicPartition) -> Option<&MirroredRoute> {
        self.routes.get(source)
    }

    /// The source of a target partition.
    pub fn source_of(&self, target: &TopicPartition) -> Option<&TopicPartition> {
        self.sources.get(target)
    }

    /// The mirrored partitions of the source topic that `at` is of.
    pub(super) fn beside(&self, at: &TopicPartition) -> impl Iterator<Item = (&TopicPartition, &MirroredRoute)> {
        let first = TopicPartition { topic: at.topic.clone(), partition: 0 };
        self.routes.range(first..).take_while(|(source, _)| source.topic == at.topic)
    }
}

impl MirroredRoute {
    /// Exclusive source end of what the target durably holds.
    pub fn position(&self) -> Option<Offset> {
        self.with_map(|map| map.position())
    }

    /// Target offset the next record will get.
    pub fn target_end(&self) -> Option<Offset> {
        self.with_map(|map| map.target_end())
    }

    /// The first offset of the target that was mirrored and is still there.
    pub fn first_mirrored(&self) -> Option<Offset> {
        let first = self.with_map(|map| exact(map, map.born().0))??;
        Some(self.target_start.map_or(first, |start| start.max(first)))
    }

    /// Where a group stands on the target that has committed this at the source.
    pub fn stand(&self, committed: Offset) -> Standing {
        let Some(map) = &self.map else { return Standing::Waiting };
        let map = map.lock().expect("no panic while held");
        let born = map.born().0;
        if committed < born {
            return Standing::BeforeTheMirror(born - committed);
        }
        let Some(at) = exact(&map, committed) else { return Standing::Waiting };
        match self.target_start {
            Some(start) if start > at => {
                // What the source has deleted too is lost there as well, and no loss of the twin.
                let kept = self.source_start.and_then(|kept| exact(&map, kept.max(committed))).unwrap_or(at);
                match start - kept {
                    lost @ 1.. => Standing::ClampedUp { at: start, lost },
                    _ => Standing::At(start),
                }
            }
            _ => Standing::At(at),
        }
    }

    fn with_map<T>(&self, look: impl FnOnce(&OffsetMap) -> T) -> Option<T> {
        self.map.as_ref().map(|map| look(&map.lock().expect("no panic while held")))
    }
}

/// The translation of an offset at or behind the map's birth. What the map has trimmed lay below both log starts: the
/// first record behind is next.
fn exact(map: &OffsetMap, source: Offset) -> Option<Offset> {
    match map.translate(source) {
        Translation::Exact(offset) => Some(offset),
        Translation::BeforeTheMirror { first } => match map.translate(first) {
            Translation::Exact(offset) => Some(offset),
            _ => None,
        },
        Translation::Ahead { .. } => None,
    }
}
