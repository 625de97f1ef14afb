//! A ledger's storage in memory, with the faults a broker can show.

use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use tokio::sync::watch;

use crate::endpoint::{
    Error, ErrorKind, LedgerAppender, LedgerEntry, LedgerEvent, LedgerFollower, LedgerReader, LedgerStore, LedgerTopic,
    Result,
};

/// Clones share the topics.
#[derive(Clone, Default)]
pub(super) struct FakeStore {
    log: Arc<Log>,
}

#[derive(Default)]
struct Log {
    state: Mutex<State>,
    grown: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    control: Vec<LedgerEntry>,
    map: Vec<LedgerEntry>,
    claims: u64,
    transactions: u64,
    fault: Option<Fault>,
    before_claim: Vec<LedgerEntry>,
}

/// What the next appends meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing is stored; the broker says so.
    Away,
    /// The appender dies with its transaction open.
    DiesBefore,
    /// The appender dies between the commit and its acknowledgement.
    DiesAfter,
}

impl FakeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.log.state.lock().unwrap()
    }

    /// Sets or clears the fault all appends meet.
    pub fn fail(&self, fault: Option<Fault>) {
        self.state().fault = fault;
    }

    /// Entries a holder appends in the last moment before the next claim fences it.
    pub fn slip_in_before_claim(&self, entries: Vec<LedgerEntry>) {
        self.state().before_claim = entries;
    }

    /// How often the ledger was claimed.
    pub fn claims(&self) -> u64 {
        self.state().claims
    }

    /// How many transactions were committed.
    pub fn transactions(&self) -> u64 {
        self.state().transactions
    }

    /// Puts an entry into control as if by another program.
    pub fn plant(&self, entry: LedgerEntry) {
        self.state().control.push(entry);
        self.log.grown.send_replace(());
    }
}

impl State {
    fn topic(&mut self, topic: LedgerTopic) -> &mut Vec<LedgerEntry> {
        match topic {
            LedgerTopic::Control => &mut self.control,
            LedgerTopic::Map => &mut self.map,
        }
    }
}

#[async_trait]
impl LedgerReader for FakeStore {
    async fn follow(&self, topic: LedgerTopic) -> Result<Box<dyn LedgerFollower>> {
        let behind = Some(self.state().topic(topic).len());
        let grown = self.log.grown.subscribe();
        Ok(Box::new(Follower { store: self.clone(), topic, next: 0, behind, grown }))
    }
}

#[async_trait]
impl LedgerStore for FakeStore {
    async fn claim(&self) -> Result<Box<dyn LedgerAppender>> {
        let mut state = self.state();
        let slipped = std::mem::take(&mut state.before_claim);
        state.control.extend(slipped);
        state.claims += 1;
        let epoch = state.claims;
        drop(state);
        self.log.grown.send_replace(());
        Ok(Box::new(Appender { store: self.clone(), epoch }))
    }
}

struct Follower {
    store: FakeStore,
    topic: LedgerTopic,
    next: usize,
    behind: Option<usize>,
    grown: watch::Receiver<()>,
}

#[async_trait]
impl LedgerFollower for Follower {
    async fn next(&mut self) -> Result<LedgerEvent> {
        loop {
            self.grown.borrow_and_update();
            if self.behind.is_some_and(|end| self.next >= end) {
                self.behind = None;
                return Ok(LedgerEvent::CaughtUp);
            }
            if let Some(entry) = self.store.state().topic(self.topic).get(self.next).cloned() {
                self.next += 1;
                return Ok(LedgerEvent::Entry(entry));
            }
            self.grown.changed().await.expect("the log outlives its followers");
        }
    }
}

struct Appender {
    store: FakeStore,
    epoch: u64,
}

#[async_trait]
impl LedgerAppender for Appender {
    async fn append(&self, topic: LedgerTopic, entries: Vec<LedgerEntry>) -> Result<()> {
        // A broker takes its time: whoever calls meanwhile has to wait.
        tokio::task::yield_now().await;
        let fault = {
            let mut state = self.store.state();
            if state.claims != self.epoch {
                return Err(Error::new(ErrorKind::Fenced, "another claimed"));
            }
            let fault = state.fault;
            if matches!(fault, None | Some(Fault::DiesAfter)) {
                state.topic(topic).extend(entries);
                state.transactions += 1;
            }
            fault
        };
        self.store.log.grown.send_replace(());
        match fault {
            None => Ok(()),
            Some(Fault::Away) => Err(Error::new(ErrorKind::Retryable, "the broker is away")),
            Some(Fault::DiesBefore | Fault::DiesAfter) => std::future::pending().await,
        }
    }
}
