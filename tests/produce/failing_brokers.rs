//! Brokers that are killed and frozen while records move.

use std::sync::Arc;
use std::time::Duration;

use twinlog::endpoint::{ErrorKind, Sink};
use twinlog::model::{Offset, ProducerIdentity, ProtectionLevel};
use twinlog::wire::produce::ProduceSettings;

use crate::support::{Cluster, ClusterSpec, unique, until};
use crate::{batches, copy, deliver, identity, ids, orders, route, sink, sink_with};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_twice_and_frozen_once_costs_attaches_and_no_record() {
    let cluster = Cluster::start(ClusterSpec::default());
    let (client, topic) = (cluster.client(), unique("killed"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let producer = identity(client);
    let all = Arc::new(batches(60_000));
    let copying = {
        let settings = ProduceSettings { timeout: Duration::from_millis(500), ..Default::default() };
        let (sink, route, all) = (sink_with(&cluster, settings), route(&topic, 0), all.clone());
        tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
    };
    for round in 0..3 {
        let before = client.bounds(&topic, 0).unwrap().1;
        until(Duration::from_secs(60), "records move", || client.bounds(&topic, 0).unwrap().1 > before + 500);
        assert!(!copying.is_finished(), "the broker fails while records move");
        if round < 2 {
            cluster.only().restart();
        } else {
            // Longer than a lane bears silence: the time the broker may take, and 5 s for the network.
            cluster.only().pause();
            tokio::time::sleep(Duration::from_secs(7)).await;
            cluster.only().resume();
        }
    }
    let opened = copying.await.unwrap();
    assert!(opened >= 4, "{opened}");
    assert_eq!(ids(client, &topic, 0), (0..60_000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_that_die_and_replicas_that_lag_cost_no_record() {
    let cluster = Cluster::start(ClusterSpec::three());
    let (client, topic, partitions) = (cluster.client(), unique("leaders"), 3);
    client.create_topic(&topic, partitions, &[]).unwrap();
    let producer = identity(client);
    let all = Arc::new(batches(20_000));
    let sink = Arc::new(sink_with(&cluster, ProduceSettings { timeout: Duration::from_secs(3), ..Default::default() }));
    let copies: Vec<_> = (0..partitions)
        .map(|partition| {
            let (sink, route, all) = (sink.clone(), route(&topic, partition), all.clone());
            tokio::spawn(async move { copy(&sink, &route, producer, &all).await })
        })
        .collect();
    let end = |partition| client.bounds(&topic, partition).unwrap().1;
    for victim in 1..=3 {
        let before = end(0);
        until(Duration::from_secs(60), "records move", || end(0) > before + 300 || copies[0].is_finished());
        let broker = cluster.broker(victim);
        if victim == 2 {
            // Longer than its session of 4 s with the controller: meanwhile others lead its partitions.
            broker.pause();
            tokio::time::sleep(Duration::from_secs(6)).await;
            broker.resume();
        } else {
            broker.restart();
        }
    }
    let mut opened = Vec::new();
    for copy in copies {
        opened.push(copy.await.unwrap());
    }
    for partition in 0..partitions {
        assert_eq!(ids(client, &topic, partition), (0..20_000).collect::<Vec<_>>(), "opened {opened:?} times");
    }
    a_log_end_above_the_high_watermark_is_waited_for(&cluster, producer).await;
}

async fn a_log_end_above_the_high_watermark_is_waited_for(cluster: &Cluster, producer: ProducerIdentity) {
    // Another owner looks: on one connection the question would stand behind the batch.
    let (first, second) = (sink(cluster), sink(cluster));
    let (client, topic) = (cluster.client(), unique("behind"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let leader = client.leader(&topic, 0).unwrap();
    let mut writer = first.open(&route(&topic, 0), producer).await.unwrap().writer;
    assert_eq!(deliver(&mut writer, orders(0, 3), 0).await.unwrap(), 0);
    // Connected before the freeze, so that the frozen broker is not the one it asks for the leader.
    drop(second.open(&route(&topic, 0), producer).await.unwrap());
    // A frozen follower holds the high watermark back until the controller takes it out of the in-sync replicas.
    let follower = cluster.broker(leader % 3 + 1);
    follower.pause();
    let unheard = writer.send(orders(3, 2), Offset(3)).await.unwrap();
    let mut reasons = Vec::new();
    let opened = loop {
        match second.open(&route(&topic, 0), producer).await {
            Ok(opened) if opened.end > Offset(3) => break opened,
            Ok(early) => assert_eq!((early.end, reasons.len()), (Offset(3), 0), "opened before the batch arrived"),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
                reasons.push(error.message);
            }
        }
    };
    follower.resume();
    assert_eq!((opened.end, opened.level), (Offset(5), ProtectionLevel::Guarded));
    assert!(reasons.iter().any(|reason| reason.starts_with("waiting for the high watermark 3")), "{reasons:?}");
    drop(unheard);
}
