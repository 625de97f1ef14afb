//! A cluster: its brokers found from a bootstrap list, shared control connections kept, leaders looked up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;
use rand::seq::SliceRandom;
use tokio::sync::Mutex as Turn;
use tokio::time::{Instant, sleep_until};

use crate::endpoint::{BearerTokens, Error, ErrorKind, Result, Security};
use crate::model::{GroupId, LeaderEpoch, TopicPartition};
use crate::runtime::retry::Pace;
use crate::wire::connection::Connection;
use crate::wire::dialer::{Address, Dialer};
use crate::wire::fault::error_of;
use crate::wire::metadata::{Leader, Metadata};

/// Metadata is asked for at most this often.
const REFRESH_PACE: Duration = Duration::from_millis(100);
/// A broker that says nothing to a question about metadata for this long is left for another one. Frozen brokers are
/// declared dead by the others after about as long (`broker.session.timeout.ms`, 9 s).
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How many brokers are asked before the caller is told.
const METADATA_TRIES: usize = 2;
/// A broker that could not be reached is left alone for a moment: at first this long, later up to the second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A cluster as one client sees it. Clones share cache and connections; the last one dropped closes them.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    alias: Arc<str>,
    dialer: Dialer,
    bootstrap: Result<Vec<Address>>,
    metadata: Mutex<Metadata>,
    refresh: Turn<Refreshed>,
    slots: Mutex<HashMap<Slot, Arc<Turn<Control>>>>,
    coordinators: Mutex<HashMap<GroupId, i32>>,
}

/// The last metadata refresh.
struct Refreshed {
    started: Option<Instant>,
    outcome: Result<()>,
}

/// Whose control connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    /// The n-th entry of the bootstrap list.
    Bootstrap(usize),
    /// A broker of the cluster.
    Broker(i32),
}

/// A shared control connection, made on demand.
struct Control {
    connection: Option<(Address, Arc<Connection>)>,
    pace: Pace,
    /// After a failed dial: until when the broker is left alone, and what failed.
    pause: Option<(Instant, Error)>,
}

impl Cluster {
    /// Describes a cluster; no I/O. `bootstrap` is a comma-separated list of `host:port` (IPv6 addresses in brackets);
    /// a list that makes no sense is told by the first call that needs it. `alias` is used in messages only.
    pub fn new(alias: &str, bootstrap: &str, security: Security, client_id: &str) -> Cluster {
        let alias: Arc<str> = alias.into();
        let dialer = Dialer::new(alias.clone(), security, client_id);
        Cluster(Arc::new(Shared {
            bootstrap: addresses(&alias, bootstrap),
            dialer,
            alias,
            metadata: Mutex::default(),
            refresh: Turn::new(Refreshed { started: None, outcome: Ok(()) }),
            slots: Mutex::default(),
            coordinators: Mutex::default(),
        }))
    }

    /// The cluster's name in the configuration.
    pub fn alias(&self) -> &str {
        &self.0.alias
    }

    /// The cluster's tokens, where it wants some: whoever connects to it otherwise shares them.
    pub fn tokens(&self) -> Option<Arc<dyn BearerTokens>> {
        self.0.dialer.tokens()
    }

    /// A new connection to a broker that nobody else uses.
    pub async fn dial(&self, broker_id: i32) -> Result<Connection> {
        let address = self.address(broker_id).await?;
        self.0.dialer.dial(&address, broker_id).await
    }

    /// The shared control connection to any broker: one that stands, or else the first that can be made, from the
    /// brokers known and then from the bootstrap list.
    ///
    /// # Errors
    /// When no broker can be reached: `Denied` if one of them refuses us, else `Retryable`.
    pub async fn any(&self) -> Result<Arc<Connection>> {
        let mut known = self.metadata().brokers();
        known.shuffle(&mut rand::rng());
        let standing = known.iter().find_map(|id| self.standing(Slot::Broker(*id)));
        if let Some(connection) = standing {
            return Ok(connection);
        }
        let mut failures = Vec::new();
        for broker_id in known {
            let Some(address) = self.metadata().address(broker_id).cloned() else { continue };
            match self.control(Slot::Broker(broker_id), &address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(error),
            }
        }
        let bootstrap = self.0.bootstrap.as_ref().map_err(Error::clone)?;
        for (index, address) in bootstrap.iter().enumerate() {
            match self.control(Slot::Bootstrap(index), address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(error),
            }
        }
        let worst = failures.iter().position(|e| !e.is_retryable()).unwrap_or(failures.len() - 1);
        Err(failures.swap_remove(worst))
    }

