//! Child processes that cannot outlive the test process, and the signals a test sends them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// A running program whose output goes to a file; killed when dropped, and by the kernel when this process ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its standard output and error appended to `log`. The pid is the program's own.
    pub fn start(name: &str, command: &Command, log: &Path) -> Process {
        let output = File::options().create(true).append(true).open(log);
        let output = output.unwrap_or_else(|e| panic!("cannot write {}: {e}", log.display()));
        let mut mortal = mortal(command);
        mortal.stdin(Stdio::null()).stderr(output.try_clone().expect("a file can be cloned")).stdout(output);
        let child = spawn(mortal).unwrap_or_else(|e| panic!("cannot start {name}: {e} (run `make setup`)"));
        Process { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has used so far, by the operating system's account.
    pub fn usage(&self) -> Usage {
        usage_of(self.pid()).unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its output, for messages.
    pub fn tail(&self) -> String {
        let text = fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!(
            "{}, last lines of {}:\n{}",
            self.name,
            self.log.display(),
            lines[lines.len().saturating_sub(40)..].join("\n")
        )
    }

    /// Kills it (SIGKILL) and waits until it is gone.
    pub fn kill9(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Freezes it (SIGSTOP).
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Wakes it (SIGCONT).
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be waited for")
    }

    /// Waits until it has ended by itself; panics with its last output when `within` has passed.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {within:?}: {}", self.tail());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        // Our child keeps its pid until we have waited for it: nobody else can be hit.
        kill_process(pid, signal).unwrap_or_else(|e| panic!("cannot signal {} ({pid:?}): {e}", self.name));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
        if thread::panicking() {
            eprintln!("{}", self.tail());
        }
    }
}

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// User and system time.
    pub cpu: Duration,
    /// Most memory resident at any time, in bytes.
    pub peak_bytes: u64,
}

/// Usage of a running process.
pub fn usage_of(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name: state is field 3, so fields 14 and 15 (user and system time) are numbers 11 and 12 from there.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
    // Linux counts these times in hundredths of a second for every program (USER_HZ).
    Some(Usage { cpu: Duration::from_millis(ticks * 10), peak_bytes: peak.parse::<u64>().ok()? * 1024 })
}

/// What a process holds at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Memory resident, in bytes.
    pub resident_bytes: u64,
    /// Open files, connections among them.
    pub files: usize,
    /// Connections, pipes and the like.
    pub sockets: usize,
    /// Threads.
    pub threads: usize,
}

/// What a running process holds; `None` when it has ended.
pub fn footprint_of(pid: u32) -> Option<Footprint> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let resident = field("VmRSS:")?.strip_suffix(" kB")?.parse::<u64>().ok()? * 1024;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let links: Vec<PathBuf> = open.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    let sockets = links.iter().filter(|to| to.to_string_lossy().starts_with("socket:")).count();
    Some(Footprint { resident_bytes: resident, files: links.len(), sockets, threads: field("Threads:")?.parse().ok()? })
}

/// The same command under `setpriv --pdeathsig KILL`, which execs it: it keeps the pid and dies with its parent thread.
pub fn mortal(command: &Command) -> Command {
    let mut mortal = Command::new("setpriv");
    mortal.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => mortal.env(key, value),
            None => mortal.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        mortal.current_dir(directory);
    }
    mortal
}

/// Spawns from one thread that lives as long as the process: the kernel counts the *thread* that forked as the parent,
/// and a test's own thread ends with its test while shared brokers must go on.
pub fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, todo) = channel::<Job>();
        let worker = move || {
            for (mut command, answer) in todo {
                // The asker waits for the answer; it cannot be gone.
                let _ = answer.send(command.spawn());
            }
        };
        thread::Builder::new().name("spawner".into()).spawn(worker).expect("a thread can be started");
        jobs
    });
    let (answer, child) = channel();
    spawner.send((command, answer)).expect("the spawner never ends");
    child.recv().expect("the spawner answers every job")
}
