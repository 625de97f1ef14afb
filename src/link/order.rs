//! What an operator can make a link do: durable in the ledger before it is answered, obeyed across restarts.

use bytesize::ByteSize;

use crate::endpoint::GroupReader;
use crate::ledger::record::{Desired, Rate, ResolutionRecord};
use crate::ledger::{ControlRecord, Ledger};
use crate::link::upkeep::unix_ms;
use crate::metadata::groups::{Board, Mirrored, Move, resync};
use crate::model::{GroupId, LinkName, Offset, Resolution, TopicPartition};
use crate::policy::resolution;

/// An operator's order to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Stop moving records.
    Pause,
    /// Move records again.
    Resume,
    /// Copy at most so many bytes per second, above 0; `None` lifts any limit, also the configured one.
    Limit(Option<u64>),
    /// Decide about a halted partition; its next attach obeys.
    Resolve {
        /// The partition, as at the target.
        target: TopicPartition,
        /// What to do about it.
        decision: Resolution,
    },
    /// Take a group back that an application on the target had taken over.
    Resync {
        /// The group.
        group: GroupId,
        /// Only say what that would change.
        dry_run: bool,
    },
}

/// Makes an order durable. Answers with what is true then, as a sentence. `known`: what is known of the source's groups,
/// where the link runs.
///
/// # Errors
/// A sentence: why it cannot be obeyed, or why it could not be made durable.
pub(super) async fn record(
    order: &Order,
    link: &LinkName,
    ledger: &Ledger,
    target: &dyn GroupReader,
    known: Option<(&Board, &Mirrored)>,
) -> Result<String, String> {
    let desired = ledger.view().desired();
    let (record, sentence) = match order {
        Order::Pause => {
            let wish = ControlRecord::Desired(Desired { paused: true, ..desired });
            (wish, format!("link {link} is paused until `twinlog resume {link}`, across restarts"))
        }
        Order::Resume => {
            (ControlRecord::Desired(Desired { paused: false, ..desired }), format!("link {link} moves records again"))
        }
        Order::Limit(rate) => {
            let (rate, sentence) = match rate {
                Some(rate) => {
                    let shown = ByteSize(*rate);
                    (Rate::Bytes(*rate), format!("link {link} copies at most {shown}/s, across restarts"))
                }
                None => (Rate::Unlimited, format!("link {link} copies without a limit, across restarts")),
            };
            (ControlRecord::Desired(Desired { rate, ..desired }), sentence)
        }
        Order::Resolve { target, decision } => {
            let Some(halted) = ledger.view().halt(target) else {
                return Err(format!("{target} is not halted: there is nothing to resolve"));
            };
            let reason = halted.halt.reason;
            let choices = resolution::choices(reason).iter();
            let Some((_, consequence)) = choices.clone().find(|(choice, _)| choice == decision) else {
                let ways = resolution::ways_out(link, target, reason).join("\n");
                return Err(format!("--{decision} does not answer {reason}; possible is:\n{ways}"));
            };
            let record = ResolutionRecord { decision: *decision, at_ms: unix_ms() };
            (ControlRecord::Resolution(target.clone(), record), format!("{target} ({reason}): {consequence}"))
        }
        Order::Resync { group, dry_run } => {
            let moves = resync(group, ledger, target, known, *dry_run, unix_ms()).await?;
            return Ok(resynced(group, *dry_run, moves));
        }
    };
    ledger.append(vec![record]).await.map_err(|error| error.message)?;
    Ok(sentence)
}

fn resynced(group: &GroupId, dry_run: bool, moves: Option<Vec<Move>>) -> String {
    let verb = if dry_run { "would follow" } else { "follows" };
    let Some(moves) = moves else {
        return format!("group {group} {verb} the source again from the link's next start on");
    };
    let place = |offset: Option<Offset>| offset.map_or("no position".to_owned(), |offset| offset.to_string());
    let mut text = format!("group {group} {verb} the source again: {} positions change on the target", moves.len());
    for Move { at, from, to } in moves {
        text.push_str(&format!("\n  {at}: {} → {}", place(from), place(to)));
    }
    text
}
