//! Record batches as bytes: read, split, stamped for producing unopened, and opened only where they must be.
//!
//! Pure: no I/O, no clock, no async. Everything that reads bytes takes them for hostile: it answers [`Malformed`], reads
//! nothing out of bounds and allocates nothing on the word of a length field.

mod builder;
mod codec;
mod crc;
#[cfg(test)]
mod fixtures;
mod handling;
mod header;
mod join;
mod legacy;
mod malformed;
mod marker;
mod record;
mod repack;
mod split;
mod stamp;
#[cfg(test)]
mod tests;
mod varint;

pub use builder::BatchBuilder;
pub use codec::Codec;
pub use crc::verify_crc;
pub use handling::{Handling, classify, pass};
pub use header::{Attributes, HEADER_BYTES, Header};
pub use join::Join;
pub use legacy::{LegacySet, repack_legacy};
pub use malformed::{Flaw, Malformed};
pub use marker::{Marker, marker};
pub use record::{Record, STANDS_FOR_ZERO_MS, content_hash, encode_headers, header_pairs, records};
pub use repack::{repack, split_in_two};
pub use split::{Piece, RawBatch, Split, split};
pub use stamp::{Stamp, stamp};
