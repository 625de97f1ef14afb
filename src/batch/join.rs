//! Tiny batches that follow each other, joined into one: a produce request takes one batch per partition, so each costs a
//! request of its own otherwise.
//!
//! Checksums are verified, lengths and deltas written anew, and every record's attributes, key, value, headers and time
//! moved as they are.

use crate::batch::record::{Frame, Frames, open};
use crate::batch::repack::Survivors;
use crate::batch::varint::LONGEST;
use crate::batch::{Codec, Malformed, RawBatch};
use crate::model::{EncodedBatch, LeaderEpoch, Run};

/// How much longer a record may get by other deltas: its timestamp's, its offset's and with them its length.
const RECORD_GROWS: usize = LONGEST + 5 + 1;

/// Batches on the way to become one. What was taken in is not opened before a second one follows.
#[derive(Debug)]
pub struct Join {
    first: EncodedBatch,
    codec: Codec,
    plain_bytes_max: usize,
    joined: Option<Survivors>,
    parts: u32,
}

impl Join {
    /// Begins with a batch; `None` when it can be joined with nothing, its codec being unknown. The whole will have at
    /// most `plain_bytes_max` bytes before compression, header included.
    pub fn begin(first: EncodedBatch, plain_bytes_max: usize) -> Option<Join> {
        let codec = RawBatch::parse(first.bytes.clone()).ok()?.header.attributes.codec().ok()?;
        Some(Join { first, codec, plain_bytes_max, joined: None, parts: 1 })
    }

    /// Takes the batch that comes next at the source, holes between them allowed. `false`, and nothing is changed: it does
    /// not go together with those before it (another codec or source leader epoch) or would make the whole too large.
    ///
    /// # Errors
    /// When it, or the first one, cannot be read; nothing is changed then. Sent on its own such a batch meets the target's
    /// check, which names the damage.
    pub fn take(&mut self, next: &EncodedBatch) -> Result<bool, Malformed> {
        let part = RawBatch::parse(next.bytes.clone())?;
        if next.leader_epoch != self.first.leader_epoch || part.header.attributes.codec() != Ok(self.codec) {
            return Ok(false);
        }
        let joined = match &mut self.joined {
            Some(joined) => joined,
            None => {
                let first = RawBatch::parse(self.first.bytes.clone())?;
                let mut joined = Survivors::new(self.codec);
                if !append(&mut joined, &first, &self.first.runs, self.plain_bytes_max)? {
                    return Ok(false);
                }
                self.joined.insert(joined)
            }
        };
        let taken = append(joined, &part, &next.runs, self.plain_bytes_max)?;
        self.parts += u32::from(taken);
        Ok(taken)
    }

    /// How many batches were taken in, the first one included.
    pub fn parts(&self) -> u32 {
        self.parts
    }

    /// The one batch; the first one as it was when no other was taken in.
    pub fn finish(self) -> EncodedBatch {
        let Join { first, joined, parts, .. } = self;
        let epoch: LeaderEpoch = first.leader_epoch;
        match joined.filter(|_| parts > 1).and_then(|joined| joined.finish(epoch)) {
            Some(joined) => joined,
            None => first,
        }
    }
}

/// Appends all records of a dense batch, or none.
fn append(to: &mut Survivors, part: &RawBatch, runs: &[Run], plain_bytes_max: usize) -> Result<bool, Malformed> {
    let mut read = || {
        let section = open(part)?;
        let most = to.plain_bytes() + section.len() + part.header.count as usize * RECORD_GROWS;
        if most > plain_bytes_max {
            return Ok(false);
        }
        // Looked through before anything is moved: a flaw in the middle must not leave half a batch behind.
        let frames: Vec<Frame<'_>> = Frames::new(&part.header, &section).collect::<Result<_, _>>()?;
        let sources = runs.iter().flat_map(|run| (0..run.length).map(|n| run.start + n.into()));
        sources.zip(&frames).for_each(|(source, frame)| to.push(source, frame));
        Ok(true)
    };
    read().map_err(|flaw: crate::batch::Flaw| flaw.at(part.header.base_offset))
}
