//! Tools every room may use: retry pacing, the byte rate limit, the memory budget, task scopes.

pub mod limit;
pub mod memory;
pub mod retry;
pub mod tasks;
