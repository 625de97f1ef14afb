//! Who this process is, in terms by which a successor on the same machine can prove it gone.

use std::fmt;
use std::io::ErrorKind::NotFound;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process, unmistakable for as long as its machine is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Name of its machine or container, for people.
    pub host: String,
    /// Process id in its own pid namespace.
    pub pid: u32,
    /// What makes the pid unmistakable; `None` where `/proc` does not tell.
    pub proof: Option<ProcessProof>,
}

/// What makes a pid unmistakable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessProof {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// The pid namespace: target of `/proc/self/ns/pid`, such as `pid:[4026531836]`.
    pub pid_namespace: String,
    /// Start of the process in clock ticks since boot: field 22 of `/proc/self/stat`.
    pub start_ticks: u64,
}

impl fmt::Display for ProcessIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} on {}", self.pid, self.host)
    }
}

impl ProcessIdentity {
    /// This process.
    pub fn own() -> Self {
        let proc = Path::new("/proc");
        let host = std::fs::read_to_string(proc.join("sys/kernel/hostname")).unwrap_or_default();
        let pid = std::process::id();
        Self { host: host.trim().to_owned(), pid, proof: ProcessProof::of_self(proc, pid) }
    }

    /// Whether `/proc` of this machine proves that the process is gone: it belonged to this boot and this pid namespace,
    /// and its pid is now unused, a corpse, or somebody else's. Anything unclear is no proof.
    pub fn is_provably_gone(&self) -> bool {
        let proc = Path::new("/proc");
        let (Some(theirs), Some(ours)) = (&self.proof, ProcessProof::of_self(proc, std::process::id())) else {
            return false;
        };
        if theirs.boot_id != ours.boot_id || theirs.pid_namespace != ours.pid_namespace {
            return false;
        }
        match std::fs::read_to_string(proc.join(format!("{}/stat", self.pid))) {
            Ok(stat) => match Stat::parse(&stat) {
                // A corpse's threads may still be inside a last system call.
                Some(stat) => stat.start_ticks != theirs.start_ticks || (stat.is_corpse && lone_thread(proc, self.pid)),
                None => false,
            },
            // With hidepid other users' living processes look absent.
            Err(error) => error.kind() == NotFound && shows_all_processes(proc),
        }
    }
}

impl ProcessProof {
    fn of_self(proc: &Path, pid: u32) -> Option<Self> {
        // A /proc of another pid namespace would speak of other processes under the same numbers.
        let itself = std::fs::read_link(proc.join("self")).ok()?;
        if itself.to_str()? != pid.to_string() {
            return None;
        }
        let boot_id = std::fs::read_to_string(proc.join("sys/kernel/random/boot_id")).ok()?.trim().to_owned();
        let pid_namespace = std::fs::read_link(proc.join("self/ns/pid")).ok()?.to_str()?.to_owned();
        let stat = std::fs::read_to_string(proc.join("self/stat")).ok()?;
        Some(Self { boot_id, pid_namespace, start_ticks: Stat::parse(&stat)?.start_ticks })
    }
}

struct Stat {
    is_corpse: bool,
    start_ticks: u64,
}

impl Stat {
    /// `proc(5)`: `pid (comm) state …`, where comm may hold anything, closing brackets included.
    fn parse(stat: &str) -> Option<Self> {
        let (_, behind_comm) = stat.rsplit_once(')')?;
        let mut fields = behind_comm.split_ascii_whitespace();
        let state = fields.next()?;
        // State is field 3, so field 22 comes 18 fields behind the next one.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { is_corpse: matches!(state, "Z" | "X" | "x"), start_ticks })
    }
}

fn lone_thread(proc: &Path, pid: u32) -> bool {
    std::fs::read_dir(proc.join(format!("{pid}/task"))).is_ok_and(|threads| threads.count() <= 1)
}

fn shows_all_processes(proc: &Path) -> bool {
    let Ok(mounts) = std::fs::read_to_string(proc.join("self/mounts")) else { return false };
    let mut own = mounts.lines().filter(|line| line.split(' ').nth(1) == Some("/proc"));
    own.next_back().and_then(|line| line.split(' ').nth(3)).is_some_and(|options| !options.contains("hidepid"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn identity_of(pid: u32) -> ProcessIdentity {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let own = ProcessIdentity::own();
        let proof = ProcessProof { start_ticks: Stat::parse(&stat).unwrap().start_ticks, ..own.proof.unwrap() };
        ProcessIdentity { pid, proof: Some(proof), ..own }
    }

    #[test]
    fn a_living_process_is_not_gone_and_a_dead_one_is_reaped_or_not() {
        assert!(!ProcessIdentity::own().is_provably_gone());
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let theirs = identity_of(child.id());
        assert!(!theirs.is_provably_gone());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !theirs.is_provably_gone() {
            assert!(std::time::Instant::now() < deadline, "the corpse counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(theirs.is_provably_gone());
    }

    #[test]
    fn nothing_is_proven_about_another_machine_another_namespace_or_without_proof() {
        let own = ProcessIdentity::own();
        let proof = own.proof.clone().unwrap();
        // A pid that cannot exist: gone, if only it were from here.
        let gone = ProcessIdentity { pid: u32::MAX, ..own.clone() };
        assert!(gone.is_provably_gone());
        let elsewhere = ProcessProof { boot_id: "another".into(), ..proof.clone() };
        let apart = ProcessProof { pid_namespace: "pid:[1]".into(), ..proof };
        for proof in [Some(elsewhere), Some(apart), None] {
            assert!(!ProcessIdentity { proof, ..gone.clone() }.is_provably_gone());
        }
    }

    #[test]
    fn a_reused_pid_proves_its_former_process_gone() {
        let own = ProcessIdentity::own();
        let proof = own.proof.clone().unwrap();
        let former = ProcessProof { start_ticks: proof.start_ticks.wrapping_sub(1), ..proof };
        assert!(ProcessIdentity { proof: Some(former), ..own }.is_provably_gone());
    }

    #[test]
    fn brackets_and_blanks_in_a_process_name_do_not_confuse() {
        let mut fields = vec!["S"];
        fields.extend(["0"; 18]);
        fields.push("4711");
        let stat = Stat::parse(&format!("12 (a) b) {} 9", fields.join(" "))).unwrap();
        assert_eq!((stat.is_corpse, stat.start_ticks), (false, 4711));
        assert!(Stat::parse("12 (cut off) S 1 2").is_none());
    }
}
