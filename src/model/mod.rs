//! The words of the program as types: what a record moves through, named once.
//!
//! Nothing here does I/O, reads a clock or knows an adapter. Offsets are always *next-style* at the end of a range:
//! [`OffsetRange`] is half-open, and a position is the first offset not yet covered.

mod batch;
mod halt;
mod name;
mod offset;
mod plane;
mod route;

pub use batch::{Batch, EncodedBatch, Payload, Run};
pub use halt::{Halt, HaltReason, PartitionState, ProtectionLevel, Resolution};
pub use name::{ClusterId, GroupId, LinkName, TopicId, TopicName, TopicPartition};
pub use offset::{LeaderEpoch, Offset, OffsetRange};
pub use plane::Plane;
pub use route::{ProducerIdentity, Route};
