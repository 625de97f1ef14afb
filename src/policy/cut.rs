//! When positions that were read at the source may be published on the target: once the mirror has passed the ends that
//! the source had right after they were read, so that no group stands beyond the output its work had produced.
//!
//! Partitions that hold everybody up leave by name, and come back when they have caught up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Offset, TopicPartition};

/// Readings that wait for the mirror at a time; more are joined, so that a slow mirror costs no memory.
const PENDING_MAX: usize = 8;

/// How a partition's mirror stands, when a cut asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// It stands still until an operator decides.
    pub halted: bool,
    /// How long ago the source's end was where the mirror is now.
    pub lag: Duration,
    /// What a lag would be called.
    pub behind: Hindrance,
}

/// Why a partition is left out of the cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hindrance {
    /// It stands still until an operator decides.
    Halted,
    /// It has not attached yet.
    Attaching,
    /// Everything it lacks lies behind an open transaction.
    OpenTransaction,
    /// It is behind.
    Lagging,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hindrance::Halted => "halted",
            Hindrance::Attaching => "not attached",
            Hindrance::OpenTransaction => "open transaction",
            Hindrance::Lagging => "lagging",
        })
    }
}

/// Who is left out of the cut.
#[derive(Debug)]
pub struct Roster {
    lag_max: Duration,
    out: BTreeMap<TopicPartition, Hindrance>,
}

impl Roster {
    /// Partitions leave when they lag more than `lag_max`, and come back when they lag less than half of it.
    pub fn new(lag_max: Duration) -> Self {
        Self { lag_max, out: BTreeMap::new() }
    }

    /// Takes in how all partitions stand now; those not named are forgotten.
    pub fn see<'a>(&mut self, partitions: impl Iterator<Item = (&'a TopicPartition, Progress)>) {
        let mut out = BTreeMap::new();
        for (at, progress) in partitions {
            let limit = if self.out.contains_key(at) { self.lag_max / 2 } else { self.lag_max };
            if progress.halted {
                out.insert(at.clone(), Hindrance::Halted);
            } else if progress.lag > limit {
                out.insert(at.clone(), progress.behind);
            }
        }
        self.out = out;
    }

    /// The partitions left out, and why.
    pub fn out(&self) -> &BTreeMap<TopicPartition, Hindrance> {
        &self.out
    }
}

/// Readings that wait for the mirror, oldest first.
#[derive(Debug)]
pub struct Cuts<T> {
    pending: VecDeque<Cut<T>>,
}

#[derive(Debug)]
struct Cut<T> {
    /// Partitions that have not been seen beyond the end they had; `None`: an end nobody could tell.
    ends: BTreeMap<TopicPartition, Option<Offset>>,
    reading: T,
}

/// What was read: a later reading joins an earlier one by replacing what both have.
pub trait Reading {
    /// Takes in what was read later.
    fn join(&mut self, later: Self);
}

impl<K: Ord, V> Reading for BTreeMap<K, V> {
    fn join(&mut self, later: Self) {
        self.extend(later);
    }
}

impl<T> Default for Cuts<T> {
    fn default() -> Self {
        Self { pending: VecDeque::new() }
    }
}

impl<T: Reading> Cuts<T> {
    /// Adds a reading and the ends that the source had after it.
    pub fn push(&mut self, reading: T, ends: BTreeMap<TopicPartition, Option<Offset>>) {
        let is_full = self.pending.len() >= PENDING_MAX;
        match self.pending.back_mut() {
            Some(newest) if is_full => {
                newest.reading.join(reading);
                newest.ends = ends;
            }
            _ => self.pending.push_back(Cut { ends, reading }),
        }
    }

    /// The partitions whose ends nobody could tell.
    pub fn untold(&self) -> BTreeSet<TopicPartition> {
        let ends = self.pending.iter().flat_map(|cut| &cut.ends);
        ends.filter(|(_, end)| end.is_none()).map(|(at, _)| at.clone()).collect()
    }

    /// Takes in ends that were asked for after all readings.
    pub fn tell(&mut self, told: &BTreeMap<TopicPartition, Offset>) {
        for (at, end) in self.pending.iter_mut().flat_map(|cut| &mut cut.ends) {
            *end = end.or_else(|| told.get(at).copied());
        }
    }

    /// Waits for these partitions only: the others are gone.
    pub fn wait_only_for(&mut self, is_there: impl Fn(&TopicPartition) -> bool) {
        self.pending.iter_mut().for_each(|cut| cut.ends.retain(|at, _| is_there(at)));
    }

