//! Positions across restarts of Twinlog: never backwards, and nothing that was committed meanwhile is missed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::groups::{exact, verdict};
use super::*;
use crate::support::{shared_pair, until};

/// Moves a group forward at the source, some records at a time, while `work` is done, and watches its positions on the
/// target; they must never go back. Returns how often the target's positions were seen to change.
pub fn while_a_group_moves(
    source: &Cluster,
    target: &Cluster,
    (topic, group): (&str, &str),
    furthest: &Mutex<i64>,
    work: impl FnOnce(),
) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut at = furthest.lock().unwrap();
                *at += 3;
                source.client().commit_offsets(group, &[(topic, 0, *at), (topic, 1, *at + 1)], "").unwrap();
                drop(at);
                std::thread::sleep(Duration::from_millis(40));
            }
        });
        let watching = scope.spawn(|| {
            let (mut last, mut changes) = (target.client().committed_for_good(group).unwrap(), 0);
            while !stop.load(Ordering::Relaxed) {
                let now = target.client().committed_for_good(group).unwrap();
                for (at, offset) in &last {
                    let then = now.get(at).unwrap_or_else(|| panic!("the position on {at:?} vanished"));
                    assert!(then >= offset, "{at:?} went back from {offset} to {then}");
                }
                changes += usize::from(now != last);
                last = now;
                std::thread::sleep(Duration::from_millis(10));
            }
            changes
        });
        // Also when the work panics: the threads above must end.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        let changes = watching.join().expect("positions never go back");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        changes
    })
}

#[test]
fn positions_go_on_after_every_restart_and_never_backwards() {
    let (source, target) = shared_pair();
    let (topic, group) = (unique("restarted"), unique("group"));
    source.client().create_topic(&topic, 2, &[]).unwrap();
    // Markers and aborted records make offsets differ between the sides.
    let mut producer = source.client().producer(Some(&unique("tx"))).unwrap();
    for turn in 0..rounds(300, 3_000) as u64 {
        let mut transaction = producer.begin();
        for partition in 0..2 {
            transaction.send(&topic, partition, &Batch::of(orders(turn * 10..turn * 10 + 9), Codec::Lz4)).unwrap();
        }
        if turn % 5 == 2 { transaction.abort().unwrap() } else { transaction.commit().unwrap() }
    }
    let mirror = twinlog(link(source, target, &[&topic], &[&group]));
    mirror.start_ready();
    twins(source, target, &topic).settle(SOON);
    let furthest = Mutex::new(0);
    let end_process = |kill: bool| if kill { mirror.kill9() } else { assert!(mirror.stop(SOON).success()) };
    let mut changes = 0;
    for round in 0..rounds(2, 30) {
        changes += while_a_group_moves(source, target, (&topic, &group), &furthest, || {
            let moves = || {
                let before = target.client().committed(&group).unwrap();
                until(SOON, "positions move", || target.client().committed(&group).unwrap() != before);
            };
            moves();
            // Right behind a commit: a kill here may come before the ledger has heard of it.
            end_process(round % 2 == 0);
            mirror.start();
            moves();
            end_process(round % 2 == 1);
        });
        // Committed while nobody mirrors, and further on than a hole is long.
        let mut at = furthest.lock().unwrap();
        *at += 25;
        source.client().commit_offsets(&group, &[(&topic, 0, *at), (&topic, 1, *at)], "").unwrap();
        drop(at);
        assert!(!exact(source, target, &group), "the target cannot know it yet");
        mirror.start();
        until(SOON, "what was committed meanwhile is carried over", || exact(source, target, &group));
        until(SOON, "the group is synced", || verdict(&mirror, &group) == "synced");
    }
    let (_, end) = source.client().bounds(&topic, 0).unwrap();
    assert!(*furthest.lock().unwrap() < end, "the group ran out of records");
    println!("killed and stopped {0} times each, positions seen to change {changes} times, never back", rounds(2, 30));
}
