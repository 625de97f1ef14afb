//! The target side: whose a group is there, and our positions for it, kept in the ledger as *intent* before a commit and
//! *confirmed* some time after it, so that after a crash our own writes are not mistaken for an application's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use tokio::time::timeout;

use crate::endpoint::{Error, ErrorKind, GroupReader, GroupWriter, ReadOffsets, Result};
use crate::ledger::record::{GroupRecord, TakenOver};
use crate::ledger::{ControlRecord, Ledger};
use crate::metadata::groups::doubts::Doubts;
use crate::metadata::groups::group::{Unconfirmed, written};
use crate::metadata::groups::standing::Mirrored;
use crate::metadata::groups::wanted::Wanted;
use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::group::{Decision, Known, Positions, decide};

/// Commits under way at a time: enough to hide round trips, few enough not to crowd out a coordinator.
const COMMITS_AT_ONCE: usize = 64;
/// Positions unchanged for longer are committed again, however long the target keeps them.
const KEEP_LONGEST: Duration = Duration::from_secs(86_400);
/// A coordinator that told nothing is written to for so long at most: what counts is that it hears of it.
const STIR: Duration = Duration::from_secs(1);
/// They are committed again this many times within the target's retention.
const KEEPS_PER_RETENTION: u32 = 4;

/// Writes groups on the target.
pub(super) struct Publisher {
    target: Arc<dyn GroupReader>,
    writer: Arc<dyn GroupWriter>,
    ledger: Ledger,
    /// Unchanged positions are committed again after this long, so that they never expire.
    keep_every: Duration,
    /// What the target has taken and the ledger does not say yet. It is written with the next intents: a transaction of
    /// its own would cost every commit as much again. Lost in a crash, it is found by its intent.
    unconfirmed: Unconfirmed,
    doubts: Doubts,
}

/// What candidates are held against.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    /// The groups that have members on the target now.
    pub(super) in_use: &'a BTreeSet<GroupId>,
    /// The routes.
    pub(super) mirrored: &'a Mirrored,
    /// The wall clock.
    pub(super) now_ms: i64,
}

/// A group to look at on the target.
pub(super) struct Candidate {
    pub(super) id: GroupId,
    /// What should stand there.
    pub(super) wanted: Wanted,
}

/// What became of a candidate; of those that were taken over, the ledger tells.
pub(super) enum Outcome {
    /// The target holds what is wanted, or the group belongs to an application.
    Settled,
    /// Neither.
    Failed(String),
}

/// A commit to be made.
struct Commit {
    id: GroupId,
    wanted: Wanted,
    positions: Positions,
    record: GroupRecord,
}

impl Publisher {
    pub(super) async fn new(
        target: Arc<dyn GroupReader>,
        writer: Arc<dyn GroupWriter>,
        ledger: Ledger,
    ) -> Result<Self> {
        let retention = writer.offsets_retention().await?;
        let keep_every = (retention / KEEPS_PER_RETENTION).min(KEEP_LONGEST);
        Ok(Self { target, writer, ledger, keep_every, unconfirmed: BTreeMap::new(), doubts: Doubts::default() })
    }

    /// What was written for a group.
    pub(super) fn record(&self, id: &GroupId) -> Arc<GroupRecord> {
        written(id, &self.unconfirmed, self.ledger.view())
    }

    /// The records that the ledger does not have yet.
    pub(super) fn unconfirmed(&self) -> &Unconfirmed {
        &self.unconfirmed
    }

    /// Makes the ledger say what the target has taken.
    pub(super) async fn confirm(&mut self) -> Result<()> {
        self.append(BTreeMap::new()).await
    }

    /// Makes records durable, and with them what is not confirmed yet.
    async fn append(&mut self, records: BTreeMap<GroupId, GroupRecord>) -> Result<()> {
        let unconfirmed = self.unconfirmed.iter().filter(|(id, _)| !records.contains_key(*id));
        let unconfirmed = unconfirmed.map(|(id, record)| (id.clone(), (**record).clone()));
        let all = unconfirmed.collect::<Vec<_>>().into_iter().chain(records);
        let all: Vec<_> = all.map(|(id, record)| ControlRecord::Group(id, record)).collect();
        if !all.is_empty() {
            self.ledger.append(all).await?;
            self.unconfirmed.clear();
        }
        Ok(())
    }

