//! Keys of `__consumer_offsets`: whose position a record is about. Pure.

/// The key breaks off, or its group is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The group that a record with this key moves, if it is a record of a position.
///
/// A key begins with the version of its layout. 0 and 1 are alike (OffsetCommitKey: group, topic, partition); 2 and all
/// that came later (members, KIP-848, share groups) concern no positions. What follows a whole key is left unread.
pub(super) fn group_of(key: &[u8]) -> Result<Option<&str>, Malformed> {
    let mut rest = key;
    if !matches!(i16::from_be_bytes(take(&mut rest)?), 0 | 1) {
        return Ok(None);
    }
    let group = text(&mut rest)?;
    text(&mut rest)?;
    take::<4>(&mut rest)?;
    std::str::from_utf8(group).map(Some).map_err(|_| Malformed)
}

/// A text: its length in two bytes, then the text.
fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(i16::from_be_bytes(take(rest)?)).map_err(|_| Malformed)?;
    let (text, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = behind;
    Ok(text)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, behind) = rest.split_first_chunk().ok_or(Malformed)?;
    *rest = behind;
    Ok(*taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(version: i16, group: &[u8], topic: &[u8], partition: i32) -> Vec<u8> {
        let text = |text: &[u8]| [&(text.len() as i16).to_be_bytes(), text].concat();
        [&version.to_be_bytes()[..], &text(group), &text(topic), &partition.to_be_bytes()].concat()
    }

    #[test]
    fn a_position_of_either_version_names_its_group() {
        let written = b"\x00\x01\x00\x07billing\x00\x06orders\x00\x00\x00\x03";
        assert_eq!(group_of(written), Ok(Some("billing")));
        assert_eq!(group_of(&key(0, "Zähler".as_bytes(), b"orders", 3)), Ok(Some("Zähler")));
        assert_eq!(group_of(&key(1, b"", b"orders", 0)), Ok(Some("")));
    }

    #[test]
    fn members_and_whatever_comes_later_concern_no_position() {
        for version in [2, 3, 4, 16, i16::MAX, -1] {
            assert_eq!(group_of(&version.to_be_bytes()), Ok(None), "{version}");
            assert_eq!(group_of(&key(version, b"billing", b"", 0)), Ok(None), "{version}");
        }
    }

    #[test]
    fn a_key_that_breaks_off_or_is_not_text_is_malformed() {
        let whole = key(1, b"billing", b"orders", 3);
        for end in 0..whole.len() {
            assert_eq!(group_of(&whole[..end]), Err(Malformed), "{end} bytes");
        }
        assert_eq!(group_of(b"\0\x01\xff\xff\0\0\0\0\0\0"), Err(Malformed), "a negative length");
        assert_eq!(group_of(&key(1, b"\xff", b"orders", 3)), Err(Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(version in 0..4i16, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = group_of(&bytes);
            let _ = group_of(&[&version.to_be_bytes()[..], &bytes].concat());
        }

        #[test]
        fn whatever_the_group_it_is_found(version in 0..2i16, group in ".{0,40}", topic in ".{0,40}", partition: i32) {
            let key = key(version, group.as_bytes(), topic.as_bytes(), partition);
            prop_assert_eq!(group_of(&key), Ok(Some(group.as_str())));
        }
    }
}
