//! P1 under fire: killed, frozen, doubled; the copy stays exact.

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::{dice, shared_pair, until};
use rand::Rng;

fn fast_load(topic: &str, first_id: u64) -> LoadSpec {
    LoadSpec { pause: Duration::from_millis(1), first_id, transaction_every: Some(20), ..LoadSpec::new(topic, 3) }
}

#[test]
fn kill_9_at_random_moments_loses_and_doubles_nothing() {
    let (source, target) = shared_pair();
    let (topic, mut dice) = (unique("killed"), dice());
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    // Each look reads on from the last one.
    let mut both = twins(source, target, &topic);
    let (mut kills, mut in_flight_kills, mut acknowledged) = (0, 0, 0);
    while in_flight_kills < rounds(6, 100) {
        assert!(kills < 10 * rounds(6, 100), "kills hardly ever hit a batch in flight");
        mirror.start();
        // Anew for each kill: else the looks, which take longer than the writing, would have ever more to read.
        let first = (kills as u64) << 24;
        let loads = [first, 1 << 40 | first].map(|first| Load::start(addresses(source), fast_load(&topic, first)));
        let copied = || mirror.metric("twinlog_records_total").unwrap_or(0.0);
        until(SOON, "records flow", || copied() > 0.0);
        std::thread::sleep(Duration::from_millis(dice.random_range(0..1500)));
        // What the source has and the target has not is on its way: the loads never pause for longer than a batch.
        let behind = both.difference().unwrap().behind;
        mirror.kill9();
        kills += 1;
        in_flight_kills += usize::from(behind > 0);
        acknowledged += loads.into_iter().map(|load| load.stop().records()).sum::<u64>();
    }
    mirror.start();
    twins(source, target, &topic).settle(SOON);
    println!("{kills} kills, {in_flight_kills} with records in flight, {acknowledged} records: 0 lost, 0 doubled");
}

#[test]
fn frozen_past_its_lease_it_yields_and_harms_nothing() {
    let (source, target) = shared_pair();
    let topic = unique("frozen");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let load = Load::start(addresses(source), fast_load(&topic, 0));
    let setup = link(source, target, &[&topic], &[]);
    let (first, second) = (twinlog(setup.clone()), twinlog(setup));
    first.start_ready();
    until(SOON, "the first copies", || first.metric("twinlog_records_total").unwrap_or(0.0) > 0.0);
    first.pause();
    second.start_ready();
    until(SOON, "the second copies", || second.metric("twinlog_records_total").unwrap_or(0.0) > 0.0);
    first.resume();
    until(SOON, "the first learns that it is fenced", || first.log_text().contains("fenced"));
    until(SOON, "the second still copies", {
        let before = second.metric("twinlog_records_total").unwrap_or(0.0);
        let second = &second;
        move || second.metric("twinlog_records_total").unwrap_or(0.0) > before
    });
    load.stop();
    twins(source, target, &topic).settle(SOON);
}

#[test]
fn two_started_by_mistake_copy_once() {
    let (source, target) = shared_pair();
    let topic = unique("two");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let load = Load::start(addresses(source), fast_load(&topic, 0));
    let setup = link(source, target, &[&topic], &[]);
    let (first, second) = (twinlog(setup.clone()), twinlog(setup));
    first.start_ready();
    second.start();
    until(SOON, "the second waits for the lease", || second.log_text().contains("waiting for the lease"));
    first.kill9();
    until(SOON, "the second takes over", || second.metric("twinlog_records_total").unwrap_or(0.0) > 0.0);
    load.stop();
    twins(source, target, &topic).settle(SOON);
}

#[test]
fn two_that_run_at_once_without_a_lease_copy_once() {
    let (source, target) = shared_pair();
    let topic = unique("unleashed");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let load = Load::start(addresses(source), fast_load(&topic, 0));
    let setup = link(source, target, &[&topic], &[]);
    let unleashed = setup.clone().env("TWINLOG_TEST_WITHOUT_LEASE", "1");
    let both = [0, 1].map(|_| twinlog(unleashed.clone()));
    let copied = |of: &Twinlog| of.metric("twinlog_records_total").unwrap_or(0.0);
    for turn in 0..rounds(3, 50) {
        for one in &both {
            one.start();
            until(SOON, "it copies", || copied(one) > 0.0);
        }
        // The first is fenced from the ledger, and stops when its map has not been durable for 10 s: until then both copy.
        let before = both.each_ref().map(copied);
        let go_on = || both.iter().zip(before).all(|(one, before)| copied(one) > before);
        until(SOON, &format!("both go on copying, turn {turn}"), go_on);
        both.iter().for_each(Twinlog::kill9);
    }
    let written = load.stop();
    let last = twinlog(setup);
    last.start();
    twins(source, target, &topic).settle(SOON);
    println!("{} records by two owners at once: 0 lost, 0 doubled", written.records());
}

#[test]
fn sigterm_drains_and_the_next_start_matches_nothing() {
    let (source, target) = shared_pair();
    let topic = unique("drained");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let load = Load::start(addresses(source), fast_load(&topic, 0));
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    for _ in 0..rounds(2, 20) {
        mirror.start_ready();
        until(SOON, "records flow", || mirror.metric("twinlog_records_total").unwrap_or(0.0) > 0.0);
        assert!(mirror.stop(SOON).success());
    }
    load.stop();
    mirror.start();
    twins(source, target, &topic).settle(SOON);
    assert!(!mirror.log_text().contains("took over the target's tail"), "a clean stop leaves no tail to match");
}
