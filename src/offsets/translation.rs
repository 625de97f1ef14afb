//! Looking up an offset on one side and answering with the other's.

use super::map::OffsetMap;
use super::place::Place;
use crate::model::Offset;

/// What an offset of one side is on the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Translation {
    /// The first offset on the other side whose record is at or behind the one asked for; at the end of what is mapped,
    /// the other side's end.
    Exact(Offset),
    /// The map begins later: the offset lies before the first one followed, or its runs were trimmed.
    BeforeTheMirror {
        /// First offset the map answers, on the side asked about.
        first: Offset,
    },
    /// Not mapped yet.
    Ahead {
        /// Exclusive end of what is mapped, on the side asked about (itself answered exactly).
        end: Offset,
    },
}

/// In which direction to look.
#[derive(Clone, Copy)]
pub(super) enum Way {
    ToTarget,
    ToSource,
}

impl Way {
    /// The offset of `place` on the side asked about.
    fn asked(self, place: Place) -> Offset {
        match self {
            Way::ToTarget => place.source,
            Way::ToSource => place.target,
        }
    }

    /// The offset of `place` on the other side.
    fn answer(self, place: Place) -> Offset {
        match self {
            Way::ToTarget => place.target,
            Way::ToSource => place.source,
        }
    }
}

impl OffsetMap {
    /// The first target offset whose source offset is at or behind `source`: where a reader that has consumed everything
    /// before `source` goes on. In a hole that is the next surviving record, behind the last record the target's end.
    pub fn translate(&self, source: Offset) -> Translation {
        self.look_up(source, Way::ToTarget)
    }

    /// The first source offset whose target offset is at or behind `target`; the inverse of [`OffsetMap::translate`].
    pub fn translate_back(&self, target: Offset) -> Translation {
        self.look_up(target, Way::ToSource)
    }

    fn look_up(&self, at: Offset, way: Way) -> Translation {
        let (first, end) = (way.asked(self.floor), way.asked(self.end));
        if at < first {
            return Translation::BeforeTheMirror { first };
        }
        if at > end {
            return Translation::Ahead { end };
        }
        let segment = self.last_segment_where(|base| way.asked(base) <= at);
        let run = segment.and_then(|index| self.find_run(index, |run| way.asked(run.end()) > at));
        let found = match run {
            Some(run) => way.answer(run.start()) + (at - way.asked(run.start())).max(0),
            // Behind that segment's last run: the next segment's first record is next, or the end.
            None => way.answer(self.base_of(segment.map_or(0, |index| index + 1)).unwrap_or(self.end)),
        };
        Translation::Exact(found)
    }
}
