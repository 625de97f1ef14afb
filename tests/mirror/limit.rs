//! A limited link: topics share the limit by their weights, not by their numbers of partitions.

use super::*;
use crate::support::{shared_pair, until};

#[test]
fn topics_that_are_behind_share_the_limit_by_their_weights() {
    const BATCHES: u64 = 60;
    let (source, target) = shared_pair();
    let stem = unique("shares");
    // The one that weighs more has one partition, the other one four.
    let topics = [("heavy", 1), ("light", 4)].map(|(name, partitions)| {
        let topic = format!("{stem}-{name}");
        source.client().create_topic(&topic, partitions, &[]).unwrap();
        for n in 0..BATCHES {
            write(source.client(), &topic, n as i32 % partitions, orders(n * 400..n * 400 + 400), Codec::None);
        }
        (topic, partitions)
    });
    let weights = format!("priorities = {{ \"{stem}-heavy\" = 3 }}");
    let setup = link(source, target, &[&format!("{stem}-.*")], &[]).line("rate_limit = \"1MiB\"").line(&weights);
    let mirror = twinlog(setup);
    mirror.start();
    let copied = |(topic, partitions): &(String, i32)| -> i64 {
        (0..*partitions).map(|p| target.client().bounds(topic, p).map_or(0, |(_, end)| end)).sum()
    };
    let all = BATCHES as i64 * 400;
    until(SOON, "the heavy one is copied", || copied(&topics[0]) == all);
    let light = copied(&topics[1]);
    println!("when {all} records of the heavy topic were copied, {light} of the light one were");
    assert!((all / 6..all * 2 / 3).contains(&light), "{light} beside {all}: about a third was to be expected");
    for (topic, _) in &topics {
        twins(source, target, topic).settle(SOON);
    }
    let status = String::from_utf8(mirror.run(&["status"]).stdout).unwrap();
    assert!(status.contains(&format!("limit: 1.0 MiB/s ({stem}-heavy × 3)")), "{status}");
}
