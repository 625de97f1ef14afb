//! Writes one partition: counts offsets and sequences, stamps headers, splits what the topic would refuse for its size.

use std::sync::Arc;

use async_trait::async_trait;

use super::lane::Place;
use super::piece::{Piece, Promise};
use super::sequence::Sequence;
use crate::batch::{HEADER_BYTES, Header, Malformed, Stamp, split_in_two, stamp};
use crate::endpoint::{Delivery, Error, ErrorKind, Result, Writer};
use crate::model::{EncodedBatch, Offset, ProducerIdentity, TopicPartition};

/// Where a writer begins and what bounds it.
#[derive(Debug)]
pub(super) struct PartitionWriter {
    /// Cluster and partition, for messages.
    pub alias: Arc<str>,
    pub at: Arc<TopicPartition>,
    pub place: Place,
    pub producer: ProducerIdentity,
    /// Target offset of the next record: the end at open plus the records accepted since.
    pub next: Offset,
    /// Sequence of the next record.
    pub sequence: Sequence,
    /// Bytes of the largest batch the topic accepts, where known.
    pub batch_bytes_max: Option<usize>,
}

#[async_trait]
impl Writer for PartitionWriter {
    async fn send(&mut self, batch: EncodedBatch, expected: Offset) -> Result<Delivery> {
        if expected != self.next {
            return Err(self.error(
                ErrorKind::Attach,
                format!("a batch was meant for offset {expected}, but the next record gets {}", self.next),
            ));
        }
        self.place.room().await?;
        // From here on nothing waits, so a dropped future has accepted all or nothing.
        let batches = self.parts(batch)?;
        let (promise, delivery) = Promise::new(expected);
        let mut promise = Some(promise);
        let last = batches.len() - 1;
        let pieces = batches.into_iter().enumerate().map(|(n, batch)| {
            let records = batch.records;
            let piece = self.piece(batch, if n == last { promise.take() } else { None });
            self.next = self.next + i64::from(records);
            self.sequence = self.sequence.advance(records);
            piece
        });
        let pieces: Vec<Piece> = pieces.collect();
        self.place.offer(pieces);
        Ok(delivery)
    }

    fn limit_in_flight(&mut self, to_one: bool) {
        self.place.limit_to_one(to_one);
    }

    fn joined_bytes_max(&self) -> Option<usize> {
        self.batch_bytes_max
    }

    async fn close(self: Box<Self>) {
        // Leaving its place is all there is to it, and dropping does that.
    }
}

impl PartitionWriter {
    fn piece(&self, batch: EncodedBatch, promise: Option<Promise>) -> Piece {
        let stamp_as = Stamp { producer: self.producer, sequence: self.sequence.number() };
        let header = stamp(&batch.bytes, &stamp_as);
        Piece { header, payload: batch.bytes.slice(HEADER_BYTES..), expected: self.next, promise }
    }

    /// The batch in parts that the topic accepts, in order; at least one.
    fn parts(&self, batch: EncodedBatch) -> Result<Vec<EncodedBatch>> {
        let mut parts = Vec::with_capacity(1);
        let mut rest = vec![batch];
        while let Some(batch) = rest.pop() {
            let limit = self.batch_bytes_max.filter(|limit| batch.bytes.len() > *limit);
            let Some(limit) = limit else {
                self.check(&batch)?;
                parts.push(batch);
                continue;
            };
            let Some((first, second)) = split_in_two(&batch).map_err(|flaw| self.malformed(&flaw))? else {
                return Err(self.error(
                    ErrorKind::TooLarge,
                    format!(
                        "a single record in a batch of {} bytes exceeds what topic {} accepts ({limit} bytes): raise \
                         its max.message.bytes (and segment.bytes)",
                        batch.bytes.len(),
                        self.at.topic
                    ),
                ));
            };
            rest.push(second);
            rest.push(first);
        }
        Ok(parts)
    }

