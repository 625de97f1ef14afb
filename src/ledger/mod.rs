//! The link's durable state on the target: what is remembered ([`record`]), who may write it ([`Lease`], [`Ledger`]),
//! and what everybody reads ([`View`]).
//!
//! DESIGN §6. Two compacted topics per link hold it, `__twinlog.LINK.control` and `__twinlog.LINK.map`; appends are
//! transactions of the lease holder, so a successor's claim fences them for good.

mod acquire;
mod claimant;
mod contents;
mod control;
mod lease;
mod mapping;
mod owner;
mod process;
mod queue;
mod reading;
pub mod record;
mod renewal;
pub mod topics;
mod view;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

pub use acquire::Acquiring;
pub use claimant::Claimant;
pub use control::{CONTROL_VERSION, ControlKey, ControlRecord};
pub use lease::{LEASE, Lease};
pub use owner::{Clusters, Ledger};
pub use process::{ProcessIdentity, ProcessProof};
pub use reading::{Heard, Reading};
pub use view::{RouteMap, View};
