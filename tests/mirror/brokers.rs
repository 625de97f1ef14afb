//! P1 while brokers of both clusters are killed, frozen, moved and wiped.

use super::*;
use crate::support::load::{Load, LoadSpec};
use crate::support::raw::Election;
use crate::support::{Cluster, ClusterSpec, until};

/// Both clusters, booted side by side.
pub fn started(specs: [ClusterSpec; 2]) -> (Cluster, Cluster) {
    let [source, target] = specs;
    std::thread::scope(|both| {
        let target = both.spawn(|| Cluster::start(target));
        (Cluster::start(source), target.join().expect("the target boots"))
    })
}

/// Waits until the mirror has copied more than it had: nothing is stuck.
fn copies_on(mirror: &Twinlog, what: &str) {
    let copied = || mirror.metric("twinlog_records_total").unwrap_or(0.0);
    let before = copied();
    until(2 * SOON, what, || copied() > before + 200.0);
}

/// Every partition of a cluster, Kafka's own topics and the ledger's too, gives up a replica and gets another one back,
/// under another leader.
fn everything_moves(cluster: &Cluster, round: usize) {
    let client = cluster.client();
    let all = || {
        let topics = client.metadata(None).unwrap().topics;
        let named = topics.into_iter().map(|topic| (topic.name.expect("topics have names"), topic.partitions));
        let each = named.flat_map(|(name, partitions)| partitions.into_iter().map(move |p| (name.clone(), p)));
        each.collect::<Vec<_>>()
    };
    let partitions = all();
    for replicas in [2, 3] {
        for (place, (topic, partition)) in partitions.iter().enumerate() {
            let first = (place + round + replicas) as i32;
            let three = [first, first + 1, first + 2].map(|n| n % 3 + 1);
            let index = partition.partition_index;
            client.again(|| client.reassign(topic, index, &three[..replicas])).unwrap();
        }
        let is_there = || all().iter().all(|(_, p)| p.replica_nodes.len() == replicas && p.isr_nodes.len() == replicas);
        until(2 * SOON, &format!("everything has {replicas} replicas"), is_there);
        for (topic, partition) in &partitions {
            client.again(|| client.elect(topic, partition.partition_index, Election::Preferred)).unwrap();
        }
    }
}

#[test]
fn brokers_of_both_clusters_die_freeze_and_move_and_the_copy_stays_exact() {
    let (source, target) = started([ClusterSpec::three(), ClusterSpec::three()]);
    let topic = unique("fire");
    source.client().create_topic(&topic, 3, &[]).unwrap();
    let spec = LoadSpec { pause: Duration::from_millis(2), transaction_every: Some(30), ..LoadSpec::new(&topic, 3) };
    let load = Load::start(addresses(&source), spec);
    let mirror = twinlog(link(&source, &target, &[&topic], &[]));
    mirror.start_ready();
    copies_on(&mirror, "the mirror copies");
    for round in 0..rounds(1, 10) {
        for cluster in [&target, &source] {
            let name = if std::ptr::eq(cluster, &target) { "target" } else { "source" };
            let leader = cluster.client().leader(&topic, (round % 3) as i32).unwrap();
            cluster.broker(leader).kill9();
            copies_on(&mirror, &format!("it copies on after a broker of the {name} was killed"));
            cluster.broker(leader).restart();
            let frozen = leader % 3 + 1;
            cluster.broker(frozen).pause();
            copies_on(&mirror, &format!("it copies on while a broker of the {name} is frozen"));
            cluster.broker(frozen).resume();
            let client = cluster.client();
            let replicas = vec![frozen, leader, 6 - leader - frozen];
            client.again(|| client.reassign(&topic, 1, &replicas)).unwrap();
            client.again(|| client.elect(&topic, 1, Election::Preferred)).unwrap();
            copies_on(&mirror, &format!("it copies on after leaders of the {name} moved"));
            everything_moves(cluster, round);
            copies_on(&mirror, &format!("it copies on after every partition of the {name} moved"));
        }
    }
    load.stop();
    twins(&source, &target, &topic).settle(2 * SOON);
    mirror.assert_running();
}

