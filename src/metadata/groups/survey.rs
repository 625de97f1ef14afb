//! Which groups the source has, and where they stand: followed commit by commit where rights allow, asked for in bulk
//! otherwise, and looked through in turn in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoint::{
    COMMITS_TOPIC, Catalog, CommitFeed, CommitTail, Error, ErrorKind, GroupProtocol, GroupReader, ReadOffsets, Result,
};
use crate::metadata::groups::group::{Board, Group, Way};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};
use crate::policy::selection::Selection;

/// Pause between attempts to follow commits: what hinders is mostly a right, and given by people.
const FOLLOW_AGAIN: Duration = Duration::from_secs(30);
/// Pause between lists of the groups, while commits are followed: a new group commits sooner or later.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// For each group that is in a list, the next one is so much later: what is heard of waits while a list is made, and of
/// 10,000 groups that takes a tenth of a second.
pub(super) const LATER_PER_GROUP: Duration = Duration::from_micros(2_500);
/// Within this time every group is looked at, though nothing was heard of it.
pub(super) const SWEEP: Duration = Duration::from_secs(60);
/// Pause between questions to the members which partitions they are assigned.
const ASSIGNED_EVERY: Duration = Duration::from_secs(30);
/// How long a position hidden by a transaction is asked for many times a second; then in full looks only.
const HIDDEN_BRIEFLY: Duration = Duration::from_secs(5);

/// The source side of a link's groups.
pub(super) struct Survey {
    source: Arc<dyn GroupReader>,
    catalog: Arc<dyn Catalog>,
    feed: Arc<dyn CommitFeed>,
    selection: Selection,
    /// How long a coordinator must deny all positions of a group, before it is believed to be gone.
    grace: Duration,
    board: Board,
    tail: Option<Box<dyn CommitTail>>,
    follow_at: Instant,
    list_at: Instant,
    assigned_at: Instant,
    heard: BTreeSet<GroupId>,
    /// Since when an open transaction hides a position of a group: that it ended is not heard.
    hidden: BTreeMap<GroupId, Instant>,
    read_all: bool,
}

impl Survey {
    pub(super) fn new(
        (source, catalog, feed): (Arc<dyn GroupReader>, Arc<dyn Catalog>, Arc<dyn CommitFeed>),
        selection: Selection,
        grace: Duration,
        board: Board,
    ) -> Self {
        let now = Instant::now();
        Self {
            source,
            catalog,
            feed,
            selection,
            grace,
            board,
            tail: None,
            follow_at: now,
            list_at: now,
            assigned_at: now,
            heard: BTreeSet::new(),
            hidden: BTreeMap::new(),
            read_all: true,
        }
    }

    /// Resolves when commits were heard of, or can be heard of no longer; never, where they are not followed.
    /// Cancel-safe.
    pub(super) async fn heard(&mut self) {
        let Some(tail) = &mut self.tail else { return std::future::pending().await };
        match tail.next().await {
            Ok(groups) => self.heard.extend(groups.into_iter().filter(|id| self.selection.takes_group(id))),
            Err(error) => {
                self.tail = None;
                self.follow_later(error);
            }
        }
    }

    /// Groups that were known before this process: whether the source still has them is found out.
    pub(super) fn remember(&mut self, known: impl IntoIterator<Item = GroupId>) {
        let mut board = self.board.lock().expect("no panic while held");
        for id in known.into_iter().filter(|id| self.selection.takes_group(id)) {
            board.groups.entry(id).or_insert_with(|| Group::new(GroupProtocol::Classic));
        }
    }

