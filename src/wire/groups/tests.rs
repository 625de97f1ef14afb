//! What brokers rarely say, said by a stub: garbage from applications, coordinators that move, requests not known.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{
    ApiKey, BrokerId, DescribeGroupsRequest, DescribeGroupsResponse, DescribeShareGroupOffsetsRequest,
    DescribeShareGroupOffsetsResponse, FindCoordinatorRequest, FindCoordinatorResponse, MetadataResponse,
    OffsetDeleteResponse, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, StrBytes};

use super::*;
use crate::endpoint::{ErrorKind, Security};
use crate::runtime::tasks::TaskScope;
use crate::wire::broker_stub::{Asked, Peer, serve};

const ALL: &[(ApiKey, i16, i16)] = &[
    (ApiKey::Metadata, 0, 12),
    (ApiKey::FindCoordinator, 0, 4),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::OffsetDelete, 0, 0),
    (ApiKey::DescribeShareGroupOffsets, 0, 0),
];

/// A lone broker that coordinates every group, and the requests about groups that it was sent.
struct Lyon {
    cluster: Cluster,
    asked: Arc<Mutex<Vec<ApiKey>>>,
    scope: TaskScope,
}

impl Lyon {
    /// It offers these requests and answers those about groups as told, by how many came before.
    async fn that_says(
        offers: &'static [(ApiKey, i16, i16)],
        says: impl Fn(&Asked, usize) -> ResponseKind + Send + Sync + 'static,
    ) -> Lyon {
        let (asked, says, own_port) = (Arc::<Mutex<Vec<_>>>::default(), Arc::new(says), Arc::new(AtomicI32::new(0)));
        let (log, port) = (asked.clone(), own_port.clone());
        let (at, scope) = serve(move |mut peer| {
            let (log, says, port) = (log.clone(), says.clone(), port.clone());
            async move {
                peer.greet(offers).await;
                while let Some(request) = peer.next().await {
                    let answer = match request.key {
                        ApiKey::Metadata => lone_broker(port.load(Ordering::Relaxed)),
                        key => {
                            let before = {
                                let mut log = log.lock().expect("nobody panicked");
                                log.push(key);
                                log.iter().filter(|k| **k == key).count() - 1
                            };
                            if key == ApiKey::FindCoordinator { itself(&request) } else { says(&request, before) }
                        }
                    };
                    reply(&mut peer, &request, answer).await;
                }
            }
        })
        .await;
        let port = at.rsplit_once(':').expect("host:port").1.parse().expect("a port");
        own_port.store(port, Ordering::Relaxed);
        Lyon { cluster: Cluster::new("lyon", &at, Security::default(), "twinlog-test"), asked, scope }
    }

    fn times_asked(&self, key: ApiKey) -> usize {
        self.asked.lock().expect("nobody panicked").iter().filter(|k| **k == key).count()
    }
}

fn lone_broker(port: i32) -> ResponseKind {
    let broker =
        MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(text("127.0.0.1")).with_port(port);
    ResponseKind::Metadata(MetadataResponse::default().with_brokers(vec![broker]).with_controller_id(BrokerId(1)))
}

fn itself(asked: &Asked) -> ResponseKind {
    let wanted: FindCoordinatorRequest = read(asked);
    let coordinators = wanted.coordinator_keys.into_iter();
    let coordinators = coordinators.map(|key| Coordinator::default().with_key(key).with_node_id(BrokerId(1)));
    ResponseKind::FindCoordinator(FindCoordinatorResponse::default().with_coordinators(coordinators.collect()))
}

fn read<T: Decodable>(asked: &Asked) -> T {
    T::decode(&mut asked.body.clone(), asked.version).expect("a valid request")
}

