//! Memory that each thread keeps for opening small sections: a decoder made for one costs many times what it does there.
//!
//! Whatever is larger, damaged or of a rare shape is left to the decoders made for it, which also say what is wrong.

use std::cell::RefCell;

use crate::batch::Codec;
use crate::batch::codec::lz4;

/// Compressed sections of more bytes are worth a decoder of their own …
const PACKED_BYTES: usize = 16 << 10;
/// … and so are those that open to more: one block of an LZ4 frame.
const PLAIN_BYTES: usize = 64 << 10;

struct Scratch {
    plain: Box<[u8]>,
    zstd: ::zstd::bulk::Decompressor<'static>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { plain: vec![0; PLAIN_BYTES].into(), zstd: ::zstd::bulk::Decompressor::default() });
}

/// Opens a small section; `None` leaves it to its decoder. What comes out has at most 64 KiB.
pub(super) fn open(codec: Codec, section: &[u8]) -> Option<Vec<u8>> {
    if section.len() > PACKED_BYTES {
        return None;
    }
    SCRATCH.with_borrow_mut(|Scratch { plain, zstd }| {
        let opened = match codec {
            Codec::Lz4 => lz4::open_block(section, plain)?,
            Codec::Zstd => zstd.decompress_to_buffer(section, &mut plain[..]).ok()?,
            Codec::None | Codec::Gzip | Codec::Snappy => return None,
        };
        Some(plain[..opened].to_vec())
    })
}
