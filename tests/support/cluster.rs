//! A real Kafka cluster on loopback, private to a test or shared by all tests of the process.

use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

pub use super::access::Certificates;
use super::access::{self, User};
use super::broker::{Broker, random_id};
use super::raw::Client;
use super::scratch::Scratch;
use super::zookeeper::ZooKeeper;
use super::{jars, until};

/// The version most tests run on.
pub const CURRENT: &str = "4.3.1";
/// A last version of the line before; sources are often that old.
pub const OLDER: &str = "3.9.1";
/// The oldest that is spoken to; its cluster lives in a ZooKeeper. PLAINTEXT only in this test bed.
pub const ZOOKEEPER_ERA: &str = "2.8.2";

/// What clients must speak to a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Security {
    /// Nothing.
    #[default]
    Plaintext,
    /// TLS and SCRAM (or PLAIN), with an authorizer: `admin` may do all, others only what they are given.
    SaslSsl(Vec<User>),
    /// TLS, with a certificate of their own ([`Certificates::client`]).
    MutualTls,
    /// TLS and OAUTHBEARER, with a token that is not signed ([`access::unsigned_token`]).
    Tokens,
}

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSpec {
    /// 1 or 3; with 3, topics have three replicas of which two must be in sync.
    pub brokers: i32,
    /// [`CURRENT`], [`OLDER`] or [`ZOOKEEPER_ERA`].
    pub version: &'static str,
    /// For clients; the brokers among themselves speak PLAINTEXT.
    pub security: Security,
    /// Whether clients go through a [`super::proxy::Proxy`] per broker (oracles never do).
    pub proxied: bool,
    /// The brokers' JVM options.
    pub jvm: &'static [&'static str],
    /// Broker properties that win over the test bed's own.
    pub properties: Vec<(&'static str, String)>,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        ClusterSpec {
            brokers: 1,
            version: CURRENT,
            security: Security::Plaintext,
            proxied: false,
            jvm: jars::SMALL,
            properties: Vec::new(),
        }
    }
}

impl ClusterSpec {
    /// Three brokers.
    pub fn three() -> ClusterSpec {
        ClusterSpec { brokers: 3, ..ClusterSpec::default() }
    }

    /// The same with one broker property more.
    pub fn with(mut self, key: &'static str, value: impl ToString) -> ClusterSpec {
        self.properties.push((key, value.to_string()));
        self
    }
}

/// A running cluster; its brokers die and its data goes when it is dropped, or with the process.
#[derive(Debug)]
pub struct Cluster {
    id: String,
    brokers: Vec<Broker>,
    certificates: Option<Certificates>,
    client: Client,
    // Behind the brokers: they are killed before what they need goes.
    _zookeeper: Option<ZooKeeper>,
    _directory: Scratch,
}

