//! What everybody reads of the ledger, without waiting: the latest durable value of every record.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;

use crate::endpoint::{Error, ErrorKind, LedgerEntry, LedgerEvent, LedgerReader, LedgerTopic, Result};
use crate::ledger::contents::Contents;
use crate::ledger::control::ControlRecord;
use crate::ledger::mapping::MapSlot;
use crate::ledger::reading::Reading;
use crate::ledger::record::{
    BirthTopics, Born, Desired, GroupRecord, HaltRecord, LeaseRecord, LinkRecord, Observed, ResolutionRecord,
    SeenPositions, SourceEnds, WantedConfigs,
};
use crate::model::{GroupId, ProducerIdentity, TopicName, TopicPartition};
use crate::offsets::OffsetMap;

/// A route's offset map, shared by the replicator that extends it and everybody who translates. Hold the lock for one
/// operation, never across an await.
pub type RouteMap = Arc<Mutex<OffsetMap>>;

/// What the ledger says. Cheap to clone; clones show the same. The owner's view changes when an append is durable, a
/// follower's when a [`Reading`] hears of it.
#[derive(Debug, Clone)]
pub struct View {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    contents: RwLock<Contents>,
    changes: watch::Sender<u64>,
}

impl View {
    pub(super) fn empty() -> Self {
        let shared = Shared { contents: RwLock::new(Contents::default()), changes: watch::Sender::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Reads the ledger to its end, once: for those who only look. Needs no lease and disturbs nobody.
    pub async fn read(store: &dyn LedgerReader) -> Result<View> {
        let mut reading = Reading::start(store).await?;
        reading.to_the_end().await?;
        Ok(reading.view().clone())
    }

    /// Reads the control topic alone to its end, once: who wants no map need not load it.
    pub async fn read_control(store: &dyn LedgerReader) -> Result<View> {
        let view = View::empty();
        let mut control = store.follow(LedgerTopic::Control).await?;
        while let LedgerEvent::Entry(entry) = control.next().await? {
            view.apply([ControlRecord::from_entry(&entry)?]);
        }
        Ok(view)
    }

    /// Changes with every change of a control record; [`watch::Receiver::changed`] waits for one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Which clusters the link joins; `None` before its first start.
    pub fn link(&self) -> Option<LinkRecord> {
        self.read_with(|c| c.link.clone())
    }

    /// Who holds the ledger, or held it last.
    pub fn lease(&self) -> Option<LeaseRecord> {
        self.read_with(|c| c.lease.clone())
    }

    /// The producer identity of the link.
    pub fn producer(&self) -> Option<ProducerIdentity> {
        self.read_with(|c| c.producer)
    }

    /// Source topics that existed when the link was born; `None` before its first routes.
    pub fn birth_topics(&self) -> Option<Arc<BirthTopics>> {
        self.read_with(|c| c.birth_topics.clone())
    }

    /// What operators want.
    pub fn desired(&self) -> Desired {
        self.read_with(|c| c.desired)
    }

    /// How fresh [`View::source_ends`] and [`View::seen`] are.
    pub fn observed(&self) -> Observed {
        self.read_with(|c| c.observed)
    }

    /// The birth of the route to `target`.
    pub fn born(&self, target: &TopicPartition) -> Option<Arc<Born>> {
        self.read_with(|c| c.born.get(target).cloned())
    }

    /// All routes ever born and not removed, in order of the target partition.
    pub fn routes(&self) -> Vec<Arc<Born>> {
        self.read_with(|c| c.born.values().cloned().collect())
    }

    /// Why `target` stands still, if it does.
    pub fn halt(&self, target: &TopicPartition) -> Option<HaltRecord> {
        self.read_with(|c| c.halts.get(target).cloned())
    }

    /// All partitions that stand still, as at the target.
    pub fn halts(&self) -> Vec<(TopicPartition, HaltRecord)> {
        self.read_with(|c| c.halts.iter().map(|(at, halt)| (at.clone(), halt.clone())).collect())
    }

    /// An operator's decision on `target` that its next attach shall obey.
    pub fn resolution(&self, target: &TopicPartition) -> Option<ResolutionRecord> {
        self.read_with(|c| c.resolutions.get(target).cloned())
    }

    /// Settings wanted for the target topic after hand-over.
    pub fn wanted_configs(&self, topic: &TopicName) -> Option<Arc<WantedConfigs>> {
        self.read_with(|c| c.wanted.get(topic).cloned())
    }

    /// Ends last seen of a source topic.
    pub fn source_ends(&self, topic: &TopicName) -> Option<Arc<SourceEnds>> {
        self.read_with(|c| c.ends.get(topic).cloned())
    }

    /// Source positions last seen of a group.
    pub fn seen(&self, group: &GroupId) -> Option<Arc<SeenPositions>> {
        self.read_with(|c| c.seen.get(group).cloned())
    }

    /// Source positions last seen of all groups.
    pub fn all_seen(&self) -> Vec<(GroupId, Arc<SeenPositions>)> {
        self.read_with(|c| c.seen.iter().map(|(group, seen)| (group.clone(), seen.clone())).collect())
    }

    /// What we wrote for a group.
    pub fn group(&self, group: &GroupId) -> Option<Arc<GroupRecord>> {
        self.read_with(|c| c.groups.get(group).cloned())
    }

    /// What we wrote for all groups.
    pub fn groups(&self) -> Vec<(GroupId, Arc<GroupRecord>)> {
        self.read_with(|c| c.groups.iter().map(|(group, written)| (group.clone(), written.clone())).collect())
    }

    /// The offset map of the route to `target`; `None` when none was ever flushed. Put together when first asked for:
    /// a damaged map is its own partition's trouble.
    ///
    /// # Errors
    /// `Corrupt`, naming the partition, or `Unsupported` when a newer Twinlog wrote it.
    pub fn map(&self, target: &TopicPartition) -> Result<Option<RouteMap>> {
        let mut contents = self.shared.contents.write().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = contents.maps.get_mut(target) else { return Ok(None) };
        slot.load().map_err(|e| {
            let kind = match e {
                crate::offsets::MapCorrupt::UnknownFormat { .. } => ErrorKind::Unsupported,
                _ => ErrorKind::Corrupt,
            };
            Error::new(kind, format!("stored offset map of {target}: {e}"))
        })
    }

    pub(super) fn apply(&self, records: impl IntoIterator<Item = ControlRecord>) {
        self.write_with(|c| records.into_iter().for_each(|record| c.apply(record)));
        self.shared.changes.send_modify(|version| *version += 1);
    }

    pub(super) fn apply_map(&self, entry: LedgerEntry) -> Result<()> {
        self.write_with(|c| c.apply_map(entry))
    }

    /// Numbers of the map segments the ledger may hold of `target`.
    pub(super) fn stored_segments(&self, target: &TopicPartition) -> BTreeSet<u32> {
        self.read_with(|c| c.maps.get(target).map(MapSlot::stored_segments).unwrap_or_default())
    }

    /// Makes `map` the map of `target`.
    pub(super) fn own_map(&self, target: &TopicPartition, map: RouteMap) {
        self.write_with(|c| c.maps.entry(target.clone()).or_default().own(map));
    }

    pub(super) fn read_with<T>(&self, read: impl FnOnce(&Contents) -> T) -> T {
        read(&self.shared.contents.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write_with<T>(&self, write: impl FnOnce(&mut Contents) -> T) -> T {
        write(&mut self.shared.contents.write().unwrap_or_else(PoisonError::into_inner))
    }
}
