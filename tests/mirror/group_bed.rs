//! A bed for scenarios of groups: one topic, one group, a link that carries both; what Twinlog says of the group, and the
//! orders it takes about it.

use std::collections::BTreeMap;
use std::process::Output;

use serde::Deserialize;

use super::groups::{exact, passes};
use super::*;
use crate::support::{shared_pair, until, until_some};

/// What the source has before the first order that anybody reads, so that offsets differ between the sides: an aborted
/// transaction and its marker.
const ABORTED: u64 = 5;
/// Source offset of the first order.
pub const FIRST: i64 = ABORTED as i64 + 1;

/// A topic of one partition with 100 orders, mirrored, and a group that somebody commits for at the source.
pub struct Bed<'a> {
    pub source: &'a Cluster,
    pub target: &'a Cluster,
    pub topic: String,
    pub group: String,
    pub mirror: Twinlog,
}

impl Bed<'static> {
    /// Between the shared clusters, with these lines in the link's table.
    pub fn new(lines: &[&str]) -> Bed<'static> {
        Bed::beside(&[], lines)
    }

    /// The same link also mirrors other topics, which exist at the source.
    pub fn beside(topics: &[&str], lines: &[&str]) -> Bed<'static> {
        Bed::between(shared_pair(), topics, |setup| lines.iter().fold(setup, |setup, line| setup.line(line)))
    }
}

impl<'a> Bed<'a> {
    /// Between any two clusters, by a link that is changed at will; Twinlog runs and has copied everything.
    pub fn between(
        (source, target): (&'a Cluster, &'a Cluster),
        topics: &[&str],
        change: impl FnOnce(Setup) -> Setup,
    ) -> Bed<'a> {
        let (topic, group) = (unique("topic"), unique("group"));
        source.client().create_topic(&topic, 1, &[]).unwrap();
        fill(source, &topic, 100);
        // Some passes a second: a scenario waits for many of them.
        let setup = link(source, target, &[&[topic.as_str()], topics].concat(), &[&group]);
        let mirror = twinlog(change(setup.line("intervals = { groups = \"100ms\" }")));
        mirror.start_ready();
        twins(source, target, &topic).settle(SOON);
        Bed { source, target, topic, group, mirror }
    }

    /// Commits at the source that the group has read so many orders.
    pub fn commit(&self, read: i64) {
        self.source.client().commit_offsets(&self.group, &[(&self.topic, 0, FIRST + read)], "").unwrap();
    }

    /// The same, and waits until the target has it.
    #[track_caller]
    pub fn carry(&self, read: i64) {
        self.commit(read);
        self.becomes_exact();
        assert_eq!(self.there(), Some(read));
    }

    /// Waits until the group stands before the same record on both sides.
    #[track_caller]
    pub fn becomes_exact(&self) {
        until(SOON, "the position is exact", || exact(self.source, self.target, &self.group));
    }

    /// How many orders the group has read by its position on the target.
    pub fn there(&self) -> Option<i64> {
        positions(self.target, &self.group).get(&(self.topic.clone(), 0)).copied()
    }

    /// Waits until Twinlog says this of the group.
    #[track_caller]
    pub fn is_told_to_be(&self, verdict: &str) {
        until(SOON, &format!("{} is {verdict:?}", self.group), || self.told().verdict == verdict);
    }

    /// Waits until Twinlog knows by its ledger that the group is synced, with so many orders read.
    #[track_caller]
    pub fn is_confirmed(&self, read: i64) {
        until(SOON, &format!("{} is synced at {read}", self.group), || {
            let told = self.told();
            // Of a group that has not been looked at yet it knows no partition.
            let position = told.find(&self.topic, 0).and_then(|position| position.target_offset);
            told.verdict == "synced" && position == Some(read)
        });
    }

    /// What Twinlog says of the group.
    #[track_caller]
    pub fn told(&self) -> Told {
        until_some(SOON, "the group is listed", || told(&self.mirror, &self.group))
    }

    /// What Twinlog says of the group's only partition.
    #[track_caller]
    pub fn partition(&self) -> PartitionTold {
        self.told().partition(&self.topic, 0)
    }

    /// Waits until whatever a pass would do from now on has been done.
    #[track_caller]
    pub fn a_pass_later(&self) {
        a_pass_later(&self.mirror);
    }
}