    /// Where that is kept.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Deletes positions on the target.
    pub(super) async fn delete(&self, id: &GroupId, positions: &BTreeSet<TopicPartition>) -> Result<()> {
        self.writer.delete_offsets(id, positions).await
    }

    /// Whether what was written for a group is to be committed again, lest it expire before the group's next turn.
    fn is_due(&self, record: &GroupRecord, now_ms: i64) -> bool {
        let keep_ms = self.keep_every.as_millis() as i64;
        // A clock set back must not stop it.
        !record.confirmed.is_empty() && !(0..keep_ms).contains(&(now_ms - record.committed_at_ms))
    }

    /// Looks at the candidates on the target, latches those that an application uses, and commits what is wanted for the
    /// others. An error means that nothing could be learnt or recorded; what fails for one group is its own outcome.
    pub(super) async fn publish(
        &mut self,
        candidates: Vec<Candidate>,
        scene: Scene<'_>,
    ) -> Result<Vec<(GroupId, Outcome)>> {
        let ids: Vec<GroupId> = candidates.iter().map(|candidate| candidate.id.clone()).collect();
        let current = self.target.group_offsets(&ids).await;
        self.doubts.settle();
        let (mut outcomes, mut commits, mut records) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut silent = None;
        for (Candidate { id, wanted }, current) in candidates.into_iter().zip(current) {
            let mut record = (*self.record(&id)).clone();
            let current = match current {
                Ok(current) => current,
                Err(error) => {
                    let at = wanted.positions.keys().chain(wanted.kept.keys()).next();
                    if let (true, Some(at)) = (error.is_retryable(), at) {
                        silent.get_or_insert_with(|| (id.clone(), at.clone()));
                    }
                    outcomes.push((id, Outcome::Failed(error.message)));
                    continue;
                }
            };
            let was_written = |at: &TopicPartition| record.confirmed.contains_key(at) || record.intent.contains_key(at);
            let is_ours = |at: &TopicPartition| scene.mirrored.source_of(at).is_some() || was_written(at);
            let theirs = current.offsets.iter().filter(|(at, _)| is_ours(at));
            let theirs: Positions = theirs.map(|(at, committed)| (at.clone(), committed.offset)).collect();
            let pending = current.pending.iter().find(|at| is_ours(at));
            let wanted = wanted.beside(&current);
            match self.judge(&id, &wanted, &record, &current, (&theirs, pending), scene) {
                Judgement::TakenOver(why) => {
                    record.taken_over = Some(TakenOver { at_ms: scene.now_ms, why });
                    records.insert(id.clone(), record);
                    outcomes.push((id, Outcome::Settled));
                }
                Judgement::Settled => {
                    if !record.intent.is_empty() && record.taken_over.is_none() {
                        self.doubts.add(&id, &record.intent, &theirs);
                        // Somebody of ours died between a commit and its confirmation.
                        record.confirmed.extend(theirs);
                        record.intent.clear();
                        record.metadata = wanted.texts();
                        record.seeded = wanted.seeded;
                        records.insert(id.clone(), record);
                    }
                    outcomes.push((id, Outcome::Settled));
                }
                Judgement::Commit(positions) => {
                    self.doubts.add(&id, &record.intent, &theirs);
                    // What the target holds was found to be ours, perhaps by an intent that the next one replaces.
                    record.confirmed.extend(theirs);
                    record.intent.clone_from(&positions);
                    records.insert(id.clone(), record.clone());
                    commits.push(Commit { id, wanted, positions, record });
                }
            }
        }
        if !records.is_empty() {
            self.append(records).await?;
        }
        outcomes.extend(self.commit(commits, scene.now_ms).await?);
        if let Some((id, at)) = silent {
            // Whether it helped, the next look tells.
            if let Ok(Err(error)) = timeout(STIR, self.writer.stir(&id, &at)).await {
                tracing::debug!(group = %id, %error, "stirring its coordinator");
            }
        }
        Ok(outcomes)
    }

