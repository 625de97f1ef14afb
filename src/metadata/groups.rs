//! Carries consumer group positions to the target: read in bulk, translated through the map, committed where they changed.
//!
//! What is written is kept in the ledger as *intent* before the commit and *confirmed* after it, so that after a crash our
//! own writes are not mistaken for an application's.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt};

use crate::endpoint::{
    CommittedOffset, Error, ErrorKind, GroupInfo, GroupOffsets, GroupProtocol, GroupReader, GroupWriter, Result,
};
use crate::ledger::record::GroupRecord;
use crate::ledger::{ControlRecord, Ledger, RouteMap};
use crate::model::{GroupId, Offset, TopicPartition};
use crate::offsets::Translation;
use crate::policy::group::{Decision, Known, Positions, decide};
use crate::policy::selection::Selection;

/// Commits under way at a time: enough to hide round trips, few enough not to crowd out a coordinator.
const COMMITS_AT_ONCE: usize = 64;

/// Keeps group positions; one per link.
pub struct Groups {
    source: Arc<dyn GroupReader>,
    target: Arc<dyn GroupReader>,
    writer: Arc<dyn GroupWriter>,
    ledger: Ledger,
    selection: Selection,
    /// Positions committed in full agreement with the target, by group: an unchanged group costs no request.
    settled: BTreeMap<GroupId, Positions>,
}

/// Where source partitions are mirrored to, and their maps; `None` for a route that has not attached yet or is halted
/// before it ever did.
pub type Mirrored = BTreeMap<TopicPartition, (TopicPartition, Option<RouteMap>)>;

/// A group after a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupState {
    /// The group.
    pub id: GroupId,
    /// The group's verdict.
    pub verdict: GroupVerdict,
    /// Its source positions and what became of them.
    pub partitions: Vec<PositionState>,
}

/// One position after a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionState {
    /// Source partition.
    pub source: TopicPartition,
    /// Committed there.
    pub offset: Offset,
    /// Target partition and the translated offset, where there is one.
    pub translated: PositionVerdict,
}

/// What a position translates to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PositionVerdict {
    /// Exactly this offset of this target partition.
    At(TopicPartition, Offset),
    /// The mirror has not come that far.
    Waiting,
    /// The map begins later: this many source offsets lie between.
    BeforeTheMirror(i64),
    /// The topic is not mirrored.
    NotMirrored,
}

/// Verdict on a whole group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupVerdict {
    /// The target holds every translatable position.
    Synced,
    /// Some positions lie ahead of the mirror.
    WaitingForTheMirror,
    /// In use on the target, or moved there by somebody else: left alone.
    TakenOver,
    /// Listed only: share groups have no committed offsets.
    ShareGroup,
    /// Could not be read or written now.
    Failed(String),
}

impl GroupVerdict {
    /// The verdict in the words of status and documentation.
    pub fn words(&self) -> String {
        match self {
            GroupVerdict::Synced => "synced".into(),
            GroupVerdict::WaitingForTheMirror => "waiting for the mirror".into(),
            GroupVerdict::TakenOver => "taken over".into(),
            GroupVerdict::ShareGroup => "share group".into(),
            GroupVerdict::Failed(why) => format!("failed: {why}"),
        }
    }
}

/// A group that is about to be written.
struct Pending {
    index: usize,
    id: GroupId,
    wanted: Positions,
    metadata: BTreeMap<TopicPartition, bytes::Bytes>,
}

impl Groups {
    /// Groups of a link between two clusters.
    pub fn new(
        source: Arc<dyn GroupReader>,
        target: Arc<dyn GroupReader>,
        writer: Arc<dyn GroupWriter>,
        ledger: Ledger,
        selection: Selection,
    ) -> Self {
        Self { source, target, writer, ledger, selection, settled: BTreeMap::new() }
    }

    /// One look at all source groups; commits what changed. An error means nothing could be learnt; failures of single
    /// groups are verdicts.
    pub async fn pass(&mut self, mirrored: &Mirrored) -> Result<Vec<GroupState>> {
        let groups = self.source.groups().await?;
        let (share, listed): (Vec<GroupInfo>, Vec<GroupInfo>) = groups
            .into_iter()
            .filter(|g| self.selection.takes_group(&g.id))
            .partition(|g| g.protocol == GroupProtocol::Share);
        let ids: Vec<GroupId> = listed.into_iter().map(|g| g.id).collect();
        let offsets = self.source.group_offsets(&ids).await;
        let mut states = Vec::with_capacity(ids.len() + share.len());
        let mut pending = Vec::new();
        for (id, offsets) in ids.into_iter().zip(offsets) {
            match offsets {
                Ok(offsets) => {
                    let (state, wanted) = translate_group(&id, &offsets.offsets, mirrored);
                    if !wanted.is_empty() && self.settled.get(&id) != Some(&wanted) {
                        let metadata = metadata_by_target(&offsets.offsets, mirrored);
                        pending.push(Pending { index: states.len(), id, wanted, metadata });
                    }
                    states.push(state);
                }
                Err(error) => states.push(failed(id, error.message)),
            }
        }
        self.write(pending, &mut states).await?;
        let listed_only = |g: GroupInfo| GroupState { id: g.id, verdict: GroupVerdict::ShareGroup, partitions: vec![] };
        states.extend(share.into_iter().map(listed_only));
        Ok(states)
    }

