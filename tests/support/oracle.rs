//! The record oracle and the group oracle: what differs between two clusters, counted.

use std::collections::HashMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::raw::{Client, Result};
use super::view::{Seen, View};

/// How a copy differs from its original; all zero for an exact twin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Visible records of the source.
    pub records: u64,
    /// Records the copy lacks although it has later ones.
    pub missing: u64,
    /// Records behind the copy's last one: not there yet, or lost.
    pub behind: u64,
    /// Records the copy has more often than the source.
    pub doubled: u64,
    /// Records the source never had.
    pub foreign: u64,
    /// Records that come before one they should follow.
    pub reordered: u64,
    /// Records whose key, value, headers or timestamp changed, or whose timestamp is the target broker's.
    pub altered: u64,
    /// The first few, for reading.
    pub examples: Vec<String>,
}

impl Difference {
    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        self.is_prefix() && self.behind == 0
    }

    /// Whether the copy is what the source begins with.
    pub fn is_prefix(&self) -> bool {
        self.missing + self.doubled + self.foreign + self.reordered + self.altered == 0
    }

    fn note(&mut self, what: &str, of: &Seen) {
        if self.examples.len() < 12 {
            self.examples.push(format!("{what}: offset {} id {:?} at {} ms", of.offset, of.id, of.timestamp));
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { records, missing, behind, doubled, foreign, reordered, altered, examples } = self;
        write!(f, "{records} records, missing {missing}, behind {behind}, doubled {doubled}, foreign {foreign}, ")?;
        write!(f, "reordered {reordered}, altered {altered}")?;
        examples.iter().try_for_each(|e| write!(f, "\n  {e}"))
    }
}

impl AddAssign for Difference {
    fn add_assign(&mut self, other: Difference) {
        self.records += other.records;
        self.missing += other.missing;
        self.behind += other.behind;
        self.doubled += other.doubled;
        self.foreign += other.foreign;
        self.reordered += other.reordered;
        self.altered += other.altered;
        self.examples.extend(other.examples);
    }
}

/// For each record of the copy, which of the original it is: the n-th of an identity is the n-th there.
fn matched(original: &[Seen], copy: &[Seen]) -> Vec<Option<usize>> {
    let mut places: HashMap<_, Vec<usize>> = HashMap::new();
    for (place, seen) in original.iter().enumerate().rev() {
        places.entry(seen.identity()).or_default().push(place);
    }
    copy.iter().map(|seen| places.get_mut(&seen.identity()).and_then(Vec::pop)).collect()
}

/// Holds a copy against its original, by identity and by position.
pub fn compare(original: &[Seen], copy: &[Seen]) -> Difference {
    // What begins alike needs no closer look: else each look at a growing log would take longer than the one before.
    let alike = original.iter().zip(copy).take_while(|(o, c)| o.is_copied_as(c)).count();
    let rest = compare_closely(&original[alike..], &copy[alike..]);
    if rest.is_prefix() {
        return Difference { records: original.len() as u64, ..rest };
    }
    compare_closely(original, copy)
}

fn compare_closely(original: &[Seen], copy: &[Seen]) -> Difference {
    let mut difference = Difference { records: original.len() as u64, ..Difference::default() };
    let places = matched(original, copy);
    let identities: std::collections::HashSet<_> = original.iter().map(Seen::identity).collect();
    let (mut there, mut furthest) = (vec![false; original.len()], None);
    for (seen, place) in copy.iter().zip(&places) {
        let Some(place) = *place else {
            if identities.contains(&seen.identity()) {
                difference.doubled += 1;
                difference.note("doubled", seen);
            } else {
                difference.foreign += 1;
                difference.note("foreign", seen);
            }
            continue;
        };
        there[place] = true;
        if furthest > Some(place) {
            difference.reordered += 1;
            difference.note("reordered", seen);
        }
        furthest = furthest.max(Some(place));
        if !original[place].is_copied_as(seen) {
            difference.altered += 1;
            difference.note("altered", seen);
        }
    }
    let end = furthest.map_or(0, |place| place + 1);
    for (place, _) in there.iter().enumerate().filter(|(_, there)| !**there) {
        if place < end {
            difference.missing += 1;
            difference.note("missing", &original[place]);
        } else {
            difference.behind += 1;
        }
    }
    difference
}

/// Both sides of a topic, read on as they grow.
#[derive(Debug)]
pub struct Twins<'a> {
    source: &'a Client,
    target: &'a Client,
    names: (String, String),
    views: Vec<(View, View)>,
}

