//! A Kafka client for tests that shares nothing with `src/wire`: it writes and reads exactly the bytes it is told to.

mod connection;
mod groups;
mod log;
mod members;
mod producer;
mod quotas;
mod rights;
mod topics;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Request, StrBytes};

pub use connection::Connection;
pub use log::{Isolation, Section};
pub use producer::{Producer, Transaction};
pub use quotas::{CONSUMER_BYTES, PRODUCER_BYTES, REQUEST_PERCENT};
pub use rights::{Allow, codes};
pub use topics::Election;

/// What an operation gives.
pub type Result<T> = std::result::Result<T, Failure>;

/// Why an operation did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The broker answered with this Kafka error code.
    Refused(i16, String),
    /// No answer: whether the broker did it is unknown.
    Broken(String),
}

impl Failure {
    /// The Kafka error code, if the broker answered.
    pub fn code(&self) -> Option<i16> {
        match self {
            Failure::Refused(code, _) => Some(*code),
            Failure::Broken(_) => None,
        }
    }

    /// Whether the same request may succeed later.
    pub fn passes(&self) -> bool {
        match self {
            // 3: a topic created a moment ago is not yet known everywhere. 51: the former transaction is being ended.
            Failure::Refused(3 | 51, _) => true,
            Failure::Refused(code, _) => ResponseError::try_from_code(*code).is_some_and(|e| e.is_retriable()),
            Failure::Broken(_) => true,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(code, what) => write!(f, "{what}: code {code}, {:?}", ResponseError::try_from_code(*code)),
            Failure::Broken(what) => f.write_str(what),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Broken(error.to_string())
    }
}

/// Turns an error code of an answer into a result.
pub fn accepted(code: i16, what: impl fmt::Display) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(Failure::Refused(code, what.to_string())) }
}

/// A client of one cluster over its PLAINTEXT listener, for use by many threads.
///
/// Reads and idempotent changes are tried again until `patience` has passed, with new metadata; a write that could
/// land twice is tried once.
#[derive(Debug, Clone)]
pub struct Client {
    bootstrap: Vec<SocketAddr>,
    patience: Duration,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    brokers: HashMap<i32, SocketAddr>,
    leaders: HashMap<(String, i32), i32>,
    connections: HashMap<SocketAddr, Arc<Mutex<Connection>>>,
}

impl Client {
    /// A client that tries for a minute. No I/O.
    pub fn new(bootstrap: Vec<SocketAddr>) -> Client {
        Client { bootstrap, patience: Duration::from_secs(60), known: Arc::default() }
    }

    /// The same client, trying for `patience`.
    pub fn patient(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Metadata of the named topics, or of all, as any broker tells it.
    pub fn metadata(&self, topics: Option<&[&str]>) -> Result<MetadataResponse> {
        use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
        let topics = topics.map(|names| {
            let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(name_of(name)));
            names.iter().map(topic).collect()
        });
        let request = MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(false);
        self.again(|| {
            let answer = self.ask_any(&request, 12)?;
            let mut known = self.known();
            known.brokers =
                answer.brokers.iter().filter_map(|b| Some((b.node_id.0, address(&b.host, b.port)?))).collect();
            for topic in &answer.topics {
                let Some(name) = &topic.name else { continue };
                for partition in topic.partitions.iter().filter(|p| p.leader_id.0 >= 0) {
                    known.leaders.insert((name.to_string(), partition.partition_index), partition.leader_id.0);
                }
            }
            Ok(answer)
        })
    }

    /// The broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<i32> {
        let key = (topic.to_owned(), partition);
        if let Some(leader) = self.known().leaders.get(&key) {
            return Ok(*leader);
        }
        self.metadata(Some(&[topic]))?;
        let leader = self.known().leaders.get(&key).copied();
        // Unknown to the cluster, or between two leaders.
        leader.ok_or_else(|| Failure::Refused(5, format!("leader of {topic}/{partition}")))
    }

    /// Asks the leader of a partition once. A failure forgets who leads.
    pub fn ask_leader<R: Request>(&self, topic: &str, partition: i32, request: &R, cap: i16) -> Result<R::Response> {
        let leader = self.leader(topic, partition)?;
        self.ask_broker(leader, request, cap).inspect_err(|_| self.forget_leader(topic, partition))
    }

    /// Makes the next request look for the leader anew.
    pub fn forget_leader(&self, topic: &str, partition: i32) {
        self.known().leaders.remove(&(topic.to_owned(), partition));
    }

    /// Asks one broker once.
    pub fn ask_broker<R: Request>(&self, broker: i32, request: &R, cap: i16) -> Result<R::Response> {
        let address = self.known().brokers.get(&broker).copied();
        let address = match address {
            Some(address) => address,
            None => {
                self.metadata(Some(&[]))?;
                let found = self.known().brokers.get(&broker).copied();
                found.ok_or_else(|| Failure::Broken(format!("the cluster has no broker {broker} now")))?
            }
        };
        self.ask(address, request, cap)
    }

    /// Asks the controller (or, in KRaft, a broker that forwards to it) until it works.
    pub fn ask_controller<R: Request>(&self, request: &R, cap: i16) -> Result<R::Response> {
        self.again(|| self.ask_any(request, cap))
    }

    /// Asks the coordinator of a group (`kind` 0) or of a transactional id (`kind` 1) once.
    pub fn ask_coordinator<R: Request>(&self, kind: i8, key: &str, request: &R, cap: i16) -> Result<R::Response> {
        let find = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(kind);
        let found = self.ask_any(&find, 3)?;
        accepted(found.error_code, format_args!("coordinator of {key}"))?;
        let Some(address) = address(&found.host, found.port) else {
            return Err(Failure::Refused(15, format!("coordinator of {key}")));
        };
        self.ask(address, request, cap)
    }

    /// Asks the first broker that answers.
    pub fn ask_any<R: Request>(&self, request: &R, cap: i16) -> Result<R::Response> {
        let mut last = Failure::Broken("no bootstrap address".into());
        for address in &self.bootstrap {
            match self.ask(*address, request, cap) {
                Ok(answer) => return Ok(answer),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    fn ask<R: Request>(&self, address: SocketAddr, request: &R, cap: i16) -> Result<R::Response> {
        let open = self.known().connections.get(&address).cloned();
        let connection = match open {
            Some(connection) => connection,
            None => {
                // A frozen broker accepts and says nothing: give up early enough to try another.
                let patience = (self.patience / 4).clamp(Duration::from_millis(500), Duration::from_secs(15));
                let made = Arc::new(Mutex::new(Connection::dial(address, patience)?));
                self.known().connections.entry(address).or_insert(made).clone()
            }
        };
        let mut guard = connection.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = guard.version::<R>(cap).and_then(|version| guard.exchange(request, version));
        answer.map_err(|error| {
            self.known().connections.remove(&address);
            Failure::Broken(format!("{address}: {error}"))
        })
    }

    /// Tries again what passes, until it works or patience ends.
    pub fn again<T>(&self, mut operation: impl FnMut() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + self.patience;
        loop {
            match operation() {
                Err(failure) if failure.passes() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done => return done,
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address(host: &str, port: i32) -> Option<SocketAddr> {
    format!("{host}:{port}").parse().ok()
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

/// Any of the name types of `kafka-protocol`.
fn name_of<N: From<StrBytes>>(of: &str) -> N {
    N::from(text(of))
}
