//! Decodes a Produce response by hand: it is read once per request on the hot path, and every length in it is checked
//! before anything is allocated.

use std::time::Duration;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::request::{FIRST_FLEXIBLE, FIRST_WITH_TOPIC_IDS};
use crate::endpoint::{Error, ErrorKind, Result};
use crate::model::LeaderEpoch;

/// First version with the log start offset.
const FIRST_WITH_LOG_START: i16 = 5;
/// First version with per-record errors and a message (KIP-467).
const FIRST_WITH_MESSAGES: i16 = 8;
/// First version with leader hints (KIP-951).
const FIRST_WITH_LEADER: i16 = 10;
const CURRENT_LEADER_TAG: u32 = 0;

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    /// One for each partition.
    pub answers: Vec<Answer>,
    /// For so long the broker reads nothing more from this connection, because a quota was exceeded (KIP-219).
    pub throttle: Duration,
}

/// How the response names a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    /// Up to version 12.
    Name(Bytes),
    /// From version 13 on.
    Id(Uuid),
}

/// The broker's answer for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The topic.
    pub topic: TopicKey,
    /// The partition.
    pub partition: i32,
    /// 0, or the error.
    pub code: i16,
    /// Offset of the batch's first record; −1 where the broker cannot tell.
    pub base_offset: i64,
    /// The broker's own words about the error, if it had any.
    pub message: Option<String>,
    /// The leader by the broker's knowledge (id and epoch), when it is another one.
    pub leader: Option<(i32, LeaderEpoch)>,
}

/// Reads the body of a Produce response.
///
/// # Errors
/// Of kind `Protocol` for anything that is cut short, too long or not a response of this version.
pub(super) fn decode(version: i16, body: Bytes) -> Result<Response> {
    let mut body = Cursor { rest: body, flexible: version >= FIRST_FLEXIBLE };
    let mut answers = Vec::new();
    for _ in 0..body.count()? {
        let topic = if version >= FIRST_WITH_TOPIC_IDS {
            TopicKey::Id(Uuid::from_u128(body.take(16)?.get_u128()))
        } else {
            TopicKey::Name(body.string()?.unwrap_or_default())
        };
        for _ in 0..body.count()? {
            answers.push(partition(version, &mut body, topic.clone())?);
        }
        body.skip_tags()?;
    }
    let throttle = Duration::from_millis(u64::try_from(body.i32()?).unwrap_or(0));
    body.skip_tags()?; // Endpoints of hinted leaders: the cluster's metadata knows or learns them.
    if body.rest.has_remaining() { Err(cut("has bytes behind its end")) } else { Ok(Response { answers, throttle }) }
}

