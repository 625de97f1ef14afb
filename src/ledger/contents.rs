//! Everything the two topics say, in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use crate::endpoint::{Error, LedgerEntry};
use crate::ledger::control::{ControlKey, ControlRecord};
use crate::ledger::mapping::{self, MapEntryKey, MapSlot};
use crate::ledger::record::{
    BirthTopics, Born, ClaimRecord, Desired, GroupRecord, HaltRecord, LeaseRecord, LinkRecord, Observed,
    ResolutionRecord, SeenPositions, SourceEnds, WantedConfigs,
};
use crate::model::{GroupId, ProducerIdentity, TopicName, TopicPartition};

/// The latest value of every key. Values that are handed out often are shared, not copied.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub link: Option<LinkRecord>,
    pub claim: Option<ClaimRecord>,
    pub lease: Option<LeaseRecord>,
    pub producer: Option<ProducerIdentity>,
    pub birth_topics: Option<Arc<BirthTopics>>,
    pub observed: Observed,
    pub desired: Desired,
    pub born: BTreeMap<TopicPartition, Arc<Born>>,
    pub halts: BTreeMap<TopicPartition, HaltRecord>,
    pub resolutions: BTreeMap<TopicPartition, ResolutionRecord>,
    pub wanted: BTreeMap<TopicName, Arc<WantedConfigs>>,
    pub ends: BTreeMap<TopicName, Arc<SourceEnds>>,
    pub seen: BTreeMap<GroupId, Arc<SeenPositions>>,
    pub groups: BTreeMap<GroupId, Arc<GroupRecord>>,
    pub maps: HashMap<TopicPartition, MapSlot>,
    /// Who claimed the map topic last.
    pub map_claim: Option<Uuid>,
}

impl Contents {
    /// Takes in one control record.
    pub fn apply(&mut self, record: ControlRecord) {
        match record {
            ControlRecord::Link(link) => self.link = Some(link),
            ControlRecord::Claim(claim) => self.claim = Some(claim),
            ControlRecord::Lease(lease) => self.lease = Some(lease),
            ControlRecord::Producer(producer) => self.producer = Some(producer),
            ControlRecord::BirthTopics(topics) => self.birth_topics = Some(Arc::new(topics)),
            ControlRecord::Observed(observed) => self.observed = observed,
            ControlRecord::Desired(desired) => self.desired = desired,
            ControlRecord::Born(born) => drop(self.born.insert(born.route.target.clone(), Arc::new(born))),
            ControlRecord::Halt(at, halt) => drop(self.halts.insert(at, halt)),
            ControlRecord::Resolution(at, resolution) => drop(self.resolutions.insert(at, resolution)),
            ControlRecord::Wanted(topic, wanted) => drop(self.wanted.insert(topic, Arc::new(wanted))),
            ControlRecord::Ends(topic, ends) => drop(self.ends.insert(topic, Arc::new(ends))),
            ControlRecord::Seen(group, seen) => drop(self.seen.insert(group, Arc::new(seen))),
            ControlRecord::Group(group, written) => drop(self.groups.insert(group, Arc::new(written))),
            ControlRecord::Removed(key) => self.remove(&key),
        }
    }

    fn remove(&mut self, key: &ControlKey) {
        match key {
            ControlKey::Link => self.link = None,
            ControlKey::Claim => self.claim = None,
            ControlKey::Lease => self.lease = None,
            ControlKey::Producer => self.producer = None,
            ControlKey::BirthTopics => self.birth_topics = None,
            ControlKey::Observed => self.observed = Observed::default(),
            ControlKey::Desired => self.desired = Desired::default(),
            ControlKey::Born(at) => drop(self.born.remove(at)),
            ControlKey::Halt(at) => drop(self.halts.remove(at)),
            ControlKey::Resolution(at) => drop(self.resolutions.remove(at)),
            ControlKey::Wanted(topic) => drop(self.wanted.remove(topic)),
            ControlKey::Ends(topic) => drop(self.ends.remove(topic)),
            ControlKey::Seen(group) => drop(self.seen.remove(group)),
            ControlKey::Group(group) => drop(self.groups.remove(group)),
        }
    }

    /// Takes in one entry of the map topic.
    ///
    /// # Errors
    /// `Corrupt` for a key no Twinlog writes.
    pub fn apply_map(&mut self, entry: LedgerEntry) -> Result<(), Error> {
        match mapping::read_key(&entry)? {
            MapEntryKey::Claim(holder) => self.map_claim = holder,
            MapEntryKey::Part(at, part) => self.maps.entry(at).or_default().set(part, entry.value),
        }
        Ok(())
    }
}
