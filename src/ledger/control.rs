//! Control records on their way to and from the topic: short text keys, versioned JSON values.
//!
//! A value is `{"v":2,…}`. A key of unknown kind or a higher version was written by a newer Twinlog and is refused by
//! name: going on without understanding it could break a promise it made.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::endpoint::{Error, ErrorKind, LedgerEntry};
use crate::ledger::record::{
    BirthTopics, Born, ClaimRecord, Desired, GroupRecord, HaltRecord, LeaseRecord, LinkRecord, Observed,
    ResolutionRecord, SeenPositions, SourceEnds, WantedConfigs,
};
use crate::model::{GroupId, ProducerIdentity, TopicName, TopicPartition};

/// Version of all control values this binary writes, and the highest it reads. 2: a group's record says whether it was
/// taken over; who does not know that would go on writing the group.
pub const CONTROL_VERSION: u32 = 2;

/// What a control record is about; its text is the compaction key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ControlKey {
    /// `link`
    Link,
    /// `claim`
    Claim,
    /// `lease`
    Lease,
    /// `producer`
    Producer,
    /// `birth-topics`
    BirthTopics,
    /// `observed`
    Observed,
    /// `desired`
    Desired,
    /// `born/TOPIC/PARTITION`, as at the target
    Born(TopicPartition),
    /// `halt/TOPIC/PARTITION`, as at the target
    Halt(TopicPartition),
    /// `resolution/TOPIC/PARTITION`, as at the target
    Resolution(TopicPartition),
    /// `wanted/TOPIC`, as at the target
    Wanted(TopicName),
    /// `ends/TOPIC`, as at the source
    Ends(TopicName),
    /// `seen/GROUP`
    Seen(GroupId),
    /// `group/GROUP`
    Group(GroupId),
}

/// One fact for the control topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlRecord {
    /// The two clusters.
    Link(LinkRecord),
    /// A claimer's mark.
    Claim(ClaimRecord),
    /// The holder.
    Lease(LeaseRecord),
    /// The producer identity all owners of the link write under; in the ledger before its first use.
    Producer(ProducerIdentity),
    /// Topics that existed when the link was born.
    BirthTopics(BirthTopics),
    /// Freshness of source ends and positions.
    Observed(Observed),
    /// What operators want.
    Desired(Desired),
    /// A route's birth, under its target partition.
    Born(Born),
    /// A halt of a target partition.
    Halt(TopicPartition, HaltRecord),
    /// An operator's decision on a target partition.
    Resolution(TopicPartition, ResolutionRecord),
    /// Settings wanted after hand-over of a target topic.
    Wanted(TopicName, WantedConfigs),
    /// Ends of a source topic.
    Ends(TopicName, SourceEnds),
    /// Source positions of a group.
    Seen(GroupId, SeenPositions),
    /// What we wrote for a group.
    Group(GroupId, GroupRecord),
    /// What the key said no longer holds.
    Removed(ControlKey),
}

#[derive(Serialize, Deserialize)]
struct Version {
    v: u32,
}

impl ControlRecord {
    /// The key of the record.
    pub fn key(&self) -> ControlKey {
        match self {
            ControlRecord::Link(_) => ControlKey::Link,
            ControlRecord::Claim(_) => ControlKey::Claim,
            ControlRecord::Lease(_) => ControlKey::Lease,
            ControlRecord::Producer(_) => ControlKey::Producer,
            ControlRecord::BirthTopics(_) => ControlKey::BirthTopics,
            ControlRecord::Observed(_) => ControlKey::Observed,
            ControlRecord::Desired(_) => ControlKey::Desired,
            ControlRecord::Born(born) => ControlKey::Born(born.route.target.clone()),
            ControlRecord::Halt(at, _) => ControlKey::Halt(at.clone()),
            ControlRecord::Resolution(at, _) => ControlKey::Resolution(at.clone()),
            ControlRecord::Wanted(topic, _) => ControlKey::Wanted(topic.clone()),
            ControlRecord::Ends(topic, _) => ControlKey::Ends(topic.clone()),
            ControlRecord::Seen(group, _) => ControlKey::Seen(group.clone()),
            ControlRecord::Group(group, _) => ControlKey::Group(group.clone()),
            ControlRecord::Removed(key) => key.clone(),
        }
    }

    /// The record as the topic keeps it.
    pub fn to_entry(&self) -> LedgerEntry {
        let value = match self {
            ControlRecord::Link(body) => Some(encode(body)),
            ControlRecord::Claim(body) => Some(encode(body)),
            ControlRecord::Lease(body) => Some(encode(body)),
            ControlRecord::Producer(body) => Some(encode(body)),
            ControlRecord::BirthTopics(body) => Some(encode(body)),
            ControlRecord::Observed(body) => Some(encode(body)),
            ControlRecord::Desired(body) => Some(encode(body)),
            ControlRecord::Born(body) => Some(encode(body)),
            ControlRecord::Halt(_, body) => Some(encode(body)),
            ControlRecord::Resolution(_, body) => Some(encode(body)),
            ControlRecord::Wanted(_, body) => Some(encode(body)),
            ControlRecord::Ends(_, body) => Some(encode(body)),
            ControlRecord::Seen(_, body) => Some(encode(body)),
            ControlRecord::Group(_, body) => Some(encode(body)),
            ControlRecord::Removed(_) => None,
        };
        LedgerEntry { key: Bytes::from(self.key().to_string()), value }
    }

