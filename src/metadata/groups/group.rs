//! What is known of each source group, between passes and for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::endpoint::{GroupProtocol, ReadOffsets};
use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::cut::Hindrance;

/// One source group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its kind at the source.
    pub(super) protocol: GroupProtocol,
    /// Whether the source lists it.
    pub(super) listed: bool,
    /// Its positions, as last read.
    pub(super) read: Option<Arc<ReadOffsets>>,
    /// When they were read.
    pub(super) read_at: Option<Instant>,
    /// When they were found to be other than before.
    pub(super) changed_at: Option<Instant>,
    /// Those of them that may be published.
    pub(super) published: Option<Arc<ReadOffsets>>,
    /// Why it could not be read at the last attempt.
    pub(super) unread: Option<String>,
    /// Since when its coordinator has told of no position.
    pub(super) absent_since: Option<Instant>,
    /// It is gone at the source, by its coordinator's word over the grace period and by the list.
    pub(super) gone: bool,
    /// What its members at the source are assigned.
    pub(super) assigned: BTreeSet<TopicPartition>,
    /// Where a share group stands.
    pub(super) share_starts: BTreeMap<TopicPartition, Offset>,
    /// Why it could not be written at the last attempt.
    pub(super) unwritten: Option<String>,
    /// Why no positions can be set for it on the target, ever.
    pub(super) conflict: Option<String>,
    /// When its positions on the target were last looked at.
    pub(super) verified_at: Option<Instant>,
}

impl Group {
    pub(super) fn new(protocol: GroupProtocol) -> Self {
        Self {
            protocol,
            listed: false,
            read: None,
            read_at: None,
            changed_at: None,
            published: None,
            unread: None,
            absent_since: None,
            gone: false,
            assigned: BTreeSet::new(),
            share_starts: BTreeMap::new(),
            unwritten: None,
            conflict: None,
            verified_at: None,
        }
    }
}

/// How the source's commits are learnt of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// As they are made.
    Following,
    /// By asking for all positions in every pass, because they cannot be followed.
    Polling {
        /// Why they cannot.
        why: String,
    },
}

/// What the passes have found, for whoever asks meanwhile.
#[derive(Debug)]
pub struct Findings {
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Whether partitions without a position get the first mirrored offset.
    pub(super) seeds: bool,
    pub(super) way: Way,
    pub(super) left_out: BTreeMap<TopicPartition, Hindrance>,
}

/// The findings, shared. Hold the lock for one look, never across an await.
pub type Board = Arc<Mutex<Findings>>;

impl Default for Findings {
    fn default() -> Self {
        Self {
            groups: BTreeMap::new(),
            seeds: false,
            way: Way::Polling { why: "nothing has been read yet".into() },
            left_out: BTreeMap::new(),
        }
    }
}

impl Findings {
    /// All groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.groups.iter()
    }

    /// How the source's commits are learnt of.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Partitions that positions are not held back for, and why.
    pub fn left_out(&self) -> &BTreeMap<TopicPartition, Hindrance> {
        &self.left_out
    }

    /// The positions of every group that was read, and whether all were.
    pub fn seen(&self) -> (Vec<(GroupId, Arc<ReadOffsets>)>, bool) {
        let read = self.groups.iter().filter_map(|(id, group)| Some((id.clone(), group.read.clone()?)));
        (read.collect(), self.groups.values().all(|group| group.unread.is_none()))
    }
}
