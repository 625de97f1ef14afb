//! Lanes against a scripted broker: what real brokers do not do on demand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use tokio::sync::mpsc;

use super::{ProduceSettings, ProduceSink};
use crate::batch::{BatchBuilder, Record, pass};
use crate::endpoint::{Delivery, ErrorKind, Opened, Security, Sink, Writer};
use crate::model::{EncodedBatch, Offset, ProducerIdentity, ProtectionLevel, Route, TopicPartition};
use crate::runtime::tasks::TaskScope;
use crate::wire::Cluster;
use crate::wire::broker_stub::{Asked, Peer, serve};

const PARTITIONS: i32 = 8;
const END: i64 = 40;

/// Partitions and their batches' sizes as one Produce request named them.
type Named = Vec<i32>;

/// What the broker does with a Produce request.
enum Reply {
    /// Acknowledges at the log end, but for the partitions that get this code, or with `None` no answer at all.
    But(Vec<(i32, Option<i16>)>),
    /// Bytes that are no response.
    Nonsense,
    /// Waits until told to go on, then acknowledges.
    Held(tokio::sync::oneshot::Receiver<()>),
    /// Acknowledges, and reads nothing for so long, as brokers do where a quota was exceeded (KIP-219).
    Throttled(Duration),
}

/// A broker of version 2.4: no DescribeProducers, and it never heard of the debugging replica.
struct Stub {
    address: OnceLock<String>,
    replies: Mutex<VecDeque<Reply>>,
    produced: mpsc::UnboundedSender<Named>,
    closed: mpsc::UnboundedSender<()>,
    metadata_asked: AtomicUsize,
    ends: Mutex<[i64; PARTITIONS as usize]>,
}

impl Stub {
    async fn converse(self: Arc<Self>, mut peer: Peer) {
        use ApiKey::{ApiVersions, DescribeConfigs, ListOffsets, Metadata, Produce};
        let offers =
            [(ApiVersions, 0, 3), (Metadata, 4, 9), (ListOffsets, 2, 5), (DescribeConfigs, 1, 4), (Produce, 3, 8)];
        peer.greet(&offers).await;
        let mut produces = false;
        while let Some(asked) = peer.next().await {
            match asked.key {
                Metadata => peer.answer(&asked, asked.version, &self.metadata(&asked)).await,
                ListOffsets => peer.answer(&asked, asked.version, &self.offsets(&asked)).await,
                DescribeConfigs => peer.answer(&asked, asked.version, &DescribeConfigsResponse::default()).await,
                Produce => {
                    produces = true;
                    self.produce(&mut peer, &asked).await;
                }
                other => panic!("{other:?} was not offered"),
            }
        }
        if produces {
            self.closed.send(()).unwrap();
        }
    }

    fn metadata(&self, asked: &Asked) -> MetadataResponse {
        self.metadata_asked.fetch_add(1, Ordering::Relaxed);
        let (host, port) = self.address.get().unwrap().rsplit_once(':').unwrap();
        let broker = MetadataResponseBroker::default()
            .with_node_id(1.into())
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port.parse().unwrap());
        let request = MetadataRequest::decode(&mut asked.body.clone(), asked.version).unwrap();
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(1.into())
                .with_leader_epoch(3)
        };
        let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
            MetadataResponseTopic::default()
                .with_name(topic.name)
                .with_partitions((0..PARTITIONS).map(partition).collect())
        });
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(1.into())
            .with_topics(topics.collect())
    }

    fn offsets(&self, asked: &Asked) -> ListOffsetsResponse {
        let request = ListOffsetsRequest::decode(&mut asked.body.clone(), asked.version).unwrap();
        let ends = *self.ends.lock().unwrap();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let latest = partition.timestamp == -1;
                let (code, offset) = match request.replica_id.0 {
                    -1 => (0, if latest { ends[partition.partition_index as usize] } else { 7 }),
                    _ => (42, -1),
                };
                ListOffsetsPartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code)
                    .with_offset(offset)
            });
            let partitions = partitions.collect();
            ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    async fn produce(&self, peer: &mut Peer, asked: &Asked) {
        let request = ProduceRequest::decode(&mut asked.body.clone(), asked.version).unwrap();
        let topic = &request.topic_data[0];
        let named: Named = topic.partition_data.iter().map(|partition| partition.index).collect();
        self.produced.send(named).unwrap();
        let reply = self.replies.lock().unwrap().pop_front().unwrap_or(Reply::But(vec![]));
        let mut throttle = Duration::ZERO;
        let but = match reply {
            Reply::Throttled(lasting) => {
                throttle = lasting;
                vec![]
            }
            Reply::Nonsense => return peer.answer_raw(asked.correlation, &[0, 0, 0, 9, 1, 2, 3]).await,
            Reply::Held(until) => {
                until.await.unwrap();
                vec![]
            }
            Reply::But(but) => but,
        };
        let partitions = topic.partition_data.iter().filter_map(|data| {
            let code = match but.iter().find(|(partition, _)| *partition == data.index) {
                Some((_, code)) => (*code)?,
                None => 0,
            };
            let answer = PartitionProduceResponse::default().with_index(data.index).with_error_code(code);
            if code != 0 {
                return Some(answer.with_base_offset(-1));
            }
            let end = &mut self.ends.lock().unwrap()[data.index as usize];
            let answer = answer.with_base_offset(*end);
            *end += 1;
            Some(answer)
        });
        let responses = TopicProduceResponse::default()
            .with_name(topic.name.clone())
            .with_partition_responses(partitions.collect());
        let response = ProduceResponse::default().with_responses(vec![responses]);
        let response = response.with_throttle_time_ms(throttle.as_millis() as i32);
        peer.answer(asked, asked.version, &response).await;
        tokio::time::sleep(throttle).await;
    }
}