    /// The shared control connection to the controller (in KRaft clusters: to a broker that forwards).
    pub async fn controller(&self) -> Result<Arc<Connection>> {
        if self.metadata().controller().is_none() {
            self.refresh().await?;
        }
        let controller = self.metadata().controller();
        match controller {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    /// The shared control connection to one broker, made anew when it is closed. While a broker cannot be reached, calls
    /// fail at once with the last reason until its pause (up to 2 s) is over.
    pub async fn broker(&self, id: i32) -> Result<Arc<Connection>> {
        let address = self.address(id).await?;
        self.control(Slot::Broker(id), &address).await
    }

    /// Ids of the live brokers.
    pub async fn brokers(&self) -> Result<Vec<i32>> {
        self.refresh().await?;
        Ok(self.metadata().brokers())
    }

    /// Who leads a partition, from the cache; asks the cluster when the cache does not know.
    ///
    /// # Errors
    /// `UnknownTopic` by the cluster's word; `Retryable` while there is no leader.
    pub async fn leader(&self, at: &TopicPartition) -> Result<Leader> {
        self.leaders(std::slice::from_ref(at)).await.swap_remove(0)
    }

    /// [`leader`](Self::leader) of many, in the same order, with one question at most.
    pub async fn leaders(&self, of: &[TopicPartition]) -> Vec<Result<Leader>> {
        let missing = {
            let mut metadata = self.metadata();
            let missing: Vec<_> = of.iter().filter(|at| metadata.leader(at).is_none()).collect();
            missing.iter().for_each(|at| metadata.want(&at.topic));
            !missing.is_empty()
        };
        let refreshed = if missing { self.refresh().await } else { Ok(()) };
        let metadata = self.metadata();
        let answers = of.iter().map(|at| match (metadata.leader(at), &refreshed) {
            (Some(leader), _) => Ok(leader),
            (None, Err(error)) => Err(error.clone()),
            (None, Ok(())) => Err(metadata.excuse(self.alias(), at)),
        });
        answers.collect()
    }

    /// Believes a leader named in an error response (KIP-951) if its term is newer than the one known.
    pub fn leader_hint(&self, at: &TopicPartition, broker_id: i32, epoch: LeaderEpoch) {
        self.metadata().hint(at, broker_id, epoch);
    }

    /// Asks the cluster for its brokers and for the leaders of all partitions looked up so far. Callers at the same time
    /// share one question, and questions are 100 ms apart at least. Cancel-safe.
    pub async fn refresh(&self) -> Result<()> {
        let asked = Instant::now();
        let mut turn = self.0.refresh.lock().await;
        if let Some(started) = turn.started {
            if started >= asked {
                return turn.outcome.clone();
            }
            sleep_until(started + REFRESH_PACE).await;
        }
        let started = Instant::now();
        let outcome = self.load().await;
        *turn = Refreshed { started: Some(started), outcome: outcome.clone() };
        outcome
    }

    /// The coordinator of a group as last found.
    pub(super) fn coordinator(&self, group: &GroupId) -> Option<i32> {
        self.coordinators().get(group).copied()
    }

    /// Takes note of a coordinator found.
    pub(super) fn remember_coordinator(&self, group: &GroupId, broker: i32) {
        self.coordinators().insert(group.clone(), broker);
    }

    /// A coordinator turned out to have moved.
    pub(super) fn forget_coordinator(&self, group: &GroupId) {
        self.coordinators().remove(group);
    }

    async fn load(&self) -> Result<()> {
        let mut tries = METADATA_TRIES;
        let answer = loop {
            tries -= 1;
            match self.ask_for_metadata().await {
                Err(error) if error.is_retryable() && tries > 0 => {}
                outcome => break outcome?,
            }
        };
        self.metadata().absorb(self.alias(), answer);
        // The cluster is known now: its own brokers take over from the bootstrap list.
        self.slots().retain(|slot, _| matches!(slot, Slot::Broker(_)));
        Ok(())
    }

    async fn ask_for_metadata(&self) -> Result<MetadataResponse> {
        let connection = self.any().await?;
        let wanted = self.metadata().wanted();
        let topics = wanted.iter().map(|name| {
            let name = WireName(StrBytes::from_string(name.as_str().to_owned()));
            MetadataRequestTopic::default().with_name(Some(name))
        });
        let request =
            MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
        let answer = connection.start(request, METADATA_TIMEOUT).await?;
        match error_of(answer.error_code, connection.peer()) {
            Some(error) => Err(error),
            None => Ok(answer),
        }
    }

    async fn address(&self, broker_id: i32) -> Result<Address> {
        let known = self.metadata().address(broker_id).cloned();
        if let Some(address) = known {
            return Ok(address);
        }
        self.refresh().await?;
        self.metadata().address(broker_id).cloned().ok_or_else(|| {
            let why = format!("cluster {}: broker {broker_id} is not among the live brokers", self.alias());
            Error::new(ErrorKind::Retryable, why)
        })
    }

    /// The connection of a slot if it stands and nobody is busy with the slot.
    fn standing(&self, slot: Slot) -> Option<Arc<Connection>> {
        let control = self.slots().get(&slot)?.clone();
        let control = control.try_lock().ok()?;
        control.connection.as_ref().map(|(_, connection)| connection).filter(|c| stands(c)).cloned()
    }

    async fn control(&self, slot: Slot, address: &Address) -> Result<Arc<Connection>> {
        let control = self.slots().entry(slot).or_default().clone();
        let mut control = control.lock().await;
        if let Some((at, connection)) = &control.connection
            && at == address
            && stands(connection)
        {
            return Ok(connection.clone());
        }
        if let Some((until, error)) = &control.pause
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        control.connection = None;
        let broker_id = if let Slot::Broker(id) = slot { id } else { -1 };
        match self.0.dialer.dial(address, broker_id).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                control.connection = Some((address.clone(), connection.clone()));
                control.pause = None;
                control.pace.reset();
                Ok(connection)
            }
            Err(error) => {
                control.pause = Some((Instant::now() + control.pace.next_delay(), error.clone()));
                Err(error)
            }
        }
    }

