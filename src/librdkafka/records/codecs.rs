//! Which compressions a target takes: what it has refused once is not tried again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::batch::Codec;
use crate::endpoint::MessageFormat;

/// The codecs a target has refused, as long as the process lives.
#[derive(Debug, Default)]
pub(super) struct Codecs {
    refused: Mutex<HashSet<Codec>>,
}

impl Codecs {
    /// Remembers a refusal; false when it was known.
    pub(super) fn refuse(&self, codec: Codec) -> bool {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).insert(codec)
    }

    /// The codec for what came in `codec` and is stored in `format`: the same where that is possible, else the one that all
    /// Kafka brokers know.
    pub(super) fn instead_of(&self, codec: Codec, format: MessageFormat) -> Codec {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // A broker that shall write zstd in an old format fails without saying why.
        let is_taken =
            |codec: &Codec| !refused.contains(codec) && (*codec != Codec::Zstd || format == MessageFormat::V2);
        [codec, Codec::Lz4].into_iter().find(is_taken).unwrap_or(Codec::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MessageFormat::{V1, V2};

    #[test]
    fn a_codec_stays_until_it_is_refused_and_nothing_compresses_in_the_end() {
        let codecs = Codecs::default();
        assert_eq!(codecs.instead_of(Codec::Zstd, V2), Codec::Zstd);
        assert!(codecs.refuse(Codec::Zstd) && !codecs.refuse(Codec::Zstd));
        for (codec, instead) in [(Codec::Zstd, Codec::Lz4), (Codec::Gzip, Codec::Gzip), (Codec::None, Codec::None)] {
            assert_eq!(codecs.instead_of(codec, V2), instead);
        }
        codecs.refuse(Codec::Lz4);
        assert_eq!(codecs.instead_of(Codec::Zstd, V2), Codec::None);
    }

    #[test]
    fn old_formats_know_no_zstd() {
        assert_eq!(Codecs::default().instead_of(Codec::Zstd, V1), Codec::Lz4);
        assert_eq!(Codecs::default().instead_of(Codec::Snappy, V1), Codec::Snappy);
    }
}
