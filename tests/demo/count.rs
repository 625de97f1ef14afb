//! What became of every order, counted from the ids inside the records.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::{Duration, Instant};

use crate::support::load::Written;

/// One order as a consumer got it.
#[derive(Debug, Clone, Copy)]
pub struct Read {
    /// The id inside the record.
    pub id: u64,
    /// When the application had it.
    pub at: Instant,
}

/// What a group read: first at the source, then on the target.
pub struct Reads {
    /// At the source.
    pub source: Vec<Read>,
    /// On the target.
    pub target: Vec<Read>,
}

/// What one producer wrote to its topic, and the ids on the twin by partition, in the order of the log.
pub struct Topic<'a> {
    /// By every process that wrote to it, one after the other; ids grow with the log.
    pub written: &'a [Written],
    /// All that a consumer of the twin can see.
    pub twin: BTreeMap<i32, Vec<u64>>,
}

/// The counts of an act.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders on the twin.
    pub on_twin: u64,
    /// Acknowledged at the source, behind the twin's end.
    pub not_yet: u64,
    /// Acknowledged at the source, before the twin's end, and not on the twin.
    pub lost: u64,
    /// On the twin more than once or out of order.
    pub disordered: u64,
    /// On the twin although their transaction was aborted.
    pub aborted_shown: u64,
    /// In transactions that were aborted.
    pub aborted: u64,
    /// On the twin, and read by the group on neither side.
    pub skipped: u64,
    /// Read by the group on the target although it had read them before.
    pub reread: u64,
    /// How long before `until` the oldest of these had been read.
    pub oldest_reread: Option<Duration>,
}

impl Counts {
    /// Counts everything. `until` is the moment the group stopped at the source.
    pub fn of(topics: &[Topic<'_>], reads: &Reads, until: Instant) -> Counts {
        let mut counts = Counts::default();
        let at_source: HashMap<u64, Instant> = reads.source.iter().map(|r| (r.id, r.at)).collect();
        let mut seen: HashSet<u64> = at_source.keys().copied().collect();
        for read in &reads.target {
            if !seen.insert(read.id) {
                counts.reread += 1;
                let age = at_source.get(&read.id).map(|at| until.saturating_duration_since(*at));
                counts.oldest_reread = counts.oldest_reread.max(age);
            }
        }
        for topic in topics {
            for (partition, twin) in &topic.twin {
                counts.partition(topic.written, *partition, twin, &seen);
            }
        }
        counts
    }

    fn partition(&mut self, written: &[Written], partition: i32, twin: &[u64], read: &HashSet<u64>) {
        let there: HashSet<u64> = twin.iter().copied().collect();
        let end = twin.iter().max();
        self.on_twin += twin.len() as u64;
        self.disordered += twin.windows(2).filter(|pair| pair[0] >= pair[1]).count() as u64;
        self.skipped += there.iter().filter(|id| !read.contains(id)).count() as u64;
        for written in written {
            let missing = written.acknowledged.get(&partition).into_iter().flatten().filter(|id| !there.contains(id));
            for id in missing {
                *if Some(id) > end { &mut self.not_yet } else { &mut self.lost } += 1;
            }
            let aborted = written.aborted.get(&partition).into_iter().flatten();
            self.aborted += aborted.clone().count() as u64;
            self.aborted_shown += aborted.filter(|id| there.contains(id)).count() as u64;
        }
    }

    /// Whether the promises hold that bind in any disaster.
    pub fn is_kept(&self) -> bool {
        self.lost + self.skipped + self.disordered + self.aborted_shown == 0
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { on_twin, not_yet, lost, disordered, aborted_shown, aborted, skipped, reread, oldest_reread } =
            self;
        writeln!(f, "  acknowledged at the source, not yet on the twin: {not_yet}")?;
        writeln!(f, "  for all {on_twin} orders up to the twin's end:")?;
        writeln!(f, "  lost {lost} · skipped {skipped} · re-read {reread}")?;
        if let Some(age) = oldest_reread {
            writeln!(f, "  (re-read: only what the group had read in its last {:.1} s)", age.as_secs_f64())?;
        }
        write!(f, "  doubled or out of order {disordered} · shown of {aborted} aborted orders {aborted_shown}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(acknowledged: &[u64], twin: &[u64], source: &[u64], target: &[u64]) -> Counts {
        let of = |ids: &[u64]| BTreeMap::from([(0, ids.to_vec())]);
        let written = Written { acknowledged: of(acknowledged), aborted: of(&[100]), ..Written::default() };
        let at = Instant::now();
        let read = |ids: &[u64]| ids.iter().map(|id| Read { id: *id, at }).collect();
        let topic = Topic { written: &[written], twin: of(twin) };
        Counts::of(&[topic], &Reads { source: read(source), target: read(target) }, at + Duration::from_secs(1))
    }

    #[test]
    fn what_lies_behind_the_twins_end_is_not_lost() {
        let counts = counts(&[1, 2, 3, 4], &[1, 2], &[1, 2, 3], &[]);
        assert_eq!((counts.not_yet, counts.lost, counts.is_kept()), (2, 0, true));
    }

    #[test]
    fn a_hole_in_the_twin_is_a_loss() {
        let counts = counts(&[1, 2, 3], &[1, 3], &[1, 3], &[]);
        assert_eq!((counts.not_yet, counts.lost, counts.is_kept()), (0, 1, false));
    }

    #[test]
    fn a_record_of_the_twin_that_nobody_read_is_skipped() {
        let counts = counts(&[1, 2, 3], &[1, 2, 3], &[1], &[3]);
        assert_eq!((counts.skipped, counts.reread, counts.is_kept()), (1, 0, false));
    }

    #[test]
    fn what_was_read_on_both_sides_is_re_read_with_its_age() {
        let counts = counts(&[1, 2, 3], &[1, 2, 3], &[1, 2], &[2, 3]);
        assert_eq!((counts.reread, counts.oldest_reread), (1, Some(Duration::from_secs(1))));
        assert!(counts.is_kept());
    }

    #[test]
    fn doubles_disorder_and_aborted_records_break_the_promise() {
        for twin in [&[1, 1][..], &[2, 1], &[1, 100]] {
            assert!(!counts(&[1, 2], twin, twin, &[]).is_kept(), "{twin:?}");
        }
    }
}
