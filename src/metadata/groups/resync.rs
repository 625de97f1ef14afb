//! Taking a group back that an application on the target had taken over: from then on what stands there counts as ours,
//! and the source's positions replace it.

use std::collections::BTreeSet;

use crate::endpoint::GroupReader;
use crate::ledger::record::{GroupRecord, Resynced};
use crate::ledger::{ControlRecord, Ledger};
use crate::metadata::groups::group::Board;
use crate::metadata::groups::standing::Mirrored;
use crate::metadata::groups::wanted::Wanted;
use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::group::Positions;

/// A position that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Target partition.
    pub at: TopicPartition,
    /// Where it stands.
    pub from: Option<Offset>,
    /// Where it will stand; `None`: nowhere, because the source has no position there.
    pub to: Option<Offset>,
}

/// Takes a group back, or with `dry_run` only says what that would change; with what is `known` of the source, while the
/// link runs. Durable on return. Answers the positions that change; `None` where nobody knows yet.
///
/// # Errors
/// A sentence: the group was not taken over, is still in use on the target, or the target did not answer.
pub async fn resync(
    id: &GroupId,
    ledger: &Ledger,
    target: &dyn GroupReader,
    known: Option<(&Board, &Mirrored)>,
    dry_run: bool,
    now_ms: i64,
) -> Result<Option<Vec<Move>>, String> {
    let Some(record) = ledger.view().group(id).filter(|record| record.taken_over.is_some()) else {
        return Err(format!("group {id} is not taken over: there is nothing to take back"));
    };
    let theirs = positions_left(id, ledger, target).await?;
    let resynced = Some(Resynced { at_ms: now_ms, replaced: theirs.clone() });
    let record = GroupRecord {
        intent: Positions::new(),
        confirmed: theirs.clone(),
        taken_over: None,
        resynced,
        seeded: Positions::new(),
        ..(*record).clone()
    };
    let moves = known.map(|(board, mirrored)| {
        let board = board.lock().expect("no panic while held");
        let group = board.groups.get(id);
        let wanted = group.map(|group| Wanted::of(group, &record, mirrored, board.seeds));
        moves(&theirs, &wanted.map(|wanted| wanted.positions).unwrap_or_default())
    });
    if !dry_run {
        ledger.append(vec![ControlRecord::Group(id.clone(), record)]).await.map_err(|error| error.message)?;
        if let Some((board, _)) = known {
            board.lock().expect("no panic while held").taken_back.insert(id.clone());
        }
    }
    Ok(moves)
}

/// The positions on mirrored partitions that an application has left on the target.
async fn positions_left(id: &GroupId, ledger: &Ledger, target: &dyn GroupReader) -> Result<Positions, String> {
    let (in_use, read) = tokio::join!(target.groups_in_use(), target.group_offsets(std::slice::from_ref(id)));
    if in_use.map_err(|error| error.message)?.iter().any(|group| group.id == *id) {
        return Err(format!(
            "group {id} has members on the target: stop them first (a static member counts until its session times out)"
        ));
    }
    let read = read.into_iter().next().expect("one answer per group").map_err(|error| error.message)?;
    if let Some(at) = read.pending.first() {
        return Err(format!(
            "a transaction on the target is about to set the position of group {id} on {at}: end it first"
        ));
    }
    let ours: BTreeSet<TopicPartition> = ledger.view().routes().iter().map(|born| born.route.target.clone()).collect();
    let left = read.offsets.into_iter().filter(|(at, _)| ours.contains(at));
    Ok(left.map(|(at, committed)| (at, committed.offset)).collect())
}

fn moves(from: &Positions, to: &Positions) -> Vec<Move> {
    let all: BTreeSet<&TopicPartition> = from.keys().chain(to.keys()).collect();
    let moves = all.into_iter().map(|at| Move { at: at.clone(), from: from.get(at).copied(), to: to.get(at).copied() });
    moves.filter(|changed| changed.from != changed.to).collect()
}