async fn reply(peer: &mut Peer, asked: &Asked, answer: ResponseKind) {
    let mut body = BytesMut::new();
    if asked.key.response_header_version(asked.version) >= 1 {
        body.put_u8(0);
    }
    answer.encode(&mut body, asked.version).expect("a valid answer");
    peer.answer_raw(asked.correlation, &body).await;
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

/// An assignment of partition 3 of `orders`.
const ORDERS_3: &[u8] = b"\0\0\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\x03\xff\xff\xff\xff";

fn group(of: &str, state: &str, protocol: &str, assignment: &'static [u8]) -> DescribedGroup {
    let member = DescribedGroupMember::default()
        .with_member_id(text("member-1"))
        .with_member_assignment(Bytes::from_static(assignment));
    DescribedGroup::default()
        .with_group_id(WireGroup(text(of)))
        .with_group_state(text(state))
        .with_protocol_type(text(protocol))
        .with_members(vec![member])
}

#[tokio::test]
async fn what_an_application_wrote_into_its_assignment_hurts_its_own_group_only() {
    let lyon = Lyon::that_says(ALL, |asked, _| {
        let wanted: DescribeGroupsRequest = read(asked);
        let told = wanted.groups.into_iter().filter_map(|id| {
            Some(match id.as_str() {
                "garbage" => group("garbage", "Stable", "consumer", b"\0\0\x7f\xff\xff\xff"),
                "moving" => group("moving", "PreparingRebalance", "consumer", b""),
                "workers" => group("workers", "Stable", "connect", b"\0\x01whatever connect writes"),
                "idle" => group("idle", "Empty", "consumer", b"").with_members(vec![]),
                "unknown" => group("unknown", "", "", b"").with_error_code(69).with_members(vec![]),
                "forbidden" => group("forbidden", "", "", b"").with_error_code(30),
                "forgotten" => return None,
                sound => group(sound, "Stable", "consumer", ORDERS_3),
            })
        });
        ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(told.collect()))
    })
    .await;
    let names = ["a", "garbage", "moving", "workers", "idle", "unknown", "forbidden", "forgotten", "b", "a"];
    let of: Vec<_> = names.iter().map(|name| (GroupId::from(name), GroupProtocol::Classic)).collect();
    let told = lyon.cluster.assignments(&of).await;
    let orders = BTreeSet::from([TopicPartition::new("orders", 3)]);
    let expected = [
        Ok(&orders),
        Err(ErrorKind::Corrupt),
        Err(ErrorKind::Retryable),
        Err(ErrorKind::Unsupported),
        Ok(&BTreeSet::new()),
        Ok(&BTreeSet::new()),
        Err(ErrorKind::Denied),
        Err(ErrorKind::Protocol),
        Ok(&orders),
        Ok(&orders),
    ];
    for ((name, told), expected) in names.iter().zip(&told).zip(expected) {
        assert_eq!(told.as_ref().map_err(|e| e.kind), expected, "{name}: {told:?}");
        if let Err(error) = told {
            assert!(error.message.contains("lyon") && error.message.contains(name), "{error}");
        }
    }
    let denied = told[6].as_ref().expect_err("forbidden");
    assert!(denied.message.contains("Describe on group forbidden"), "{denied}");
    assert_eq!(lyon.times_asked(ApiKey::DescribeGroups), 1, "one request for all");
    lyon.scope.stop().await;
}

#[tokio::test]
async fn many_groups_are_asked_about_some_at_a_time_and_answered_in_order() {
    let lyon = Lyon::that_says(ALL, |asked, _| {
        let wanted: DescribeGroupsRequest = read(asked);
        assert!(wanted.groups.len() <= 200, "{} at once", wanted.groups.len());
        // In another order, and every tenth without members.
        let told = wanted.groups.into_iter().rev().map(|id| match id.as_str().ends_with('0') {
            true => group(id.as_str(), "Empty", "", b"").with_members(vec![]),
            false => group(id.as_str(), "Stable", "consumer", ORDERS_3),
        });
        ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(told.collect()))
    })
    .await;
    let groups: Vec<_> = (0..1_500).map(|n| (GroupId::from(n.to_string()), GroupProtocol::Classic)).collect();
    let told = lyon.cluster.assignments(&groups).await;
    for (n, told) in told.iter().enumerate() {
        assert_eq!(told.as_ref().expect("told").len(), usize::from(n % 10 != 0), "group {n}");
    }
    assert_eq!((told.len(), lyon.times_asked(ApiKey::DescribeGroups)), (1_500, 8));
    lyon.scope.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_moved_is_looked_up_again_once() {
    for (refusals, found) in [(1, true), (2, false)] {
        let lyon = Lyon::that_says(ALL, move |_, before| {
            let told = group("g", "Stable", "consumer", ORDERS_3);
            let told = if before < refusals { told.with_error_code(16).with_members(vec![]) } else { told };
            ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(vec![told]))
        })
        .await;
        let told = lyon.cluster.assignments(&[("g".into(), GroupProtocol::Classic)]).await.remove(0);
        assert_eq!(told.is_ok(), found, "{told:?}");
        assert!(found || told.expect_err("moved twice").is_retryable());
        let asked = (lyon.times_asked(ApiKey::FindCoordinator), lyon.times_asked(ApiKey::DescribeGroups));
        assert_eq!(asked, (2, 2), "{refusals} refusals");
        lyon.scope.stop().await;
    }
}

