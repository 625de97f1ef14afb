//! The stored form of everything about a map but its runs.
//!
//! Version 1: version byte; born, floor and end as source and target offset; number of the first segment and count of
//! segments; count of anchors, then each anchor's source, target and hash (8 bytes, big-endian).

use std::ops::Range;

use bytes::Bytes;

use super::anchor::{self, Anchor};
use super::changes::MapCorrupt;
use super::place::Place;
use super::varint;
use crate::model::Offset;

const VERSION: u8 = 1;

/// See [`super::map::OffsetMap`] for the meaning of each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub born: Place,
    pub floor: Place,
    pub end: Place,
    pub segments: Range<u32>,
    pub anchors: Vec<Anchor>,
}

impl Head {
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        for place in [self.born, self.floor, self.end] {
            put_place(place, &mut out);
        }
        varint::put(self.segments.start.into(), &mut out);
        varint::put(self.segments.len() as i64, &mut out);
        varint::put(self.anchors.len() as i64, &mut out);
        for anchor in &self.anchors {
            put_place(Place { source: anchor.source, target: anchor.target }, &mut out);
            out.extend_from_slice(&anchor.hash.to_be_bytes());
        }
        out.into()
    }

    pub fn decode(stored: &[u8]) -> Result<Head, MapCorrupt> {
        let (&version, rest) = stored.split_first().ok_or(MapCorrupt::TornHead)?;
        if version != VERSION {
            return Err(MapCorrupt::UnknownFormat { part: "the head".into(), version, known: VERSION });
        }
        Self::decode_body(rest).ok_or(MapCorrupt::TornHead)
    }

    fn decode_body(mut rest: &[u8]) -> Option<Head> {
        let from = &mut rest;
        let (born, floor, end) = (take_place(from)?, take_place(from)?, take_place(from)?);
        let first = u32::try_from(varint::take(from)?).ok()?;
        let count = u32::try_from(varint::take(from)?).ok()?;
        let segments = first..first.checked_add(count)?;
        let anchors =
            (0..varint::take(from)?).map(|_| take_anchor(from)).take(anchor::KEPT + 1).collect::<Option<Vec<_>>>()?;
        let in_order = anchors.is_sorted_by(|a, b| a.source < b.source && a.target < b.target)
            && anchors.last().is_none_or(|newest| newest.source < end.source && newest.target < end.target);
        let sound = in_order && anchors.len() <= anchor::KEPT && end.is_at_or_behind(floor) && rest.is_empty();
        sound.then_some(Head { born, floor, end, segments, anchors })
    }
}

fn put_place(place: Place, out: &mut Vec<u8>) {
    varint::put(place.source.0, out);
    varint::put(place.target.0, out);
}

fn take_place(from: &mut &[u8]) -> Option<Place> {
    Some(Place { source: Offset(varint::take(from)?), target: Offset(varint::take(from)?) })
}

fn take_anchor(from: &mut &[u8]) -> Option<Anchor> {
    let Place { source, target } = take_place(from)?;
    let (hash, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(Anchor { source, target, hash: u64::from_be_bytes(*hash) })
}
