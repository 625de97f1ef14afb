//! How a map gets into the ledger and back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::head::Head;
use super::map::OffsetMap;
use super::open::Open;
use super::place::Place;
use super::run::MapRun;
use super::segment::{self, Sealed};

/// Names one stored part of a route's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapKey {
    /// A stretch of runs.
    Segment(u32),
    /// Both ends, anchors and which segments belong to the map.
    Head,
}

/// What must reach the ledger for it to hold the map: all of it or nothing.
#[derive(Debug, Default)]
pub struct MapChanges {
    /// Values to set, or delete where `None`; the head, if any, comes last. Whoever follows the ledger therefore sees a
    /// whole map whenever a head has just arrived.
    pub entries: Vec<(MapKey, Option<Bytes>)>,
    records: u64,
}

impl MapChanges {
    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Size of the values, bytes.
    pub fn value_bytes(&self) -> usize {
        self.entries.iter().filter_map(|(_, value)| value.as_ref()).map(Bytes::len).sum()
    }
}

/// Why stored parts do not make a map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MapCorrupt {
    /// Another version wrote it.
    #[error("{part} of the offset map has format {version}, this program knows {known}: run the version that wrote it")]
    UnknownFormat {
        /// The part in question.
        part: String,
        /// Its first byte.
        version: u8,
        /// The format this program reads.
        known: u8,
    },
    /// The head's bytes make no sense.
    #[error("the head of the offset map is torn or damaged")]
    TornHead,
    /// A segment's bytes make no sense.
    #[error("segment {segment} of the offset map is torn or damaged")]
    TornSegment {
        /// Its number.
        segment: u32,
    },
    /// A segment that the head counts was not there.
    #[error("segment {segment} of the offset map is missing")]
    Missing {
        /// Its number.
        segment: u32,
    },
    /// A segment that the head does not count was there.
    #[error("segment {segment} does not belong to the offset map's head")]
    Surplus {
        /// Its number.
        segment: u32,
    },
    /// A segment begins before its predecessor ends, or ends behind the end that the head states.
    #[error("segment {segment} of the offset map overlaps its neighbour or the map's end")]
    Overlap {
        /// Its number.
        segment: u32,
    },
}

impl OffsetMap {
    /// Hands out what changed since the last call. When storing it fails, give it back to
    /// [`OffsetMap::restore_changes`].
    pub fn take_changes(&mut self) -> MapChanges {
        let mut entries: Vec<_> = std::mem::take(&mut self.dirty)
            .into_iter()
            .map(|number| (MapKey::Segment(number), self.encoded(number)))
            .collect();
        if std::mem::take(&mut self.head_dirty) || !entries.is_empty() {
            entries.push((MapKey::Head, Some(self.head().encode())));
        }
        MapChanges { entries, records: std::mem::take(&mut self.unflushed) }
    }

    /// Marks what could not be stored as changed again; the map may have moved on meanwhile.
    pub fn restore_changes(&mut self, changes: MapChanges) {
        for (key, _) in changes.entries {
            match key {
                MapKey::Segment(number) => drop(self.dirty.insert(number)),
                MapKey::Head => self.head_dirty = true,
            }
        }
        self.unflushed += changes.records;
    }

    /// Puts a map together from its stored head and segments (in any order), and checks every byte of them. The bytes
    /// are kept, not copied: slices of larger buffers would hold those in memory.
    pub fn load(head: &[u8], segments: impl IntoIterator<Item = (u32, Bytes)>) -> Result<OffsetMap, MapCorrupt> {
        let head = Head::decode(head)?;
        let mut stored: BTreeMap<u32, Bytes> = segments.into_iter().collect();
        let mut map = OffsetMap::new(head.born.source, head.born.target);
        let mut behind = head.floor;
        for number in head.segments.clone() {
            let bytes = stored.remove(&number).ok_or(MapCorrupt::Missing { segment: number })?;
            let (base, runs) = checked(number, &bytes, behind, head.end)?;
            behind = runs.last().expect("a checked segment has a run").end();
            if number + 1 == head.segments.end {
                map.open = Open::from_runs(runs.into_iter());
            } else {
                map.sealed.push_back(Sealed { base, bytes });
            }
        }
        if let Some((&segment, _)) = stored.first_key_value() {
            return Err(MapCorrupt::Surplus { segment });
        }
        Ok(OffsetMap {
            floor: head.floor,
            end: head.end,
            first_number: head.segments.start,
            anchors: head.anchors,
            head_dirty: false,
            dirty: BTreeSet::new(),
            ..map
        })
    }

    fn head(&self) -> Head {
        Head {
            born: self.born,
            floor: self.floor,
            end: self.end,
            segments: self.first_number..self.end_number(),
            anchors: self.anchors.clone(),
        }
    }

    fn encoded(&self, number: u32) -> Option<Bytes> {
        let index = number.checked_sub(self.first_number)? as usize;
        match self.sealed.get(index) {
            Some(sealed) => Some(sealed.bytes.clone()),
            None => self.open.as_ref().filter(|_| index == self.sealed.len()).map(Open::encode),
        }
    }
}

/// The runs of a stored segment, which has at least one, none of them before `from` or behind `end`.
fn checked(number: u32, bytes: &[u8], from: Place, end: Place) -> Result<(Place, Vec<MapRun>), MapCorrupt> {
    let (base, mut stored) = segment::read(number, bytes)?;
    let mut runs = Vec::new();
    while let Some(run) = stored.step().map_err(|_| MapCorrupt::TornSegment { segment: number })? {
        runs.push(run);
    }
    let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
        return Err(MapCorrupt::TornSegment { segment: number });
    };
    // Gaps are never negative, so between its ends a segment is in order by its very form.
    if first.start() != base || !base.is_at_or_behind(from) || !end.is_at_or_behind(last.end()) {
        return Err(MapCorrupt::Overlap { segment: number });
    }
    Ok((base, runs))
}
