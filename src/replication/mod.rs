//! The data path: one replicator per route, each attached to the target's truth, fed by the shared fetch.
//!
//! A replicator is three async steps: *attach* learns where the target really ends and holds that against the map,
//! *replicate* moves batches and records acks, *recover* decides after a failure whether to attach again or to halt. It
//! knows the contracts of [`endpoint`](crate::endpoint), the ledger and the rules in [`policy`](crate::policy), and no
//! other replicator.

mod anchor;
mod attach;
mod intake;
mod monitor;
mod planes;
mod replicator;
mod supervisor;
mod tail;
#[cfg(test)]
mod tests;
mod window;

pub use monitor::{LagReport, RouteMonitor};
pub use planes::{PlaneInUse, Planes};
pub use replicator::Ends;
pub use supervisor::{Assigned, Supervisor};
