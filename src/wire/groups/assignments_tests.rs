use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition as Share;
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

/// What a member that is assigned these partitions is sent, in a version of that format.
fn written(version: i16, of: &[(&str, &[i32])]) -> BytesMut {
    let topics = of.iter().map(|(topic, partitions)| {
        let name = StrBytes::from_string((*topic).to_owned());
        Share::default().with_topic(name.into()).with_partitions(partitions.to_vec())
    });
    let told = ConsumerProtocolAssignment::default().with_assigned_partitions(topics.collect());
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    told.encode(&mut bytes, version.min(3)).expect("a valid assignment");
    bytes
}

#[test]
fn every_version_is_read_and_later_ones_as_far_as_they_are_known() {
    let expected = [TopicPartition::new("orders", 0), TopicPartition::new("orders", 7), TopicPartition::new("ü", 1)];
    for version in [0, 1, 2, 3, 9] {
        let mut bytes = written(version, &[("orders", &[0, 7]), ("ü", &[1]), ("empty", &[])]);
        assert_eq!(decode(bytes.clone().freeze()).expect("valid"), expected, "version {version}");
        bytes.put_slice(b"a field of a later version");
        assert_eq!(decode(bytes.freeze()).expect("valid"), expected, "version {version}, longer");
    }
    assert_eq!(decode(Bytes::new()).expect("nothing"), []);
}

#[test]
fn garbage_is_told_and_reserves_nothing() {
    let whole = written(3, &[("orders", &[0, 7])]).freeze();
    for end in 1..whole.len() {
        assert!(decode(whole.slice(..end)).is_err(), "cut at {end}");
    }
    let garbage: [&[u8]; 7] = [
        b"{\"json\": true}",
        // Two thousand million topics, or partitions of one.
        &[0, 0, 0x7f, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 0, 1, 0, 1, b'a', 0x7f, 0xff, 0xff, 0xff],
        // Null where nothing may be null.
        &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        // A name that is not text, a partition below zero, a version below zero.
        &[0, 0, 0, 0, 0, 1, 0, 1, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff],
        &[0x80, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    ];
    for bytes in garbage {
        assert!(decode(Bytes::from_static(bytes)).is_err(), "{bytes:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_bytes_can_hurt(version in -1i16..5, noise in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut bytes = BytesMut::new();
        bytes.put_i16(version);
        bytes.put_slice(&noise);
        let length = bytes.len();
        if let Ok(told) = decode(bytes.freeze()) {
            prop_assert!(told.len() * 4 <= length);
        }
    }
}