    /// Reads what is due in a full look: the list, and groups whose turn it is. Answers the groups that stand elsewhere
    /// than they were last known to.
    pub(super) async fn look(&mut self) -> Result<BTreeMap<GroupId, Arc<ReadOffsets>>> {
        let now = Instant::now();
        if self.tail.is_none() && now >= self.follow_at {
            self.follow().await;
        }
        if self.tail.is_none() || now >= self.list_at {
            self.list(now).await?;
        }
        let due: BTreeSet<GroupId> = {
            let board = self.board.lock().expect("no panic while held");
            let all = self.read_all || self.tail.is_none();
            // Every pass its share, so that all have had their turn within the time.
            let share = board.groups.len() / SWEEP.as_secs() as usize + 1;
            let is_overdue = |group: &Group, after| group.read_at.is_none_or(|at| now - at >= after);
            let swept = board.groups.iter().filter(|(_, group)| is_overdue(group, SWEEP)).take(share);
            // What share groups do is not heard of.
            let is_share = |group: &Group| group.protocol == GroupProtocol::Share;
            let shared = board.groups.iter().filter(|(_, group)| is_share(group) && is_overdue(group, LIST_EVERY));
            let is_unread = |g: &Group| g.read.is_none() || g.unread.is_some() || g.awaits_word(now, self.grace);
            let unread = board.groups.iter().filter(|(_, group)| is_unread(group));
            let everybody = board.groups.iter().filter(|_| all);
            let due = everybody.chain(swept).chain(shared).chain(unread).map(|(id, _)| id);
            due.chain(self.hidden.keys()).cloned().collect()
        };
        let heard = std::mem::take(&mut self.heard);
        let changed = self.read(due.into_iter().chain(heard).collect(), now).await;
        self.read_all = false;
        if now >= self.assigned_at {
            self.assigned_at = now + ASSIGNED_EVERY;
            self.ask_members().await;
        }
        Ok(changed)
    }

    /// Reads only what was heard of, and what a transaction hides.
    pub(super) async fn look_at_heard(&mut self) -> BTreeMap<GroupId, Arc<ReadOffsets>> {
        let now = Instant::now();
        let heard = std::mem::take(&mut self.heard);
        let hidden = self.briefly_hidden(now).cloned().collect::<Vec<_>>();
        self.read(heard.into_iter().chain(hidden).collect(), now).await
    }

    /// Whether something was heard of, or is hidden by a transaction that has not been open for long.
    pub(super) fn has_news(&self) -> bool {
        self.tail.is_some() && (!self.heard.is_empty() || self.briefly_hidden(Instant::now()).next().is_some())
    }

    fn briefly_hidden(&self, now: Instant) -> impl Iterator<Item = &GroupId> {
        self.hidden.iter().filter(move |(_, since)| now - **since < HIDDEN_BRIEFLY).map(|(id, _)| id)
    }

    /// A look was given up: whatever it was about is read again.
    pub(super) fn lose_patience(&mut self, after: Duration) -> Error {
        self.read_all = true;
        Error::new(ErrorKind::Retryable, format!("the source said nothing about its groups for {after:?}"))
    }

    /// Begins to listen; all groups are read after that, so that nothing falls between.
    async fn follow(&mut self) {
        match self.listen().await {
            Ok(tail) => {
                self.tail = Some(tail);
                self.read_all = true;
                self.board.lock().expect("no panic while held").way = Way::Following;
            }
            Err(error) => self.follow_later(error),
        }
    }

    async fn listen(&mut self) -> Result<Box<dyn CommitTail>> {
        let topic = TopicName::from(COMMITS_TOPIC);
        let known = self.catalog.describe_topics(std::slice::from_ref(&topic)).await;
        let info = known.into_iter().next().unwrap_or_else(|| Err(Error::new(ErrorKind::UnknownTopic, "no answer")));
        let info =
            info.map_err(|error| error.context(format_args!("following commits needs Read on {COMMITS_TOPIC}")))?;
        let at = |partition| TopicPartition { topic: topic.clone(), partition };
        let partitions: Vec<TopicPartition> = (0..info.partitions.len() as i32).map(at).collect();
        let ends = self.catalog.high_watermarks(&partitions).await;
        let from: Result<Vec<(i32, Offset)>> =
            partitions.iter().zip(ends).map(|(at, end)| Ok((at.partition, end?))).collect();
        self.feed.listen(&from?)
    }

    fn follow_later(&mut self, error: Error) {
        let pause = if error.is_retryable() { Duration::ZERO } else { FOLLOW_AGAIN };
        self.follow_at = Instant::now() + pause;
        self.board.lock().expect("no panic while held").way = Way::Polling { why: error.message };
    }