impl Drop for Bed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some((_, groups)) = self.mirror.get(&format!("/v1/links/{}/groups", self.mirror.link()))
        {
            eprintln!("{} said of its groups: {groups}", self.mirror.link());
        }
    }
}

/// An aborted transaction and then orders, counted from 0.
pub fn fill(source: &Cluster, topic: &str, count: u64) {
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    let mut transaction = producer.begin();
    transaction.send(topic, 0, &Batch::of(orders(1 << 40..(1 << 40) + ABORTED), Codec::None)).unwrap();
    transaction.abort().unwrap();
    // The marker is written behind the answer to the abort.
    let end = || source.client().bounds(topic, 0).unwrap().1;
    until(SOON, "the abort is in the log", || end() == FIRST);
    write(source.client(), topic, 0, orders(0..count), Codec::Lz4);
}

/// A group's committed offsets.
pub fn positions(cluster: &Cluster, group: &str) -> BTreeMap<(String, i32), i64> {
    let committed = cluster.client().committed(group).unwrap();
    committed.into_iter().map(|(at, (offset, _))| (at, offset)).collect()
}

/// Waits until whatever a group pass would do from now on has been done.
#[track_caller]
pub fn a_pass_later(mirror: &Twinlog) {
    let seen = passes(mirror);
    until(SOON, "a whole pass is over", || passes(mirror) >= seen + 2.0);
}

/// A group in `/v1/links/LINK/groups`.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    group: String,
    pub verdict: String,
    pub detail: Option<String>,
    pub cut_without: Vec<String>,
    pub re_read_records: Option<u64>,
    pub skip_records: Option<u64>,
    pub at_risk_records: Option<u64>,
    pub lost_records: Option<u64>,
    pub partitions: Vec<PartitionTold>,
}

/// One of its partitions.
#[derive(Debug, Clone, Deserialize)]
pub struct PartitionTold {
    source: At,
    pub source_offset: Option<i64>,
    pub target_offset: Option<i64>,
    pub verdict: String,
    pub re_read_records: Option<u64>,
    pub skip_records: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct At {
    topic: String,
    partition: i32,
}

impl Told {
    /// What is said of a partition, as named at the source; `None` when nothing is.
    pub fn find(&self, topic: &str, partition: i32) -> Option<PartitionTold> {
        let is = |told: &&PartitionTold| (told.source.topic.as_str(), told.source.partition) == (topic, partition);
        self.partitions.iter().find(is).cloned()
    }

    /// The same, of a partition of which something must be said.
    #[track_caller]
    pub fn partition(&self, topic: &str, partition: i32) -> PartitionTold {
        self.find(topic, partition).unwrap_or_else(|| panic!("nothing is said of {topic}/{partition}: {self:?}"))
    }
}

/// What Twinlog says of a group; `None` while it has not seen it.
pub fn told(mirror: &Twinlog, group: &str) -> Option<Told> {
    let (code, body) = mirror.get(&format!("/v1/links/{}/groups", mirror.link()))?;
    let groups: Vec<Told> = (code == 200).then(|| serde_json::from_str(&body).expect("groups as documented"))?;
    groups.into_iter().find(|told| told.group == group)
}

/// What the link says of groups altogether.
pub fn of_the_link(mirror: &Twinlog) -> Option<AltogetherTold> {
    let (code, body) = mirror.get(&format!("/v1/links/{}", mirror.link()))?;
    let link: serde_json::Value = (code == 200).then(|| serde_json::from_str(&body).expect("a link in JSON"))?;
    Some(serde_json::from_value(link["groups"].clone()).expect("groups as documented"))
}

/// `groups` in `/v1/links/LINK`.
#[derive(Debug, Clone, Deserialize)]
pub struct AltogetherTold {
    pub way: String,
    pub cut_without: Vec<String>,
}

/// `twinlog groups resync LINK GROUP …`.
pub fn resync(mirror: &Twinlog, group: &str, options: &[&str]) -> Output {
    mirror.run(&[&["groups", "resync", mirror.link(), group], options].concat())
}

/// The same, which must succeed.
#[track_caller]
pub fn resynced(mirror: &Twinlog, group: &str, options: &[&str]) {
    let output = resync(mirror, group, options);
    assert!(output.status.success(), "resync {options:?}: {}", String::from_utf8_lossy(&output.stderr));
}