impl<'a> Twins<'a> {
    /// A topic of the same name on both sides.
    pub fn new(source: &'a Client, target: &'a Client, topic: &str) -> Twins<'a> {
        Self::renamed(source, target, topic, topic)
    }

    /// A topic with another name on the target.
    pub fn renamed(source: &'a Client, target: &'a Client, topic: &str, copy: &str) -> Twins<'a> {
        Twins { source, target, names: (topic.to_owned(), copy.to_owned()), views: Vec::new() }
    }

    /// Reads both sides on and compares all that has been read. A target topic that is not there yet is an empty one.
    ///
    /// What compaction or retention removes later stays in the view: for such topics use fresh `Twins` for each look.
    pub fn difference(&mut self) -> Result<Difference> {
        let (topic, copy) = &self.names;
        for partition in self.views.len() as i32..self.source.partitions(topic)? {
            self.views.push((View::new(topic, partition, 0), View::new(copy, partition, 0)));
        }
        let there = self.target.partitions(copy)?;
        let mut whole = Difference::default();
        for (partition, (original, twin)) in (0..).zip(&mut self.views) {
            // The target first: what comes in meanwhile counts as behind, not as foreign.
            if partition < there {
                twin.advance(self.target)?;
            }
            original.advance(self.source)?;
            whole += compare(original.seen(), twin.seen());
        }
        Ok(whole)
    }

    /// Waits until the target is an exact twin; panics with the difference when `within` has passed, and at once when
    /// waiting cannot help (a record doubled, reordered, altered, foreign or passed over).
    #[track_caller]
    pub fn settle(&mut self, within: Duration) -> Difference {
        let deadline = Instant::now() + within;
        loop {
            let difference = self.difference().unwrap_or_else(|e| panic!("cannot compare {:?}: {e}", self.names));
            if difference.is_none() {
                return difference;
            }
            assert!(difference.is_prefix(), "{:?} is not a twin: {difference}", self.names);
            assert!(Instant::now() < deadline, "{:?} is not complete after {within:?}: {difference}", self.names);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Where a group stands on the target, held against where it stands on the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Partition, as named at the source.
    pub at: (String, i32),
    /// Whether the group has a position on the target at all.
    pub present: bool,
    /// Unread records a consumer moved to the target would never see.
    pub skipped: u64,
    /// Records it would read again.
    pub reread: u64,
}

impl Standing {
    /// Whether the first unread record is the same on both sides.
    pub fn is_exact(&self) -> bool {
        self.present && self.skipped == 0 && self.reread == 0
    }
}

/// Places of the first unread record: `source` and `target` are committed offsets. Returns (skipped, re-read).
pub fn next_records(original: &[Seen], copy: &[Seen], source: i64, target: i64) -> (u64, u64) {
    let wanted = original.partition_point(|seen| seen.offset < source);
    let places = matched(original, copy);
    let given = copy.partition_point(|seen| seen.offset < target);
    let (before, after) = places.split_at(given);
    // At the end of the copy the next one is whatever the source has behind the copy's last record.
    let next = after.iter().flatten().next().copied();
    let next = next.unwrap_or_else(|| before.iter().flatten().max().map_or(0, |last| last + 1));
    (next.saturating_sub(wanted) as u64, wanted.saturating_sub(next) as u64)
}

/// Where each record lies on both sides, of those that both have been seen to hold: for a few thousand questions about
/// one partition, also when compaction has removed records since.
#[derive(Debug, Clone)]
pub struct Places {
    /// Source and target offset of each, both ascending.
    pairs: Vec<(i64, i64)>,
}

impl Places {
    /// Matches what has been seen. Panics when the copy has another order.
    pub fn of(original: &[Seen], copy: &[Seen]) -> Places {
        let places = matched(original, copy);
        let pairs = copy.iter().zip(places).filter_map(|(seen, place)| Some((original[place?].offset, seen.offset)));
        let pairs: Vec<_> = pairs.collect();
        assert!(pairs.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1), "the copy is out of order");
        Places { pairs }
    }

    /// How many records both have been seen to hold.
    pub fn count(&self) -> usize {
        self.pairs.len()
    }

    /// Records between two positions that should be the same: (skipped, re-read) by who moves from source to target.
    pub fn between(&self, source: i64, target: i64) -> (u64, u64) {
        let wanted = self.pairs.partition_point(|pair| pair.0 < source);
        let given = self.pairs.partition_point(|pair| pair.1 < target);
        (given.saturating_sub(wanted) as u64, wanted.saturating_sub(given) as u64)
    }
}

/// The group oracle: where every position that a group has at the source stands on the target.
///
/// `rename` gives the target's name of a source topic.
pub fn standings(
    source: &Client,
    target: &Client,
    group: &str,
    rename: impl Fn(&str) -> String,
) -> Result<Vec<Standing>> {
    let there = target.committed(group)?;
    let mut all = Vec::new();
    for ((topic, partition), (offset, _)) in source.committed(group)? {
        let copy = rename(&topic);
        let (mut skipped, mut reread) = (0, 0);
        let given = there.get(&(copy.clone(), partition));
        if let Some((given, _)) = given {
            let twin = View::read(target, &copy, partition)?;
            let original = View::read(source, &topic, partition)?;
            (skipped, reread) = next_records(original.seen(), twin.seen(), offset, *given);
        }
        all.push(Standing { at: (topic, partition), present: given.is_some(), skipped, reread });
    }
    Ok(all)
}
