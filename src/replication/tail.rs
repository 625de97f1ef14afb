//! Takes over what a crash left behind the map's end: reads both sides in step and extends the map by what matches.

use std::collections::VecDeque;

use crate::endpoint::{Error, ErrorKind, PointReader, RecordDigest, Result, View};
use crate::model::{LeaderEpoch, Offset, OffsetRange, Run, TopicPartition};
use crate::offsets::OffsetMap;
use crate::policy::hole::HoleSearch;
use crate::policy::tail::{TailMatch, Verdict};

/// Bytes asked for at a time on each side; bounds the memory of a tail of any length.
const CHUNK_BYTES: u32 = 1 << 20;

/// A partition read forward record by record, a chunk at a time.
pub(super) struct Cursor<'a> {
    reader: &'a dyn PointReader,
    at: &'a TopicPartition,
    view: View,
    /// What is still to be read.
    rest: OffsetRange,
    chunk: VecDeque<RecordDigest>,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(reader: &'a dyn PointReader, at: &'a TopicPartition, view: View, range: OffsetRange) -> Self {
        Self { reader, at, view, rest: range, chunk: VecDeque::new() }
    }

    /// The next record without consuming it; `None` at the end of the range. `Retryable` when the range cannot be read whole.
    pub(super) async fn peek(&mut self) -> Result<Option<RecordDigest>> {
        while self.chunk.is_empty() && !self.rest.is_empty() {
            let window = self.reader.read(self.at, self.rest, self.view, CHUNK_BYTES).await?;
            if window.range.is_empty() {
                // The bounds were proven before: who shows less is a leader that was just elected, or lost what was there.
                let message = format!("{} no longer shows offset {}: looking again", self.at, self.rest.start);
                return Err(Error::new(ErrorKind::Retryable, message));
            }
            self.rest = OffsetRange::new(window.range.end, self.rest.end);
            self.chunk = window.records.into();
        }
        Ok(self.chunk.front().copied())
    }

    /// The hashes of all that is left.
    async fn hashes(&mut self) -> Result<Vec<u64>> {
        let mut hashes = Vec::new();
        while let Some(record) = self.peek().await? {
            hashes.push(record.hash);
            self.consume();
        }
        Ok(hashes)
    }

    pub(super) fn consume(&mut self) {
        self.chunk.pop_front();
    }

    /// Runs a search over what comes next, without consuming it; what is not in memory is read and dropped again.
    async fn search(&self, mut search: HoleSearch) -> Result<HoleSearch> {
        for record in &self.chunk {
            if search.look(*record).is_break() {
                return Ok(search);
            }
        }
        let mut further = Cursor::new(self.reader, self.at, self.view, self.rest);
        while let Some(record) = further.peek().await? {
            if search.look(record).is_break() {
                break;
            }
            further.consume();
        }
        Ok(search)
    }
}

/// What became of a tail.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct TailReport {
    pub(super) matched: u64,
    pub(super) duplicated: u64,
    pub(super) unverifiable: u64,
    /// First target offset that is not ours, if any; the map then ends before it.
    pub(super) foreign: Option<Offset>,
}

/// Matches `target` (from the map's end on) with `source` (from the map's position on) and extends the map.
///
/// Source records below `vanished_below` may be gone although they were copied.
/// `before` is what lies on the target right before the tail, read only where something is not known otherwise.
/// With `accept_foreign` (an operator's decision) strangers' records are passed over instead of ending the match.
pub(super) async fn take_over(
    map: &mut OffsetMap,
    source: &mut Cursor<'_>,
    target: &mut Cursor<'_>,
    before: &mut Cursor<'_>,
    vanished_below: Offset,
    accept_foreign: bool,
) -> Result<TailReport> {
    let mut tail = TailMatch::new(map.position(), vanished_below);
    let mut report = TailReport::default();
    let mut pending = Pending::default();
    let mut accounted = map.target_end();
    let mut position = map.position();
    while let Some(written) = target.peek().await? {
        let hole = u64::try_from(written.offset - accounted).unwrap_or(0);
        accounted = written.offset + 1;
        if hole > 0 {
            let lost = source.search(HoleSearch::new(written, hole, position)).await?.lost();
            // As far back as they can have stood: whoever goes back to the source from within the hole skips none of them.
            for before in (1..=lost).rev() {
                let Some(read) = source.peek().await? else { break };
                pending.push(map, read, written.offset + -(before as i64));
                report.unverifiable += 1;
                source.consume();
            }
        }
        let read = source.peek().await?;
        let mut verdict = tail.judge(written, read);
        if verdict == Verdict::Foreign && !before.rest.is_empty() {
            tail.remember(before.hashes().await?.into_iter());
            verdict = tail.judge(written, read);
        }
        match verdict {
            Verdict::Matched(read) => {
                report.matched += 1;
                pending.push(map, read, written.offset);
                position = read.offset + 1;
                source.consume();
            }
            Verdict::Duplicate => report.duplicated += 1,
            Verdict::Unverifiable => report.unverifiable += 1,
            Verdict::Foreign if accept_foreign => {}
            Verdict::Foreign => {
                report.foreign = Some(written.offset);
                break;
            }
        }
        target.consume();
    }
    pending.settle(map);
    Ok(report)
}

/// Matched records that lie side by side on both sides, not yet in the map.
#[derive(Default)]
struct Pending {
    run: Option<(Run, Offset, LeaderEpoch)>,
}

impl Pending {
    fn push(&mut self, map: &mut OffsetMap, source: RecordDigest, target: Offset) {
        if let Some((run, start, epoch)) = &mut self.run
            && run.start + i64::from(run.length) == source.offset
            && *start + i64::from(run.length) == target
            && *epoch == source.leader_epoch
            && run.length < u32::MAX
        {
            run.length += 1;
            return;
        }
        self.settle(map);
        self.run = Some((Run { start: source.offset, length: 1 }, target, source.leader_epoch));
    }

    fn settle(&mut self, map: &mut OffsetMap) {
        if let Some((run, target, epoch)) = self.run.take() {
            let range = OffsetRange::new(map.position(), run.start + i64::from(run.length));
            map.extend(range, &[run], target, epoch);
        }
    }
}
