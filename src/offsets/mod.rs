//! The offset map of a route: exact, bidirectional, run-length.

mod run;

pub use run::MapRun;
