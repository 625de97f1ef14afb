//! The offset map of a route: exact, bidirectional, run-length.
//!
//! [`OffsetMap`] lists which source offsets lie at which target offsets as runs, kept encoded in segments of at most
//! 1 KiB (measured: 1.0 byte per run of a compacted topic, 2.8 of a transactional one), and answers any offset in both directions. Nothing here does I/O or reads a clock: the
//! ledger stores what [`OffsetMap::take_changes`] hands out and brings it back to [`OffsetMap::load`].

mod anchor;
mod changes;
mod head;
mod map;
mod open;
mod place;
mod run;
mod segment;
mod translation;
mod varint;

#[cfg(test)]
mod tests;

pub use anchor::Anchor;
pub use changes::{MapChanges, MapCorrupt, MapKey};
pub use map::OffsetMap;
pub use run::MapRun;
pub use translation::Translation;
