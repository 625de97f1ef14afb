//! What every [`Sink`](crate::endpoint::Sink) must do.

use super::stage::{Contents, Stage, contents, encoded, new_topic, some_records, within};
use crate::batch::{Join, Record};
use crate::endpoint::{Error, ErrorKind, Opened, View, Writer};
use crate::model::{Offset, OffsetRange, ProducerIdentity, ProtectionLevel, Route};

/// Runs the whole suite.
pub async fn all(stage: &dyn Stage) {
    deliveries_come_in_order_at_the_expected_offsets(stage).await;
    a_reopened_writer_goes_on_at_the_end(stage).await;
    an_offset_that_is_not_next_is_refused(stage).await;
    what_is_joined_within_the_writers_limit_lands_as_its_records(stage).await;
    if refuses_doubles(stage).await {
        of_two_writers_with_different_batches_one_wins(stage).await;
        two_writers_with_the_same_batches_write_them_once(stage).await;
        a_newer_epoch_fences_the_older(stage).await;
    } else {
        of_two_writers_each_learns_of_the_other(stage).await;
    }
    a_record_too_large_is_named_and_the_log_stays_usable(stage).await;
    a_topic_of_another_id_is_not_written(stage).await;
}

/// Many in flight, each where it was expected, all of them there at the end.
pub async fn deliveries_come_in_order_at_the_expected_offsets(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let mut opened = open(stage, &route, producer).await;
    assert_eq!(opened.end, Offset(0), "the topic is new");
    assert_ne!(opened.level, ProtectionLevel::Guarded, "nobody remembers who wrote");
    let (mut expected, mut next, mut deliveries) = (Contents::new(), Offset(0), Vec::new());
    for count in (1..=40).map(|n| n % 7 + 1) {
        let records = some_records(count);
        let sent = within("a writer makes room", opened.writer.send(encoded(&records), next)).await;
        deliveries.push((next, sent.expect("a batch is accepted")));
        let range = OffsetRange::new(next, next + count as i64);
        expected.extend(contents(range, &records));
        next = range.end;
    }
    for (at, delivery) in deliveries {
        let base = within("a batch is acknowledged", delivery).await.expect("an undisturbed batch is durable");
        assert_eq!(base, at, "the batch lies where it was expected");
    }
    opened.writer.close().await;
    assert_eq!(written(stage, &route, next).await, expected);
}

/// The next owner finds the end and the producer's state.
pub async fn a_reopened_writer_goes_on_at_the_end(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let mut expected = Contents::new();
    let refuses = refuses_doubles(stage).await;
    for round in 0..4 {
        let mut opened = open(stage, &route, producer).await;
        assert_eq!(opened.end, Offset(round * 3), "all that was acknowledged is there");
        let remembers = opened.level == ProtectionLevel::Guarded;
        assert_eq!(remembers, refuses && round > 0, "the leader remembers who wrote, where that counts");
        let records = some_records(3);
        write(&mut *opened.writer, &records, opened.end).await.expect("an undisturbed batch is durable");
        expected.extend(contents(OffsetRange::new(opened.end, opened.end + 3), &records));
        opened.writer.close().await;
    }
    assert_eq!(written(stage, &route, Offset(12)).await, expected);
}

/// The writer's own count is held against the caller's.
pub async fn an_offset_that_is_not_next_is_refused(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let mut opened = open(stage, &route, producer).await;
    write(&mut *opened.writer, &some_records(2), Offset(0)).await.expect("an undisturbed batch is durable");
    let refused = write(&mut *opened.writer, &some_records(2), Offset(3)).await;
    assert_eq!(refused.expect_err("offset 2 is next").kind, ErrorKind::Attach);
    assert_eq!(open(stage, &route, producer).await.end, Offset(2), "nothing was written");
}

