//! CRC32C of batches: in full where a batch was opened, shifted where only its header changes.
//!
//! The checksum is linear: a change of the header changes it by the CRC of the change, moved over the untouched bytes
//! behind. Moving over `n` zero bytes multiplies by x^8n modulo the polynomial, whose powers stand in a table.

use crate::batch::RawBatch;
use crate::batch::header::CRC_FROM;

/// The Castagnoli polynomial, bit-reversed like everything here: the highest bit stands for x⁰.
const POLYNOMIAL: u32 = 0x82f6_3b78;
const ONE: u32 = 1 << 31;
const X8: u32 = ONE >> 8;

/// `POWERS[k][d]` = x^(8 · d · 256^k): one row per byte of a length below 2³².
static POWERS: [[u32; 256]; 4] = powers();

const fn powers() -> [[u32; 256]; 4] {
    let mut table = [[ONE; 256]; 4];
    let mut step = X8;
    let mut row = 0;
    while row < 4 {
        let mut digit = 1;
        while digit < 256 {
            table[row][digit] = multiply(table[row][digit - 1], step);
            digit += 1;
        }
        step = multiply(table[row][255], step);
        row += 1;
    }
    table
}

/// Product of two polynomials modulo [`POLYNOMIAL`].
const fn multiply(mut a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    while a != 0 {
        // No branch on data: the bits of a checksum are a coin toss that a branch predictor loses.
        product ^= b & 0u32.wrapping_sub(a >> 31);
        b = (b >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(b & 1));
        a <<= 1;
    }
    product
}

/// What `crc`, the checksum of `before` followed by `behind` further bytes, becomes when `before` is replaced by `after`
/// of the same length. Reads none of the bytes behind, so a damage in them still shows under the result.
pub(super) fn shifted(crc: u32, before: &[u8], after: &[u8], behind: usize) -> u32 {
    debug_assert_eq!(before.len(), after.len(), "the shift is for a replacement of equal length");
    let mut change = crc32c::crc32c(before) ^ crc32c::crc32c(after);
    let mut rest = behind;
    for row in &POWERS {
        let digit = rest & 0xff;
        if digit != 0 {
            change = multiply(row[digit], change);
        }
        rest >>= 8;
    }
    debug_assert_eq!(rest, 0, "a batch's length has 31 bits");
    crc ^ change
}

/// Whether the stored checksum fits the bytes. Reads the whole batch.
pub fn verify_crc(batch: &RawBatch) -> bool {
    computed(&batch.bytes) == batch.header.crc
}

/// The checksum over a whole batch's bytes.
pub(super) fn computed(batch: &[u8]) -> u32 {
    crc32c::crc32c(&batch[CRC_FROM..])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_shifted_checksum_is_the_full_one(
            before: [u8; 40],
            after: [u8; 40],
            payload in proptest::collection::vec(any::<u8>(), 0..5000),
        ) {
            let full = |head: &[u8]| crc32c::crc32c(&[head, &payload].concat());
            prop_assert_eq!(shifted(full(&before), &before, &after, payload.len()), full(&after));
        }

        #[test]
        fn a_flipped_payload_bit_stays_a_bad_checksum(
            before: [u8; 40],
            after: [u8; 40],
            mut payload in proptest::collection::vec(any::<u8>(), 1..500),
            bit: prop::sample::Index,
        ) {
            let stored = crc32c::crc32c(&[&before[..], &payload].concat());
            let bit = bit.index(payload.len() * 8);
            payload[bit / 8] ^= 1 << (bit % 8);
            let rewritten = shifted(stored, &before, &after, payload.len());
            prop_assert_ne!(rewritten, crc32c::crc32c(&[&after[..], &payload].concat()));
        }
    }

    #[test]
    fn long_payloads_shift_as_well_as_short_ones() {
        let payload = vec![0x5a; 17 << 20];
        let full = |head: &[u8]| crc32c::crc32c_append(crc32c::crc32c(head), &payload);
        assert_eq!(shifted(full(b"old"), b"old", b"new", payload.len()), full(b"new"));
    }
}