impl Cluster {
    /// Boots a cluster and waits until every broker knows all of them.
    pub fn start(spec: ClusterSpec) -> Cluster {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::try_start(&spec) {
                Ok(cluster) => return cluster,
                // Held ports make this all but impossible; what remains is a foreign program that asks for ours by number.
                Err(why) if tries < 3 && why.contains("Address already in use") => eprintln!("booting again: {why}"),
                Err(why) => panic!("a cluster did not boot: {why}"),
            }
        }
    }

    fn try_start(spec: &ClusterSpec) -> Result<Cluster, String> {
        let directory = Scratch::new("cluster");
        let of = |id: i32| Broker::new(id, spec, directory.path().join(format!("broker-{id}")));
        let brokers: Vec<Broker> = (1..=spec.brokers).map(of).collect();
        let mut properties = defaults(spec, &brokers);
        let (mut certificates, mut format) = (None, Vec::new());
        if spec.security != Security::Plaintext {
            let made = access::certificates(directory.path());
            properties.extend(match &spec.security {
                Security::Plaintext => Vec::new(),
                Security::SaslSsl(users) => access::passwords(&made, users),
                Security::MutualTls => access::mutual_tls(&made),
                Security::Tokens => access::tokens(&made),
            });
            if let Security::SaslSsl(users) = &spec.security {
                format = access::scram_arguments(users);
            }
            certificates = Some(made);
        }
        // The last of equal keys wins.
        properties.extend(spec.properties.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        let zookeeper = is_of_zookeeper_era(spec.version)
            .then(|| ZooKeeper::start(spec.version, &directory.path().join("zookeeper")));
        properties.extend(zookeeper.iter().map(|it| ("zookeeper.connect".to_owned(), it.address().to_string())));
        brokers.iter().for_each(|b| b.configure(&properties));
        let id = random_id();
        if zookeeper.is_none() {
            brokers[0].format(&id, &format);
            brokers[1..].iter().for_each(|b| b.format_like(&brokers[0]));
        }
        brokers.iter().for_each(Broker::launch);
        let client = Client::new(brokers.iter().map(Broker::inner_address).collect());
        let mut cluster = Cluster { id, brokers, certificates, client, _zookeeper: zookeeper, _directory: directory };
        cluster.wait_ready()?;
        if is_of_zookeeper_era(spec.version) {
            cluster.id = cluster.brokers[0].cluster_id().ok_or("a broker that was ready does not answer")?;
        }
        Ok(cluster)
    }

    fn wait_ready(&self) -> Result<(), String> {
        let mut failed = None;
        until(Duration::from_secs(180), "every broker knows all of them", || {
            let ready = self.brokers.iter().map(|b| b.is_ready(self.brokers.len()));
            match ready.collect::<Result<Vec<bool>, String>>() {
                Ok(ready) => ready.into_iter().all(|r| r),
                Err(why) => {
                    failed = Some(why);
                    true
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// The cluster's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `host:port,…` for clients, in the cluster's security protocol.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.brokers.iter().map(|b| b.address().to_string()).collect();
        addresses.join(",")
    }

    /// A client that may do everything and that shares nothing with Twinlog.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What clients must trust, when the cluster is secured.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The broker with this id; they count from 1.
    pub fn broker(&self, id: i32) -> &Broker {
        &self.brokers[usize::try_from(id - 1).expect("broker ids count from 1")]
    }

    /// All brokers.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The only broker of a cluster of one.
    pub fn only(&self) -> &Broker {
        assert_eq!(self.brokers.len(), 1, "which broker?");
        &self.brokers[0]
    }
}

/// The source cluster that all tests of this process share: one broker. Use [`super::unique`] names, kill nothing.
pub fn shared_source() -> &'static Cluster {
    static SOURCE: OnceLock<Cluster> = OnceLock::new();
    SOURCE.get_or_init(|| Cluster::start(ClusterSpec::default()))
}

/// The target cluster that all tests of this process share.
pub fn shared_target() -> &'static Cluster {
    static TARGET: OnceLock<Cluster> = OnceLock::new();
    TARGET.get_or_init(|| Cluster::start(ClusterSpec::default()))
}

/// Both shared clusters, booted side by side.
pub fn shared_pair() -> (&'static Cluster, &'static Cluster) {
    thread::scope(|both| {
        let target = both.spawn(shared_target);
        (shared_source(), target.join().expect("the target boots"))
    })
}

/// Whether brokers of this version keep their cluster in ZooKeeper.
pub fn is_of_zookeeper_era(version: &str) -> bool {
    version.starts_with('2')
}

/// What every test cluster has: quick elections, short sessions, little memory, nothing created behind a test's back.
fn defaults(spec: &ClusterSpec, brokers: &[Broker]) -> Vec<(String, String)> {
    let replicas = spec.brokers.min(3).to_string();
    let in_sync = if spec.brokers >= 3 { "2" } else { "1" };
    let voters: Vec<String> = brokers.iter().map(Broker::voter).collect();
    let client = match spec.security {
        Security::Plaintext => "PLAINTEXT",
        Security::MutualTls => "SSL",
        Security::SaslSsl(_) | Security::Tokens => "SASL_SSL",
    };
    let quorum = if is_of_zookeeper_era(spec.version) {
        String::new()
    } else {
        let voters = voters.join(",");
        format!(
            "process.roles=broker,controller\ncontroller.quorum.voters={voters}\ncontroller.listener.names=CONTROLLER\n"
        )
    };
    let text = format!(
        "{quorum}\
         inter.broker.listener.name=INNER\n\
         listener.security.protocol.map=CLIENT:{client},INNER:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         share.coordinator.state.topic.num.partitions=1\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         group.consumer.min.session.timeout.ms=6000\n\
         group.consumer.session.timeout.ms=6000\n\
         group.consumer.min.heartbeat.interval.ms=1000\n\
         group.consumer.heartbeat.interval.ms=1000\n\
         broker.session.timeout.ms=4000\n\
         broker.heartbeat.interval.ms=500\n\
         log.retention.ms=-1\n\
         log.initial.task.delay.ms=500\n\
         log.cleaner.backoff.ms=300\n\
         log.cleaner.dedupe.buffer.size=4194304\n\
         log.segment.delete.delay.ms=1000\n\
         num.network.threads=2\n\
         num.io.threads=4\n",
    );
    text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
