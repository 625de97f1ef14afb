//! Variable-length integers of the stored format: LEB128, small values first.

/// Appends a value that is never negative (an offset, a gap, a length).
pub(super) fn put(value: i64, out: &mut Vec<u8>) {
    let mut rest = u64::try_from(value).expect("offsets, gaps and lengths are never negative");
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a value of either sign, small magnitudes in few bytes.
pub(super) fn put_signed(value: i32, out: &mut Vec<u8>) {
    let value = i64::from(value);
    put(value << 1 ^ value >> 63, out);
}

/// Takes a value from the front of `from`; `None` when it is torn or does not fit in an `i64`.
pub(super) fn take(from: &mut &[u8]) -> Option<i64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= i64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Takes what [`put_signed`] wrote; `None` when it is torn or does not fit in an `i32`.
pub(super) fn take_signed(from: &mut &[u8]) -> Option<i32> {
    let coded = take(from)?;
    i32::try_from(coded >> 1 ^ -(coded & 1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_returns_and_no_prefix_of_it_does(value in 0..=i64::MAX, signed: i32) {
            let mut bytes = Vec::new();
            put(value, &mut bytes);
            prop_assert_eq!(take(&mut &bytes[..]), Some(value));
            prop_assert_eq!(take(&mut &bytes[..bytes.len() - 1]), None);
            bytes.clear();
            put_signed(signed, &mut bytes);
            prop_assert_eq!(take_signed(&mut &bytes[..]), Some(signed));
        }
    }

    #[test]
    fn the_largest_values_return_and_larger_ones_are_refused() {
        let mut bytes = Vec::new();
        put(i64::MAX, &mut bytes);
        assert_eq!(take(&mut &bytes[..]), Some(i64::MAX));
        assert_eq!(take(&mut &[0xff; 12][..]), None);
        for value in [i32::MIN, -1, 0, i32::MAX] {
            bytes.clear();
            put_signed(value, &mut bytes);
            assert_eq!(take_signed(&mut &bytes[..]), Some(value));
        }
    }
}