/// A writer that takes joined batches says how large, and takes one of that size.
pub async fn what_is_joined_within_the_writers_limit_lands_as_its_records(stage: &dyn Stage) {
    let configs = [("max.message.bytes", "20000")];
    let (route, producer) = (new_topic(stage, &configs).await, new_producer(stage).await);
    let mut opened = open(stage, &route, producer).await;
    let Some(most) = opened.writer.joined_bytes_max() else { return };
    assert_eq!(most, 20_000, "what the topic takes");
    let records = some_records(1000);
    let mut parts = records.chunks(3).map(encoded);
    let mut join = Join::begin(parts.next().expect("there are records"), most).expect("it is uncompressed");
    let joined: Vec<_> = parts.take_while(|part| join.take(part).expect("it is sound")).collect();
    assert!(joined.len() > 10, "{} batches fit {most} bytes", joined.len());
    let batch = join.finish();
    let copied = &records[..batch.records as usize];
    let sent = within("a writer makes room", opened.writer.send(batch, Offset(0))).await.expect("it is accepted");
    let base = within("a batch is acknowledged", sent).await.expect("an undisturbed batch is durable");
    let range = OffsetRange::new(base, base + copied.len() as i64);
    assert_eq!(written(stage, &route, range.end).await, contents(range, copied));
}

/// Two owners that go apart: the later one is refused, everything after that too, and attaches behind the other.
pub async fn of_two_writers_with_different_batches_one_wins(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let seed = some_records(1);
    write(&mut *open(stage, &route, producer).await.writer, &seed, Offset(0))
        .await
        .expect("the first batch is durable");
    let mut winner = open(stage, &route, producer).await;
    let mut loser = open(stage, &route, producer).await;
    let won = some_records(3);
    write(&mut *winner.writer, &won, Offset(1)).await.expect("the winner's batch is durable");
    let lost = write(&mut *loser.writer, &some_records(2), Offset(1)).await.expect_err("the offset is taken");
    assert_eq!(lost.kind, ErrorKind::Attach, "{lost}");
    let later = write(&mut *loser.writer, &some_records(2), Offset(3)).await;
    assert!(later.is_err(), "after a failed batch all later ones fail");
    loser.writer.close().await;
    assert_eq!(open(stage, &route, producer).await.end, Offset(4));
    let mut expected = contents(OffsetRange::new(Offset(0), Offset(1)), &seed);
    expected.extend(contents(OffsetRange::new(Offset(1), Offset(4)), &won));
    assert_eq!(written(stage, &route, Offset(4)).await, expected);
}

/// Where nobody refuses a double: an ack tells that the log was not as expected, whether a stranger's records lie before
/// the batch or within it.
pub async fn of_two_writers_each_learns_of_the_other(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let (mut one, mut other) = (open(stage, &route, producer).await, open(stage, &route, producer).await);
    assert_eq!((one.end, other.end), (Offset(0), Offset(0)));
    write(&mut *one.writer, &some_records(3), Offset(0)).await.expect("the first batch is durable");
    let base = write(&mut *other.writer, &some_records(2), Offset(0)).await.expect("nobody refuses it");
    assert_eq!(base, Offset(3), "the ack says where it lies");
    let base = write(&mut *one.writer, &some_records(1), Offset(3)).await.expect("nobody refuses it");
    assert_eq!(base, Offset(5), "the ack says where it lies");
    for writer in [one.writer, other.writer] {
        writer.close().await;
    }
    assert_eq!(open(stage, &route, producer).await.end, Offset(6), "an opened writer begins behind both");
}

/// Two owners that do the same: both are told the same offset, the log has each batch once.
pub async fn two_writers_with_the_same_batches_write_them_once(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let records = some_records(12);
    write(&mut *open(stage, &route, producer).await.writer, &records[..3], Offset(0)).await.expect("durable");
    let mut one = open(stage, &route, producer).await;
    let mut other = open(stage, &route, producer).await;
    for (index, batch) in records.chunks(3).enumerate().skip(1) {
        let at = Offset(index as i64 * 3);
        for writer in [&mut one.writer, &mut other.writer] {
            assert_eq!(write(&mut **writer, batch, at).await.expect("the repeated batch is answered"), at);
        }
    }
    let expected = contents(OffsetRange::new(Offset(0), Offset(12)), &records);
    assert_eq!(written(stage, &route, Offset(12)).await, expected);
}