    fn judge(
        &self,
        id: &GroupId,
        wanted: &Wanted,
        record: &GroupRecord,
        current: &ReadOffsets,
        (theirs, pending): (&Positions, Option<&TopicPartition>),
        scene: Scene<'_>,
    ) -> Judgement {
        if record.taken_over.is_some() {
            return Judgement::Settled;
        }
        if scene.in_use.contains(id) {
            return Judgement::TakenOver("it has members on the target".into());
        }
        if let Some(at) = pending {
            return Judgement::TakenOver(format!("a transaction on the target is about to set its position on {at}"));
        }
        let intents: Vec<&Positions> = self.doubts.of(id).chain([&record.intent]).collect();
        let known =
            Known { wanted: &wanted.positions, target: theirs, confirmed: &record.confirmed, intents: &intents };
        let mut positions = match decide(known) {
            Decision::Foreign(at, offset) => {
                let ours = record.confirmed.get(&at).map_or("none".to_owned(), |offset| offset.to_string());
                let why =
                    format!("its position on {at} was set to {offset} on the target (Twinlog had written {ours})");
                return Judgement::TakenOver(why);
            }
            _ if self.is_due(record, scene.now_ms) => wanted.positions.clone(),
            Decision::Synced => Positions::new(),
            Decision::Commit(positions) => positions,
        };
        // The same offset with other metadata is another position: Streams moves its time on with it.
        let is_other = |(at, _): &(&TopicPartition, &Offset)| {
            current.offsets.get(*at).is_some_and(|there| there.metadata != wanted.metadata_of(at))
        };
        positions.extend(wanted.positions.iter().filter(is_other).map(|(at, offset)| (at.clone(), *offset)));
        if positions.is_empty() { Judgement::Settled } else { Judgement::Commit(positions) }
    }

    async fn commit(&mut self, commits: Vec<Commit>, now_ms: i64) -> Result<Vec<(GroupId, Outcome)>> {
        let (writer, lease) = (&self.writer, self.ledger.lease());
        let ended: Vec<_> = stream::iter(commits)
            .map(|commit| async move {
                let offsets = commit.wanted.offsets(&commit.positions);
                let outcome = tokio::select! {
                    biased;
                    // Woken from a freeze: the positions may be old, and a successor's newer ones be there.
                    () = lease.lapsed() => Err(Error::new(ErrorKind::Retryable, "the link's lease ran out")),
                    outcome = writer.commit_offsets(&commit.id, &offsets) => outcome,
                };
                (commit, outcome)
            })
            .buffer_unordered(COMMITS_AT_ONCE)
            .collect()
            .await;
        let (mut outcomes, mut latched) = (Vec::with_capacity(ended.len()), BTreeMap::new());
        for (commit, outcome) in ended {
            let Commit { id, wanted, positions, mut record } = commit;
            let outcome = match outcome {
                Ok(()) => {
                    // Each position expires on its own: only a commit of all of them counts for all.
                    if positions.len() == wanted.positions.len() {
                        record.committed_at_ms = now_ms;
                    }
                    record.confirmed.extend(positions);
                    record.metadata = wanted.texts();
                    record.seeded = wanted.seeded;
                    record.intent.clear();
                    self.unconfirmed.insert(id.clone(), Arc::new(record));
                    Outcome::Settled
                }
                Err(error) if error.kind == ErrorKind::GroupBusy => {
                    let why = "it has members on the target".into();
                    record.taken_over = Some(TakenOver { at_ms: now_ms, why });
                    latched.insert(id.clone(), record);
                    Outcome::Settled
                }
                Err(error) => Outcome::Failed(error.message),
            };
            outcomes.push((id, outcome));
        }
        if !latched.is_empty() {
            self.append(latched).await?;
        }
        Ok(outcomes)
    }
}

enum Judgement {
    TakenOver(String),
    Settled,
    Commit(Positions),
}
