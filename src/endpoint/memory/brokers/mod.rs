//! The cluster in memory behind real sockets: model brokers that speak Kafka's protocol on loopback.
//!
//! They answer from the same logs as the contracts do, so the rules of logs are written once (`log`, `producers`,
//! `transactions`). Here is what lies between a log and a client: who leads, one request per connection at a time,
//! waiting for bytes and for replicas, and what goes wrong on the way ([`Mishap`]).

mod conversation;
mod fetch;
mod metadata;
mod mishap;
mod offsets;
mod produce;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kafka_protocol::messages::{ApiKey, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::endpoint::memory::log::Log;
use crate::endpoint::memory::{MemoryCluster, State};
use crate::model::{TopicName, TopicPartition};
use crate::runtime::tasks::TaskScope;

use conversation::{Asked, converse};
use mishap::Whim;

pub use mishap::Mishap;

/// Error codes that brokers answer with (`kafka_protocol::error` has the rest).
mod code {
    pub const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
    pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
    pub const REQUEST_TIMED_OUT: i16 = 7;
    pub const TOPIC_ALREADY_EXISTS: i16 = 36;
    pub const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
    pub const FENCED_LEADER_EPOCH: i16 = 74;
    pub const UNKNOWN_LEADER_EPOCH: i16 = 75;
    pub const OFFSET_NOT_AVAILABLE: i16 = 78;
    pub const UNKNOWN_TOPIC_ID: i16 = 100;
}

/// No broker leads.
const NOBODY: i32 = -1;

/// Brokers with the ids 1, 2, … that serve one [`MemoryCluster`]. Each partition's leader follows from its leader epoch, so
/// that an election moves it to the next broker. Dropping this ends them and closes all connections.
pub struct ModelBrokers {
    shared: Arc<Shared>,
    scope: TaskScope,
}

struct Shared {
    cluster: MemoryCluster,
    nodes: Vec<Node>,
    whim: Mutex<Option<Whim>>,
}

struct Node {
    port: u16,
    /// Cancelled while the broker is down, and with it all its connections.
    life: Mutex<CancellationToken>,
}

impl MemoryCluster {
    /// Serves this cluster through so many brokers, on ports of loopback that the kernel gives.
    ///
    /// # Panics
    /// When there is no port, and outside of a tokio runtime.
    pub async fn serve(&self, brokers: usize) -> ModelBrokers {
        let (mut nodes, mut listeners) = (Vec::new(), Vec::new());
        for _ in 0..brokers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
            let port = listener.local_addr().expect("it is bound").port();
            nodes.push(Node { port, life: Mutex::default() });
            listeners.push(listener);
        }
        let shared = Arc::new(Shared { cluster: self.clone(), nodes, whim: Mutex::default() });
        let scope = TaskScope::new();
        for (node, listener) in (1..).zip(listeners) {
            scope.spawn_until_stopped(listen(shared.clone(), scope.clone(), node, listener));
        }
        ModelBrokers { shared, scope }
    }
}

/// Accepts connections for ever; while the broker is down they are closed at once.
async fn listen(shared: Arc<Shared>, scope: TaskScope, node: i32, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let life = shared.life(node).clone();
        let conversation = converse(shared.clone(), node, stream);
        scope.spawn_until_stopped(async move {
            life.run_until_cancelled(conversation).await;
        });
    }
}