    async fn write(&mut self, pending: Vec<Pending>, states: &mut [GroupState]) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let ids: Vec<GroupId> = pending.iter().map(|p| p.id.clone()).collect();
        let (listed, current) = tokio::join!(self.target.groups(), self.target.group_offsets(&ids));
        let busy: BTreeMap<GroupId, bool> = listed?.into_iter().map(|g| (g.id, g.has_members)).collect();
        let mut commits = Vec::new();
        for (group, current) in pending.into_iter().zip(current) {
            let current = match current {
                Ok(current) => current.offsets.into_iter().map(|(at, c)| (at, c.offset)).collect::<Positions>(),
                Err(error) => {
                    states[group.index].verdict = GroupVerdict::Failed(error.message);
                    continue;
                }
            };
            let mut record = self.ledger.view().group(&group.id).map(|r| (*r).clone()).unwrap_or_default();
            let decision = decide(Known {
                wanted: &group.wanted,
                target: &current,
                confirmed: &record.confirmed,
                intent: &record.intent,
                has_members_on_target: busy.get(&group.id).copied().unwrap_or(false),
            });
            match decision {
                Decision::TakenOver => states[group.index].verdict = GroupVerdict::TakenOver,
                Decision::Synced => drop(self.settled.insert(group.id, group.wanted)),
                Decision::Commit(positions) => {
                    // What the target holds was found to be ours, perhaps by an intent that the next one replaces.
                    let is_ours = |at: &_, now: &_| group.wanted.contains_key(at) || record.intent.get(at) == Some(now);
                    let ours: Positions = current.into_iter().filter(|(at, now)| is_ours(at, now)).collect();
                    record.confirmed.extend(ours);
                    commits.push((group, record, positions));
                }
            }
        }
        self.commit(commits, states).await
    }

    async fn commit(
        &mut self,
        mut commits: Vec<(Pending, GroupRecord, Positions)>,
        states: &mut [GroupState],
    ) -> Result<()> {
        if commits.is_empty() {
            return Ok(());
        }
        let intents = commits.iter_mut().map(|(group, record, positions)| {
            record.intent.clone_from(positions);
            ControlRecord::Group(group.id.clone(), record.clone())
        });
        self.ledger.append(intents.collect()).await?;
        let (writer, lease) = (&self.writer, self.ledger.lease());
        let outcomes: Vec<_> = stream::iter(commits)
            .map(|(group, record, positions)| {
                let offsets: GroupOffsets = positions
                    .iter()
                    .map(|(at, offset)| {
                        let metadata = group.metadata.get(at).cloned().unwrap_or_default();
                        (at.clone(), CommittedOffset { offset: *offset, metadata })
                    })
                    .collect();
                async move {
                    let outcome = tokio::select! {
                        biased;
                        // Woken from a freeze: the positions may be old, and a successor's newer ones be there.
                        () = lease.lapsed() => Err(Error::new(ErrorKind::Retryable, "the link's lease ran out")),
                        outcome = writer.commit_offsets(&group.id, &offsets) => outcome,
                    };
                    (outcome, group, record, positions)
                }
            })
            .buffer_unordered(COMMITS_AT_ONCE)
            .collect()
            .await;
        let mut confirmed = Vec::new();
        for (outcome, group, mut record, positions) in outcomes {
            match outcome {
                Ok(()) => {
                    record.confirmed.extend(positions);
                    record.intent.clear();
                    confirmed.push(ControlRecord::Group(group.id.clone(), record));
                    self.settled.insert(group.id, group.wanted);
                }
                Err(error) if error.kind == ErrorKind::GroupBusy => {
                    states[group.index].verdict = GroupVerdict::TakenOver;
                }
                Err(error) => states[group.index].verdict = GroupVerdict::Failed(error.message),
            }
        }
        if confirmed.is_empty() { Ok(()) } else { self.ledger.append(confirmed).await }
    }
}

fn failed(id: GroupId, why: String) -> GroupState {
    GroupState { id, verdict: GroupVerdict::Failed(why), partitions: vec![] }
}

fn translate_group(id: &GroupId, offsets: &GroupOffsets, mirrored: &Mirrored) -> (GroupState, Positions) {
    let mut wanted = Positions::new();
    let mut partitions = Vec::with_capacity(offsets.len());
    for (source, committed) in offsets {
        let translated = match mirrored.get(source) {
            None => PositionVerdict::NotMirrored,
            Some((_, None)) => PositionVerdict::Waiting,
            Some((target, Some(map))) => {
                let map = map.lock().expect("no panic while held");
                match map.translate(committed.offset) {
                    Translation::Exact(offset) => {
                        wanted.insert(target.clone(), offset);
                        PositionVerdict::At(target.clone(), offset)
                    }
                    Translation::Ahead { .. } => PositionVerdict::Waiting,
                    Translation::BeforeTheMirror { first } => {
                        PositionVerdict::BeforeTheMirror(first - committed.offset)
                    }
                }
            }
        };
        partitions.push(PositionState { source: source.clone(), offset: committed.offset, translated });
    }
    let waiting = partitions.iter().any(|p| p.translated == PositionVerdict::Waiting);
    let verdict = if waiting { GroupVerdict::WaitingForTheMirror } else { GroupVerdict::Synced };
    (GroupState { id: id.clone(), verdict, partitions }, wanted)
}

fn metadata_by_target(offsets: &GroupOffsets, mirrored: &Mirrored) -> BTreeMap<TopicPartition, bytes::Bytes> {
    offsets
        .iter()
        .filter_map(|(source, committed)| Some((mirrored.get(source)?.0.clone(), committed.metadata.clone())))
        .collect()
}
