//! The last segment, still growing.

use bytes::Bytes;

use super::place::Place;
use super::run::MapRun;
use super::segment::{self, Cursor, LIMIT_BYTES, RUN_LIMIT_BYTES, Sealed};
use crate::model::Offset;

/// A segment whose last run may still become longer, so that one is kept apart and written at the end.
#[derive(Debug, Clone)]
pub(super) struct Open {
    base: Place,
    /// Header and all runs but the last.
    written: Vec<u8>,
    /// What the last run is coded against.
    cursor: Cursor,
    last: MapRun,
}

impl Open {
    /// A segment of one run.
    pub fn new(first: MapRun) -> Self {
        let mut written = Vec::new();
        segment::put_header(&first, &mut written);
        Self { base: first.start(), written, cursor: Cursor::at_start_of(&first), last: first }
    }

    /// A segment of runs that fit into one; `None` if there are none.
    pub fn from_runs(mut runs: impl Iterator<Item = MapRun>) -> Option<Self> {
        let mut open = Open::new(runs.next()?);
        for run in runs {
            open.write_last();
            open.last = run;
        }
        Some(open)
    }

    /// What of a segment's runs lies before the target offset `end`.
    pub fn cut(runs: impl Iterator<Item = MapRun>, end: Offset) -> Option<Self> {
        let kept = runs.take_while(|run| run.target < end);
        Self::from_runs(kept.map(|run| MapRun { length: run.length.min(end - run.target), ..run }))
    }

    pub fn base(&self) -> Place {
        self.base
    }

    pub fn last(&self) -> MapRun {
        self.last
    }

    /// Adds a run that lies behind the last one, or lengthens that. Returns the full segment when `run` begins another.
    pub fn push(&mut self, run: MapRun) -> Option<Sealed> {
        if self.last.joins(&run) {
            self.last.length += run.length;
            return None;
        }
        self.write_last();
        if self.written.len() + RUN_LIMIT_BYTES > LIMIT_BYTES {
            let full = std::mem::replace(self, Open::new(run));
            return Some(Sealed { base: full.base, bytes: full.written.into_boxed_slice().into() });
        }
        self.last = run;
        None
    }

    fn write_last(&mut self) {
        segment::put_run(&self.last, self.cursor, &mut self.written);
        self.cursor = Cursor::behind(&self.last);
    }

    /// All of it as stored.
    pub fn encode(&self) -> Bytes {
        let mut all = Vec::with_capacity(self.written.len() + RUN_LIMIT_BYTES);
        all.extend_from_slice(&self.written);
        segment::put_run(&self.last, self.cursor, &mut all);
        all.into()
    }

    /// All runs in order.
    pub fn runs(&self) -> impl Iterator<Item = MapRun> + '_ {
        segment::read_checked(&self.written).chain(std::iter::once(self.last))
    }
}