    /// Whether a reading waits.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes everything whose ends the mirror has passed, by the position it has in each partition (`None`: unknown) and
    /// without waiting for those that are out. `None` when there is no such reading.
    pub fn take_passed(&mut self, roster: &Roster, position: impl Fn(&TopicPartition) -> Option<Offset>) -> Option<T> {
        let mut passed: Option<T> = None;
        while let Some(cut) = self.pending.front_mut() {
            cut.ends.retain(|at, end| {
                let is_passed = end.is_some_and(|end| position(at).is_some_and(|position| position >= end));
                !is_passed && !roster.out.contains_key(at)
            });
            if !cut.ends.is_empty() {
                break;
            }
            let cut = self.pending.pop_front().expect("it is in front");
            match &mut passed {
                Some(earlier) => earlier.join(cut.reading),
                None => passed = Some(cut.reading),
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = BTreeMap<&'static str, i32>;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("orders", partition)
    }

    fn behind(lag: Duration) -> Progress {
        Progress { halted: false, lag, behind: Hindrance::Lagging }
    }

    fn ends<const N: usize>(ends: [i64; N]) -> BTreeMap<TopicPartition, Option<Offset>> {
        (0..).zip(ends).map(|(p, end)| (at(p), Some(Offset(end)))).collect()
    }

    fn take(cuts: &mut Cuts<Read>, roster: &Roster, positions: &[i64]) -> Option<Read> {
        cuts.take_passed(roster, |at| positions.get(at.partition as usize).copied().map(Offset))
    }

    #[test]
    fn a_reading_waits_until_every_partition_has_passed_its_end() {
        let (mut cuts, roster) = (Cuts::default(), Roster::new(10 * SECOND));
        cuts.push(Read::from([("billing", 1)]), ends([5, 7]));
        cuts.push(Read::from([("billing", 2), ("audit", 2)]), ends([6, 9]));
        assert_eq!(take(&mut cuts, &roster, &[5, 6]), None);
        assert_eq!(take(&mut cuts, &roster, &[5, 7]), Some(Read::from([("billing", 1)])));
        assert_eq!(take(&mut cuts, &roster, &[6, 8]), None);
        assert!(cuts.is_waiting());
        assert_eq!(take(&mut cuts, &roster, &[6, 9]), Some(Read::from([("audit", 2), ("billing", 2)])));
        assert!(!cuts.is_waiting());
    }

    #[test]
    fn of_several_passed_readings_the_newest_counts() {
        let (mut cuts, roster) = (Cuts::default(), Roster::new(10 * SECOND));
        cuts.push(Read::from([("billing", 1), ("audit", 1)]), ends([5]));
        cuts.push(Read::from([("billing", 2)]), ends([6]));
        assert_eq!(take(&mut cuts, &roster, &[9]), Some(Read::from([("audit", 1), ("billing", 2)])));
    }

    #[test]
    fn readings_beyond_the_bound_are_joined_under_the_later_ends() {
        let (mut cuts, roster) = (Cuts::default(), Roster::new(10 * SECOND));
        for n in 0..1_000 {
            cuts.push(Read::from([("billing", n)]), ends([i64::from(n)]));
        }
        assert_eq!(cuts.pending.len(), PENDING_MAX);
        assert_eq!(take(&mut cuts, &roster, &[998]), Some(Read::from([("billing", PENDING_MAX as i32 - 2)])));
        assert_eq!(take(&mut cuts, &roster, &[999]), Some(Read::from([("billing", 999)])));
    }

    #[test]
    fn an_end_nobody_could_tell_is_waited_for_until_it_is_told_or_out_or_gone() {
        let (mut cuts, mut roster) = (Cuts::default(), Roster::new(10 * SECOND));
        let untold = || (Read::from([("billing", 1)]), BTreeMap::from([(at(0), None)]));
        cuts.push(untold().0, untold().1);
        assert_eq!(take(&mut cuts, &roster, &[i64::MAX]), None);
        assert_eq!(cuts.untold(), BTreeSet::from([at(0)]));
        cuts.tell(&BTreeMap::from([(at(0), Offset(7))]));
        assert_eq!(take(&mut cuts, &roster, &[6]), None);
        assert_eq!(take(&mut cuts, &roster, &[7]), Some(Read::from([("billing", 1)])));
        cuts.push(untold().0, untold().1);
        cuts.wait_only_for(|at| at.partition != 0);
        assert_eq!(take(&mut cuts, &roster, &[]), Some(Read::from([("billing", 1)])));
        cuts.push(untold().0, untold().1);
        roster.see([(&at(0), behind(11 * SECOND))].into_iter());
        assert_eq!(take(&mut cuts, &roster, &[0]), Some(Read::from([("billing", 1)])));
    }

    #[test]
    fn laggards_leave_by_name_and_come_back_below_half() {
        let mut roster = Roster::new(10 * SECOND);
        for (lag, is_out) in [(9, false), (11, true), (9, true), (6, true), (4, false), (9, false)] {
            roster.see([(&at(0), behind(lag * SECOND))].into_iter());
            assert_eq!(roster.out().contains_key(&at(0)), is_out, "{lag} s");
        }
        let halted = Progress { halted: true, ..behind(Duration::ZERO) };
        roster.see([(&at(0), halted)].into_iter());
        assert_eq!(roster.out(), &BTreeMap::from([(at(0), Hindrance::Halted)]));
        roster.see(std::iter::empty());
        assert!(roster.out().is_empty(), "a partition that is gone");
    }
}