/// A scripted broker, a sink on it, and what the broker saw.
struct Bed {
    stub: Arc<Stub>,
    produced: mpsc::UnboundedReceiver<Named>,
    closed: mpsc::UnboundedReceiver<()>,
    sink: ProduceSink,
    _broker: TaskScope,
}

impl Bed {
    async fn new(requests_in_flight: usize) -> Bed {
        let (produced_here, produced) = mpsc::unbounded_channel();
        let (closed_here, closed) = mpsc::unbounded_channel();
        let stub = Arc::new(Stub {
            address: OnceLock::new(),
            replies: Mutex::default(),
            produced: produced_here,
            closed: closed_here,
            metadata_asked: AtomicUsize::new(0),
            ends: Mutex::new([END; PARTITIONS as usize]),
        });
        let script = stub.clone();
        let (address, broker) = serve(move |peer| script.clone().converse(peer)).await;
        stub.address.set(address.clone()).unwrap();
        let settings = ProduceSettings { requests_in_flight, ..ProduceSettings::default() };
        let cluster = Cluster::new("lyon", &address, Security::default(), "test");
        let sink = ProduceSink::new(cluster, TaskScope::new(), settings);
        Bed { stub, produced, closed, sink, _broker: broker }
    }

    fn next_reply(&self, reply: Reply) {
        self.stub.replies.lock().unwrap().push_back(reply);
    }

    async fn open(&self, partition: i32) -> Opened {
        let at = TopicPartition::new("orders", partition);
        let route = Route { source: at.clone(), source_id: None, target: at, target_id: None };
        self.sink.open(&route, ProducerIdentity { id: 9, epoch: 0 }).await.unwrap()
    }

    async fn writers(&self, partitions: i32) -> Vec<Box<dyn Writer>> {
        let mut writers = Vec::new();
        for partition in 0..partitions {
            writers.push(self.open(partition).await.writer);
        }
        writers
    }
}

fn batch() -> EncodedBatch {
    let mut builder = BatchBuilder::new(Offset(0));
    builder.push(&Record::new(Offset(0), 1, None, Some(Bytes::from_static(b"paid"))));
    pass(&builder.build())
}

async fn send(writer: &mut Box<dyn Writer>, expected: i64) -> Delivery {
    writer.send(batch(), Offset(expected)).await.unwrap()
}

#[tokio::test]
async fn a_broker_that_tells_neither_log_end_nor_producers_is_opened_at_its_resting_high_watermark() {
    let bed = Bed::new(5).await;
    let Opened { end, log_start, level, mut writer, .. } = bed.open(0).await;
    assert_eq!((end, log_start, level), (Offset(END), Offset(7), ProtectionLevel::ProbeOnly));
    assert_eq!(send(&mut writer, END).await.await.unwrap(), Offset(END));
}

#[tokio::test]
async fn while_request_slots_are_busy_what_becomes_ready_is_gathered_into_one_request() {
    let mut bed = Bed::new(1).await;
    let mut writers = bed.writers(5).await;
    let (go, held) = tokio::sync::oneshot::channel();
    bed.next_reply(Reply::Held(held));
    let mut deliveries = vec![send(&mut writers[0], END).await];
    assert_eq!(bed.produced.recv().await.unwrap(), [0], "sent at once");
    for writer in &mut writers[1..] {
        deliveries.push(send(writer, END).await);
    }
    go.send(()).unwrap();
    assert_eq!(bed.produced.recv().await.unwrap(), [1, 2, 3, 4]);
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap(), Offset(END));
    }
}

