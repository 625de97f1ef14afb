//! Compression of records sections, as Kafka's clients write and read it.

mod lz4;
mod scratch;
mod snappy;

use std::fmt;
use std::io::{Read, Write};

use crate::batch::Flaw;

/// How a records section is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy blocks in the framing of xerial's Java library; a bare block is read as well.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames (KIP-110; brokers from 2.1 on).
    Zstd,
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Codec::None => "uncompressed",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        })
    }
}

impl Codec {
    /// The codec of the attributes' lowest three bits.
    pub(super) fn from_bits(bits: i16) -> Result<Codec, Flaw> {
        Ok(match bits {
            0 => Codec::None,
            1 => Codec::Gzip,
            2 => Codec::Snappy,
            3 => Codec::Lz4,
            4 => Codec::Zstd,
            _ => return Err(Flaw::UnknownCodec(bits)),
        })
    }

    /// The attributes' lowest three bits.
    pub(super) fn bits(self) -> i16 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }
}

/// Any section may open to this many bytes …
const ALWAYS_ALLOWED: usize = 64 << 20;
/// … and beyond by this factor of its compressed size (zstd packs a repeated record about 11,000 times) …
const ALLOWED_RATIO: usize = 16_384;
/// … but never beyond this.
const NEVER_BEYOND: usize = 1 << 30;

/// To how many bytes a section of `compressed` bytes may open.
fn limit(compressed: usize) -> usize {
    ALWAYS_ALLOWED.saturating_add(compressed.saturating_mul(ALLOWED_RATIO)).min(NEVER_BEYOND)
}

/// Opens a compressed section. Memory grows with what really comes out, never by what a header claims.
pub(super) fn decompress(codec: Codec, section: &[u8]) -> Result<Vec<u8>, Flaw> {
    decompress_within(codec, section, limit(section.len()))
}

/// Opens the LZ4 frame of a magic-0 message, whose header checksum Kafka got wrong (KAFKA-3160).
pub(super) fn decompress_lz4_of_magic_0(section: &[u8]) -> Result<Vec<u8>, Flaw> {
    decompress(Codec::Lz4, &lz4::with_mended_header(section))
}

fn decompress_within(codec: Codec, section: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    let opened = match scratch::open(codec, section) {
        Some(opened) => opened,
        None => decode(codec, section, limit)?,
    };
    match opened.len() > limit {
        true => Err(Flaw::Bomb { codec, compressed: section.len(), limit }),
        false => Ok(opened),
    }
}

/// Opens a section with a decoder of its own, up to one byte beyond the limit.
fn decode(codec: Codec, section: &[u8], limit: usize) -> Result<Vec<u8>, Flaw> {
    let refused = |error: std::io::Error| Flaw::Compressed { codec, reason: error.to_string() };
    Ok(match codec {
        Codec::None => section.to_vec(),
        Codec::Gzip => {
            read_within(flate2::bufread::MultiGzDecoder::new(section), limit, section.len()).map_err(refused)?
        }
        Codec::Lz4 => {
            read_within(lz4_flex::frame::FrameDecoder::new(section), limit, section.len()).map_err(refused)?
        }
        Codec::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(section).map_err(refused)?;
            read_within(decoder, limit, section.len()).map_err(refused)?
        }
        Codec::Snappy => snappy::decompress(section, limit)?,
    })
}

/// Reads to the end, or one byte beyond the limit.
fn read_within(decoder: impl Read, limit: usize, compressed: usize) -> std::io::Result<Vec<u8>> {
    let mut opened = Vec::with_capacity(compressed.saturating_mul(4).clamp(512, 1 << 20));
    decoder.take(limit as u64 + 1).read_to_end(&mut opened)?;
    Ok(opened)
}

/// Appends the compressed section to `into`, with the settings Kafka's Java producer has by default.
pub(super) fn compress(codec: Codec, section: &[u8], into: &mut Vec<u8>) {
    const MEMORY: &str = "compressing into memory has no way to fail";
    match codec {
        Codec::None => into.extend_from_slice(section),
        Codec::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(into, flate2::Compression::default());
            encoder.write_all(section).and_then(|()| encoder.finish()).expect(MEMORY);
        }
        Codec::Snappy => snappy::compress(section, into),
        Codec::Lz4 => lz4::compress(section, into),
        Codec::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(into, zstd::DEFAULT_COMPRESSION_LEVEL).expect(MEMORY);
            // Known beforehand, the size keeps the encoder's tables small for small sections.
            encoder.set_pledged_src_size(Some(section.len() as u64)).expect(MEMORY);
            encoder.write_all(section).and_then(|()| encoder.finish()).expect(MEMORY);
        }
    }
}

#[cfg(test)]
pub(super) const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(codec: Codec, section: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        compress(codec, section, &mut bytes);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_codec_gives_back_what_it_took(section in proptest::collection::vec(0u8..4, 0..100_000)) {
            for codec in ALL {
                prop_assert_eq!(&decompress(codec, &packed(codec, &section)).unwrap(), &section);
            }
        }

        #[test]
        fn garbage_is_an_error_or_some_bytes_but_never_a_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            genuine in proptest::collection::vec(0u8..4, 0..2000),
            place: prop::sample::Index,
            with: u8,
        ) {
            for codec in ALL {
                let _ = decompress(codec, &bytes);
                let mut damaged = packed(codec, &genuine);
                if !damaged.is_empty() {
                    let place = place.index(damaged.len());
                    let _ = decompress(codec, &damaged[..place]);
                    damaged[place] = with;
                    let _ = decompress(codec, &damaged);
                }
            }
            bytes.splice(0..0, *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
            let _ = decompress(Codec::Snappy, &bytes);
        }
    }

    #[test]
    fn small_sections_open_in_a_threads_own_memory_as_with_a_decoder_of_their_own() {
        for codec in [Codec::Lz4, Codec::Zstd] {
            for bytes in [1, 100, 5000, 64 << 10] {
                let section = b"order 1 of customer 7, ".repeat(bytes / 23 + 1)[..bytes].to_vec();
                let packed = packed(codec, &section);
                assert_eq!(scratch::open(codec, &packed).as_ref(), Some(&section), "{codec}, {bytes} bytes");
                assert_eq!(decode(codec, &packed, 1 << 20).unwrap(), section);
                assert_eq!(scratch::open(codec, &packed[..packed.len() - 1]), None, "{codec}, cut");
                let two = [&packed[..], &packed].concat();
                assert_eq!(decompress(codec, &two).unwrap(), decode(codec, &two, 1 << 20).unwrap(), "{codec}, twice");
            }
            let larger = packed(codec, &vec![7; (64 << 10) + 1]);
            assert_eq!(scratch::open(codec, &larger), None);
            assert_eq!(decompress(codec, &larger).unwrap().len(), (64 << 10) + 1);
        }
    }

    #[test]
    fn a_section_that_grows_beyond_its_limit_is_given_up() {
        let zeros = vec![0; 1 << 20];
        for codec in ALL {
            let section = packed(codec, &zeros);
            assert_eq!(decompress_within(codec, &section, zeros.len()).unwrap().len(), zeros.len(), "{codec}");
            let error = decompress_within(codec, &section, zeros.len() - 1).unwrap_err();
            assert!(matches!(error, Flaw::Bomb { .. }), "{codec}: {error}");
        }
    }

    #[test]
    fn a_large_batch_of_one_repeated_record_is_no_bomb() {
        let section = b"{\"order\":1}".repeat(20 << 20);
        let zstd = packed(Codec::Zstd, &section);
        assert!(section.len() < limit(zstd.len()), "{} bytes from {}", section.len(), zstd.len());
    }
}