#[test]
fn an_unclean_election_on_the_target_is_named_and_copied_again() {
    let three = ClusterSpec::three().with("unclean.leader.election.enable", "true").with("min.insync.replicas", "1");
    let (source, target) = started([ClusterSpec::default(), three]);
    let topic = unique("unclean");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mirror = twinlog(link(&source, &target, &[&topic], &[]).line("replication_factor = 3"));
    write(source.client(), &topic, 0, orders(0..100), Codec::Lz4);
    mirror.start_ready();
    twins(&source, &target, &topic).settle(SOON);
    // Two replicas, of which one misses what comes next; then the one that has it dies for good.
    let leader = target.client().leader(&topic, 0).unwrap();
    let stale = leader % 3 + 1;
    target.client().again(|| target.client().reassign(&topic, 0, &[leader, stale])).unwrap();
    until(SOON, "the third replica is let go", || {
        let metadata = target.client().metadata(Some(&[&topic])).unwrap();
        metadata.topics[0].partitions[0].replica_nodes.len() == 2
    });
    target.broker(stale).kill9();
    write(source.client(), &topic, 0, orders(100..200), Codec::Lz4);
    let copied = || crate::support::view::View::read(target.client(), &topic, 0).map(|v| v.seen().len()).unwrap_or(0);
    until(SOON, "the second hundred is on the target", || copied() == 200);
    // A clean stop makes the map durable: whoever looks next knows what there was.
    assert!(mirror.stop(SOON).success());
    target.broker(leader).kill9();
    target.broker(stale).restart();
    mirror.start();
    until(2 * SOON, "the loss is named", || mirror.log_text().contains("the target lost acknowledged records"));
    twins(&source, &target, &topic).settle(2 * SOON);
}

#[test]
fn an_older_source_is_mirrored() {
    is_mirrored_from(crate::support::cluster::OLDER);
}

#[test]
fn a_source_of_the_zookeeper_era_is_mirrored() {
    is_mirrored_from(crate::support::cluster::ZOOKEEPER_ERA);
}

fn is_mirrored_from(version: &'static str) {
    let source = Cluster::start(ClusterSpec { version, ..ClusterSpec::default() });
    let target = crate::support::shared_target();
    let topic = unique("older");
    source.client().create_topic(&topic, 2, &[]).unwrap();
    let spec =
        LoadSpec { transaction_every: Some(5), records: 3_000, pause: Duration::ZERO, ..LoadSpec::new(&topic, 2) };
    Load::start(addresses(&source), spec).finish();
    let (group, mirror) = (unique("group"), twinlog(link(&source, target, &[&topic], &[".*"])));
    source.client().commit_offsets(&group, &[(&topic, 0, 500)], "").unwrap();
    mirror.start();
    twins(&source, target, &topic).settle(SOON);
    until(SOON, "the group is carried over", || {
        let all = crate::support::oracle::standings(source.client(), target.client(), &group, str::to_owned).unwrap();
        !all.is_empty() && all.iter().all(|s| s.is_exact())
    });
}

#[test]
fn a_payload_damaged_on_its_way_to_the_target_is_refused_by_it() {
    let (source, target) = started([ClusterSpec::default(), ClusterSpec { proxied: true, ..ClusterSpec::default() }]);
    let topic = unique("damaged");
    source.client().create_topic(&topic, 1, &[]).unwrap();
    let mirror = twinlog(link(&source, &target, &[&topic], &[]));
    write(source.client(), &topic, 0, orders(0..100), Codec::None);
    mirror.start_ready();
    twins(&source, &target, &topic).settle(SOON);
    let proxy = target.only().proxy();
    proxy.corrupt_produce(1);
    write(source.client(), &topic, 0, orders(100..300), Codec::None);
    until(SOON, "a request was damaged", || proxy.corrupted() == 1);
    // Refused by the target's checksum, named, and sent again whole.
    twins(&source, &target, &topic).settle(2 * SOON);
    assert!(mirror.log_text().to_lowercase().contains("corrupt"), "{}", mirror.log_text());
}