#[tokio::test]
async fn one_partitions_refusal_touches_no_other_of_the_request() {
    let mut bed = Bed::new(1).await;
    let mut writers = bed.writers(4).await;
    let (go, held) = tokio::sync::oneshot::channel();
    bed.next_reply(Reply::Held(held));
    bed.next_reply(Reply::But(vec![(1, Some(87)), (2, None)]));
    let first = send(&mut writers[0], END).await;
    assert_eq!(bed.produced.recv().await.unwrap(), [0]);
    let mut outcomes = Vec::new();
    for writer in &mut writers[1..] {
        outcomes.push(send(writer, END).await);
    }
    go.send(()).unwrap();
    first.await.unwrap();
    let outcomes = futures::future::join_all(outcomes).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().kind, ErrorKind::Refused);
    let left_out = outcomes[1].as_ref().unwrap_err();
    assert_eq!(left_out.kind, ErrorKind::Attach);
    assert!(left_out.message.contains("orders/2") && left_out.message.contains("leaves it out"), "{left_out}");
    assert_eq!(*outcomes[2].as_ref().unwrap(), Offset(END));
    assert_eq!(send(&mut writers[3], END + 1).await.await.unwrap(), Offset(END + 1));
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_ends_the_lane_and_opening_again_connects_anew() {
    let mut bed = Bed::new(1).await;
    let mut writers = bed.writers(2).await;
    bed.next_reply(Reply::Nonsense);
    let one = send(&mut writers[0], END).await;
    let two = send(&mut writers[1], END).await;
    for outcome in [one.await, two.await] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Attach);
        assert!(error.message.contains("lyon") && error.message.contains("Produce response"), "{error}");
    }
    bed.closed.recv().await.expect("the connection is closed though writers are still held");
    let mut writer = bed.open(0).await.writer;
    assert_eq!(send(&mut writer, END).await.await.unwrap(), Offset(END));
}

#[tokio::test]
async fn a_silence_that_a_quota_announces_is_waited_out_by_writes_and_openings() {
    let mut bed = Bed::new(2).await;
    let mut writers = bed.writers(3).await;
    let (go, held) = tokio::sync::oneshot::channel();
    bed.next_reply(Reply::Held(held));
    // Far longer than a lane bears a silence that nobody has announced.
    bed.next_reply(Reply::Throttled(Duration::from_secs(120)));
    let first = send(&mut writers[0], END).await;
    assert_eq!(bed.produced.recv().await.unwrap(), [0]);
    let second = send(&mut writers[1], END).await;
    go.send(()).unwrap();
    first.await.unwrap();
    assert_eq!(second.await.unwrap(), Offset(END));
    let third = send(&mut writers[2], END).await;
    let (opened, ()) = tokio::join!(bed.open(3), async {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::time::resume();
    });
    assert_eq!(third.await.unwrap(), Offset(END));
    assert_eq!(send(&mut { opened.writer }, END).await.await.unwrap(), Offset(END));
    assert!(bed.closed.try_recv().is_err(), "by the one connection");
}

#[tokio::test]
async fn a_moved_leader_makes_the_next_opening_ask_for_it() {
    let bed = Bed::new(1).await;
    let mut writer = bed.open(0).await.writer;
    bed.next_reply(Reply::But(vec![(0, Some(6))]));
    assert_eq!(send(&mut writer, END).await.await.unwrap_err().kind, ErrorKind::Attach);
    let before = bed.stub.metadata_asked.load(Ordering::Relaxed);
    bed.open(0).await;
    assert!(bed.stub.metadata_asked.load(Ordering::Relaxed) > before);
    let settled = bed.stub.metadata_asked.load(Ordering::Relaxed);
    bed.open(1).await;
    assert_eq!(bed.stub.metadata_asked.load(Ordering::Relaxed), settled, "asked once is enough");
}

#[tokio::test]
async fn a_lane_nobody_needs_closes_its_connection_and_one_with_idle_writers_does_not() {
    let mut bed = Bed::new(1).await;
    let mut writer = bed.open(0).await.writer;
    send(&mut writer, END).await.await.unwrap();
    let a_while = Duration::from_secs(300);
    tokio::time::pause();
    tokio::time::advance(a_while).await;
    tokio::time::resume();
    assert_eq!(send(&mut writer, END + 1).await.await.unwrap(), Offset(END + 1));
    writer.close().await;
    // Let the lane see that it is empty, then let time pass.
    tokio::task::yield_now().await;
    tokio::time::pause();
    tokio::time::advance(a_while).await;
    tokio::time::resume();
    bed.closed.recv().await.expect("closed");
    let mut writer = bed.open(0).await.writer;
    assert_eq!(send(&mut writer, END + 2).await.await.unwrap(), Offset(END + 2));
}

#[tokio::test]
async fn an_opening_behind_a_slow_write_waits_as_long_as_that_may_take() {
    let mut bed = Bed::new(1).await;
    let mut writer = bed.open(0).await.writer;
    let (go, held) = tokio::sync::oneshot::channel();
    bed.next_reply(Reply::Held(held));
    let delivery = send(&mut writer, END).await;
    assert_eq!(bed.produced.recv().await.unwrap(), [0]);
    let slow_write = async {
        // By then the opening has asked.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        tokio::time::pause();
        // More than a question may take alone, less than a write.
        tokio::time::advance(Duration::from_secs(12)).await;
        tokio::time::resume();
        go.send(()).unwrap();
    };
    let (opened, ()) = tokio::join!(bed.open(1), slow_write);
    assert_eq!(opened.end, Offset(END));
    assert_eq!(delivery.await.unwrap(), Offset(END));
}
