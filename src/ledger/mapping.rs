//! The map topic: keys of its entries, and a route's map put together from them.
//!
//! Keys are `TOPIC/PARTITION/head` and `TOPIC/PARTITION/SEGMENT`, as at the target; `claim` is a claimer's mark. The
//! head comes last in every transaction, so what was set before it becomes current with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use uuid::Uuid;

use crate::endpoint::{Error, ErrorKind, LedgerEntry};
use crate::ledger::control::ControlRecord;
use crate::ledger::view::RouteMap;
use crate::model::TopicPartition;
use crate::offsets::{MapChanges, MapCorrupt, MapKey, OffsetMap};

/// What an entry of the map topic is about.
pub(super) enum MapEntryKey {
    /// A claimer's mark.
    Claim(Option<Uuid>),
    /// A part of a route's map.
    Part(TopicPartition, MapKey),
}

/// Reads the key of an entry of the map topic (and the value of a claim).
pub(super) fn read_key(entry: &LedgerEntry) -> Result<MapEntryKey, Error> {
    if &entry.key[..] == b"claim" {
        return Ok(match ControlRecord::from_entry(entry)? {
            ControlRecord::Claim(claim) => MapEntryKey::Claim(Some(claim.holder)),
            _ => MapEntryKey::Claim(None),
        });
    }
    parse_part(&entry.key).ok_or_else(|| {
        let key = String::from_utf8_lossy(&entry.key);
        Error::new(
            ErrorKind::Corrupt,
            format!("ledger map key '{key}' is not one Twinlog writes: something else wrote into the topic"),
        )
    })
}

fn parse_part(key: &[u8]) -> Option<MapEntryKey> {
    let (at, part) = std::str::from_utf8(key).ok()?.rsplit_once('/')?;
    let (topic, partition) = at.rsplit_once('/')?;
    let part = match part {
        "head" => MapKey::Head,
        number => MapKey::Segment(number.parse().ok()?),
    };
    Some(MapEntryKey::Part(TopicPartition::new(topic, partition.parse().ok()?), part))
}

/// What must be appended to store the changes of one route's map.
pub(super) fn to_entries(at: &TopicPartition, changes: &MapChanges) -> Vec<LedgerEntry> {
    let key = |part: &MapKey| match part {
        MapKey::Head => format!("{at}/head"),
        MapKey::Segment(number) => format!("{at}/{number}"),
    };
    changes.entries.iter().map(|(part, value)| LedgerEntry { key: key(part).into(), value: value.clone() }).collect()
}

/// One route's map: as stored, as loaded, or both (where it is only followed).
#[derive(Debug, Default)]
pub(super) struct MapSlot {
    head: Option<Bytes>,
    segments: BTreeMap<u32, Bytes>,
    /// Set since the last head.
    staged: BTreeMap<u32, Option<Bytes>>,
    /// The stored parts changed since `loaded` was put together.
    stale: bool,
    loaded: Option<RouteMap>,
}

impl MapSlot {
    /// Takes in one stored part.
    pub fn set(&mut self, part: MapKey, value: Option<Bytes>) {
        match part {
            MapKey::Segment(number) => drop(self.staged.insert(number, value)),
            MapKey::Head => {
                for (number, value) in std::mem::take(&mut self.staged) {
                    match value {
                        Some(bytes) => self.segments.insert(number, bytes),
                        None => self.segments.remove(&number),
                    };
                }
                self.head = value;
                self.stale = true;
            }
        }
    }

    /// The map, put together from its parts when first asked for and again after they changed. The same shared map all
    /// the time. `None` when nothing is stored.
    pub fn load(&mut self) -> Result<Option<RouteMap>, MapCorrupt> {
        if self.stale {
            let Some(head) = &self.head else {
                return Ok(self.loaded.clone());
            };
            let map = OffsetMap::load(head, self.segments.iter().map(|(number, bytes)| (*number, bytes.clone())))?;
            match &self.loaded {
                Some(shared) => *shared.lock().unwrap_or_else(PoisonError::into_inner) = map,
                None => self.loaded = Some(Arc::new(Mutex::new(map))),
            }
            self.stale = false;
        }
        Ok(self.loaded.clone())
    }

    /// Numbers of the segments that may be stored, of a map that is followed or of one that is ours.
    pub fn stored_segments(&self) -> BTreeSet<u32> {
        let loaded =
            self.loaded.as_ref().map(|map| map.lock().unwrap_or_else(PoisonError::into_inner).stored_segments());
        let parts = self.segments.keys().chain(self.staged.keys()).copied();
        loaded.into_iter().flatten().chain(parts).collect()
    }

    /// From now on the loaded map is the truth and the stored parts are not kept a second time.
    pub fn own(&mut self, map: RouteMap) {
        *self = Self { loaded: Some(map), ..Self::default() };
    }
}
