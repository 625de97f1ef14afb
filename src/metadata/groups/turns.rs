//! Whose turn it is to be looked at on the target, though nothing is known to have changed: all groups in their order, and
//! then from the beginning again.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::GroupId;

/// All groups have had their turn within this time. It bounds how long an application that begins to use one goes
/// unnoticed, and must lie well below the shortest time a target may keep positions, which is one minute.
pub(super) const WITHIN: Duration = Duration::from_secs(20);
/// At least so many have it at a time.
const AT_ONCE: usize = 500;

#[derive(Debug)]
pub(super) struct Turns {
    last: Option<GroupId>,
    at: Instant,
}

impl Turns {
    /// Begins with the first group.
    pub(super) fn new() -> Self {
        Self { last: None, at: Instant::now() }
    }

    /// Those whose turn it is now: the share of all that the time since the last call has of [`WITHIN`].
    pub(super) fn next<T>(&mut self, groups: &BTreeMap<GroupId, T>) -> Vec<GroupId> {
        let now = Instant::now();
        let passed = (now - self.at).as_secs_f64() / WITHIN.as_secs_f64();
        self.at = now;
        let share = ((groups.len() as f64 * passed).ceil() as usize).max(AT_ONCE).min(groups.len());
        let behind = self.last.take().map(|last| groups.range((Excluded(last), Unbounded)));
        let next: Vec<GroupId> =
            behind.into_iter().flatten().chain(groups).take(share).map(|(id, _)| id.clone()).collect();
        self.last = next.last().cloned();
        next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn groups(count: usize) -> BTreeMap<GroupId, ()> {
        (0..count).map(|n| (GroupId::from(format!("group-{n:05}").as_str()), ())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_have_their_turn_every_time() {
        let mut turns = Turns::new();
        for groups in [groups(0), groups(3), groups(AT_ONCE)] {
            for _ in 0..3 {
                let next: BTreeSet<GroupId> = turns.next(&groups).into_iter().collect();
                assert_eq!(next, groups.keys().cloned().collect());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_all_have_had_their_turn_within_the_time_whatever_the_pause() {
        for (pause_ms, most) in [(100, AT_ONCE), (1_000, 1_000), (4_000, 4_001), (30_000, 10_000)] {
            let groups = groups(10_000);
            let (mut turns, mut seen) = (Turns::new(), BTreeSet::new());
            let began = Instant::now();
            while seen.len() < groups.len() {
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                let next = turns.next(&groups);
                assert!(next.len() <= most, "{} after {pause_ms} ms", next.len());
                seen.extend(next);
            }
            assert!(began.elapsed() <= WITHIN + Duration::from_millis(pause_ms * 2), "{:?}", began.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn groups_that_come_and_go_take_nobodys_turn() {
        let mut all = groups(1_200);
        let mut turns = Turns::new();
        let first = turns.next(&all);
        assert_eq!(first.len(), AT_ONCE);
        all.remove(first.last().expect("there are some"));
        all.insert("group-00000-new".into(), ());
        let seen: BTreeSet<GroupId> = [turns.next(&all), turns.next(&all)].concat().into_iter().collect();
        assert!((500..1_200).all(|n| seen.contains(&GroupId::from(format!("group-{n:05}").as_str()))));
    }
}
