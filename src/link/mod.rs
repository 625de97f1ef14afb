//! One direction, source cluster to target cluster: what others may ask of it ([`LinkControl`]) and what it answers
//! ([`report`]).

pub mod absent;
mod accounts;
mod answers;
mod caretaker;
mod groups;
mod order;
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
pub use order::Order;
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
    ///
    /// # Errors
    /// A sentence, while the link holds no lease: then nothing is known.
    fn groups(&self) -> Result<Vec<GroupReport>, String>;
    /// Translates a source offset of a source partition to the target (or back with `reverse`: a target offset of a
    /// target partition to the source).
    ///
    /// # Errors
    /// A sentence, while the link holds no lease or the partition's map is not loaded yet.
    fn translate(&self, at: &TopicPartition, offset: Offset, reverse: bool) -> Result<TranslateReport, String>;
    /// Obeys an order; durable on return. Answers with what is true then, as a sentence, or with why not.
    async fn obey(&self, order: &Order) -> Result<String, String>;
}
