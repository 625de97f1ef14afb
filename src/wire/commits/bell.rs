//! Groups rung for, from the task that reads to whoever waits: a set, not a queue, so that a group that commits a
//! hundred thousand times while nobody looks takes the room of one.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::endpoint::{Error, Result};
use crate::model::GroupId;

#[derive(Debug, Default)]
pub(super) struct Bell {
    heard: Mutex<Heard>,
    rung: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    /// Plain text, so that the set can be asked without making a name of what was read.
    groups: BTreeSet<String>,
    /// Why nothing more will be heard.
    ended: Option<Error>,
}

impl Bell {
    /// Rings for a group.
    pub fn ring(&self, group: &str) {
        let mut heard = self.heard();
        if heard.groups.contains(group) {
            return;
        }
        let first = heard.groups.is_empty();
        heard.groups.insert(group.to_owned());
        drop(heard);
        if first {
            self.rung.notify_one();
        }
    }

    /// It rings no more, for the first reason given.
    pub fn end(&self, why: impl FnOnce() -> Error) {
        self.heard().ended.get_or_insert_with(why);
        self.rung.notify_one();
    }

    /// The groups rung for since the last call, at least one; then why it ended, again and again. For one waiter at a
    /// time. Cancel-safe.
    pub async fn wait(&self) -> Result<BTreeSet<GroupId>> {
        loop {
            {
                let mut heard = self.heard();
                if !heard.groups.is_empty() {
                    return Ok(std::mem::take(&mut heard.groups).iter().map(GroupId::from).collect());
                }
                if let Some(why) = &heard.ended {
                    return Err(why.clone());
                }
            }
            // A notification given before this line is kept for it.
            self.rung.notified().await;
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Nothing that could fail is done under the lock.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::endpoint::ErrorKind;

    fn groups(names: &[&str]) -> BTreeSet<GroupId> {
        names.iter().map(GroupId::from).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_rung_for_many_times_is_told_once_and_the_next_look_waits() {
        let bell = Arc::new(Bell::default());
        for _ in 0..1_000 {
            bell.ring("billing");
            bell.ring("audit");
        }
        assert_eq!(bell.wait().await.unwrap(), groups(&["audit", "billing"]));
        let waiting = tokio::time::timeout(Duration::from_secs(60), bell.wait()).await;
        assert!(waiting.is_err(), "{waiting:?}");
        let waiting = tokio::spawn({
            let bell = bell.clone();
            async move { bell.wait().await }
        });
        tokio::task::yield_now().await;
        bell.ring("billing");
        assert_eq!(waiting.await.unwrap().unwrap(), groups(&["billing"]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_given_up_loses_nothing() {
        let bell = Bell::default();
        let mut given_up = Box::pin(bell.wait());
        assert!(futures::poll!(&mut given_up).is_pending());
        bell.ring("billing");
        drop(given_up);
        assert_eq!(bell.wait().await.unwrap(), groups(&["billing"]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_heard_is_told_before_the_end_and_the_end_for_ever() {
        let bell = Bell::default();
        bell.ring("billing");
        bell.end(|| Error::new(ErrorKind::Denied, "no right"));
        bell.end(|| Error::new(ErrorKind::Retryable, "over"));
        assert_eq!(bell.wait().await.unwrap(), groups(&["billing"]));
        for _ in 0..2 {
            assert_eq!(bell.wait().await.unwrap_err().kind, ErrorKind::Denied);
        }
    }
}
