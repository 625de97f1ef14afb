//! Appends to the control topic, one transaction at a time: calls made while one is under way share the next.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::endpoint::{Error, ErrorKind, LedgerAppender, LedgerTopic, Result};
use crate::ledger::control::ControlRecord;
use crate::ledger::lease::Lease;
use crate::ledger::view::View;
use crate::model::LinkName;
use crate::runtime::tasks::TaskScope;

/// Calls waiting for a transaction before the next caller has to wait for room.
const WAITING: usize = 1024;
/// Records that share a transaction at most; a single call may bring more.
const SHARED_RECORDS: usize = 2000;

/// A handle to the appending task.
#[derive(Clone)]
pub(super) struct Queue {
    link: LinkName,
    calls: mpsc::Sender<Call>,
}

struct Call {
    records: Vec<ControlRecord>,
    done: oneshot::Sender<Result<()>>,
}

impl Queue {
    /// Starts the task in `scope`; it ends with the scope.
    pub fn start(
        link: &LinkName,
        appender: Arc<dyn LedgerAppender>,
        view: View,
        lease: Lease,
        scope: &TaskScope,
    ) -> Self {
        let (calls, waiting) = mpsc::channel(WAITING);
        scope.spawn_until_stopped(run(waiting, appender, view, lease));
        Self { link: link.clone(), calls }
    }

    /// See [`crate::ledger::Ledger::append`].
    pub async fn append(&self, records: Vec<ControlRecord>) -> Result<()> {
        let (done, outcome) = oneshot::channel();
        let sent = self.calls.send(Call { records, done }).await;
        match (sent, outcome.await) {
            (Ok(()), Ok(outcome)) => outcome,
            _ => Err(Error::new(ErrorKind::Retryable, format!("the ledger of link {} is closing", self.link))),
        }
    }
}

async fn run(mut waiting: mpsc::Receiver<Call>, appender: Arc<dyn LedgerAppender>, view: View, lease: Lease) {
    while let Some(first) = waiting.recv().await {
        let mut calls = vec![first];
        let mut records = calls[0].records.len();
        while records < SHARED_RECORDS {
            let Ok(next) = waiting.try_recv() else { break };
            records += next.records.len();
            calls.push(next);
        }
        append_together(calls, &*appender, &view, &lease).await;
    }
}

/// One transaction for all; if the ledger refuses it for good, one each, so that nobody suffers for a neighbour.
async fn append_together(calls: Vec<Call>, appender: &dyn LedgerAppender, view: &View, lease: &Lease) {
    match append_records(calls.iter().flat_map(|call| &call.records), appender, lease).await {
        Err(error) if calls.len() > 1 && matches!(error.kind, ErrorKind::Refused | ErrorKind::TooLarge) => {
            for call in calls {
                let outcome = append_records(&call.records, appender, lease).await;
                call.finish(outcome, view);
            }
        }
        outcome => calls.into_iter().for_each(|call| call.finish(outcome.clone(), view)),
    }
}

async fn append_records<'a>(
    records: impl IntoIterator<Item = &'a ControlRecord>,
    appender: &dyn LedgerAppender,
    lease: &Lease,
) -> Result<()> {
    let entries = records.into_iter().map(ControlRecord::to_entry).collect();
    let outcome = appender.append(LedgerTopic::Control, entries).await;
    if let Err(error) = &outcome {
        lease.note(error);
    }
    outcome
}

impl Call {
    fn finish(self, outcome: Result<()>, view: &View) {
        if outcome.is_ok() {
            view.apply(self.records);
        }
        // A caller that gave up does not want to know.
        let _ = self.done.send(outcome);
    }
}
