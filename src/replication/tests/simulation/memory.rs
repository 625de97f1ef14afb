//! The simulation on clusters in memory: faults where the contracts are called.

use super::*;
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::Disturbance;

fn trouble(world: &mut World) {
    let Twin { source, target, .. } = &world.twin;
    let dice = &mut world.dice;
    let here = &at(0);
    match dice.below(12) {
        0..=3 => {
            let kinds = [
                Disturbance::LoseRequest,
                Disturbance::LoseAck,
                Disturbance::Hold,
                Disturbance::Refuse(ErrorKind::Retryable),
            ];
            let (skipping, kind) = (dice.below(3) as usize, dice.one_of(&kinds));
            target.disturb(here, skipping, kind);
        }
        4 => target.release_held(),
        5 => target.elect(here),
        6 => target.restart(here),
        7 => target.hold_followers(here),
        8 => target.release_followers(here),
        9 => {
            target.elect_without_unreplicated(here);
            target.release_followers(here);
        }
        10 => world.lose_acknowledged_behind(Offset(0)),
        _ => {
            source.elect(here);
            let calls = [Call::Catalog, Call::Read, Call::PointRead];
            source.fail_next(dice.one_of(&calls), 1, ErrorKind::Retryable);
            let calls = [Call::PointRead, Call::Attach, Call::LedgerAppend];
            target.fail_next(dice.one_of(&calls), 1, ErrorKind::Retryable);
        }
    }
}

async fn life(seed: u64) -> usize {
    let mut world = World::new(Dice::new(seed), Twin::new(), 40, trouble);
    for life in 0..1 + world.dice.below(4) {
        world.live(&format!("seed {seed}, life {life}")).await;
    }
    world.twin.target.heal();
    world.twin.source.heal();
    if world.dice.one_in(2) {
        world.twin.target.release_held();
    }
    world.end_well().await
}

const TEST: &str = "whatever_breaks_and_whenever_it_is_killed";

#[tokio::test(start_paused = true)]
async fn whatever_breaks_and_whenever_it_is_killed_the_target_becomes_the_source() {
    each_seed(TEST, 0, 2, life).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_breaks_and_whenever_it_is_killed_the_target_becomes_the_source_odd_seeds() {
    each_seed(TEST, 1, 2, life).await;
}
