use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{ApiKey, BrokerId};
use kafka_protocol::protocol::Decodable;

use super::*;
use crate::runtime::tasks::TaskScope;
use crate::wire::broker_stub::serve;

const OFFERS: &[(ApiKey, i16, i16)] = &[(ApiKey::Metadata, 0, 12)];

/// A broker that knows itself as broker 1 and the topic `orders` with one partition; counts connections and questions.
async fn lone_broker() -> (String, Arc<AtomicUsize>, Arc<AtomicUsize>, TaskScope) {
    let (connections, questions) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let own_port = Arc::new(AtomicUsize::new(0));
    let (made, asked, port) = (connections.clone(), questions.clone(), own_port.clone());
    let (at, scope) = serve(move |mut peer| {
        let (made, asked, port) = (made.clone(), asked.clone(), port.clone());
        async move {
            made.fetch_add(1, Ordering::Relaxed);
            peer.greet(OFFERS).await;
            while let Some(request) = peer.next().await {
                asked.fetch_add(1, Ordering::Relaxed);
                let wanted = MetadataRequest::decode(&mut request.body.clone(), request.version).expect("a request");
                assert!(!wanted.allow_auto_topic_creation, "asking must not create");
                let topics = wanted.topics.unwrap_or_default().into_iter().map(|t| topic(t.name));
                let broker = MetadataResponseBroker::default()
                    .with_node_id(BrokerId(1))
                    .with_host(StrBytes::from_static_str("127.0.0.1"))
                    .with_port(port.load(Ordering::Relaxed) as i32);
                let answer = MetadataResponse::default()
                    .with_brokers(vec![broker])
                    .with_controller_id(BrokerId(1))
                    .with_topics(topics.collect());
                peer.answer(&request, request.version, &answer).await;
            }
        }
    })
    .await;
    own_port.store(at.rsplit_once(':').expect("host:port").1.parse().expect("a port"), Ordering::Relaxed);
    (at, connections, questions, scope)
}

fn topic(name: Option<WireName>) -> MetadataResponseTopic {
    let exists = name.as_ref().is_some_and(|name| name.as_str() == "orders");
    let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(1)).with_leader_epoch(3);
    let told = MetadataResponseTopic::default().with_name(name);
    if exists { told.with_partitions(vec![partition]) } else { told.with_error_code(3) }
}

fn cluster(bootstrap: &str) -> Cluster {
    Cluster::new("lyon", bootstrap, Security::default(), "twinlog-test")
}

#[tokio::test]
async fn many_callers_share_one_question_and_one_connection() {
    let (at, connections, questions, scope) = lone_broker().await;
    let lyon = cluster(&at);
    let orders = TopicPartition::new("orders", 0);
    let told = join_all((0..50).map(|_| lyon.leader(&orders))).await;
    for leader in told {
        assert_eq!(leader.map(|l| (l.broker_id, l.epoch)).expect("it leads"), (1, LeaderEpoch(3)));
    }
    // The first may be on its way before the others have asked; theirs is the second.
    assert!(questions.load(Ordering::Relaxed) <= 2, "{questions:?}");
    let asked = questions.load(Ordering::Relaxed);
    lyon.leader(&orders).await.expect("known");
    assert_eq!(questions.load(Ordering::Relaxed), asked, "what is known is not asked");
    join_all((0..20).map(|_| lyon.broker(1))).await.into_iter().for_each(|c| drop(c.expect("it stands")));
    // One from the bootstrap list, one to the broker under its own id.
    assert!(connections.load(Ordering::Relaxed) <= 2, "{connections:?}");
    scope.stop().await;
}

#[tokio::test]
async fn an_unknown_topic_is_so_by_the_clusters_word() {
    let (at, _, _, scope) = lone_broker().await;
    let lyon = cluster(&at);
    let asked = [TopicPartition::new("nowhere", 0), TopicPartition::new("orders", 0), TopicPartition::new("orders", 9)];
    let told = lyon.leaders(&asked).await;
    assert_eq!(told[0].as_ref().expect_err("unknown").kind, ErrorKind::UnknownTopic);
    assert!(told[1].is_ok());
    assert_eq!(told[2].as_ref().expect_err("no such partition").kind, ErrorKind::UnknownTopic);
    scope.stop().await;
}

#[tokio::test]
async fn the_bootstrap_list_is_tried_to_its_end_and_a_lost_connection_is_made_anew() {
    let (at, connections, _, scope) = lone_broker().await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let lyon = cluster(&format!("{dead},{at}"));
    lyon.refresh().await.expect("the second one answers");
    let broker = lyon.broker(1).await.expect("it stands");
    let before = connections.load(Ordering::Relaxed);
    broker.condemn(Error::new(ErrorKind::Retryable, "for the test"));
    let again = lyon.broker(1).await.expect("it is made anew");
    assert!(!again.is_closed() && again.broker_id() == 1);
    assert_eq!(connections.load(Ordering::Relaxed), before + 1);
    scope.stop().await;
}

#[tokio::test]
async fn a_dead_cluster_is_named_and_not_hammered() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound").to_string();
    let lyon = cluster(&at);
    let dials = AtomicUsize::new(0);
    let hanging_up = async {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
            dials.fetch_add(1, Ordering::Relaxed);
        }
    };
    let asking = async {
        let answers = join_all((0..200).map(|_| lyon.any())).await;
        answers.into_iter().map(|answer| answer.err().expect("it hangs up")).next_back().expect("200 answers")
    };
    let error = tokio::select! { error = asking => error, () = hanging_up => unreachable!("it listens for ever") };
    assert!(dials.load(Ordering::Relaxed) < 20, "{dials:?}");
    assert_eq!(error.kind, ErrorKind::Retryable);
    assert!(error.message.contains(&at) && error.message.contains("lyon"), "{error}");
}

#[test]
fn bootstrap_lists_are_read_and_nonsense_is_named_by_its_key() {
    let good = addresses("lyon", "a:1, b.example:9092,[::1]:3,").expect("a good list");
    assert_eq!(good.iter().map(Address::to_string).collect::<Vec<_>>(), ["a:1", "b.example:9092", "[::1]:3"]);
    for bad in ["", "a", "a:", ":1", "a:0", "a:99999", "::1:3", "a:1,b"] {
        let error = addresses("lyon", bad).expect_err(bad);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.message.contains("clusters.lyon.bootstrap"), "{error}");
    }
}