#[tokio::test]
async fn what_a_broker_does_not_know_is_unsupported_and_what_it_knows_beside_is_told() {
    const OLD: &[(ApiKey, i16, i16)] = &[ALL[0], ALL[1], ALL[2]];
    let lyon = Lyon::that_says(OLD, |_, _| {
        let told = group("classic", "Stable", "consumer", ORDERS_3);
        ResponseKind::DescribeGroups(DescribeGroupsResponse::default().with_groups(vec![told]))
    })
    .await;
    let groups = [
        ("new".into(), GroupProtocol::Consumer),
        ("classic".into(), GroupProtocol::Classic),
        ("shared".into(), GroupProtocol::Share),
        ("workers".into(), GroupProtocol::Other),
    ];
    let told = lyon.cluster.assignments(&groups).await;
    assert!(told[1].is_ok(), "{told:?}");
    for (told, (name, _)) in told.iter().zip(&groups).filter(|(_, (_, kind))| *kind != GroupProtocol::Classic) {
        assert_eq!(told.as_ref().expect_err("unsupported").kind, ErrorKind::Unsupported, "{name}");
    }
    let starts = lyon.cluster.share_starts(&["shared".into()]).await.remove(0);
    assert_eq!(starts.expect_err("unsupported").kind, ErrorKind::Unsupported);
    lyon.scope.stop().await;
}

#[tokio::test]
async fn share_groups_begin_where_they_have_begun() {
    let lyon = Lyon::that_says(ALL, |asked, _| {
        let wanted: DescribeShareGroupOffsetsRequest = read(asked);
        assert!(wanted.groups.iter().all(|group| group.topics.is_none()), "all topics are asked for");
        let partition = |(index, start)| {
            DescribeShareGroupOffsetsResponsePartition::default().with_partition_index(index).with_start_offset(start)
        };
        let partitions = [(0, 0), (1, -1), (2, 42)].map(partition).to_vec();
        let topic = DescribeShareGroupOffsetsResponseTopic::default()
            .with_topic_name(text("orders").into())
            .with_partitions(partitions);
        let told = wanted.groups.into_iter().map(|group| {
            let told = DescribeShareGroupOffsetsResponseGroup::default().with_topics(vec![topic.clone()]);
            let told = match group.group_id.as_str() {
                "unknown" => told.with_topics(vec![]).with_error_code(69),
                "broken" => told.with_topics(vec![]).with_error_code(-1).with_error_message(Some(text("a bad day"))),
                _ => told,
            };
            told.with_group_id(group.group_id)
        });
        let told = DescribeShareGroupOffsetsResponse::default().with_groups(told.collect());
        ResponseKind::DescribeShareGroupOffsets(told)
    })
    .await;
    let told = lyon.cluster.share_starts(&["broken".into(), "shared".into(), "unknown".into()]).await;
    let broken = told[0].as_ref().expect_err("broken");
    assert!(broken.message.contains("group broken") && broken.message.contains("a bad day"), "{broken}");
    let orders = |partition| TopicPartition::new("orders", partition);
    let expected = BTreeMap::from([(orders(0), Offset(0)), (orders(2), Offset(42))]);
    assert_eq!(told[1].as_ref().expect("told"), &expected);
    assert!(told[2].as_ref().expect("told").is_empty());
    lyon.scope.stop().await;
}

#[tokio::test]
async fn a_refused_deletion_says_why_and_one_that_finds_nothing_is_done() {
    let rows = [
        ((0, 0), None),
        ((69, 0), None),
        ((0, 3), None),
        ((68, 0), Some((ErrorKind::GroupBusy, "members"))),
        ((0, 86), Some((ErrorKind::GroupBusy, "orders/3"))),
        ((30, 0), Some((ErrorKind::Denied, "Delete on group g"))),
        ((0, 29), Some((ErrorKind::Denied, "Read on topic orders"))),
    ];
    for ((group, partition), expected) in rows {
        let lyon = Lyon::that_says(ALL, move |_, _| {
            let partition = OffsetDeleteResponsePartition::default().with_partition_index(3).with_error_code(partition);
            let topic =
                OffsetDeleteResponseTopic::default().with_name(text("orders").into()).with_partitions(vec![partition]);
            let topics = if group == 0 { vec![topic] } else { vec![] };
            ResponseKind::OffsetDelete(OffsetDeleteResponse::default().with_error_code(group).with_topics(topics))
        })
        .await;
        let at = BTreeSet::from([TopicPartition::new("orders", 3)]);
        match (lyon.cluster.delete_offsets(&"g".into(), &at).await, expected) {
            (Ok(()), None) => {}
            (Err(error), Some((kind, says))) => {
                assert_eq!(error.kind, kind, "{group} {partition}: {error}");
                assert!(error.message.contains(says) && error.message.contains("group g"), "{says}: {error}");
            }
            (outcome, _) => panic!("{group} {partition}: {outcome:?}"),
        }
        lyon.scope.stop().await;
    }
}