    /// Reads an entry of the control topic.
    ///
    /// # Errors
    /// `Unsupported`, naming key and version, for what a newer Twinlog wrote; `Corrupt`, naming the key, for what no
    /// Twinlog wrote.
    pub fn from_entry(entry: &LedgerEntry) -> Result<Self, Error> {
        let text = String::from_utf8_lossy(&entry.key);
        let Ok(key) = text.parse::<ControlKey>() else {
            return Err(newer(&text, "a kind of record"));
        };
        let Some(value) = &entry.value else {
            return Ok(ControlRecord::Removed(key));
        };
        Ok(match key {
            ControlKey::Link => ControlRecord::Link(decode(&text, value)?),
            ControlKey::Claim => ControlRecord::Claim(decode(&text, value)?),
            ControlKey::Lease => ControlRecord::Lease(decode(&text, value)?),
            ControlKey::Producer => ControlRecord::Producer(decode(&text, value)?),
            ControlKey::BirthTopics => ControlRecord::BirthTopics(decode(&text, value)?),
            ControlKey::Observed => ControlRecord::Observed(decode(&text, value)?),
            ControlKey::Desired => ControlRecord::Desired(decode(&text, value)?),
            ControlKey::Born(at) => {
                let born: Born = decode(&text, value)?;
                if born.route.target != at {
                    return Err(corrupt(&text, format_args!("it is about {}", born.route.target)));
                }
                ControlRecord::Born(born)
            }
            ControlKey::Halt(at) => ControlRecord::Halt(at, decode(&text, value)?),
            ControlKey::Resolution(at) => ControlRecord::Resolution(at, decode(&text, value)?),
            ControlKey::Wanted(topic) => ControlRecord::Wanted(topic, decode(&text, value)?),
            ControlKey::Ends(topic) => ControlRecord::Ends(topic, decode(&text, value)?),
            ControlKey::Seen(group) => ControlRecord::Seen(group, decode(&text, value)?),
            ControlKey::Group(group) => ControlRecord::Group(group, decode(&text, value)?),
        })
    }
}

fn encode(body: &impl Serialize) -> Bytes {
    let mut value = serde_json::to_value(body).expect("ledger records are plain data with text keys");
    let fields = value.as_object_mut().expect("ledger records are structs");
    fields.insert("v".to_owned(), CONTROL_VERSION.into());
    Bytes::from(value.to_string())
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, Error> {
    let Version { v } = serde_json::from_slice(value).map_err(|e| corrupt(key, format_args!("no version: {e}")))?;
    if v > CONTROL_VERSION {
        return Err(newer(key, format_args!("version {v}")));
    }
    serde_json::from_slice(value).map_err(|e| corrupt(key, e))
}

fn newer(key: &str, what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "ledger control record '{key}' is {what} that this Twinlog does not know (it knows up to version \
             {CONTROL_VERSION}): a newer Twinlog has run this link; use that one or a later one"
        ),
    )
}

fn corrupt(key: &str, what: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format!(
            "ledger control record '{key}' is not what Twinlog writes ({what}): something else wrote into the topic"
        ),
    )
}

impl fmt::Display for ControlKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlKey::Link => f.write_str("link"),
            ControlKey::Claim => f.write_str("claim"),
            ControlKey::Lease => f.write_str("lease"),
            ControlKey::Producer => f.write_str("producer"),
            ControlKey::BirthTopics => f.write_str("birth-topics"),
            ControlKey::Observed => f.write_str("observed"),
            ControlKey::Desired => f.write_str("desired"),
            ControlKey::Born(at) => write!(f, "born/{at}"),
            ControlKey::Halt(at) => write!(f, "halt/{at}"),
            ControlKey::Resolution(at) => write!(f, "resolution/{at}"),
            ControlKey::Wanted(topic) => write!(f, "wanted/{topic}"),
            ControlKey::Ends(topic) => write!(f, "ends/{topic}"),
            ControlKey::Seen(group) => write!(f, "seen/{group}"),
            ControlKey::Group(group) => write!(f, "group/{group}"),
        }
    }
}

/// The text is not a key this binary knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownKey;

impl FromStr for ControlKey {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let Some((kind, about)) = text.split_once('/') else {
            return Ok(match text {
                "link" => ControlKey::Link,
                "claim" => ControlKey::Claim,
                "lease" => ControlKey::Lease,
                "producer" => ControlKey::Producer,
                "birth-topics" => ControlKey::BirthTopics,
                "observed" => ControlKey::Observed,
                "desired" => ControlKey::Desired,
                _ => return Err(UnknownKey),
            });
        };
        Ok(match kind {
            "born" => ControlKey::Born(partition(about)?),
            "halt" => ControlKey::Halt(partition(about)?),
            "resolution" => ControlKey::Resolution(partition(about)?),
            "wanted" => ControlKey::Wanted(about.into()),
            "ends" => ControlKey::Ends(about.into()),
            "seen" => ControlKey::Seen(about.into()),
            "group" => ControlKey::Group(about.into()),
            _ => return Err(UnknownKey),
        })
    }
}

fn partition(text: &str) -> Result<TopicPartition, UnknownKey> {
    let (topic, partition) = text.rsplit_once('/').ok_or(UnknownKey)?;
    Ok(TopicPartition::new(topic, partition.parse().map_err(|_| UnknownKey)?))
}