    async fn list(&mut self, now: Instant) -> Result<()> {
        let listed = self.source.groups().await?;
        self.list_at = now + LIST_EVERY + LATER_PER_GROUP * listed.len() as u32;
        let mut board = self.board.lock().expect("no panic while held");
        board.groups.values_mut().for_each(|group| group.listed = false);
        for info in listed {
            if let Some(known) = board.groups.get_mut(&info.id) {
                (known.protocol, known.listed) = (info.protocol, true);
            } else if self.selection.takes_group(&info.id) {
                board.groups.insert(info.id, Group { listed: true, ..Group::new(info.protocol) });
            }
        }
        Ok(())
    }

    async fn read(&mut self, due: BTreeSet<GroupId>, now: Instant) -> BTreeMap<GroupId, Arc<ReadOffsets>> {
        let is_share = |id: &GroupId| {
            let board = self.board.lock().expect("no panic while held");
            board.groups.get(id).is_some_and(|group| group.protocol == GroupProtocol::Share)
        };
        let (share, due): (Vec<GroupId>, Vec<GroupId>) = due.into_iter().partition(is_share);
        let answers = if due.is_empty() { Vec::new() } else { self.source.group_offsets(&due).await };
        let starts = if share.is_empty() { Vec::new() } else { self.source.share_starts(&share).await };
        let mut changed = BTreeMap::new();
        let mut board = self.board.lock().expect("no panic while held");
        for (id, answer) in due.into_iter().zip(answers) {
            let group = board.groups.entry(id.clone()).or_insert_with(|| Group::new(GroupProtocol::Classic));
            match answer {
                Ok(read) => {
                    group.read_at = Some(now);
                    if read.pending.is_empty() {
                        self.hidden.remove(&id);
                    } else {
                        self.hidden.entry(id.clone()).or_insert(now);
                    }
                    if let Some(read) = group.found(read, now, self.grace) {
                        changed.insert(id, read);
                    }
                }
                Err(error) => group.unread = Some(error.message),
            }
        }
        for (id, answer) in share.into_iter().zip(starts) {
            if let Some(group) = board.groups.get_mut(&id) {
                group.read_at = Some(now);
                match answer {
                    Ok(starts) => group.share_starts = starts,
                    // Brokers before 4.1 do not tell: listed without.
                    Err(error) if error.kind == ErrorKind::Unsupported => {}
                    Err(error) => group.unread = Some(error.message),
                }
            }
        }
        changed
    }

    /// Asks which partitions the members of groups are assigned, where it may matter: only there can a partition be read
    /// that no position tells of.
    async fn ask_members(&mut self) {
        let asked: Vec<(GroupId, GroupProtocol)> = match self.source.groups_in_use().await {
            Ok(groups) => groups
                .into_iter()
                .filter(|g| matches!(g.protocol, GroupProtocol::Classic | GroupProtocol::Consumer))
                .filter(|g| self.selection.takes_group(&g.id))
                .map(|g| (g.id, g.protocol))
                .collect(),
            // The next listing complains.
            Err(_) => return,
        };
        let answers = self.source.assignments(&asked).await;
        let mut board = self.board.lock().expect("no panic while held");
        for ((id, _), answer) in asked.into_iter().zip(answers) {
            if let (Some(group), Ok(assigned)) = (board.groups.get_mut(&id), answer) {
                group.assigned = assigned;
            }
        }
    }
}

impl Group {
    /// Whether the coordinator is to be asked once more for positions that it has denied over the grace period.
    fn awaits_word(&self, now: Instant, grace: Duration) -> bool {
        let is_over = self.absent_since.is_some_and(|since| now - since >= grace);
        let has_positions = self.read.as_ref().is_some_and(|read| !read.offsets.is_empty());
        is_over && (has_positions || !(self.gone || self.listed))
    }

    /// Takes in what the coordinator says. Answers it back if it is news.
    fn found(&mut self, read: ReadOffsets, now: Instant, grace: Duration) -> Option<Arc<ReadOffsets>> {
        self.unread = None;
        let is_absent = read.offsets.is_empty() && read.pending.is_empty();
        self.absent_since = is_absent.then(|| self.absent_since.unwrap_or(now));
        let is_believed = self.absent_since.is_none_or(|since| now - since >= grace);
        self.gone = is_absent && is_believed && !self.listed;
        if !(is_believed || self.read.is_none()) || self.read.as_deref() == Some(&read) {
            return None;
        }
        let read = Arc::new(read);
        (self.read, self.changed_at) = (Some(read.clone()), Some(now));
        Some(read)
    }
}
