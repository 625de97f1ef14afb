//! What a session knows of groups, put into the words of [`report`](crate::link::report): from memory, without asking a
//! cluster.

use crate::link::groups::routes;
use crate::link::report::{CostReport, GroupPartitionReport, GroupReport, GroupsReport};
use crate::link::session::Session;
use crate::metadata::groups::{Cost, GroupState, GroupVerdict, PositionState, PositionVerdict, Way, account};

/// Every group as it stands.
pub(super) fn groups(session: &Session) -> Vec<GroupReport> {
    let left_out = {
        let findings = session.groups.lock().expect("no panic while held");
        findings.left_out().keys().map(ToString::to_string).collect::<Vec<String>>()
    };
    states(session).into_iter().map(|state| group(&state, &left_out)).collect()
}

/// All groups summed up.
pub(super) fn summary(session: &Session) -> GroupsReport {
    let mut summary = GroupsReport::default();
    for state in states(session) {
        *summary.verdicts.entry(state.verdict.words().to_owned()).or_default() += 1;
        if let Some(cost) = state.cost() {
            summary.cost.re_read_records += cost.re_read;
            summary.cost.skip_records += cost.skip;
            summary.cost.at_risk_records += cost.at_risk;
            summary.cost.lost_records += cost.lost;
        }
    }
    let findings = session.groups.lock().expect("no panic while held");
    summary.way = match findings.way() {
        Way::Following => "following __consumer_offsets".to_owned(),
        Way::Polling { why } => format!("polling: {why}"),
    };
    summary.cut_without = findings.left_out().iter().map(|(at, why)| format!("{at} ({why})")).collect();
    summary
}

fn states(session: &Session) -> Vec<GroupState> {
    let (mirrored, view) = (routes(session), session.ledger.view());
    let findings = session.groups.lock().expect("no panic while held");
    findings.groups().map(|(id, group)| account(id, group, &findings.record(id, view), &mirrored)).collect()
}

fn group(state: &GroupState, left_out: &[String]) -> GroupReport {
    GroupReport {
        group: state.id.clone(),
        verdict: state.verdict.words().to_owned(),
        detail: state.verdict.detail().map(str::to_owned),
        cut_without: if state.verdict.is_ours() { left_out.to_vec() } else { Vec::new() },
        cost: state.cost().map(cost),
        partitions: state.partitions.iter().map(|p| position(p, &state.verdict)).collect(),
    }
}

fn cost(cost: Cost) -> CostReport {
    CostReport {
        re_read_records: cost.re_read,
        skip_records: cost.skip,
        at_risk_records: cost.at_risk,
        lost_records: cost.lost,
    }
}

fn position(state: &PositionState, group: &GroupVerdict) -> GroupPartitionReport {
    let verdict = match &state.verdict {
        PositionVerdict::Synced => "synced".to_owned(),
        PositionVerdict::Waiting => "waiting for the mirror".to_owned(),
        PositionVerdict::BeforeTheMirror(n) => format!("before the mirror ({n})"),
        PositionVerdict::NoPosition => format!("no position ({} at risk)", state.cost.at_risk),
        PositionVerdict::ClampedUp(n) => format!("clamped up ({n} lost)"),
        PositionVerdict::Gone => "gone at the source".to_owned(),
        PositionVerdict::Pending => "pending in a transaction".to_owned(),
        PositionVerdict::NotMirrored => "not mirrored".to_owned(),
    };
    let is_ours =
        state.verdict != PositionVerdict::NotMirrored && group.is_ours() && !matches!(group, GroupVerdict::Failed(_));
    GroupPartitionReport {
        source: state.source.clone(),
        source_offset: state.offset,
        // What stands on the target is not ours, or not known: no offset is claimed for it.
        target_offset: state.written.filter(|_| is_ours),
        verdict: if is_ours || state.verdict == PositionVerdict::NotMirrored {
            verdict
        } else {
            group.words().to_owned()
        },
        re_read_records: state.cost.re_read,
        skip_records: state.cost.skip,
    }
}
