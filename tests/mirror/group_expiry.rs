//! Positions do not expire on the target while a group is idle, whether the source answers, is frozen or is gone: a target
//! that forgets after a minute is watched for longer than that.

use std::collections::BTreeMap;
use std::time::Instant;

use super::group_bed::{Bed, positions, resync};
use super::member::{Commits, Member, Protocol};
use super::*;
use crate::support::{ClusterSpec, Setup, shared_source, shared_target, until};

/// Longer than the target's minute by more than half of it: what is not committed again is gone by then.
const WATCHED: Duration = Duration::from_secs(105);
/// How long a position that could not be kept may be missed before it is there again.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// One group whose position on the target is looked at again and again.
struct Watched<'a> {
    name: &'static str,
    bed: &'a Bed<'a>,
    position: BTreeMap<(String, i32), i64>,
    missed_since: Option<Instant>,
    /// How often it vanished, and for how long at most.
    vanished: (usize, Duration),
}

impl<'a> Watched<'a> {
    fn new(name: &'static str, bed: &'a Bed<'a>) -> Watched<'a> {
        let position = positions(bed.target, &bed.group);
        assert_eq!(position.len(), 1, "{name}");
        Watched { name, bed, position, missed_since: None, vanished: (0, Duration::ZERO) }
    }

    #[track_caller]
    fn look(&mut self) {
        let now = positions(self.bed.target, &self.bed.group);
        match self.missed_since {
            None if now.is_empty() => {
                self.missed_since = Some(Instant::now());
                self.vanished.0 += 1;
            }
            Some(since) => {
                self.vanished.1 = self.vanished.1.max(since.elapsed());
                assert!(since.elapsed() < BACK_WITHIN, "{}: away for {:?}", self.name, since.elapsed());
                self.missed_since = (now.is_empty()).then_some(since);
            }
            None => {}
        }
        assert!(now.is_empty() || now == self.position, "{}: {now:?} was {:?}", self.name, self.position);
    }
}

/// One scenario, because each of its groups must be watched for longer than a minute: side by side, an idle group of a
/// source that answers, of one that is frozen, of one that is cut off; one that had members on the target and was handed
/// back, whose positions the broker counts from when the last member left; and one that was deleted at the source.
#[test]
fn positions_of_idle_groups_outlive_the_targets_retention_also_while_the_source_is_away() {
    let forgetful = ClusterSpec::default()
        .with("offsets.retention.minutes", "1")
        .with("offsets.retention.check.interval.ms", "1000");
    let proxied = ClusterSpec { proxied: true, ..ClusterSpec::default() };
    let (source, target, dying) = std::thread::scope(|all| {
        let (target, dying) = (all.spawn(|| Cluster::start(forgetful)), all.spawn(|| Cluster::start(proxied)));
        (shared_source(), target.join().expect("the target boots"), dying.join().expect("the source boots"))
    });
    let [idle, handed_back, deleted] =
        [(); 3].map(|()| Bed::between((source, &target), &[], |setup| setup.line("deletion_grace = \"1s\"")));
    // Two links of one source: one goes by the wire that will be cut, the other around it to a broker that will be frozen.
    let cut_off = Bed::between((&dying, &target), &[], |setup| setup);
    let around = dying.only().inner_address().to_string();
    let frozen = Bed::between((&dying, &target), &[], |setup| {
        let clusters = setup.clusters.replace(&dying.bootstrap(), &around);
        Setup { clusters, ..setup }
    });
    for bed in [&idle, &handed_back, &deleted, &frozen, &cut_off] {
        bed.carry(20);
    }
    let (bootstrap, classic) = (target.bootstrap(), Protocol::Classic);
    let member = Member::join(&bootstrap, &handed_back.group, &handed_back.topic, classic, Commits::Never);
    until(SOON, "the member has its partition", || member.is_assigned());
    handed_back.is_told_to_be("taken over");
    drop(member);
    until(SOON, "it is handed back", || resync(&handed_back.mirror, &handed_back.group, &[]).status.success());
    handed_back.carry(30);
    source.client().delete_group(&deleted.group).unwrap();
    deleted.is_told_to_be("gone at the source");
    dying.only().proxy().cut();
    dying.only().pause();

    let mut stay = [("idle", &idle), ("frozen source", &frozen), ("source cut off", &cut_off)]
        .map(|(name, bed)| Watched::new(name, bed));
    let mut comes_back = Watched::new("handed back", &handed_back);
    let began = Instant::now();
    let watched = WATCHED * rounds(1, 4) as u32;
    let mut forgotten = None;
    while began.elapsed() < watched {
        for group in &mut stay {
            group.look();
            assert_eq!(group.vanished.0, 0, "{} has lost its position after {:?}", group.name, began.elapsed());
        }
        comes_back.look();
        let gone = positions(&target, &deleted.group).is_empty();
        assert!(gone || forgotten.is_none(), "what the source has deleted came back");
        forgotten = forgotten.or_else(|| gone.then(|| began.elapsed()));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(comes_back.missed_since, None);
    println!("handed back: vanished {} times, for {:?} at most", comes_back.vanished.0, comes_back.vanished.1);
    println!("deleted at the source: forgotten by the target after {forgotten:?}");
    assert!(forgotten.is_some(), "the refresh of a group that is gone at the source has stopped");
    for bed in [&idle, &handed_back] {
        bed.carry(60);
        bed.is_told_to_be("synced");
    }
    dying.only().resume();
    dying.only().proxy().mend();
    for bed in [&frozen, &cut_off] {
        bed.carry(60);
        bed.is_told_to_be("synced");
    }
}

#[test]
fn started_without_its_source_twinlog_keeps_what_stands_on_the_target() {
    let source = Cluster::start(ClusterSpec::default());
    let bed = Bed::between((&source, shared_target()), &[], |setup| setup);
    bed.carry(20);
    source.only().kill9();
    bed.mirror.kill9();
    bed.mirror.start();
    let state = || bed.mirror.get("/v1/links").map(|(_, body)| body).unwrap_or_default();
    until(SOON, "it says what it waits for", || state().contains("waiting for the source"));
    bed.target.client().delete_group(&bed.group).unwrap();
    until(SOON, "the position is back", || bed.there() == Some(20));
    source.only().restart();
    bed.carry(60);
    bed.is_told_to_be("synced");
}
