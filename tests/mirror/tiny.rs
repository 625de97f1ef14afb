//! Tiny batches: joined while a partition is behind, whatever kills the one who does it; left alone while it is level.

use super::*;
use crate::support::raw::Isolation;
use crate::support::{batch, dice, shared_pair, until};
use rand::Rng;

/// First offset and number of records of each batch.
fn bounds(client: &Client, topic: &str, partition: i32) -> Vec<(i64, usize)> {
    let end = client.bounds(topic, partition).expect("the partition is there").1;
    let (mut next, mut bounds) = (0, Vec::new());
    while next < end {
        let section = client.fetch(topic, partition, next, Isolation::Uncommitted).expect("the log can be read");
        for batch in batch::open(&section.bytes).expect("batches can be opened") {
            next = batch.last_offset + 1;
            bounds.push((batch.base_offset, batch.records.len()));
        }
    }
    bounds
}

#[test]
fn a_backlog_of_tiny_batches_is_joined_and_exact_through_kills() {
    const BATCHES: u64 = 2_000;
    let (source, target) = shared_pair();
    let (topic, mut dice) = (unique("tiny"), dice());
    source.client().create_topic(&topic, Codec::ALL.len() as i32, &[]).unwrap();
    for (partition, codec) in Codec::ALL.into_iter().enumerate() {
        for n in 0..BATCHES {
            write(source.client(), &topic, partition as i32, orders(n * 3..n * 3 + 3), codec);
        }
    }
    // Slow enough to be killed on the way.
    let mirror = twinlog(link(source, target, &[&topic], &[]).line("rate_limit = \"1MiB\""));
    let copied = || mirror.metric("twinlog_records_total").unwrap_or(0.0);
    let mut both = twins(source, target, &topic);
    let mut joined = 0.0;
    for _ in 0..rounds(4, 40) {
        mirror.start();
        until(SOON, "records flow", || copied() > 0.0 || both.difference().is_ok_and(|d| d.behind == 0));
        std::thread::sleep(Duration::from_millis(dice.random_range(0..400)));
        joined += mirror.metric("twinlog_joined_batches_total").unwrap_or(0.0);
        mirror.kill9();
    }
    mirror.start();
    both.settle(SOON);
    joined += mirror.metric("twinlog_joined_batches_total").unwrap_or(0.0);
    let batches: usize = (0..Codec::ALL.len() as i32).map(|p| bounds(target.client(), &topic, p).len()).sum();
    let before = BATCHES as usize * Codec::ALL.len();
    println!("{before} batches became {batches}, {joined} were joined: 0 lost, 0 doubled");
    assert!(joined > 0.0 && batches * 4 < before, "{before} batches became {batches}, {joined} were joined");
}

#[test]
fn a_level_partition_keeps_the_bounds_of_its_batches() {
    let (source, target) = shared_pair();
    let topic = unique("level");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mirror = twinlog(link(source, target, &[&topic], &[]));
    mirror.start_ready();
    for n in 0..30 {
        let codec = Codec::ALL[n as usize % Codec::ALL.len()];
        let base = write(source.client(), &topic, 0, orders(n * 3..n * 3 + 3), codec);
        let arrived = || target.client().bounds(&topic, 0).is_ok_and(|(_, end)| end == base + 3);
        until(SOON, "the batch arrives before the next is written", arrived);
    }
    assert_eq!(bounds(target.client(), &topic, 0), bounds(source.client(), &topic, 0));
    twins(source, target, &topic).settle(SOON);
}
