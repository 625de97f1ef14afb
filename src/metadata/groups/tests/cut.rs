//! Positions wait for the mirror of everything that was there when they were read.

use super::*;
use crate::batch::Record;

async fn twin() -> Twin {
    let consistency = Consistency::Cut { lag_max: 10 * SECOND };
    let twin = Twin::with(GroupRules { consistency, ..rules() }).await;
    twin.source.create("orders", 1, &[]);
    twin.source.create("work", 1, &[]);
    twin
}

fn work() -> TopicPartition {
    TopicPartition::new("work", 0)
}

fn produce(twin: &Twin, records: i64) {
    let record = || Record::new(Offset(0), 0, None, Some("work".into()));
    twin.source.append(&work(), &(0..records).map(|_| record()).collect::<Vec<_>>());
}

/// The group reads `orders/0` and produces into `work/0`, of which the mirror has come to `mirrored`.
fn both(mirrored: i64, progress: Progress) -> Mirrored {
    let mut output = OffsetMap::new(Offset(0), Offset(0));
    if mirrored > 0 {
        let run = Run { start: Offset(0), length: mirrored as u32 };
        output.extend(OffsetRange::new(Offset(0), Offset(mirrored)), &[run], Offset(0), LeaderEpoch(0));
    }
    let output = route(work(), Some(Arc::new(Mutex::new(output))));
    [(at(), route(at(), Some(map()))), (work(), MirroredRoute { progress, ..output })].into_iter().collect()
}

fn level() -> Progress {
    Progress { halted: false, lag: Duration::ZERO, behind: Hindrance::Lagging }
}

#[tokio::test(start_paused = true)]
async fn a_group_never_stands_beyond_the_output_its_work_had_produced() {
    let mut twin = twin().await;
    produce(&twin, 3);
    twin.source.commit("billing", &at(), Offset(12));
    twin.mirrored = both(2, level());
    assert_eq!(twin.verdict().await, "waiting for the mirror");
    assert_eq!(twin.there(), None, "its output at offset 2 is not mirrored");
    twin.mirrored = both(3, level());
    assert!(twin.groups.is_waiting());
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(2)));
    assert_eq!(twin.state("billing").verdict, GroupVerdict::Synced);
}

#[tokio::test(start_paused = true)]
async fn what_was_produced_after_a_position_does_not_hold_it_back() {
    let mut twin = twin().await;
    produce(&twin, 3);
    twin.source.commit("billing", &at(), Offset(12));
    twin.mirrored = both(2, level());
    twin.pass().await;
    produce(&twin, 5);
    twin.mirrored = both(3, level());
    twin.try_pass(Extent::Heard).await.unwrap();
    assert_eq!(twin.there(), Some(Offset(2)));
}

#[tokio::test(start_paused = true)]
async fn partitions_that_hold_everybody_up_leave_by_name_and_come_back() {
    let lagging = |lag| Progress { lag, ..level() };
    let transaction = Progress { behind: Hindrance::OpenTransaction, ..lagging(11 * SECOND) };
    let halted = Progress { halted: true, ..level() };
    for (progress, why) in [
        (lagging(11 * SECOND), Hindrance::Lagging),
        (transaction, Hindrance::OpenTransaction),
        (halted, Hindrance::Halted),
    ] {
        let mut twin = twin().await;
        produce(&twin, 3);
        twin.source.commit("billing", &at(), Offset(12));
        twin.mirrored = both(0, lagging(9 * SECOND));
        twin.pass().await;
        assert_eq!(twin.there(), None);
        twin.mirrored = both(0, progress);
        twin.pass().await;
        assert_eq!(twin.there(), Some(Offset(2)));
        let left_out = |twin: &Twin| twin.board.lock().unwrap().left_out().clone();
        assert_eq!(left_out(&twin), BTreeMap::from([(work(), why)]));
        twin.mirrored = both(0, lagging(4 * SECOND));
        twin.source.commit("billing", &at(), Offset(14));
        twin.pass().await;
        assert_eq!((left_out(&twin), twin.there()), (BTreeMap::new(), Some(Offset(2))));
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_routes_are_known_nothing_is_published() {
    let mut twin = twin().await;
    produce(&twin, 3);
    twin.source.commit("billing", &at(), Offset(12));
    let routes = std::mem::take(&mut twin.mirrored);
    twin.pass().await;
    twin.mirrored = [(at(), routes.of(&at()).unwrap().clone()), (work(), route(work(), None))].into_iter().collect();
    twin.pass().await;
    assert_eq!(twin.there(), None);
}
