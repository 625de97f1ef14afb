//! Who this process is, in terms by which a successor on the same machine can prove it gone.

use serde::{Deserialize, Serialize};

/// A process, unmistakable for as long as its machine is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
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
    /// Inode of `/proc/self/ns/pid`.
    pub pid_namespace: u64,
    /// Start of the process in clock ticks since boot: field 22 of `/proc/self/stat`.
    pub start_ticks: u64,
}
