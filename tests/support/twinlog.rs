//! Twinlog as a process between two clusters: configured, started, killed, frozen, asked.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access::User;
use super::cluster::Cluster;
use super::port::Port;
use super::process::{Footprint, Process, Usage, footprint_of};
use super::scratch::Scratch;
use super::until;

/// One link between two test clusters, as a configuration file.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `[clusters.source]` and `[clusters.target]`, complete: for tests of bad access, to be changed as text.
    pub clusters: String,
    /// Name of the link.
    pub link: String,
    /// TOML lines of `[links.<link>]` behind source and target.
    pub link_lines: String,
    /// TOML text behind everything else: further tables.
    pub more: String,
    /// Environment of the process.
    pub environment: Vec<(String, String)>,
}

impl Setup {
    /// A link that copies `topics` (regexes) and `groups` (regexes) under their own names.
    pub fn new(source: &Cluster, target: &Cluster, link: &str, topics: &[&str], groups: &[&str]) -> Setup {
        let clusters = section("source", source, None) + &section("target", target, None);
        let setup = Setup {
            clusters,
            link: link.to_owned(),
            link_lines: String::new(),
            more: String::new(),
            environment: Vec::new(),
        };
        // Rust's debug form of plain text lists is TOML's too.
        setup.line(&format!("topics = {topics:?}")).line(&format!("groups = {groups:?}"))
    }

    /// The same with these users on secured clusters.
    pub fn secured(mut self, source: (&Cluster, Option<&User>), target: (&Cluster, Option<&User>)) -> Setup {
        self.clusters.clear();
        for (alias, (cluster, user)) in [("source", source), ("target", target)] {
            self.clusters += &section(alias, cluster, user);
            if let Some(user) = user {
                self = self.env(&password_variable(alias), &user.password);
            }
        }
        self
    }

    /// One more line of the link's table.
    pub fn line(mut self, toml: &str) -> Setup {
        self.link_lines += &format!("{toml}\n");
        self
    }

    /// Further TOML, beginning with its own table header.
    pub fn and(mut self, toml: &str) -> Setup {
        self.more += &format!("{toml}\n");
        self
    }

    /// One more variable of the process's environment.
    pub fn env(mut self, key: &str, value: &str) -> Setup {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    fn text(&self, http: &Port) -> String {
        let Setup { clusters, link, link_lines, more, .. } = self;
        // All scenarios on another plane: TWINLOG_TEST_PLANE=records cargo test --test mirror
        let plane = std::env::var("TWINLOG_TEST_PLANE").ok().filter(|_| !link_lines.contains("plane ="));
        let plane = plane.map(|plane| format!("plane = {plane:?}\n")).unwrap_or_default();
        format!(
            "{clusters}[http]\nlisten = \"{}\"\n\n\
             [links.{link}]\nsource = \"source\"\ntarget = \"target\"\n{plane}{link_lines}\n{more}",
            http.address(),
        )
    }
}

fn section(alias: &str, cluster: &Cluster, user: Option<&User>) -> String {
    let mut text = format!("[clusters.{alias}]\nbootstrap = \"{}\"\n", cluster.bootstrap());
    if let (Some(user), Some(certificates)) = (user, cluster.certificates()) {
        // Passwords come by a variable, as they should in earnest.
        writeln!(
            text,
            "security = {{ protocol = \"sasl_ssl\", ca = {:?}, mechanism = \"scram-sha-512\", username = {:?}, \
             password = {{ env = {:?} }} }}",
            certificates.ca,
            user.name,
            password_variable(alias),
        )
        .expect("writing to a string cannot fail");
    }
    text + "\n"
}

/// The environment variable from which a cluster's password is taken.
pub fn password_variable(alias: &str) -> String {
    format!("TESTBED_{}_PASSWORD", alias.to_uppercase())
}

/// Twinlog with one configuration; at most one daemon of it runs at a time. Killed when dropped.
#[derive(Debug)]
pub struct Twinlog {
    binary: PathBuf,
    setup: Setup,
    http: Port,
    directory: Scratch,
    daemon: Mutex<Option<Process>>,
}

impl Twinlog {
    /// Writes the configuration; starts nothing. `binary` is `env!("CARGO_BIN_EXE_twinlog")`.
    pub fn new(binary: &str, setup: Setup) -> Twinlog {
        let twinlog = Twinlog {
            binary: PathBuf::from(binary),
            setup,
            http: Port::reserve(),
            directory: Scratch::new("twinlog"),
            daemon: Mutex::default(),
        };
        let text = twinlog.setup.text(&twinlog.http);
        fs::write(twinlog.config(), text).expect("the scratch directory can be written");
        twinlog
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("twinlog.toml")
    }

