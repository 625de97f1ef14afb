//! One direction, source cluster to target cluster: what others may ask of it ([`LinkControl`]) and what it answers
//! ([`report`]).

mod answers;
pub mod report;
mod running;
mod session;
mod settings;
mod sides;
#[cfg(test)]
mod tests;
mod upkeep;

use async_trait::async_trait;

use crate::model::{Offset, TopicPartition};
pub use running::Link;
pub use settings::LinkSettings;
pub use sides::{SourceSide, TargetSide};

use report::{GroupReport, LinkReport, TranslateReport};

/// What the HTTP server and the command line may ask of a running link.
#[async_trait]
pub trait LinkControl: Send + Sync {
    /// State of the link and of each partition, from memory: never asks a cluster.
    fn report(&self) -> LinkReport;
    /// Every group's verdict and positions, from the last pass.
    fn groups(&self) -> Vec<GroupReport>;
    /// Translates a source offset of a source partition to the target (or back with `reverse`: a target offset of a
    /// target partition to the source).
    fn translate(&self, at: &TopicPartition, offset: Offset, reverse: bool) -> TranslateReport;
    /// Stops moving records; survives restarts. Durable on return.
    async fn pause(&self) -> Result<(), String>;
    /// Moves records again. Durable on return.
    async fn resume(&self) -> Result<(), String>;
    /// Sets (bytes per second) or lifts the rate limit; survives restarts. Durable on return.
    async fn limit(&self, bytes_per_second: Option<u64>) -> Result<(), String>;
    /// Records an operator's decision on a halted partition (named as at the target), which its next attach obeys.
    async fn resolve(&self, target: &TopicPartition, decision: report::Resolution) -> Result<String, String>;
}
