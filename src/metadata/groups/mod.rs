//! Consumer groups: where each stands at the source, and the same place on the target.
//!
//! `survey` reads the source, the [cut](crate::policy::cut) holds positions back until the mirror has passed what the
//! groups had produced by then, `publish` writes the target, and [`account()`] says how every group stands.

mod account;
mod deletion;
mod doubts;
mod group;
mod publish;
mod resync;
mod standing;
mod survey;
#[cfg(test)]
mod tests;
mod turns;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::endpoint::{Catalog, CommitFeed, GroupInfo, GroupProtocol, GroupReader, GroupWriter, ReadOffsets, Result};
use crate::ledger::Ledger;
use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::cut::{Cuts, Roster};
use crate::policy::group::{Consistency, Deletions, NoPosition};
use crate::policy::selection::Selection;

pub use account::{Cost, GroupState, GroupVerdict, PositionState, PositionVerdict, account};
pub use group::{Board, Findings, Group, Way};
pub use resync::{Move, resync};
pub use standing::{Mirrored, MirroredRoute, Standing};

use publish::{Candidate, Outcome, Publisher, Scene};
use survey::{LATER_PER_GROUP, Survey};
use turns::Turns;
use wanted::Wanted;

/// Pause between lists of all groups of the target: kinds change when somebody deletes a group and makes another.
const TARGET_LIST_EVERY: Duration = Duration::from_secs(10);
/// A source that says nothing for so long keeps nobody from seeing to the target.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between looks for what the source has deleted.
const DELETE_EVERY: Duration = Duration::from_secs(2);

/// What a link wants of its groups.
#[derive(Debug, Clone)]
pub struct GroupRules {
    /// Which groups.
    pub selection: Selection,
    /// When positions may be published.
    pub consistency: Consistency,
    /// What a partition without a position gets.
    pub no_position: NoPosition,
    /// What becomes of positions that the source has deleted.
    pub deletions: Deletions,
    /// How long a coordinator must deny all positions of a group before that is believed.
    pub deletion_grace: Duration,
}

/// Both sides' groups, as contracts.
pub struct Sides {
    /// Groups of the source.
    pub source: Arc<dyn GroupReader>,
    /// The source's partitions.
    pub catalog: Arc<dyn Catalog>,
    /// Hears of the source's commits.
    pub feed: Arc<dyn CommitFeed>,
    /// Groups of the target.
    pub target: Arc<dyn GroupReader>,
    /// Sets positions on the target.
    pub writer: Arc<dyn GroupWriter>,
}

/// How much a pass looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Everything whose turn it is, on both sides.
    Full,
    /// What was heard of.
    Heard,
    /// Whether the mirror, by the same routes as in the last pass, has passed what waits for it.
    Waiting,
}

/// Keeps group positions; one per link.
pub struct Groups {
    survey: Survey,
    catalog: Arc<dyn Catalog>,
    target: Arc<dyn GroupReader>,
    publisher: Publisher,
    rules: GroupRules,
    board: Board,
    cuts: Cuts<BTreeMap<GroupId, Arc<ReadOffsets>>>,
    roster: Roster,
    /// Groups whose wanted positions may differ from those written.
    open: BTreeSet<GroupId>,
    /// The same, where the next full pass is soon enough: the mirror has not come that far, or the target refused.
    later: BTreeSet<GroupId>,
    /// How every route stood when all groups were last held against them.
    routes: BTreeMap<TopicPartition, (u64, Option<Offset>)>,
    /// The groups that had members on the target in the last full pass.
    in_use: Arc<BTreeSet<GroupId>>,
    /// The target's groups, as last listed.
    theirs: BTreeMap<GroupId, GroupInfo>,
    list_theirs_at: Instant,
    turns: Turns,
    /// Those of the target's groups whose positions expire at a moment that no commit puts off: they have turns of their
    /// own, so that a few of them wait for nobody.
    mortal: BTreeMap<GroupId, ()>,
    mortal_turns: Turns,
    delete_at: Instant,
}

impl Groups {
    /// Groups of a link between two clusters. What is found is written on `board`.
    ///
    /// # Errors
    /// The target does not tell how long it keeps positions.
    pub async fn new(sides: Sides, ledger: Ledger, rules: GroupRules, board: Board) -> Result<Self> {
        let known: Vec<GroupId> = ledger.view().groups().into_iter().map(|(id, _)| id).collect();
        let publisher = Publisher::new(sides.target.clone(), sides.writer, ledger).await?;
        let reads = (sides.source, sides.catalog.clone(), sides.feed);
        let mut survey = Survey::new(reads, rules.selection.clone(), rules.deletion_grace, board.clone());
        survey.remember(known.iter().cloned());
        board.lock().expect("no panic while held").seeds = rules.no_position == NoPosition::Seed;
        let lag_max = match rules.consistency {
            Consistency::Cut { lag_max } => lag_max,
            Consistency::Latest => Duration::MAX,
        };
        Ok(Self {
            survey,
            catalog: sides.catalog,
            target: sides.target,
            publisher,
            rules,
            board,
            cuts: Cuts::default(),
            roster: Roster::new(lag_max),
            open: known.into_iter().collect(),
            later: BTreeSet::new(),
            routes: BTreeMap::new(),
            in_use: Arc::default(),
            theirs: BTreeMap::new(),
            list_theirs_at: Instant::now(),
            turns: Turns::new(),
            mortal: BTreeMap::new(),
            mortal_turns: Turns::new(),
            delete_at: Instant::now(),
        })
    }