    fn metadata(&self) -> MutexGuard<'_, Metadata> {
        self.0.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn coordinators(&self) -> MutexGuard<'_, HashMap<GroupId, i32>> {
        self.0.coordinators.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Slot, Arc<Turn<Control>>>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Control {
    fn default() -> Self {
        Self { connection: None, pace: Pace::new(FIRST_PAUSE, LONGEST_PAUSE), pause: None }
    }
}

fn stands(connection: &Connection) -> bool {
    !connection.is_closed() && connection.renew_at().is_none_or(|at| Instant::now() < at)
}

fn addresses(alias: &str, list: &str) -> Result<Vec<Address>> {
    let broken = |entry: &str| {
        let why = format!("clusters.{alias}.bootstrap: `{entry}` is not host:port");
        Error::new(ErrorKind::Denied, why)
    };
    let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let parsed = entries.map(|entry| {
        let (host, port) = entry.rsplit_once(':').ok_or_else(|| broken(entry))?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(|| broken(entry))?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if bare.is_empty() || (bare.contains(':') && bare == host) {
            return Err(broken(entry));
        }
        Ok(Address { host: bare.to_owned(), port })
    });
    let addresses = parsed.collect::<Result<Vec<_>>>()?;
    if addresses.is_empty() { Err(broken(list)) } else { Ok(addresses) }
}

#[cfg(test)]
#[path = "brokers_tests.rs"]
mod tests;
