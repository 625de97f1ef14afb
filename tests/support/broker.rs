//! One broker as a process: formatted once, started, killed, frozen, wiped.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use uuid::Uuid;

use super::cluster::{self, ClusterSpec};
use super::port::Port;
use super::process::Process;
use super::proxy::Proxy;
use super::raw::Connection;
use super::{jars, until};

/// How long a broker may take to start on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// What makes a directory Kafka's, with the ids of cluster, node and disk.
const META: &str = "meta.properties";

/// A combined broker and controller of a KRaft cluster, or a broker of the ZooKeeper era. It keeps its ports and its data across kills and restarts.
#[derive(Debug)]
pub struct Broker {
    id: i32,
    version: &'static str,
    jvm: &'static [&'static str],
    directory: PathBuf,
    client: Port,
    inner: Port,
    controller: Port,
    proxy: Option<Proxy>,
    process: Mutex<Option<Process>>,
}

impl Broker {
    /// A broker that is neither formatted nor started, below `directory`.
    pub fn new(id: i32, spec: &ClusterSpec, directory: PathBuf) -> Broker {
        fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("cannot make {}: {e}", directory.display()));
        let (client, inner, controller) = (Port::reserve(), Port::reserve(), Port::reserve());
        let proxy = spec.proxied.then(|| Proxy::start(client.address()));
        let (version, jvm, process) = (spec.version, spec.jvm, Mutex::new(None));
        Broker { id, version, jvm, directory, client, inner, controller, proxy, process }
    }

    /// Its id.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Where clients connect, in the cluster's security protocol.
    pub fn address(&self) -> SocketAddr {
        self.proxy.as_ref().map_or(self.client.address(), Proxy::address)
    }

    /// The wire between clients and this broker, in a cluster whose spec is `proxied`.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the cluster was asked for with `proxied`")
    }

    /// Where the other brokers and the oracles connect, always PLAINTEXT.
    pub fn inner_address(&self) -> SocketAddr {
        self.inner.address()
    }

    /// `id@host:port` for the controllers' quorum.
    pub fn voter(&self) -> String {
        format!("{}@{}", self.id, self.controller.address())
    }

    /// Pid of the JVM, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::pid)
    }

    /// Its data directory: topic partitions are directories in it, for Kafka's dump-log tool.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Writes `server.properties` from what all brokers share and what is this one's own.
    pub fn configure(&self, shared: &[(String, String)]) {
        let (client, inner, controller) = (self.client.address(), self.inner.address(), self.controller.address());
        let advertised = self.address();
        let mut text = format!(
            "broker.rack=rack-{}\nlog.dirs={}\nadvertised.listeners=CLIENT://{advertised},INNER://{inner}\n",
            self.id,
            self.data().display(),
        );
        text += &if cluster::is_of_zookeeper_era(self.version) {
            format!("broker.id={}\nlisteners=CLIENT://{client},INNER://{inner}\n", self.id)
        } else {
            format!(
                "node.id={}\nmetadata.log.dir={}\n\
                 listeners=CLIENT://{client},INNER://{inner},CONTROLLER://{controller}\n",
                self.id,
                self.metadata().display(),
            )
        };
        for (key, value) in shared {
            text += &format!("{key}={value}\n");
        }
        fs::write(self.properties(), text).expect("the scratch directory can be written");
    }

    /// Formats the data directory with Kafka's own tool.
    pub fn format(&self, cluster_id: &str, more: &[String]) {
        let mut format = self.java("kafka.tools.StorageTool", jars::SMALL);
        format.args(["format", "-t", cluster_id, "-c"]).arg(self.properties()).args(more);
        let done = format.output().unwrap_or_else(|e| panic!("cannot run java: {e} (run `make setup`)"));
        let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "cannot format broker {}: {said}", self.id);
    }

    /// Formats it as `other` was: the same but for the ids, and a JVM start cheaper.
    pub fn format_like(&self, other: &Broker) {
        for (from, to) in [(other.data(), self.data()), (other.metadata(), self.metadata())] {
            let fits = "the scratch directory can be written";
            fs::create_dir_all(&to).expect(fits);
            for entry in fs::read_dir(from).expect("a formatted directory can be read").flatten() {
                let copy = to.join(entry.file_name());
                fs::copy(entry.path(), &copy).expect(fits);
                if entry.file_name() == META {
                    let text = fs::read_to_string(&copy).expect("StorageTool writes it");
                    let own = |line: &str| match line.split_once('=') {
                        Some(("node.id", _)) => format!("node.id={}\n", self.id),
                        Some(("directory.id", _)) => format!("directory.id={}\n", random_id()),
                        _ => format!("{line}\n"),
                    };
                    fs::write(&copy, text.lines().map(own).collect::<String>()).expect(fits);
                }
            }
        }
    }

    /// Starts the JVM and returns at once.
    pub fn launch(&self) {
        let mut command = self.java("kafka.Kafka", self.jvm);
        command.arg(self.properties());
        let log = self.directory.join("broker.log");
        *self.process() = Some(Process::start(&format!("broker {}", self.id), &command, &log));
    }

    /// Whether it answers and knows `brokers` brokers. An error is the output of one that has ended.
    pub fn is_ready(&self, brokers: usize) -> Result<bool, String> {
        if let Some(process) = self.process().as_mut()
            && let Some(status) = process.ended()
        {
            return Err(format!("{status}: {}", process.tail()));
        }
        Ok(self.knows().is_some_and(|known| known >= brokers))
    }

    fn knows(&self) -> Option<usize> {
        Some(self.metadata_told()?.brokers.len())
    }

    /// The cluster's id by its own word, when it answers.
    pub fn cluster_id(&self) -> Option<String> {
        self.metadata_told()?.cluster_id.map(|id| id.to_string())
    }

    fn metadata_told(&self) -> Option<MetadataResponse> {
        let mut connection = Connection::dial(self.inner_address(), Duration::from_secs(2)).ok()?;
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        let version = connection.version::<MetadataRequest>(12).ok()?;
        connection.exchange(&request, version).ok()
    }

    /// Kills it (SIGKILL). Its ports refuse connections until it runs again.
    pub fn kill9(&self) {
        if let Some(mut process) = self.process().take() {
            process.kill9();
        }
    }

    /// Stops it in good order (SIGTERM): leaders move, logs are flushed.
    pub fn shut_down(&self) {
        if let Some(mut process) = self.process().take() {
            process.terminate();
            process.wait(PATIENCE);
        }
    }

    /// Starts it again (killing it first if it runs) and waits until it answers as part of the cluster.
    pub fn restart(&self) {
        self.kill9();
        self.launch();
        until(PATIENCE, &format!("broker {} answers again", self.id), || {
            self.is_ready(1).unwrap_or_else(|why| panic!("broker {} did not restart: {why}", self.id))
        });
    }

    /// Freezes it (SIGSTOP): its connections stay open and nothing answers.
    pub fn pause(&self) {
        self.process().as_ref().expect("the broker runs").pause();
    }

    /// Wakes it (SIGCONT).
    pub fn resume(&self) {
        self.process().as_ref().expect("the broker runs").resume();
    }

    /// Takes every record from a killed broker, as an emptied disk would: topics stay known, their partitions here are
    /// empty. With other replicas alive, restart it only when it leads nothing any more.
    pub fn wipe(&self) {
        assert!(self.pid().is_none(), "kill broker {} before wiping it", self.id);
        // The disk's own id stays: with another one the controller waits for the old disk to come back.
        for entry in fs::read_dir(self.data()).expect("the data directory can be read").flatten() {
            match entry.file_name() == META {
                true => continue,
                false if entry.path().is_dir() => fs::remove_dir_all(entry.path()),
                false => fs::remove_file(entry.path()),
            }
            .unwrap_or_else(|e| panic!("cannot remove {}: {e}", entry.path().display()));
        }
    }

    /// One of Kafka's own programs, to be given its arguments: `kafka.Kafka`, `org.apache.kafka.tools.TopicCommand`, …
    fn java(&self, class: &str, jvm: &[&str]) -> Command {
        let mut java = jars::java(self.version, jvm, &jars::logging(self.version, &self.directory));
        java.arg(class);
        java
    }

    /// What Kafka's own dump-log tool says about every segment of a partition here, record by record.
    pub fn dump(&self, topic: &str, partition: i32) -> String {
        let directory = self.data().join(format!("{topic}-{partition}"));
        let entries = fs::read_dir(&directory).unwrap_or_else(|e| panic!("cannot read {}: {e}", directory.display()));
        let mut segments: Vec<_> = entries.flatten().map(|e| e.path().display().to_string()).collect();
        segments.retain(|path| path.ends_with(".log"));
        segments.sort();
        // It moved with 4.0.
        let old = !self.version.starts_with('4');
        let tool = if old { "kafka.tools.DumpLogSegments" } else { "org.apache.kafka.tools.DumpLogSegments" };
        let mut dump = self.java(tool, jars::SMALL);
        dump.args(["--print-data-log", "--files", &segments.join(",")]);
        let done = dump.output().unwrap_or_else(|e| panic!("cannot run java: {e} (run `make setup`)"));
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn properties(&self) -> PathBuf {
        self.directory.join("server.properties")
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("metadata")
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id as Kafka writes them: base64 of a UUID. Tools take one that begins with `-` for an option.
pub fn random_id() -> String {
    loop {
        let id = URL_SAFE_NO_PAD.encode(Uuid::new_v4().as_bytes());
        if !id.starts_with('-') {
            return id;
        }
    }
}
