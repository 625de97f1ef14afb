//! LZ4 frames as Kafka writes them, and the header checksum it once got wrong.

use std::borrow::Cow;
use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use crate::batch::varint::Cursor;

pub(super) fn compress(section: &[u8], into: &mut Vec<u8>) {
    // What Java's KafkaLZ4BlockOutputStream writes; linked blocks are refused by old Java consumers.
    let shape = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(shape, into);
    encoder.write_all(section).expect("compressing into memory has no way to fail");
    encoder.finish().expect("compressing into memory has no way to fail");
}

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Bits of a frame's flags.
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
/// Version 1, independent blocks: with or without a checksum, what Kafka's clients write.
const USUAL: u8 = 0b0110_0000;
/// Of a block's length: whether it is stored as it is.
const STORED: u32 = 1 << 31;

/// Opens a frame of the usual shape and one block into `plain`: answers how many bytes came out. `None` where it is
/// anything else, damaged, or `plain` is too small for it.
pub(super) fn open_block(frame: &[u8], plain: &mut [u8]) -> Option<usize> {
    let mut cursor = Cursor::new(frame);
    let [flags, size, checksum] = (cursor.array()? == MAGIC).then(|| cursor.array())??;
    let largest = match size {
        0x40 => 64 << 10,
        0x50 => 256 << 10,
        0x60 => 1 << 20,
        0x70 => 4 << 20,
        _ => return None,
    };
    if flags & !CONTENT_CHECKSUM != USUAL || checksum != (xxh32(&[flags, size]) >> 8) as u8 {
        return None;
    }
    let length = u32::from_le_bytes(cursor.array()?);
    let block = cursor.take((length & !STORED) as usize).filter(|block| (1..=largest).contains(&block.len()))?;
    let most = plain.len().min(largest);
    let opened = if length & STORED == 0 {
        lz4_flex::block::decompress_into(block, &mut plain[..most]).ok()?
    } else {
        plain.get_mut(..block.len())?.copy_from_slice(block);
        block.len()
    };
    let no_more_blocks = cursor.array()? == [0; 4];
    let is_intact = flags & CONTENT_CHECKSUM == 0 || cursor.array()? == xxh32(&plain[..opened]).to_le_bytes();
    (no_more_blocks && is_intact && cursor.left() == 0).then_some(opened)
}

/// The frame with the checksum its header should have. Kafka before 0.10 counted the magic number into it; brokers and
/// clients still accept either in magic-0 messages, so it proves nothing there. Anything but a frame comes back as is.
pub(super) fn with_mended_header(frame: &[u8]) -> Cow<'_, [u8]> {
    let checksum_at = match frame.get(4) {
        Some(flags) if frame.starts_with(&MAGIC) => 6 + if flags & CONTENT_SIZE != 0 { 8 } else { 0 },
        _ => return Cow::Borrowed(frame),
    };
    let Some(descriptor) = frame.get(4..checksum_at).filter(|_| frame.len() > checksum_at) else {
        return Cow::Borrowed(frame);
    };
    let checksum = (xxh32(descriptor) >> 8) as u8;
    let mut mended = frame.to_vec();
    mended[checksum_at] = checksum;
    Cow::Owned(mended)
}

/// XXH32 with seed 0.
fn xxh32(bytes: &[u8]) -> u32 {
    const P1: u32 = 0x9e37_79b1;
    const P2: u32 = 0x85eb_ca77;
    const P3: u32 = 0xc2b2_ae3d;
    const P4: u32 = 0x27d4_eb2f;
    const P5: u32 = 0x1656_67b1;
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"));
    let mut lanes = [P1.wrapping_add(P2), P2, 0, 0u32.wrapping_sub(P1)];
    let stripes = bytes.chunks_exact(16);
    let rest = stripes.remainder();
    for stripe in stripes {
        for (lane, bytes) in lanes.iter_mut().zip(stripe.chunks_exact(4)) {
            *lane = lane.wrapping_add(word(bytes).wrapping_mul(P2)).rotate_left(13).wrapping_mul(P1);
        }
    }
    let [one, two, three, four] = lanes;
    let mut hash = match bytes.len() {
        0..16 => P5,
        _ => {
            let (one, two, three) = (one.rotate_left(1), two.rotate_left(7), three.rotate_left(12));
            one.wrapping_add(two).wrapping_add(three).wrapping_add(four.rotate_left(18))
        }
    };
    hash = hash.wrapping_add(bytes.len() as u32);
    let words = rest.chunks_exact(4);
    let rest = words.remainder();
    for bytes in words {
        hash = hash.wrapping_add(word(bytes).wrapping_mul(P3)).rotate_left(17).wrapping_mul(P4);
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

    #[test]
    fn a_frame_of_one_block_opens_with_and_without_its_checksum_and_no_damage_passes() {
        let sections = [b"orders, ".repeat(300), (0..=255).collect(), vec![9]];
        for (section, has_checksum) in sections.iter().flat_map(|section| [(section, false), (section, true)]) {
            let mut frame = Vec::new();
            let shape = FrameInfo::new().block_mode(BlockMode::Independent).content_checksum(has_checksum);
            let mut encoder = FrameEncoder::with_frame_info(shape, &mut frame);
            encoder.write_all(section).unwrap();
            encoder.finish().unwrap();
            let mut plain = vec![0; section.len()];
            assert_eq!(open_block(&frame, &mut plain), Some(section.len()));
            assert_eq!(&plain, section);
            assert_eq!(open_block(&frame, &mut plain[1..]), None, "no room");
            for cut in 0..frame.len() {
                assert_eq!(open_block(&frame[..cut], &mut plain), None, "cut at {cut}");
            }
            for at in (0..if has_checksum { frame.len() } else { 7 }).filter(|at| *at != 5) {
                let mut damaged = frame.clone();
                damaged[at] ^= 0x08;
                // A copy from one period further back is the same copy.
                let opened = open_block(&damaged, &mut plain);
                assert!(opened.is_none_or(|bytes| plain[..bytes] == section[..]), "damage at {at}");
            }
        }
    }
}
