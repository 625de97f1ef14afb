//! Snappy as Kafka knows it: xerial's framing of raw blocks, or (librdkafka and others) one bare block.

use crate::batch::Flaw;
use crate::batch::codec::Codec;
use crate::batch::varint::Cursor;

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// Version and oldest compatible version, both 1.
const VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes per block that Kafka's Java client writes.
const BLOCK: usize = 32 << 10;
/// A block of n bytes cannot open to more than this times n: the densest element copies 64 bytes out of 3.
const DENSEST: usize = 22;

pub(super) fn compress(section: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&MAGIC);
    into.extend_from_slice(&VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(BLOCK)];
    for plain in section.chunks(BLOCK) {
        let written = encoder.compress(plain, &mut block).expect("the buffer holds the largest compressed block");
        into.extend_from_slice(&(written as u32).to_be_bytes());
        into.extend_from_slice(&block[..written]);
    }
}

pub(super) fn decompress(section: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    let mut opened = Vec::new();
    let mut cursor = Cursor::new(section);
    if !section.starts_with(&MAGIC) {
        append_block(section, section.len(), limit, &mut opened)?;
        return Ok(opened);
    }
    while cursor.left() > 0 {
        // Xerial's stream may be appended to: another header may stand wherever a block may.
        let mut header = cursor;
        if header.array() == Some(MAGIC) {
            header.take(VERSIONS.len()).ok_or_else(|| broken("its header is cut"))?;
            cursor = header;
            continue;
        }
        let length = cursor.i32().and_then(|length| usize::try_from(length).ok());
        let block = length.and_then(|length| cursor.take(length)).ok_or_else(|| broken("a block runs past its end"))?;
        append_block(block, section.len(), limit, &mut opened)?;
    }
    Ok(opened)
}

fn append_block(block: &[u8], compressed: usize, limit: usize, opened: &mut Vec<u8>) -> Result<(), Flaw> {
    let claimed = snap::raw::decompress_len(block).map_err(broken)?;
    if claimed > block.len().saturating_mul(DENSEST) {
        return Err(broken("a block claims more bytes than it can hold"));
    }
    let start = opened.len();
    if claimed > limit - start.min(limit) {
        return Err(Flaw::Bomb { codec: Codec::Snappy, compressed, limit });
    }
    opened.resize(start + claimed, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut opened[start..]).map_err(broken)?;
    opened.truncate(start + written);
    Ok(())
}

fn broken(reason: impl ToString) -> Flaw {
    Flaw::Compressed { codec: Codec::Snappy, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_block_opens_as_well_as_a_framed_stream() {
        let section = b"orders and orders and orders and orders".repeat(40);
        let bare = snap::raw::Encoder::new().compress_vec(&section).unwrap();
        assert_eq!(decompress(&bare, 1 << 20).unwrap(), section);
    }

    #[test]
    fn framed_streams_may_be_joined() {
        let mut joined = Vec::new();
        compress(b"first ", &mut joined);
        compress(b"second", &mut joined);
        assert_eq!(decompress(&joined, 1 << 20).unwrap(), b"first second");
    }

    #[test]
    fn a_block_that_claims_gigabytes_allocates_nothing() {
        let error = decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0], usize::MAX).unwrap_err();
        assert!(matches!(error, Flaw::Compressed { .. }), "{error}");
    }

    #[test]
    fn the_densest_block_there_is_opens() {
        // One literal byte, then copies of 64 bytes each: nothing compresses further.
        let section = vec![7; 32 << 10];
        let block = snap::raw::Encoder::new().compress_vec(&section).unwrap();
        assert!(section.len() > block.len() * 20, "{} bytes", block.len());
        assert_eq!(decompress(&block, 1 << 20).unwrap(), section);
    }
}
