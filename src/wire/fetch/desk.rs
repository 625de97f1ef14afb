//! The desk: finds a leader for every partition that has none, and sends it to that broker's shuttle.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use crate::endpoint::{Error, ErrorKind, Result};
use crate::wire::Leader;
use crate::wire::fetch::Shared;
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::examine::examine;
use crate::wire::fetch::shuttle::Shuttle;

/// Partitions due within this time of one another look for their leaders together.
const TOGETHER: Duration = Duration::from_millis(20);

/// What a partition is sent to the desk for.
pub(super) enum Mail {
    /// Its leader is not looked up yet, or a newer one has become known.
    Seeking(Box<Cursor>),
    /// Its leader cannot serve it: what is known of leaders may be old.
    Astray(Box<Cursor>, Error),
    /// Its leader was looked up.
    Found(Box<Cursor>, Result<Leader>),
    /// Its leader sends it to another replica.
    Redirected(Box<Cursor>, i32),
    /// Its answer needs a second look.
    Doubtful(Box<Cursor>, Doubt),
}

/// What to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nothing came although the last stable offset is ahead.
    TrailingHole,
    /// The broker calls the offset out of range.
    OutOfRange,
}

/// The desk of one source.
pub(super) struct Desk {
    shared: Arc<Shared>,
    post: mpsc::UnboundedReceiver<Mail>,
    shuttles: HashMap<i32, mpsc::UnboundedSender<Box<Cursor>>>,
    pausing: Vec<(Instant, Box<Cursor>)>,
}

impl Desk {
    /// A desk for what arrives in `post`.
    pub(super) fn new(shared: Arc<Shared>, post: mpsc::UnboundedReceiver<Mail>) -> Self {
        Self { shared, post, shuttles: HashMap::new(), pausing: Vec::new() }
    }

    /// Works for ever; never waits for a cluster itself, so that one that is slow delays only those that need it.
    pub(super) async fn run(mut self) {
        loop {
            let due = self.pausing.iter().map(|(due, _)| *due).min();
            let mut seeking = Vec::new();
            tokio::select! {
                mail = self.post.recv() => {
                    let mut mail = mail;
                    while let Some(letter) = mail {
                        seeking.extend(self.open(letter));
                        mail = self.post.try_recv().ok();
                    }
                }
                _ = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let until = Instant::now() + TOGETHER;
                    let (due, pausing) = self.pausing.drain(..).partition(|(due, _)| *due <= until);
                    self.pausing = pausing;
                    self.seek(due.into_iter().map(|(_, cursor)| cursor).collect(), true);
                }
            }
            self.seek(seeking, false);
        }
    }

    /// Handles a letter; answers the cursor back when its leader is to be looked up now.
    fn open(&mut self, letter: Mail) -> Option<Box<Cursor>> {
        match letter {
            Mail::Seeking(cursor) => return (!cursor.feed.is_over()).then_some(cursor),
            Mail::Astray(cursor, error) => self.pause(cursor, error),
            Mail::Found(cursor, Ok(leader)) => self.send(cursor, leader),
            Mail::Found(cursor, Err(error)) => self.pause(cursor, error),
            Mail::Redirected(mut cursor, broker_id) => {
                cursor.follow(broker_id, Instant::now());
                self.board(cursor);
            }
            Mail::Doubtful(cursor, doubt) => {
                let shared = self.shared.clone();
                self.shared
                    .scope
                    .spawn_until_stopped(async move { shared.mail(examine(&shared, cursor, doubt).await) });
            }
        }
        None
    }

    /// Lets the partition try again after a pause, with fresh metadata, or tells its reader.
    fn pause(&mut self, mut cursor: Box<Cursor>, error: Error) {
        let may_pass = error.is_retryable()
            || matches!(error.kind, ErrorKind::UnknownTopic | ErrorKind::Recreated | ErrorKind::Corrupt);
        debug!(partition = %cursor.at, %error, "fetch goes astray");
        if !may_pass {
            cursor.feed.fail(error);
        } else if let Some(delay) = cursor.troubled(error).filter(|_| !cursor.feed.is_over()) {
            self.pausing.push((Instant::now() + delay, cursor));
        }
    }

    /// Looks up leaders in the background; with `afresh`, what is known of them is not trusted.
    #[expect(clippy::vec_box, reason = "cursors are handed on one by one and stay where they are")]
    fn seek(&self, cursors: Vec<Box<Cursor>>, afresh: bool) {
        if cursors.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        self.shared.scope.spawn_until_stopped(async move {
            if afresh && let Err(error) = shared.cluster.refresh().await {
                cursors.into_iter().for_each(|cursor| shared.mail(Mail::Found(cursor, Err(error.clone()))));
                return;
            }
            let partitions: Vec<_> = cursors.iter().map(|cursor| cursor.at.clone()).collect();
            let leaders = shared.cluster.leaders(&partitions).await;
            cursors.into_iter().zip(leaders).for_each(|(cursor, leader)| shared.mail(Mail::Found(cursor, leader)));
        });
    }

    /// Sends a partition to its leader.
    fn send(&mut self, mut cursor: Box<Cursor>, leader: Leader) {
        if let (Some(expected), Some(id)) = (cursor.expected_id, leader.topic_id)
            && expected != id
        {
            let sentence = format!(
                "{}: topic {} was deleted and created again: its id is {id}, not {expected}",
                self.shared.cluster.alias(),
                cursor.at.topic
            );
            return cursor.feed.fail(Error::new(ErrorKind::Recreated, sentence));
        }
        cursor.lead_by(leader);
        self.board(cursor);
    }

    /// Hands a partition to the shuttle that serves it, which is started if it is not there or just closed.
    fn board(&mut self, cursor: Box<Cursor>) {
        let broker_id = cursor.server();
        let refused = match self.shuttles.get(&broker_id) {
            Some(shuttle) => shuttle.send(cursor).err().map(|refused| refused.0),
            None => Some(cursor),
        };
        let Some(cursor) = refused else { return };
        let (inbox, joining) = mpsc::unbounded_channel();
        let shuttle = Shuttle::new(self.shared.clone(), broker_id, joining);
        self.shared.scope.spawn_until_stopped(shuttle.run());
        if inbox.send(cursor).is_ok() {
            self.shuttles.insert(broker_id, inbox);
        }
    }
}
