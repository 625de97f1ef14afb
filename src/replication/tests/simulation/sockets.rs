//! The simulation through the adapters of the wire, on model brokers: faults at every request and every broker.
//!
//! The clock is paused here too: what is written to a socket of loopback is there to be read at once, so time stands still
//! while bytes are on their way. A seed fixes what happens to the world; in which order sockets wake is the kernel's choice.

use super::*;
use crate::endpoint::ErrorKind;
use crate::endpoint::memory::Mishap;
use crate::wire::ApiKey;

/// What brokers refuse for a while, by what they are asked.
fn refusals(key: ApiKey) -> &'static [i16] {
    match key {
        // A cluster's own word that a topic is gone is believed.
        ApiKey::Metadata => &[5],
        ApiKey::Produce => &[-1, 3, 6, 7, 19, 45, 56],
        ApiKey::Fetch => &[-1, 3, 6, 56, 75, 100],
        _ => &[-1, 6, 56, 75, 78],
    }
}

fn mishap(dice: &mut Dice, key: ApiKey) -> Mishap {
    let mut while_ms = |most| Duration::from_millis(dice.below(most));
    let (brief, long) = (while_ms(5), while_ms(3_000));
    match dice.below(11) {
        0 => Mishap::LoseRequest,
        1 | 2 => Mishap::LoseAnswer,
        3 => Mishap::HalveAnswer,
        4 => Mishap::TreatLate(long),
        5 => Mishap::AnswerLate(long),
        6 if dice.one_in(4) => Mishap::FallSilent,
        7 => Mishap::Refuse(dice.one_of(refusals(key))),
        8 => Mishap::Throttle(brief),
        9 => Mishap::Forge(Box::new(|mut frame| {
            // Of another request, it seems.
            frame[7] ^= 1;
            frame
        })),
        _ => Mishap::AnswerLate(brief),
    }
}

/// Each request meets its fate: most are well, or take their time.
fn misbehave(dice: &mut Dice, brokers: &ModelBrokers) {
    let (mut fate, one_in) = (Dice::new(dice.roll()), dice.one_of(&[4, 20, 100]));
    brokers.misbehave(move |key| match fate.one_in(one_in) {
        true => mishap(&mut fate, key),
        false => Mishap::AnswerLate(Duration::from_millis(fate.below(3))),
    });
}

fn trouble(world: &mut World) {
    let here = &at(0);
    let dice = &mut world.dice;
    let Twin { source, target, brokers: Some((source_brokers, target_brokers)), .. } = &world.twin else { return };
    let node = 1 + dice.below(2) as i32;
    match dice.below(13) {
        0 | 1 => target.elect(here),
        2 | 3 => target_brokers.disconnect(node),
        4 => target_brokers.stop(node),
        5 => target_brokers.start(node),
        6 => target.hold_followers(here),
        7 => target.release_followers(here),
        8 => {
            target.elect_without_unreplicated(here);
            target.release_followers(here);
        }
        // A log that is emptied forgets its producers, and takes whatever was still on its way (facts/live-measurements §3b).
        9 => {
            let first = target.first_batch_end(here).unwrap_or_default();
            world.lose_acknowledged_behind(first);
        }
        10 => target.fail_next(Call::LedgerAppend, 1, ErrorKind::Retryable),
        11 => source_brokers.disconnect(node),
        _ => source.elect(here),
    }
}

async fn life(seed: u64) -> usize {
    let mut world = World::new(Dice::new(seed), Twin::over_sockets(2, 2).await, 250, trouble);
    for life in 0..1 + world.dice.below(4) {
        let (source, target) = world.twin.brokers.as_ref().expect("it has some");
        for brokers in [source, target] {
            misbehave(&mut world.dice, brokers);
        }
        world.live(&format!("seed {seed}, life {life}")).await;
    }
    let (source, target) = world.twin.brokers.as_ref().expect("it has some");
    for brokers in [source, target] {
        brokers.behave();
        for node in [1, 2] {
            brokers.start(node);
        }
    }
    world.twin.target.heal();
    world.end_well().await
}

const TEST: &str = "whatever_brokers_and_sockets_do";

#[tokio::test(start_paused = true)]
async fn whatever_brokers_and_sockets_do_the_target_becomes_the_source() {
    each_seed(TEST, 0, 2, life).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_brokers_and_sockets_do_the_target_becomes_the_source_odd_seeds() {
    each_seed(TEST, 1, 2, life).await;
}