/// Once a batch of a newer epoch is in the log, the older owner can neither write nor open.
pub async fn a_newer_epoch_fences_the_older(stage: &dyn Stage) {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    let mut older = open(stage, &route, producer).await;
    write(&mut *older.writer, &some_records(2), Offset(0)).await.expect("an undisturbed batch is durable");
    let newer = ProducerIdentity { epoch: producer.epoch + 1, ..producer };
    let mut opened = open(stage, &route, newer).await;
    write(&mut *opened.writer, &some_records(2), Offset(2)).await.expect("the newer epoch begins");
    let fenced = write(&mut *older.writer, &some_records(2), Offset(2)).await.expect_err("a newer epoch stands");
    assert_eq!(fenced.kind, ErrorKind::Fenced, "{fenced}");
    let refused = within("opening comes to an end", stage.sink().open(&route, producer)).await;
    let refused = refused.err().expect("a newer epoch stands");
    assert_eq!(refused.kind, ErrorKind::Fenced, "{refused}");
}

/// A single record beyond `max.message.bytes`.
pub async fn a_record_too_large_is_named_and_the_log_stays_usable(stage: &dyn Stage) {
    let route = new_topic(stage, &[("max.message.bytes", "2000")]).await;
    let producer = new_producer(stage).await;
    let mut opened = open(stage, &route, producer).await;
    let large = Record::new(Offset(0), 0, None, Some(vec![7; 4000].into()));
    let refused = write(&mut *opened.writer, &[large], Offset(0)).await.expect_err("the record exceeds the limit");
    assert_eq!(refused.kind, ErrorKind::TooLarge, "{refused}");
    opened.writer.close().await;
    let mut opened = open(stage, &route, producer).await;
    let base = write(&mut *opened.writer, &some_records(2), Offset(0)).await.expect("smaller records are accepted");
    assert_eq!(base, Offset(0));
}

/// The id that the route fixes is believed, not the name.
pub async fn a_topic_of_another_id_is_not_written(stage: &dyn Stage) {
    let (route, other) = (new_topic(stage, &[]).await, new_topic(stage, &[]).await);
    if route.target_id.is_none() {
        return;
    }
    let mistaken = Route { target_id: other.target_id, ..route };
    let producer = new_producer(stage).await;
    let refused = within("opening comes to an end", stage.sink().open(&mistaken, producer)).await;
    assert_eq!(refused.err().expect("the id differs").kind, ErrorKind::Recreated);
}

async fn refuses_doubles(stage: &dyn Stage) -> bool {
    let (route, producer) = (new_topic(stage, &[]).await, new_producer(stage).await);
    open(stage, &route, producer).await.level != ProtectionLevel::DetectOnly
}

async fn new_producer(stage: &dyn Stage) -> ProducerIdentity {
    stage.admin().allocate_producer_id().await.expect("a producer id is given")
}

async fn open(stage: &dyn Stage, route: &Route, producer: ProducerIdentity) -> Opened {
    let opened = within("a partition is opened for writing", stage.sink().open(route, producer)).await;
    opened.expect("an existing partition is opened")
}

/// Sends one batch and waits for its outcome.
async fn write(writer: &mut dyn Writer, records: &[Record], at: Offset) -> Result<Offset, Error> {
    let delivery = within("a writer makes room or refuses", writer.send(encoded(records), at)).await?;
    within("a batch comes to an outcome", delivery).await
}

/// All that lies below `end`.
async fn written(stage: &dyn Stage, route: &Route, end: Offset) -> Contents {
    let mut seen = Contents::new();
    let mut rest = OffsetRange::new(Offset(0), end);
    while !rest.is_empty() {
        let read = stage.points().read(&route.target, rest, View::Log, 1 << 20).await.expect("the target is read");
        seen.extend(read.records.iter().map(|record| (record.offset, record.hash)));
        assert!(!read.range.is_empty(), "a point read below the end covers something");
        rest.start = read.range.end;
    }
    seen
}
