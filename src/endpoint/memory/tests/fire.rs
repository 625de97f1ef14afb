//! Compare-and-append under fire.

use proptest::prelude::*;

use super::*;

/// One step of the life of two copiers of the same numbers, each a loop of attach and send.
#[derive(Debug, Clone)]
enum Step {
    /// A copier sends this many batches, or attaches if it has no writer.
    Copy(bool, u8),
    /// It is killed with what it has on the way.
    Kill(bool),
    Disturb(u8, Disturbance),
    Release,
    Elect,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let disturbance = prop_oneof![
        Just(Disturbance::LoseRequest),
        Just(Disturbance::LoseAck),
        Just(Disturbance::Hold),
        Just(Disturbance::Refuse(ErrorKind::Attach)),
    ];
    prop_oneof![
        8 => (any::<bool>(), 1..9u8).prop_map(|(who, batches)| Step::Copy(who, batches)),
        1 => any::<bool>().prop_map(Step::Kill),
        2 => (0..4u8, disturbance).prop_map(|(skipping, what)| Step::Disturb(skipping, what)),
        2 => Just(Step::Release),
        1 => Just(Step::Elect),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Compare-and-append under fire: both copiers cut batches alike (as `facts/live-measurements` §3b demands) and
    /// attach after every failure; whatever happens, the log is a prefix of the numbers.
    #[test]
    fn two_copiers_under_fire_lose_and_double_nothing(steps in prop::collection::vec(step(), 1..60)) {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        clock.expect("a runtime").block_on(async {
            let (cluster, route) = cluster();
            let mut copiers: [Option<(Opened, i64)>; 2] = [None, None];
            for step in steps {
                match step {
                    Step::Copy(who, batches) => copy(&cluster, &route, &mut copiers[usize::from(who)], batches).await,
                    Step::Kill(who) => copiers[usize::from(who)] = None,
                    Step::Disturb(skipping, what) => cluster.disturb(&route.target, skipping.into(), what),
                    Step::Release => cluster.release_held(),
                    Step::Elect => cluster.elect(&route.target),
                    Step::Restart => cluster.restart(&route.target),
                }
                let copied: Vec<i64> = cluster.committed(&route.target).iter().map(|r| r.timestamp_ms - LATE_MS).collect();
                assert!(copied.iter().copied().eq(0..copied.len() as i64), "{copied:?}");
            }
        });
    }
}

/// So late that no producer's state expires.
const LATE_MS: i64 = 4_102_444_800_000;

fn late_records(range: std::ops::Range<i64>) -> Vec<Record> {
    some_records(range).into_iter().map(|r| Record { timestamp_ms: LATE_MS + r.timestamp_ms, ..r }).collect()
}

/// Batches of 1, 2, 3, 1, 2, 3, … records: where one begins, the next begins behind it.
fn batch_at(start: i64) -> std::ops::Range<i64> {
    let (sixes, rest) = (start / 6 * 6, start % 6);
    sixes + rest..sixes + [1, 3, 6].into_iter().find(|end| *end > rest).expect("less than 6")
}

async fn copy(cluster: &MemoryCluster, route: &Route, copier: &mut Option<(Opened, i64)>, batches: u8) {
    if copier.is_none() {
        let opened = open(cluster, route).await;
        let end = opened.end.0;
        *copier = Some((opened, end));
    }
    let (opened, next) = copier.as_mut().expect("opened just now");
    let mut failed = false;
    let mut deliveries = Vec::new();
    for _ in 0..batches {
        let numbers = batch_at(*next);
        let sent = opened.writer.send(encoded(&late_records(numbers.clone())), Offset(*next));
        match timeout(Duration::from_millis(10), sent).await {
            Ok(Ok(delivery)) => deliveries.push((*next, delivery)),
            Ok(Err(_)) => failed = true,
            Err(_) => break,
        }
        *next = numbers.end;
    }
    for (expected, delivery) in deliveries {
        match timeout(Duration::from_millis(10), delivery).await {
            Ok(Ok(base)) => failed |= base.0 != expected,
            _ => failed = true,
        }
    }
    if failed {
        *copier = None;
    }
}
