//! Sequence numbers of compare-and-append: which one the next batch carries, and how they wrap.

use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::{Offset, ProducerIdentity, TopicPartition};

/// The sequence of a batch's first record, `0..=i32::MAX`; behind the largest comes 0 (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence(i32);

const MODULUS: i64 = 1 << 31;

impl Sequence {
    /// The start every owner agrees on when the leader holds no state: the log end, modulo 2³¹.
    pub fn at_end(end: Offset) -> Self {
        Self(i32::try_from(end.0.rem_euclid(MODULUS)).expect("a remainder of 2^31 fits"))
    }

    /// The sequence behind `last`, the last one the leader has seen; −1 (a marker without data) is followed by 0.
    pub fn after(last: i32) -> Self {
        Self(last.wrapping_add(1) & i32::MAX)
    }

    /// The sequence `records` later.
    pub fn advance(self, records: u32) -> Self {
        let next = (i64::from(self.0) + i64::from(records)) % MODULUS;
        Self(i32::try_from(next).expect("a remainder of 2^31 fits"))
    }

    /// The number as a batch header carries it.
    pub fn number(self) -> i32 {
        self.0
    }
}

/// What a leader remembers of one producer id on a partition (DescribeProducers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProducerState {
    /// The producer's epoch. Wider than on the wire of batches, as the broker reports it.
    pub epoch: i32,
    /// Sequence of the last record appended under it; −1 after a marker without data.
    pub last_sequence: i32,
}

/// Where a writer starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Sequence of the first record.
    pub sequence: Sequence,
    /// Whether the leader already guards this identity.
    pub guarded: bool,
}

/// Decides the first sequence of a writer at `end`.
///
/// A higher epoch than ours is a fence (KIP-98: an older epoch can never append again), so it is an error of kind
/// `Fenced`. A lower one is the identity's past: a new epoch must begin at 0.
pub(super) fn start(
    at: &TopicPartition,
    ours: ProducerIdentity,
    end: Offset,
    state: Option<ProducerState>,
) -> Result<Start> {
    match state {
        None => Ok(Start { sequence: Sequence::at_end(end), guarded: false }),
        Some(state) if state.epoch > i32::from(ours.epoch) => Err(Error::new(
            ErrorKind::Fenced,
            format!(
                "{at}: producer {} was fenced at epoch {} and ours is {}: a hand-over or a newer owner stands",
                ours.id, state.epoch, ours.epoch
            ),
        )),
        Some(state) if state.epoch < i32::from(ours.epoch) => Ok(Start { sequence: Sequence(0), guarded: false }),
        Some(state) => Ok(Start { sequence: Sequence::after(state.last_sequence), guarded: true }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OURS: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };

    fn started(end: i64, state: Option<(i32, i32)>) -> Result<Start> {
        let state = state.map(|(epoch, last_sequence)| ProducerState { epoch, last_sequence });
        start(&TopicPartition::new("orders", 3), OURS, Offset(end), state)
    }

    #[test]
    fn the_largest_sequence_is_followed_by_zero() {
        assert_eq!(Sequence::after(i32::MAX), Sequence(0));
        assert_eq!(Sequence(i32::MAX).advance(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).advance(5), Sequence(3));
        assert_eq!(Sequence::at_end(Offset((1 << 31) + 9)), Sequence(9));
    }

    #[test]
    fn without_state_all_owners_start_at_the_same_sequence() {
        assert_eq!(started(1234, None).unwrap(), Start { sequence: Sequence(1234), guarded: false });
    }

    #[test]
    fn the_leaders_state_is_continued_whatever_the_end_is() {
        assert_eq!(started(1234, Some((3, 99))).unwrap(), Start { sequence: Sequence(100), guarded: true });
        assert_eq!(started(1234, Some((3, -1))).unwrap(), Start { sequence: Sequence(0), guarded: true });
    }

    #[test]
    fn a_higher_epoch_is_a_fence_and_a_lower_one_starts_anew() {
        let fenced = started(1, Some((4, 0))).unwrap_err();
        assert_eq!(fenced.kind, ErrorKind::Fenced);
        assert!(fenced.message.contains("orders/3"), "{fenced}");
        assert_eq!(started(5, Some((2, 77))).unwrap(), Start { sequence: Sequence(0), guarded: false });
    }

    proptest! {
        #[test]
        fn advancing_in_steps_equals_advancing_at_once(end in 0i64..1 << 40, steps in prop::collection::vec(1u32..1 << 20, 0..50)) {
            let total: i64 = steps.iter().copied().map(i64::from).sum();
            let stepped = steps.iter().fold(Sequence::at_end(Offset(end)), |at, step| at.advance(*step));
            prop_assert_eq!(stepped, Sequence::at_end(Offset(end + total)));
            prop_assert!(stepped.number() >= 0);
        }
    }
}
