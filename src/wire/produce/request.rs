//! Encodes a Produce request around batches that stay where they are: what is ours is written into one small buffer, and
//! payloads travel between its pieces as shared slices (one vectored write, no copy).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::model::{TopicId, TopicPartition};

/// Lowest version with magic-2 batches; Kafka 4 refuses older ones.
pub(super) const MIN_VERSION: i16 = 3;
/// Highest version written here.
pub(super) const MAX_VERSION: i16 = 13;
/// First version with compact types and tagged fields (KIP-482).
pub(super) const FIRST_FLEXIBLE: i16 = 9;
/// First version that names topics by id, so that a re-created topic refuses the batch (KIP-516).
pub(super) const FIRST_WITH_TOPIC_IDS: i16 = 13;

const ACKS_ALL: i16 = -1;

/// One batch of a request.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Where it goes.
    pub at: &'a TopicPartition,
    /// The topic's id; required from [`FIRST_WITH_TOPIC_IDS`] on.
    pub topic_id: Option<TopicId>,
    /// The stamped header.
    pub header: &'a [u8],
    /// The records section behind the header, untouched.
    pub payload: &'a Bytes,
}

/// The version for a request: the highest both sides know, but without topic ids where one of them is unknown.
pub(super) fn version<'a>(highest: i16, parts: impl IntoIterator<Item = &'a Part<'a>>) -> i16 {
    if parts.into_iter().all(|part| part.topic_id.is_some()) {
        highest.min(MAX_VERSION)
    } else {
        highest.min(FIRST_WITH_TOPIC_IDS - 1)
    }
}

/// The body of a Produce request with acks=all, in slices to be written in order. `parts` must be sorted by topic and
/// hold each partition at most once (the broker takes one batch per partition and request). `timeout` is how long the
/// broker may wait for the in-sync replicas.
pub(super) fn encode(version: i16, timeout: Duration, parts: &[Part<'_>]) -> Vec<Bytes> {
    debug_assert!((MIN_VERSION..=MAX_VERSION).contains(&version));
    let mut body = Body {
        flexible: version >= FIRST_FLEXIBLE,
        buffer: BytesMut::with_capacity(64 + parts.len() * 160),
        slices: Vec::with_capacity(parts.len() * 2 + 1),
    };
    body.null_string();
    body.buffer.put_i16(ACKS_ALL);
    body.buffer.put_i32(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    body.count(parts.chunk_by(|a, b| a.at.topic == b.at.topic).count());
    for topic in parts.chunk_by(|a, b| a.at.topic == b.at.topic) {
        if version >= FIRST_WITH_TOPIC_IDS {
            let id = topic[0].topic_id.expect("version() picks ids only where all are known");
            body.buffer.put_slice(id.uuid().as_bytes());
        } else {
            body.string(topic[0].at.topic.as_str());
        }
        body.count(topic.len());
        for part in topic {
            body.buffer.put_i32(part.at.partition);
            body.length(part.header.len() + part.payload.len());
            body.buffer.put_slice(part.header);
            body.slice(part.payload.clone());
            body.no_tags();
        }
        body.no_tags();
    }
    body.no_tags();
    body.finish()
}

struct Body {
    flexible: bool,
    buffer: BytesMut,
    slices: Vec<Bytes>,
}

impl Body {
    /// Array count.
    fn count(&mut self, elements: usize) {
        self.length(elements);
    }

    /// Length of bytes or count of an array, both of which the compact form stores plus one.
    fn length(&mut self, length: usize) {
        let length = u32::try_from(length).expect("a request is bounded far below 4 GiB");
        if self.flexible { self.unsigned_varint(length + 1) } else { self.buffer.put_u32(length) }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.length(text.len());
        } else {
            self.buffer.put_u16(u16::try_from(text.len()).expect("topic names have at most 249 characters"));
        }
        self.buffer.put_slice(text.as_bytes());
    }

    fn null_string(&mut self) {
        if self.flexible { self.unsigned_varint(0) } else { self.buffer.put_i16(-1) }
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.buffer.put_u8(0);
        }
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    /// Ends what is in the buffer with a slice that is not copied.
    fn slice(&mut self, payload: Bytes) {
        self.slices.push(self.buffer.split().freeze());
        self.slices.push(payload);
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.buffer.is_empty() {
            self.slices.push(self.buffer.freeze());
        }
        self.slices
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ProduceRequest;
    use kafka_protocol::protocol::Decodable;
    use uuid::Uuid;

    use super::*;

    fn id(n: u128) -> Option<TopicId> {
        TopicId::known(Uuid::from_u128(n))
    }

    fn joined(slices: &[Bytes]) -> Bytes {
        slices.concat().into()
    }

    #[test]
    fn every_version_is_read_by_the_protocols_own_decoder() {
        let targets =
            [TopicPartition::new("orders", 0), TopicPartition::new("orders", 7), TopicPartition::new("pay", 1)];
        let ids = [id(1), id(1), id(2)];
        let payloads: Vec<Bytes> = [3usize, 200, 70_000].map(|n| Bytes::from(vec![n as u8; n])).to_vec();
        let header = [9u8; 61];
        let parts: Vec<Part<'_>> = (0..3)
            .map(|n| Part { at: &targets[n], topic_id: ids[n], header: &header, payload: &payloads[n] })
            .collect();
        for version in MIN_VERSION..=MAX_VERSION {
            let mut body = joined(&encode(version, Duration::from_secs(10), &parts));
            let request = ProduceRequest::decode(&mut body, version).unwrap();
            assert!(body.is_empty(), "version {version} leaves bytes behind");
            assert_eq!((request.acks, request.timeout_ms, &request.transactional_id), (-1, 10_000, &None));
            let topics: Vec<_> =
                request.topic_data.iter().map(|t| (t.name.to_string(), t.topic_id, t.partition_data.len())).collect();
            if version >= FIRST_WITH_TOPIC_IDS {
                let expected = [(String::new(), Uuid::from_u128(1), 2), (String::new(), Uuid::from_u128(2), 1)];
                assert_eq!(topics, expected);
            } else {
                assert_eq!(topics, [("orders".into(), Uuid::nil(), 2), ("pay".into(), Uuid::nil(), 1)]);
            }
            let sent: Vec<_> = request.topic_data.iter().flat_map(|t| &t.partition_data).collect();
            for (n, partition) in sent.into_iter().enumerate() {
                assert_eq!(partition.index, targets[n].partition);
                let records = partition.records.as_ref().unwrap();
                assert_eq!(&records[..61], header);
                assert_eq!(&records[61..], &payloads[n][..]);
            }
        }
    }

    #[test]
    fn payloads_are_shared_not_copied() {
        let at = TopicPartition::new("orders", 0);
        let payload = Bytes::from(vec![1u8; 4096]);
        let slices =
            encode(9, Duration::from_secs(1), &[Part { at: &at, topic_id: None, header: &[0; 61], payload: &payload }]);
        assert!(slices.iter().any(|slice| slice.as_ptr() == payload.as_ptr() && slice.len() == payload.len()));
    }

    #[test]
    fn topics_are_named_by_id_only_when_every_id_is_known() {
        let at = TopicPartition::new("orders", 0);
        let payload = Bytes::new();
        let part = |topic_id| Part { at: &at, topic_id, header: &[], payload: &payload };
        assert_eq!(version(13, &[part(id(1)), part(id(2))]), 13);
        assert_eq!(version(13, &[part(id(1)), part(None)]), 12);
        assert_eq!(version(8, &[part(None)]), 8);
    }
}
