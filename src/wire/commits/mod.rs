//! Hearing of commits: the keys of `__consumer_offsets`, fetched from its leaders as they are written.
//!
//! Only a doorbell: the group's coordinator is asked for the positions. So records of open transactions are read too (a
//! hanging one must not silence the partition behind it), and tombstones ring like commits. A key that cannot be read
//! rings for nobody; callers that must miss nothing look at every group from time to time.

mod bell;
mod key;
mod round;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::endpoint::{COMMITS_TOPIC, CommitFeed, CommitTail, Error, ErrorKind, Result};
use crate::model::{GroupId, Offset, TopicPartition};
use crate::runtime::retry::Pace;
use crate::runtime::tasks::TaskScope;
use crate::wire::brokers::Cluster;
use crate::wire::commits::bell::Bell;
use crate::wire::commits::round::{Answer, Asked, Round, Trouble};
use crate::wire::connection::Connection;

/// A leader is left alone for so long after an answer: commits made meanwhile share the next one.
const REST: Duration = Duration::from_millis(20);
/// Pauses between looks for a leader that is moving.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The commits on a real cluster.
///
/// Brokers that cannot be reached, and leaders that move, are waited for: nothing is missed then, only late. What ends a
/// tail: a missing right, a refused login or certificate (`Denied`), a partition that does not exist (`UnknownTopic`), or
/// an offset that is not in the log, or no longer after an unclean election (`Retryable`: start again from where the log
/// ends now, then look at every group).
pub struct Commits {
    cluster: Cluster,
    scope: TaskScope,
}

impl Commits {
    /// No I/O yet; what listens lives in `scope`.
    pub fn new(cluster: Cluster, scope: TaskScope) -> Self {
        Self { cluster, scope }
    }
}

impl CommitFeed for Commits {
    fn listen(&self, from: &[(i32, Offset)]) -> Result<Box<dyn CommitTail>> {
        let (bell, ended) = (Arc::new(Bell::default()), CancellationToken::new());
        let mut listening = Listening {
            cluster: self.cluster.clone(),
            bell: bell.clone(),
            next: from.iter().copied().collect(),
            connections: HashMap::new(),
        };
        let until = ended.clone();
        self.scope.spawn_until_stopped(async move {
            if let Some(why) = until.run_until_cancelled(listening.listen()).await {
                listening.bell.end(|| why);
            }
        });
        Ok(Box::new(Tail { bell, _ended: ended.drop_guard() }))
    }
}

struct Tail {
    bell: Arc<Bell>,
    _ended: DropGuard,
}

#[async_trait]
impl CommitTail for Tail {
    async fn next(&mut self) -> Result<BTreeSet<GroupId>> {
        self.bell.wait().await
    }
}

/// The far side of a tail.
struct Listening {
    cluster: Cluster,
    bell: Arc<Bell>,
    /// Per partition the next offset to read.
    next: BTreeMap<i32, Offset>,
    /// Connections that nobody asks on, one per leader: a long poll would hold up whatever else is asked on it.
    connections: HashMap<i32, Connection>,
}

impl Listening {
    /// Rings until nothing more can be heard; answers why.
    async fn listen(&mut self) -> Error {
        let mut pace = Pace::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut idle: BTreeSet<i32> = self.next.keys().copied().collect();
        let mut ask_at = Instant::now();
        let mut rounds = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = sleep_until(ask_at), if !idle.is_empty() => {
                    let found = match self.by_leader(&mut idle).await {
                        Ok(found) => found,
                        Err(error) => return error,
                    };
                    rounds.extend(found.into_iter().map(|(leader, asked)| self.round(leader, asked).run()));
                    // Those without a leader.
                    ask_at = Instant::now() + pace.next_delay();
                }
                Some(answer) = rounds.next(), if !rounds.is_empty() => {
                    let Answer { asked, connection, outcome } = answer;
                    idle.extend(asked);
                    self.connections.extend(connection.map(|c| (c.broker_id(), c)));
                    match self.take(outcome) {
                        Ok(throttle) => {
                            pace.reset();
                            ask_at = Instant::now() + REST.max(throttle);
                        }
                        Err(Trouble::Passing) => {
                            // That metadata cannot be had now is found out by the next look for a leader.
                            let _ = self.cluster.refresh().await;
                            ask_at = Instant::now() + pace.next_delay();
                        }
                        Err(Trouble::Lasting(error)) => return error,
                    }
                }
            }
        }
    }

    /// Takes the partitions that have a leader out of `idle`. An error is one that does not pass.
    async fn by_leader(&self, idle: &mut BTreeSet<i32>) -> Result<HashMap<i32, Vec<Asked>>> {
        let partitions: Vec<TopicPartition> = idle.iter().map(|p| TopicPartition::new(COMMITS_TOPIC, *p)).collect();
        let mut by_leader: HashMap<i32, Vec<Asked>> = HashMap::new();
        for (at, leader) in partitions.iter().zip(self.cluster.leaders(&partitions).await) {
            match leader {
                Ok(leader) => {
                    idle.remove(&at.partition);
                    let asked = Asked { partition: at.partition, from: self.next[&at.partition], leader };
                    by_leader.entry(leader.broker_id).or_default().push(asked);
                }
                Err(error) if error.is_retryable() => {}
                Err(error) => {
                    return Err(error.context(format_args!("hearing of commits needs Read on topic {COMMITS_TOPIC}")));
                }
            }
        }
        Ok(by_leader)
    }

    fn round(&mut self, leader: i32, asked: Vec<Asked>) -> Round {
        let is_fresh = |c: &Connection| !c.is_closed() && c.renew_at().is_none_or(|at| Instant::now() < at);
        let connection = self.connections.remove(&leader).filter(is_fresh);
        Round { cluster: self.cluster.clone(), leader, connection, asked }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // However it ends, by a bug too: nobody waits for a bell that cannot ring.
        self.bell.end(|| Error::new(ErrorKind::Retryable, "the hearing of commits has ended"));
    }
}