    /// Resolves when the source's commits were heard of; never, where they are not followed. Cancel-safe.
    pub async fn heard(&mut self) {
        self.survey.heard().await;
    }

    /// Whether a pass over what was heard has something to do.
    pub fn has_news(&self) -> bool {
        self.survey.has_news()
    }

    /// Whether positions wait for the mirror.
    pub fn is_waiting(&self) -> bool {
        self.cuts.is_waiting()
    }

    /// One look at groups, as far as `extent` goes; commits what changed. Failures of single groups are their verdicts. An
    /// error means that one of the sides told nothing, and the other was seen to all the same.
    pub async fn pass(&mut self, mirrored: &Mirrored, extent: Extent, now_ms: i64) -> Result<()> {
        if extent != Extent::Waiting {
            self.see_routes(mirrored);
        }
        let looked = self.look(mirrored, extent).await;
        self.take_published(mirrored);
        self.write(mirrored, extent, now_ms).await.and(looked)
    }

    /// Takes in how the routes stand: where one has attached again, or has deleted records, positions may stand elsewhere.
    fn see_routes(&mut self, mirrored: &Mirrored) {
        if matches!(self.rules.consistency, Consistency::Cut { .. }) {
            self.roster.see(mirrored.routes().iter().map(|(at, route)| (at, route.progress)));
            let out = self.roster.out();
            let mut board = self.board.lock().expect("no panic while held");
            if board.left_out != *out {
                board.left_out.clone_from(out);
            }
        }
        let routes = mirrored.routes().iter();
        let routes = routes.map(|(at, route)| (at.clone(), (route.attachment, route.target_start))).collect();
        if self.routes != routes {
            self.routes = routes;
            self.open.extend(self.board.lock().expect("no panic while held").groups.keys().cloned());
        }
    }

    async fn look(&mut self, mirrored: &Mirrored, extent: Extent) -> Result<()> {
        // Before the first routes are known, nothing tells what a position would have to wait for.
        if mirrored.routes().is_empty() {
            return Ok(());
        }
        if extent == Extent::Full {
            self.ask_again().await;
        }
        let read = match extent {
            Extent::Full => match timeout(PATIENCE, self.survey.look()).await {
                Ok(read) => read?,
                Err(_) => return Err(self.survey.lose_patience(PATIENCE)),
            },
            Extent::Heard => self.survey.look_at_heard().await,
            Extent::Waiting => return Ok(()),
        };
        if read.is_empty() {
            return Ok(());
        }
        let mut ends = BTreeMap::new();
        if matches!(self.rules.consistency, Consistency::Cut { .. }) {
            let waited_for = |at: &&TopicPartition| !self.roster.out().contains_key(*at);
            let partitions: Vec<TopicPartition> = mirrored.routes().keys().filter(waited_for).cloned().collect();
            // Asked after the positions: what was produced before a position was committed lies below.
            let told = self.catalog.high_watermarks(&partitions).await;
            ends.extend(partitions.into_iter().zip(told).map(|(at, end)| (at, end.ok())));
        }
        self.cuts.push(read, ends);
        Ok(())
    }

    /// Asks for ends that nobody could tell when they were asked for: later ones wait for more, and never for less.
    async fn ask_again(&mut self) {
        let untold: Vec<TopicPartition> = self.cuts.untold().into_iter().collect();
        if !untold.is_empty() {
            let told = self.catalog.high_watermarks(&untold).await;
            let told = untold.into_iter().zip(told).filter_map(|(at, end)| Some((at, end.ok()?)));
            self.cuts.tell(&told.collect());
        }
    }

    fn take_published(&mut self, mirrored: &Mirrored) {
        self.cuts.wait_only_for(|at| mirrored.of(at).is_some());
        let position = |at: &TopicPartition| mirrored.of(at)?.position();
        let Some(passed) = self.cuts.take_passed(&self.roster, position) else { return };
        let mut board = self.board.lock().expect("no panic while held");
        for (id, read) in passed {
            if let Some(group) = board.groups.get_mut(&id) {
                group.published = Some(read);
                self.open.insert(id);
            }
        }
    }

