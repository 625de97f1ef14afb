//! What is known of each source group, between passes and for whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;

use crate::endpoint::{GroupProtocol, ReadOffsets};
use crate::ledger::View;
use crate::ledger::record::GroupRecord;
use crate::model::{GroupId, Offset, TopicPartition};
use crate::policy::cut::Hindrance;

/// What the target has taken for groups, where the ledger does not say it yet.
pub(super) type Unconfirmed = BTreeMap<GroupId, Arc<GroupRecord>>;

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
    /// What was written for groups, where the ledger does not say it yet.
    pub(super) unconfirmed: Unconfirmed,
    /// Groups that an operator has taken back since the last full pass.
    pub(super) taken_back: BTreeSet<GroupId>,
}

/// What was written for a group: what the ledger does not say yet goes before what it says.
pub(super) fn written(id: &GroupId, unconfirmed: &Unconfirmed, view: &View) -> Arc<GroupRecord> {
    unconfirmed.get(id).cloned().or_else(|| view.group(id)).unwrap_or_default()
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
            unconfirmed: BTreeMap::new(),
            taken_back: BTreeSet::new(),
        }
    }
}

impl Findings {
    /// All groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = (&GroupId, &Group)> {
        self.groups.iter()
    }

    /// What was written for a group.
    pub fn record(&self, id: &GroupId, view: &View) -> Arc<GroupRecord> {
        written(id, &self.unconfirmed, view)
    }

    /// How the source's commits are learnt of.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Partitions that positions are not held back for, and why.
    pub fn left_out(&self) -> &BTreeMap<TopicPartition, Hindrance> {
        &self.left_out
    }

    /// The positions of every group that was found to stand elsewhere since then (`None`: ever), and whether all groups could
    /// be read.
    pub fn seen(&self, since: Option<Instant>) -> (Vec<(GroupId, Arc<ReadOffsets>)>, bool) {
        let is_news = |group: &Group| since.is_none_or(|since| group.changed_at.is_some_and(|at| at >= since));
        let read = self.groups.iter().filter(|(_, group)| is_news(group));
        let read = read.filter_map(|(id, group)| Some((id.clone(), group.read.clone()?)));
        (read.collect(), self.groups.values().all(|group| group.unread.is_none()))
    }
}