impl ModelBrokers {
    /// The bootstrap list.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.shared.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
        addresses.join(",")
    }

    /// The broker goes down: its connections end, also requests that it was treating, and others take its partitions over,
    /// without loss.
    pub fn stop(&self, node: i32) {
        self.shared.reassign(|| self.shared.life(node).cancel());
    }

    /// The broker comes up again. A lone one remembers of its producers what a clean restart leaves.
    pub fn start(&self, node: i32) {
        if self.shared.is_up(node) {
            return;
        }
        self.shared.reassign(|| *self.shared.life(node) = CancellationToken::new());
        if self.shared.nodes.len() == 1 {
            self.shared.cluster.change(|s| s.logs_mut().for_each(|(_, log)| log.restart()));
        }
    }

    /// All connections to the broker end; it is well otherwise.
    pub fn disconnect(&self, node: i32) {
        let mut life = self.shared.life(node);
        if !life.is_cancelled() {
            std::mem::take(&mut *life).cancel();
        }
    }

    /// Asks `whim` before each request what goes wrong with it.
    pub fn misbehave(&self, whim: impl FnMut(ApiKey) -> Mishap + Send + 'static) {
        *self.shared.whim() = Some(Box::new(whim));
    }

    /// From now on nothing goes wrong with new requests.
    pub fn behave(&self) {
        *self.shared.whim() = None;
    }
}

impl Drop for ModelBrokers {
    fn drop(&mut self) {
        self.scope.stopping().cancel();
    }
}

impl Shared {
    fn life(&self, node: i32) -> MutexGuard<'_, CancellationToken> {
        let index = usize::try_from(node - 1).expect("brokers are counted from 1");
        self.nodes[index].life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn whim(&self) -> MutexGuard<'_, Option<Whim>> {
        self.whim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn node_ids(&self) -> impl Iterator<Item = i32> {
        1..=self.nodes.len() as i32
    }

    fn is_up(&self, node: i32) -> bool {
        !self.life(node).is_cancelled()
    }

    /// The first broker that is up, counted from a place that each election moves on.
    fn leader(&self, at: &TopicPartition, log: &Log) -> i32 {
        let (count, first) = (self.nodes.len() as i32, at.partition.wrapping_add(log.leader_epoch().0));
        (0..count).map(|n| (first + n) % count + 1).find(|node| self.is_up(*node)).unwrap_or(NOBODY)
    }

    /// Changes who is up; partitions that are led by another broker then have a new term.
    fn reassign(&self, change: impl FnOnce()) {
        self.cluster.change(|state| {
            let led: Vec<_> = state.logs_mut().map(|(at, log)| (self.leader(&at, log), at)).collect();
            change();
            for (leader, at) in led {
                let log = state.log_mut(&at).expect("it was there a moment ago");
                if self.leader(&at, log) != leader {
                    log.elect();
                }
            }
        });
    }

    /// The log if this broker leads it under the term that the client believes in (−1: whichever).
    fn led<'s>(
        &self,
        asked: &Asked,
        state: &'s mut State,
        at: &TopicPartition,
        epoch: i32,
    ) -> Result<&'s mut Log, i16> {
        let log = self.held(asked, state, at, epoch)?;
        if self.leader(at, log) == asked.node { Ok(log) } else { Err(code::NOT_LEADER_OR_FOLLOWER) }
    }

    /// The log as any of its replicas has it: all brokers have all logs.
    fn held<'s>(
        &self,
        asked: &Asked,
        state: &'s mut State,
        at: &TopicPartition,
        epoch: i32,
    ) -> Result<&'s mut Log, i16> {
        let log = state.log_mut(at).map_err(|_| code::UNKNOWN_TOPIC_OR_PARTITION)?;
        if let Some(code) = asked.refusal {
            return Err(code);
        }
        match log.leader_epoch().0 {
            now if 0 <= epoch && epoch < now => Err(code::FENCED_LEADER_EPOCH),
            now if epoch > now => Err(code::UNKNOWN_LEADER_EPOCH),
            _ => Ok(log),
        }
    }
}

impl State {
    fn logs_mut(&mut self) -> impl Iterator<Item = (TopicPartition, &mut Log)> {
        self.topics.iter_mut().flat_map(|(name, topic)| {
            let place = move |partition| TopicPartition { topic: name.clone(), partition };
            (0..).zip(&mut topic.partitions).map(move |(partition, log)| (place(partition), log))
        })
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn wire_name(name: &TopicName) -> WireName {
    WireName(text(name.as_str()))
}

fn place(topic: &WireName, partition: i32) -> TopicPartition {
    TopicPartition::new(topic.as_str(), partition)
}