    /// Holds a batch against what brokers demand of a produced one; what fails here was made wrong on this side.
    fn check(&self, batch: &EncodedBatch) -> Result<()> {
        let header = Header::parse(&batch.bytes).map_err(|flaw| self.malformed(&flaw))?;
        let whole = header.total_bytes == batch.bytes.len() && header.is_dense() && !header.attributes.is_control();
        if whole && u32::try_from(header.count) == Ok(batch.records) {
            Ok(())
        } else {
            Err(self.error(
                ErrorKind::Protocol,
                format!(
                    "a batch of {} bytes and {} records was offered for producing, but its header says {} bytes, {} \
                     records, last offset delta {}, control {}",
                    batch.bytes.len(),
                    batch.records,
                    header.total_bytes,
                    header.count,
                    header.last_offset_delta,
                    header.attributes.is_control()
                ),
            ))
        }
    }

    fn malformed(&self, flaw: &Malformed) -> Error {
        self.error(ErrorKind::Corrupt, format!("a batch for offset {} cannot be read: {flaw}", self.next))
    }

    fn error(&self, kind: ErrorKind, what: String) -> Error {
        Error::new(kind, format!("{}: {}: {what}", self.alias, self.at))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;
    use crate::batch::{BatchBuilder, RawBatch, Record, encode_headers, pass, records, verify_crc};
    use crate::wire::produce::lane::Lane;

    const PRODUCER: ProducerIdentity = ProducerIdentity { id: 4000, epoch: 2 };

    fn writer(lane: &Arc<Lane>, end: i64, batch_bytes_max: Option<usize>) -> PartitionWriter {
        let at = Arc::new(TopicPartition::new("orders", 3));
        let place = lane.join(at.clone(), None).unwrap();
        let (next, sequence) = (Offset(end), Sequence::at_end(Offset(end)));
        PartitionWriter { alias: "lyon".into(), at, place, producer: PRODUCER, next, sequence, batch_bytes_max }
    }

    fn batch(sizes: &[usize]) -> EncodedBatch {
        let mut builder = BatchBuilder::new(Offset(70));
        for (n, size) in sizes.iter().enumerate() {
            builder.push(&Record {
                offset: Offset(70 + n as i64),
                timestamp_ms: 1_700_000_000_000,
                key: None,
                value: Some(vec![n as u8; *size].into()),
                headers: encode_headers(&[]),
                attributes: 0,
            });
        }
        pass(&builder.build())
    }

    /// What a broker finds in the next request: base sequence and number of records.
    fn taken(lane: &Arc<Lane>, settle: bool) -> Option<(Offset, Header, RawBatch)> {
        let sent = lane.outbox().gather(usize::MAX).pop()?;
        let bytes = [&sent.piece.header[..], &sent.piece.payload].concat();
        let (expected, header) = (sent.piece.expected, Header::parse(&bytes).unwrap());
        if settle {
            lane.outbox().settle(sent, Ok(expected));
        }
        Some((expected, header, RawBatch { header, bytes: bytes.into() }))
    }

    #[tokio::test]
    async fn offsets_and_sequences_go_on_without_gap() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, (1 << 31) - 3, None);
        let mut expected = writer.next;
        for count in [2, 3, 1] {
            let mut delivery = writer.send(batch(&vec![10; count]), expected).await.unwrap();
            let (at, header, raw) = taken(&lane, true).unwrap();
            assert_eq!((at, header.base_sequence), (expected, (expected.0 % (1 << 31)) as i32));
            assert_eq!((header.producer_id, header.producer_epoch), (PRODUCER.id, PRODUCER.epoch));
            assert!(verify_crc(&raw));
            assert_eq!((&mut delivery).now_or_never().unwrap().unwrap(), expected);
            expected = expected + count as i64;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beside_writes_partitions_are_opened_one_by_one_and_many_when_nobody_writes() {
        let lane = Lane::detached(5);
        let at_once = || {
            let turns = std::iter::from_fn(|| lane.turn_to_open().now_or_never());
            turns.collect::<Vec<_>>().len()
        };
        assert_eq!(at_once(), 64);
        let mut writer = writer(&lane, 0, None);
        drop(writer.send(batch(&[10]), Offset(0)).await.unwrap());
        assert_eq!(at_once(), 1);
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert_eq!(at_once(), 64);
    }

    #[tokio::test]
    async fn a_batch_for_another_offset_is_refused_and_changes_nothing() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 5, None);
        let error = writer.send(batch(&[10]), Offset(6)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Attach);
        assert!(error.message.contains("orders/3") && error.message.contains('6') && error.message.contains('5'));
        assert!(taken(&lane, true).is_none());
        assert!(writer.send(batch(&[10]), Offset(5)).await.is_ok());
    }

    #[tokio::test]
    async fn a_send_dropped_while_it_waits_has_accepted_nothing() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 0, None);
        let _first = writer.send(batch(&[10]), Offset(0)).await.unwrap();
        assert!(
            writer.send(batch(&[10, 10]), Offset(1)).now_or_never().is_none(),
            "one in flight before the first ack"
        );
        assert_eq!(taken(&lane, true).unwrap().0, Offset(0));
        let _second = writer.send(batch(&[10]), Offset(1)).await.unwrap();
        assert_eq!(taken(&lane, true).unwrap().1.count, 1);
        assert!(taken(&lane, true).is_none());
    }

    #[tokio::test]
    async fn a_send_waits_for_room_and_goes_on_when_an_ack_makes_it() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 0, None);
        let _first = writer.send(batch(&[10]), Offset(0)).await.unwrap();
        let broker = async {
            tokio::task::yield_now().await;
            taken(&lane, true)
        };
        let (second, acked) = tokio::join!(writer.send(batch(&[10]), Offset(1)), broker);
        assert!(second.is_ok() && acked.is_some());
    }

    #[tokio::test]
    async fn nothing_of_a_closed_writer_is_sent() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 0, None);
        let mut delivery = writer.send(batch(&[10]), Offset(0)).await.unwrap();
        Box::new(writer).close().await;
        assert!(taken(&lane, true).is_none());
        assert_eq!((&mut delivery).now_or_never().unwrap().unwrap_err().kind, ErrorKind::Attach);
    }

    #[tokio::test]
    async fn a_single_record_above_the_limit_is_named_and_nothing_is_sent() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 0, Some(1000));
        let error = writer.send(batch(&[10, 2000]), Offset(0)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::TooLarge);
        assert!(error.message.contains("orders") && error.message.contains("1000"), "{error}");
        assert!(taken(&lane, true).is_none());
        assert!(writer.send(batch(&[10]), Offset(0)).await.is_ok());
    }

    #[tokio::test]
    async fn bytes_that_are_no_producible_batch_are_refused() {
        let lane = Lane::detached(5);
        let mut writer = writer(&lane, 0, None);
        let good = batch(&[10, 10]);
        let miscounted = EncodedBatch { records: 3, ..good.clone() };
        let short = EncodedBatch { bytes: good.bytes.slice(..40), ..good.clone() };
        assert_eq!(writer.send(miscounted, Offset(0)).await.err().unwrap().kind, ErrorKind::Protocol);
        assert_eq!(writer.send(short, Offset(0)).await.err().unwrap().kind, ErrorKind::Corrupt);
        assert!(writer.send(good, Offset(0)).await.is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_split_batch_arrives_whole_in_order_and_is_delivered_once(sizes in prop::collection::vec(0usize..300, 1..40)) {
            let lane = Lane::detached(5);
            let mut writer = writer(&lane, 9, Some(500));
            let mut delivery = writer.send(batch(&sizes), Offset(9)).now_or_never().unwrap().unwrap();
            let (mut at, mut values) = (Offset(9), Vec::new());
            while let Some((expected, header, raw)) = taken(&lane, true) {
                prop_assert!(raw.bytes.len() <= 500 && header.is_dense() && verify_crc(&raw));
                prop_assert_eq!((expected, i64::from(header.base_sequence)), (at, at.0));
                at = at + i64::from(header.count);
                values.extend(records(&raw).unwrap().into_iter().map(|record| record.value.unwrap().len()));
            }
            prop_assert_eq!(values, sizes);
            prop_assert_eq!((&mut delivery).now_or_never().unwrap().unwrap(), Offset(9));
        }
    }
}
