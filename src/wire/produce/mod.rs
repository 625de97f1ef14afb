//! The writing half of the batches plane: compare-and-append (DESIGN §8) over one pipelined connection per leader.
//!
//! A writer is opened at a partition's proven end, with the sequence its leader expects next; from then on the leader
//! appends a batch only if the log still ends where the writer thinks. Whatever is in doubt ends in the one way back,
//! opening again: nothing here repeats a batch.

mod attach;
mod lane;
#[cfg(test)]
mod lane_tests;
mod lanes;
mod limits;
mod outbox;
#[cfg(test)]
mod outbox_tests;
mod piece;
mod request;
mod response;
mod sequence;
mod sink;
mod tempo;
mod verdict;
mod writer;

pub use sink::{ProduceSettings, ProduceSink};
