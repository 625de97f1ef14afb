//! The stored form of a stretch of runs: at most 1 KiB, delta-coded, each segment readable on its own.
//!
//! Version 1: version byte, first source offset, first target offset, first epoch (signed), then runs. A run is one byte
//! `1lll gggg` (length 1–8, source gap 1–16), or `0etg gggg` with the gap (31: as varint behind), the length, the target
//! gap if `t` and the change of epoch (signed) if `e`; gaps count from the end of the run before.

use bytes::Bytes;

use super::changes::MapCorrupt;
use super::place::Place;
use super::run::MapRun;
use super::varint;
use crate::model::{LeaderEpoch, Offset};

/// Largest size of a segment, bytes.
pub(super) const LIMIT_BYTES: usize = 1024;
/// Largest size of one run: tag, three varints, epoch.
pub(super) const RUN_LIMIT_BYTES: usize = 1 + 3 * 9 + 5;

const VERSION: u8 = 1;
const SHORT: u8 = 0x80;
const NEW_EPOCH: u8 = 0x40;
const TARGET_GAP: u8 = 0x20;
const LONG_GAP: u8 = 0x1f;

/// A full segment; it only changes by truncation.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    /// Where its first run starts.
    pub base: Place,
    pub bytes: Bytes,
}

/// The place and epoch that the next run is coded against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor {
    place: Place,
    epoch: LeaderEpoch,
}

impl Cursor {
    pub fn at_start_of(run: &MapRun) -> Self {
        Self { place: run.start(), epoch: run.epoch }
    }

    pub fn behind(run: &MapRun) -> Self {
        Self { place: run.end(), epoch: run.epoch }
    }
}

/// Begins a segment whose first run is `first` (which is not yet written).
pub(super) fn put_header(first: &MapRun, out: &mut Vec<u8>) {
    out.push(VERSION);
    varint::put(first.source.0, out);
    varint::put(first.target.0, out);
    varint::put_signed(first.epoch.0, out);
}

/// Appends `run`, coded against `cursor`.
pub(super) fn put_run(run: &MapRun, cursor: Cursor, out: &mut Vec<u8>) {
    let gap = run.source - cursor.place.source;
    let target_gap = run.target - cursor.place.target;
    let same_epoch = run.epoch == cursor.epoch;
    if same_epoch && target_gap == 0 && (1..=16).contains(&gap) && run.length <= 8 {
        out.push(SHORT | (run.length as u8 - 1) << 4 | (gap as u8 - 1));
        return;
    }
    let flags = if same_epoch { 0 } else { NEW_EPOCH } | if target_gap == 0 { 0 } else { TARGET_GAP };
    out.push(flags | gap.min(i64::from(LONG_GAP)) as u8);
    if gap >= i64::from(LONG_GAP) {
        varint::put(gap, out);
    }
    varint::put(run.length, out);
    if target_gap != 0 {
        varint::put(target_gap, out);
    }
    if !same_epoch {
        varint::put_signed(run.epoch.0.wrapping_sub(cursor.epoch.0), out);
    }
}

/// The runs of a segment, checked as they are read.
pub(super) struct Runs<'a> {
    rest: &'a [u8],
    cursor: Cursor,
}

/// Opens a stored segment, with the number it is known by.
pub(super) fn read(number: u32, stored: &[u8]) -> Result<(Place, Runs<'_>), MapCorrupt> {
    let torn = MapCorrupt::TornSegment { segment: number };
    let (&version, mut rest) = stored.split_first().ok_or(torn.clone())?;
    if version != VERSION {
        return Err(MapCorrupt::UnknownFormat { part: format!("segment {number}"), version, known: VERSION });
    }
    let mut offset = || varint::take(&mut rest).map(Offset).ok_or(torn.clone());
    let place = Place { source: offset()?, target: offset()? };
    let epoch = LeaderEpoch(varint::take_signed(&mut rest).ok_or(torn)?);
    Ok((place, Runs { rest, cursor: Cursor { place, epoch } }))
}

/// Opens bytes that this process wrote or that `load` has checked.
pub(super) fn read_checked(bytes: &[u8]) -> Runs<'_> {
    read(0, bytes).expect("the segment was written here or checked when it was loaded").1
}

impl Runs<'_> {
    /// The next run; `Ok(None)` at the end; `Err(())` where the bytes make no sense.
    pub fn step(&mut self) -> Result<Option<MapRun>, ()> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let run = self.decode().ok_or(())?;
        self.cursor = Cursor::behind(&run);
        Ok(Some(run))
    }

    fn decode(&mut self) -> Option<MapRun> {
        let (&tag, rest) = self.rest.split_first()?;
        self.rest = rest;
        if tag & SHORT != 0 {
            return self.run_at(i64::from(tag & 0x0f) + 1, 0, i64::from(tag >> 4 & 0x07) + 1, self.cursor.epoch);
        }
        let gap = match tag & LONG_GAP {
            LONG_GAP => varint::take(&mut self.rest)?,
            short => i64::from(short),
        };
        let length = varint::take(&mut self.rest)?;
        let target_gap = if tag & TARGET_GAP != 0 { varint::take(&mut self.rest)? } else { 0 };
        let change = if tag & NEW_EPOCH != 0 { varint::take_signed(&mut self.rest)? } else { 0 };
        self.run_at(gap, target_gap, length, LeaderEpoch(self.cursor.epoch.0.wrapping_add(change)))
    }

    fn run_at(&self, gap: i64, target_gap: i64, length: i64, epoch: LeaderEpoch) -> Option<MapRun> {
        let source = self.cursor.place.source.0.checked_add(gap)?;
        let target = self.cursor.place.target.0.checked_add(target_gap)?;
        source.checked_add(length)?;
        target.checked_add(length)?;
        (length > 0).then_some(MapRun { source: Offset(source), target: Offset(target), length, epoch })
    }
}

/// Only over checked bytes: there a damaged run cannot be met.
impl Iterator for Runs<'_> {
    type Item = MapRun;

    fn next(&mut self) -> Option<MapRun> {
        self.step().expect("the segment was written here or checked when it was loaded")
    }
}