    /// Its link.
    pub fn link(&self) -> &str {
        &self.setup.link
    }

    /// Where the daemon serves HTTP.
    pub fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// Starts the daemon and returns at once.
    pub fn start(&self) {
        let mut command = self.command(&["run"]);
        command.env("RUST_BACKTRACE", "1");
        *self.daemon() = Some(Process::start("twinlog", &command, &self.log()));
    }

    /// Starts the daemon and waits until it calls itself ready.
    pub fn start_ready(&self) {
        self.start();
        until(Duration::from_secs(30), &format!("{} is ready, see {}", self.link(), self.log().display()), || {
            self.assert_running();
            self.get("/health/ready").is_some_and(|(code, _)| code == 200)
        });
    }

    /// Kills the daemon (SIGKILL).
    pub fn kill9(&self) {
        if let Some(mut daemon) = self.daemon().take() {
            daemon.kill9();
        }
    }

    /// Asks the daemon to end (SIGTERM) and waits until it has.
    #[track_caller]
    pub fn stop(&self, within: Duration) -> ExitStatus {
        let mut daemon = self.daemon().take().expect("the daemon runs");
        daemon.terminate();
        daemon.wait(within)
    }

    /// Sends SIGTERM and returns at once.
    pub fn terminate(&self) {
        self.daemon().as_ref().expect("the daemon runs").terminate();
    }

    /// The names by which brokers know the daemon's connections, for quotas.
    pub fn client_ids(&self) -> [String; 3] {
        [format!("twinlog.{}", self.link()), "twinlog-ledger".to_owned(), "twinlog-records".to_owned()]
    }

    /// Waits until the daemon has ended by itself.
    #[track_caller]
    pub fn wait(&self, within: Duration) -> ExitStatus {
        self.daemon().take().expect("the daemon runs").wait(within)
    }

    /// Freezes the daemon (SIGSTOP).
    pub fn pause(&self) {
        self.daemon().as_ref().expect("the daemon runs").pause();
    }

    /// Wakes the daemon (SIGCONT).
    pub fn resume(&self) {
        self.daemon().as_ref().expect("the daemon runs").resume();
    }

    /// Its pid, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.daemon().as_ref().map(Process::pid)
    }

    /// What the daemon has used since it started.
    pub fn usage(&self) -> Usage {
        self.daemon().as_ref().expect("the daemon runs").usage()
    }

    /// What the daemon holds now; `None` when it does not run.
    pub fn footprint(&self) -> Option<Footprint> {
        footprint_of(self.pid()?)
    }

    /// Panics with its last output when the daemon has ended by itself.
    #[track_caller]
    pub fn assert_running(&self) {
        if let Some(daemon) = self.daemon().as_mut()
            && let Some(status) = daemon.ended()
        {
            panic!("{status}: {}", daemon.tail());
        }
    }

    /// The file with the output of every daemon so far.
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("twinlog.log")
    }

    /// All output so far.
    pub fn log_text(&self) -> String {
        fs::read(self.log()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// A command line of this configuration, not started.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--config").arg(self.config());
        command.envs(self.setup.environment.iter().map(|(key, value)| (key, value)));
        command
    }

    /// Runs a command line to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap_or_else(|e| panic!("cannot run {}: {e}", self.binary.display()))
    }

    /// Asks the daemon over HTTP: status and body, or `None` while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.http.address()).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let host = self.http.address();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// The value of a metric summed over its label sets; `None` while there is none of that name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metric_of(name, "")
    }

    /// The same over those label sets that contain `label`, as `key="value"`.
    pub fn metric_of(&self, name: &str, label: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics")?;
        let of_name = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        };
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.reduce(|a, b| a + b)
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Process>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Twinlog {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some((_, report)) = self.get("/v1/links")
        {
            eprintln!("{} said of itself: {report}", self.link());
        }
    }
}
