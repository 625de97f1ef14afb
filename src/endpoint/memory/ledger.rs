//! Storage of a link's ledger: two logs of keyed values, one appender at a time.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::endpoint::memory::{Call, MemoryCluster};
use crate::endpoint::{
    ErrorKind, LedgerAppender, LedgerEntry, LedgerEvent, LedgerFollower, LedgerReader, LedgerStore, LedgerTopic,
    Ledgers, Result,
};
use crate::model::LinkName;

#[derive(Default)]
pub(super) struct LedgerState {
    /// Counts claims: only the latest may append.
    claims: u64,
    map: LedgerLog,
    control: LedgerLog,
}

/// Entries by offset; compaction leaves holes.
#[derive(Default)]
struct LedgerLog {
    entries: BTreeMap<u64, LedgerEntry>,
    end: u64,
}

impl LedgerState {
    fn log(&mut self, topic: LedgerTopic) -> &mut LedgerLog {
        match topic {
            LedgerTopic::Map => &mut self.map,
            LedgerTopic::Control => &mut self.control,
        }
    }
}

impl LedgerLog {
    /// The first entry at or behind `from` and before `until`, with its offset.
    fn first(&self, from: u64, until: u64) -> Option<(u64, &LedgerEntry)> {
        self.entries.range(from..until.max(from)).next().map(|(offset, entry)| (*offset, entry))
    }
}

/// The ledger of one link on a cluster.
#[derive(Clone)]
pub struct MemoryLedger {
    cluster: MemoryCluster,
    link: LinkName,
}

impl MemoryCluster {
    /// Opens a link's ledger, which outlives everybody who opens it.
    pub fn ledger(&self, link: impl Into<LinkName>) -> MemoryLedger {
        MemoryLedger { cluster: self.clone(), link: link.into() }
    }
}

impl MemoryLedger {
    /// The log cleaner: of each key the last entry stays, tombstones go too.
    pub fn compact(&self, topic: LedgerTopic) {
        self.change(|ledger| {
            let log = ledger.log(topic);
            let last: BTreeMap<_, _> = log.entries.iter().map(|(offset, entry)| (entry.key.clone(), *offset)).collect();
            log.entries.retain(|offset, entry| entry.value.is_some() && last[&entry.key] == *offset);
        });
    }

    /// Writes an entry past the lease, as a stranger or another version would.
    pub fn plant(&self, topic: LedgerTopic, entry: LedgerEntry) {
        self.change(|ledger| ledger.append(topic, vec![entry]));
    }

    fn change<T>(&self, change: impl FnOnce(&mut LedgerState) -> T) -> T {
        self.cluster.change(|s| change(s.ledgers.entry(self.link.clone()).or_default()))
    }
}

impl Ledgers for MemoryCluster {
    fn of(&self, link: &LinkName) -> Box<dyn LedgerReader> {
        Box::new(self.ledger(link.as_str()))
    }
}

impl LedgerState {
    fn append(&mut self, topic: LedgerTopic, entries: Vec<LedgerEntry>) {
        let log = self.log(topic);
        for entry in entries {
            log.entries.insert(log.end, entry);
            log.end += 1;
        }
    }
}

#[async_trait]
impl LedgerReader for MemoryLedger {
    async fn follow(&self, topic: LedgerTopic) -> Result<Box<dyn LedgerFollower>> {
        self.cluster.enter(Call::Follow).await?;
        let until = self.change(|ledger| ledger.log(topic).end);
        Ok(Box::new(Follower { ledger: self.clone(), topic, next: 0, catching_up_to: Some(until) }))
    }
}

#[async_trait]
impl LedgerStore for MemoryLedger {
    async fn claim(&self) -> Result<Box<dyn LedgerAppender>> {
        self.cluster.enter(Call::Claim).await?;
        let claim = self.change(|ledger| {
            ledger.claims += 1;
            ledger.claims
        });
        Ok(Box::new(Appender { ledger: self.clone(), claim }))
    }
}

struct Follower {
    ledger: MemoryLedger,
    topic: LedgerTopic,
    next: u64,
    /// Taken when that end is reached and said.
    catching_up_to: Option<u64>,
}

#[async_trait]
impl LedgerFollower for Follower {
    async fn next(&mut self) -> Result<LedgerEvent> {
        self.ledger.cluster.enter(Call::Follow).await?;
        let (topic, next, until) = (self.topic, self.next, self.catching_up_to);
        let event = self.ledger.cluster.wait_for(|state| {
            if state.faults.frozen {
                return None;
            }
            if let Err(error) = state.faults.due(Call::Follow) {
                return Some(Err(error));
            }
            let log = state.ledgers.get_mut(&self.ledger.link)?.log(topic);
            match log.first(next, until.unwrap_or(log.end)) {
                Some((offset, entry)) => Some(Ok((offset + 1, LedgerEvent::Entry(entry.clone())))),
                None => until.map(|until| Ok((until.max(next), LedgerEvent::CaughtUp))),
            }
        });
        let (next, event) = event.await?;
        self.next = next;
        if event == LedgerEvent::CaughtUp {
            self.catching_up_to = None;
        }
        Ok(event)
    }
}

struct Appender {
    ledger: MemoryLedger,
    claim: u64,
}

#[async_trait]
impl LedgerAppender for Appender {
    async fn append(&self, topic: LedgerTopic, entries: Vec<LedgerEntry>) -> Result<()> {
        self.ledger.cluster.enter(Call::LedgerAppend).await?;
        let appended = self.ledger.change(|ledger| {
            let current = ledger.claims == self.claim;
            if current {
                ledger.append(topic, entries);
            }
            current
        });
        let link = &self.ledger.link;
        let fenced =
            || self.ledger.cluster.error(ErrorKind::Fenced, format!("a successor claimed the ledger of link {link}"));
        appended.then_some(()).ok_or_else(fenced)
    }
}
