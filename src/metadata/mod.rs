//! What is kept equal beside the records: topics with their settings, and consumer groups. Each is a timerless `pass` that
//! reads both sides, acts on the target and reports; the link owns the timers.

pub mod groups;
pub mod neighbours;
pub mod topics;
#[cfg(test)]
mod topics_tests;