fn partition(version: i16, body: &mut Cursor, topic: TopicKey) -> Result<Answer> {
    let partition = body.i32()?;
    let code = body.take(2)?.get_i16();
    let base_offset = body.take(8)?.get_i64();
    body.take(8)?; // Append time: our targets keep create time.
    if version >= FIRST_WITH_LOG_START {
        body.take(8)?;
    }
    let mut message = None;
    if version >= FIRST_WITH_MESSAGES {
        let mut first_record_error = None;
        for _ in 0..body.count()? {
            let record = body.i32()?;
            let words = body.string()?;
            body.skip_tags()?;
            first_record_error = first_record_error.or(words.map(|words| format!("record {record}: {}", text(&words))));
        }
        message = first_record_error.or(body.string()?.map(|words| text(&words)));
    }
    let mut leader = None;
    if body.flexible {
        for _ in 0..body.unsigned_varint()? {
            let tag = body.unsigned_varint()?;
            let length = body.unsigned_varint()? as usize;
            let mut field = body.take(length)?;
            if version >= FIRST_WITH_LEADER && tag == CURRENT_LEADER_TAG {
                if field.len() < 8 {
                    return Err(cut("has a short leader hint"));
                }
                let (id, epoch) = (field.get_i32(), field.get_i32());
                leader = (id >= 0).then_some((id, LeaderEpoch(epoch)));
            }
        }
    }
    Ok(Answer { topic, partition, code, base_offset, message, leader })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn cut(what: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the broker's Produce response {what}"))
}

struct Cursor {
    rest: Bytes,
    flexible: bool,
}

impl Cursor {
    fn take(&mut self, bytes: usize) -> Result<Bytes> {
        if bytes > self.rest.len() {
            return Err(cut("is cut short"));
        }
        Ok(self.rest.split_to(bytes))
    }

    fn i32(&mut self) -> Result<i32> {
        Ok(self.take(4)?.get_i32())
    }

    fn unsigned_varint(&mut self) -> Result<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.take(1)?.get_u8();
            let bits = u32::from(byte & 0x7f);
            value |= bits.checked_shl(shift).filter(|v| v >> shift == bits).ok_or_else(|| cut("has a bad number"))?;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(cut("has a bad number"))
    }

    /// Number of an array's elements. Every element takes bytes, so a count above what is left is refused at once.
    fn count(&mut self) -> Result<usize> {
        let count = if self.flexible {
            self.unsigned_varint()?.saturating_sub(1) as usize
        } else {
            usize::try_from(self.i32()?.max(0)).expect("not negative")
        };
        if count > self.rest.len() { Err(cut("announces more than it holds")) } else { Ok(count) }
    }

    fn string(&mut self) -> Result<Option<Bytes>> {
        let length = if self.flexible {
            self.unsigned_varint()?.checked_sub(1)
        } else {
            u32::try_from(self.take(2)?.get_i16()).ok()
        };
        length.map(|length| self.take(length as usize)).transpose()
    }

    fn skip_tags(&mut self) -> Result<()> {
        if self.flexible {
            for _ in 0..self.unsigned_varint()? {
                self.unsigned_varint()?;
                let length = self.unsigned_varint()? as usize;
                self.take(length)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::produce_response::{
        BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{ProduceResponse, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::produce::request::{MAX_VERSION, MIN_VERSION};

    fn encoded(version: i16) -> Bytes {
        let mut good = PartitionProduceResponse::default().with_index(3).with_base_offset(1 << 40);
        let mut bad = PartitionProduceResponse::default().with_index(4).with_error_code(87).with_base_offset(-1);
        if version >= FIRST_WITH_LOG_START {
            good = good.with_log_start_offset(5);
        }
        if version >= FIRST_WITH_MESSAGES {
            let record = BatchIndexAndErrorMessage::default()
                .with_batch_index(2)
                .with_batch_index_error_message(Some(StrBytes::from_static_str("null key")));
            bad = bad.with_record_errors(vec![record]).with_error_message(Some(StrBytes::from_static_str("whole")));
        }
        let mut response = ProduceResponse::default();
        if version >= FIRST_WITH_LEADER {
            bad = bad.with_current_leader(LeaderIdAndEpoch::default().with_leader_id(2.into()).with_leader_epoch(9));
            response = response.with_node_endpoints(vec![
                NodeEndpoint::default().with_node_id(2.into()).with_host(StrBytes::from_static_str("lyon-2")),
            ]);
        }
        let mut topic = TopicProduceResponse::default().with_partition_responses(vec![good, bad]);
        topic = if version >= FIRST_WITH_TOPIC_IDS {
            topic.with_topic_id(Uuid::from_u128(8))
        } else {
            topic.with_name(TopicName(StrBytes::from_static_str("orders")))
        };
        let mut body = BytesMut::new();
        response.with_responses(vec![topic]).with_throttle_time_ms(1_500).encode(&mut body, version).unwrap();
        body.freeze()
    }

    #[test]
    fn every_version_the_protocols_own_encoder_writes_is_read() {
        for version in MIN_VERSION..=MAX_VERSION {
            let Response { answers, throttle } = decode(version, encoded(version)).unwrap();
            assert_eq!(throttle, Duration::from_millis(1_500), "version {version}");
            let topic = if version >= FIRST_WITH_TOPIC_IDS {
                TopicKey::Id(Uuid::from_u128(8))
            } else {
                TopicKey::Name(Bytes::from_static(b"orders"))
            };
            let message = (version >= FIRST_WITH_MESSAGES).then(|| "record 2: null key".to_owned());
            let leader = (version >= FIRST_WITH_LEADER).then_some((2, LeaderEpoch(9)));
            let expected = [
                Answer {
                    topic: topic.clone(),
                    partition: 3,
                    code: 0,
                    base_offset: 1 << 40,
                    message: None,
                    leader: None,
                },
                Answer { topic, partition: 4, code: 87, base_offset: -1, message, leader },
            ];
            assert_eq!(answers, expected, "version {version}");
        }
    }

    #[test]
    fn a_response_cut_anywhere_is_an_error() {
        for version in MIN_VERSION..=MAX_VERSION {
            let whole = encoded(version);
            for length in 0..whole.len() {
                assert!(decode(version, whole.slice(..length)).is_err(), "version {version} cut at {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(version in MIN_VERSION..=MAX_VERSION, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(version, bytes.into());
        }
    }
}
