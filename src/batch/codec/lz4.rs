//! LZ4 frames as Kafka writes them, and the header checksum it once got wrong.

use std::borrow::Cow;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

pub(super) fn compress(section: &[u8], into: &mut Vec<u8>) {
    // What Java's KafkaLZ4BlockOutputStream writes; linked blocks are refused by old Java consumers.
    let shape = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(shape, into);
    encoder.write_all(section).expect("compressing into memory has no way to fail");
    encoder.finish().expect("compressing into memory has no way to fail");
}

/// The frame with the checksum its header should have. Kafka before 0.10 counted the magic number into it; brokers and
/// clients still accept either in magic-0 messages, so it proves nothing there. Anything but a frame comes back as is.
pub(super) fn with_mended_header(frame: &[u8]) -> Cow<'_, [u8]> {
    const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
    const CONTENT_SIZE: u8 = 1 << 3;
    let checksum_at = match frame.get(4) {
        Some(flags) if frame.starts_with(&MAGIC) => 6 + if flags & CONTENT_SIZE != 0 { 8 } else { 0 },
        _ => return Cow::Borrowed(frame),
    };
    let Some(descriptor) = frame.get(4..checksum_at).filter(|_| frame.len() > checksum_at) else {
        return Cow::Borrowed(frame);
    };
    let checksum = (xxh32_of_short(descriptor) >> 8) as u8;
    let mut mended = frame.to_vec();
    mended[checksum_at] = checksum;
    Cow::Owned(mended)
}

/// XXH32 with seed 0 of fewer than 16 bytes (longer input would need its four lanes).
fn xxh32_of_short(bytes: &[u8]) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;
    debug_assert!(bytes.len() < 16, "a frame descriptor has at most 10 bytes");
    let mut hash = P5.wrapping_add(bytes.len() as u32);
    let words = bytes.chunks_exact(4);
    let rest = words.remainder();
    for word in words {
        let word = u32::from_le_bytes(word.try_into().expect("chunks of four bytes"));
        hash = hash.wrapping_add(word.wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
    }
    for byte in rest {
        hash = hash.wrapping_add(u32::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ hash >> 15).wrapping_mul(P2);
    hash = (hash ^ hash >> 13).wrapping_mul(P3);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::codec::{Codec, decompress, decompress_lz4_of_magic_0};

    #[test]
    fn the_wrong_header_checksum_of_magic_0_is_mended_and_no_other_is_forgiven() {
        let section = b"old orders ".repeat(100);
        for content_size in [None, Some(section.len() as u64)] {
            let mut frame = Vec::new();
            let mut encoder = FrameEncoder::with_frame_info(FrameInfo::new().content_size(content_size), &mut frame);
            encoder.write_all(&section).unwrap();
            encoder.finish().unwrap();
            let at = if content_size.is_some() { 14 } else { 6 };
            assert_eq!(with_mended_header(&frame), frame, "a right checksum is what mending computes");
            frame[at] ^= 0x55;
            assert!(decompress(Codec::Lz4, &frame).is_err());
            assert_eq!(decompress_lz4_of_magic_0(&frame).unwrap(), section);
        }
    }
}