    async fn write(&mut self, mirrored: &Mirrored, extent: Extent, now_ms: i64) -> Result<()> {
        if extent != Extent::Full && self.open.is_empty() {
            return Ok(());
        }
        if extent == Extent::Full {
            let in_use = self.target.groups_in_use().await?;
            self.in_use = Arc::new(in_use.into_iter().map(|group| group.id).collect());
            if Instant::now() >= self.list_theirs_at {
                self.list_theirs().await?;
            }
        }
        // Members that came since the last full pass are noticed by the coordinator, who refuses then.
        let in_use = self.in_use.clone();
        let candidates = self.candidates(mirrored, extent, &in_use);
        let ids: Vec<GroupId> = candidates.iter().map(|candidate| candidate.id.clone()).collect();
        let written = self.write_some(candidates, Scene { in_use: &in_use, mirrored, now_ms }).await;
        if written.is_err() {
            self.later.extend(ids);
        }
        written?;
        if extent == Extent::Full {
            self.publisher.confirm().await?;
            self.board.lock().expect("no panic while held").unconfirmed.clear();
            if Instant::now() >= self.delete_at {
                self.delete_at = Instant::now() + DELETE_EVERY;
                self.see_to_deletions(&in_use, mirrored).await?;
            }
        }
        Ok(())
    }

    async fn write_some(&mut self, mut candidates: Vec<Candidate>, scene: Scene<'_>) -> Result<()> {
        let is_new = |candidate: &Candidate| self.publisher.record(&candidate.id).confirmed.is_empty();
        if candidates.iter().any(is_new) {
            // Brokers would take positions for an empty group of any kind but one.
            self.list_theirs().await?;
            candidates.retain(|candidate| !self.is_in_conflict(&candidate.id));
        }
        if candidates.is_empty() {
            return Ok(());
        }
        let outcomes = self.publisher.publish(candidates, scene).await;
        let mut board = self.board.lock().expect("no panic while held");
        board.unconfirmed.clone_from(self.publisher.unconfirmed());
        for (id, outcome) in outcomes? {
            let Some(group) = board.groups.get_mut(&id) else { continue };
            match outcome {
                Outcome::Settled => group.unwritten = None,
                Outcome::Failed(why) => {
                    group.unwritten = Some(why);
                    self.later.insert(id);
                }
            }
        }
        Ok(())
    }

    async fn list_theirs(&mut self) -> Result<()> {
        self.theirs = self.target.groups().await?.into_iter().map(|group| (group.id.clone(), group)).collect();
        let mortal = self.theirs.values().filter(|group| group.had_members);
        self.mortal = mortal.map(|group| (group.id.clone(), ())).collect();
        self.list_theirs_at = Instant::now() + TARGET_LIST_EVERY + LATER_PER_GROUP * self.theirs.len() as u32;
        Ok(())
    }

    fn is_in_conflict(&self, id: &GroupId) -> bool {
        let mut board = self.board.lock().expect("no panic while held");
        board.groups.get_mut(id).is_some_and(|group| self.see_conflict(id, group))
    }

    fn see_conflict(&self, id: &GroupId, group: &mut Group) -> bool {
        group.conflict = self.theirs.get(id).and_then(|theirs| conflict(group.protocol, theirs.protocol));
        group.conflict.is_some()
    }

    /// The groups to look at on the target: those that may have to move, those whose turn it is, those that an application
    /// has begun to use.
    fn candidates(&mut self, mirrored: &Mirrored, extent: Extent, in_use: &BTreeSet<GroupId>) -> Vec<Candidate> {
        let mut open = std::mem::take(&mut self.open);
        let board = self.board.clone();
        let mut board = board.lock().expect("no panic while held");
        let seeds = board.seeds;
        // Looked at whatever is known of them.
        let mut due = BTreeSet::new();
        if extent == Extent::Full {
            open.append(&mut self.later);
            due.append(&mut board.taken_back);
            due.extend(self.turns.next(&board.groups));
            due.extend(in_use.iter().cloned());
            due.extend(self.mortal_turns.next(&self.mortal));
        }
        let mut candidates = Vec::new();
        for id in open.union(&due) {
            let Some(group) = board.groups.get_mut(id) else { continue };
            let record = self.publisher.record(id);
            let is_ours = group.protocol != GroupProtocol::Share && record.taken_over.is_none();
            if !is_ours || self.see_conflict(id, group) {
                continue;
            }
            let (is_due, is_used) = (due.contains(id), in_use.contains(id));
            if group.gone {
                // Nothing is wanted for it any more, but whether somebody uses it is looked at.
                candidates.extend(is_due.then(|| Candidate { id: id.clone(), wanted: Wanted::default() }));
                continue;
            }
            let wanted = Wanted::of(group, &record, mirrored, seeds);
            if wanted.waits {
                self.later.insert(id.clone());
            }
            let takes = if wanted.is_empty() { is_used } else { is_due || is_used || !wanted.is_written(&record) };
            candidates.extend(takes.then(|| Candidate { id: id.clone(), wanted }));
        }
        candidates
    }
}

/// Why no positions can be set for a group on the target, by what it is on both sides. Brokers refuse them for share
/// groups only.
fn conflict(ours: GroupProtocol, theirs: GroupProtocol) -> Option<String> {
    match theirs {
        GroupProtocol::Classic | GroupProtocol::Consumer => None,
        GroupProtocol::Share => Some("the target has a share group of this name, which has no positions".into()),
        GroupProtocol::Other if ours == GroupProtocol::Other => None,
        GroupProtocol::Other => {
            Some("the target has a group of another kind (Connect, Streams, …) of this name".into())
        }
    }
}
