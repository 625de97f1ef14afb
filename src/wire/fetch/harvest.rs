//! What a fetch brought: sliced, handed to the readers, and each cursor sent where it goes on.

use std::collections::VecDeque;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::PartitionData;
use tokio::time::Instant;

use crate::endpoint::{Error, ErrorKind};
use crate::model::{Batch, Offset, Payload};
use crate::runtime::memory::{Permit, Reservation};
use crate::wire::fetch::Shared;
use crate::wire::fetch::bounds;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::desk::{Doubt, Mail};
use crate::wire::fetch::exchange::Answers;
use crate::wire::fetch::feed::{OVERHEAD_BYTES, Unread};
use crate::wire::fetch::slice::{Aborted, Slices, slice};
use crate::wire::fetch::verdict::{Verdict, verdict};

/// A section smaller than this part of its frame is copied out: a reader who stalls on it shall not pin the rest.
const PINNED_PART: u64 = 8;

/// The harvest of one fetch.
pub(super) struct Harvest<'a> {
    shared: &'a Shared,
}

impl<'a> Harvest<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared }
    }

    /// Hands out what came to the cursors at the places `asked` in the ring, and answers the ring turned: one that was
    /// asked stays in front only if others came before it and left no room. So every fetch serves the first that has
    /// anything, and that one whole: no partition starves, however large its batches.
    pub(super) fn bring_in(
        &self,
        ring: VecDeque<Box<Cursor>>,
        asked: &[usize],
        answers: Answers,
        reservation: Reservation,
    ) -> VecDeque<Box<Cursor>> {
        let now = Instant::now();
        bounds::hear_of_left_out(&ring, asked, &answers, now);
        if answers.partitions.is_empty() {
            return ring;
        }
        let mut waiting: Vec<Option<Box<Cursor>>> = ring.into_iter().map(Some).collect();
        let (mut back, mut yields) = (VecDeque::new(), Vec::new());
        let mut pinned_bytes = answers.bytes;
        let sections = answers.partitions.iter().filter(|(_, data)| !section(data).is_empty()).count();
        for (order, mut data) in answers.partitions {
            let place = asked[order];
            let Some(cursor) = waiting[place].take() else { continue };
            let Some(mut cursor) = self.judge(cursor, &data) else { continue };
            cursor.last_stable = Offset(data.last_stable_offset);
            bounds::hear(&cursor, &data, now);
            let section = data.records.take().unwrap_or_default();
            // Whether others may have taken the room; in an order of the broker's, any other may.
            let others = if answers.in_order { yields.len() } else { sections - usize::from(!section.is_empty()) };
            let is_crowded = others > 0;
            if section.is_empty() {
                if is_crowded {
                    waiting[place] = Some(cursor);
                } else if cursor.next < cursor.last_stable && answers.throttle.is_zero() {
                    // Room was left, yet nothing came although the stable offset is ahead: maybe a hole at the end.
                    self.shared.mail(Mail::Doubtful(cursor, Doubt::TrailingHole));
                } else {
                    back.push_back(cursor);
                }
                continue;
            }
            let (section, copy) = self.detach(section, answers.bytes);
            let slices = slice(section, cursor.next, cursor.epoch, aborted(&data));
            pinned_bytes += slices.slices.len() as u64 * OVERHEAD_BYTES;
            yields.push((cursor, slices, copy, is_crowded));
        }
        let frame = reservation.settle(pinned_bytes);
        for (cursor, slices, copy, is_crowded) in yields {
            back.extend(self.deliver(cursor, slices, copy.unwrap_or_else(|| frame.clone()), is_crowded));
        }
        waiting.into_iter().flatten().chain(back).collect()
    }

    /// Sends a partition with a problem where that is solved; answers the others back.
    fn judge(&self, mut cursor: Box<Cursor>, data: &PartitionData) -> Option<Box<Cursor>> {
        match verdict(self.shared.cluster.alias(), &cursor, data) {
            Verdict::Good => {
                cursor.recovered();
                return Some(cursor);
            }
            Verdict::Moved(broker_id, epoch) => {
                self.shared.cluster.leader_hint(&cursor.at, broker_id, epoch);
                self.shared.mail(Mail::Seeking(cursor));
            }
            Verdict::Nearer(broker_id) => self.shared.mail(Mail::Redirected(cursor, broker_id)),
            Verdict::Astray(error) => self.shared.mail(Mail::Astray(cursor, error)),
            Verdict::OutOfRange => self.shared.mail(Mail::Doubtful(cursor, Doubt::OutOfRange)),
            Verdict::Damaged(error) => self.damaged(cursor, error),
            Verdict::Fatal(error) => cursor.feed.fail(error),
        }
        None
    }

    fn damaged(&self, mut cursor: Box<Cursor>, error: Error) {
        if cursor.is_damaged_again() {
            cursor.feed.fail(error);
        } else {
            self.shared.mail(Mail::Astray(cursor, error));
        }
    }

    /// Copies a small section out of a large frame, under memory of its own, if there is some.
    fn detach(&self, section: Bytes, frame_bytes: u64) -> (Bytes, Option<Permit>) {
        let bytes = section.len() as u64;
        if bytes * PINNED_PART >= frame_bytes {
            return (section, None);
        }
        match self.shared.budget.try_reserve(bytes) {
            Some(reservation) => (Bytes::copy_from_slice(&section), Some(reservation.settle(bytes))),
            None => (section, None),
        }
    }

    /// Passes slices on to the reader; answers the cursor back if it can go on here.
    fn deliver(
        &self,
        mut cursor: Box<Cursor>,
        slices: Slices,
        permit: Permit,
        is_crowded: bool,
    ) -> Option<Box<Cursor>> {
        let progressed = slices.next > cursor.next;
        if progressed {
            let batches = slices.slices.into_iter().map(|slice| {
                let permit = matches!(slice.payload, Payload::Batches(_)).then(|| permit.clone());
                let batch = Batch { range: slice.range, payload: slice.payload, permit };
                Unread { batch, epoch_below: slice.epoch_below }
            });
            let batches = batches.collect();
            cursor.advance(slices.next, slices.epoch, batches);
        }
        let what = || format!("{}: {}", self.shared.cluster.alias(), cursor.at);
        let error = match slices.flaw {
            Some(flaw) => Error::new(ErrorKind::Corrupt, format!("{}: {flaw}", what())),
            // Brokers since 0.10.1 send the first batch of a response whole (KIP-74).
            None if !progressed && !is_crowded => {
                let sentence = format!("{}: only part of the batch at offset {} was sent", what(), cursor.next);
                Error::new(ErrorKind::Corrupt, sentence)
            }
            None => return Some(cursor),
        };
        self.damaged(cursor, error);
        None
    }
}

fn section(data: &PartitionData) -> &[u8] {
    data.records.as_deref().unwrap_or_default()
}

fn aborted(data: &PartitionData) -> Vec<Aborted> {
    let listed = data.aborted_transactions.iter().flatten();
    listed.map(|a| Aborted { producer_id: a.producer_id.0, first: Offset(a.first_offset) }).collect()
}
