//! Decisions as pure functions of values: what is mirrored, under which name and settings, where copying starts, whether a
//! target's tail is ours, what a group's position becomes. No async, no clock, no I/O.

pub mod cut;
pub mod group;
pub mod hole;
pub mod joining;
pub mod lag;
pub mod naming;
pub mod plane;
pub mod priority;
pub mod resolution;
pub mod selection;
pub mod start;
pub mod tail;
pub mod topic_config;
