//! Pieces of requests on their way to the socket, written vectored and without copying.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// A queue of byte slices that reads as one buffer.
#[derive(Default)]
pub(super) struct Chunks {
    pieces: VecDeque<Bytes>,
    remaining: usize,
}

impl Chunks {
    /// Appends a piece.
    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.remaining += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.len().min(self.pieces.len());
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
        }
        filled
    }

    fn advance(&mut self, mut written: usize) {
        assert!(written <= self.remaining, "advanced behind the end");
        self.remaining -= written;
        while written > 0 {
            let piece = self.pieces.front_mut().expect("what remains is in the pieces");
            if piece.len() > written {
                piece.advance(written);
                return;
            }
            written -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_read_as_one_buffer_however_they_are_taken(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..10),
            steps in proptest::collection::vec(1usize..15, 0..100),
        ) {
            let whole = pieces.concat();
            let mut chunks = Chunks::default();
            pieces.into_iter().for_each(|piece| chunks.push(Bytes::from(piece)));
            let mut read = Vec::new();
            for step in steps {
                let step = step.min(chunks.remaining());
                let mut taken = vec![0; step];
                chunks.copy_to_slice(&mut taken);
                read.extend(taken);
            }
            read.extend_from_slice(&chunks.copy_to_bytes(chunks.remaining()));
            prop_assert_eq!(read, whole);
        }
    }
}
