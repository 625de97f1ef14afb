//! The writing half of the records plane: every record opened and produced by librdkafka, for targets that do not take
//! record batches as they are (DESIGN §8).
//!
//! Reading is the batches plane's: the shared fetch costs less than a librdkafka consumer (measured, `bench/README.md`),
//! proves holes, keeps epochs and holds the memory budget. A *lane* is one producer that up to 64 routes share.

mod codecs;
mod lane;
mod lanes;
mod parcel;
mod sink;
mod tally;
mod writer;

pub use sink::{RecordSettings, RecordSink};
