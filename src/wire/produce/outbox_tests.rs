//! The rules of the outbox as truths.

use bytes::Bytes;
use futures::FutureExt;

use super::outbox::{Outbox, Seat, Sent};
use super::piece::{Piece, Promise};
use crate::endpoint::{Delivery, Error, ErrorKind, Result};
use crate::model::{Offset, TopicPartition};

const IN_FLIGHT: usize = 3;

fn seat(outbox: &mut Outbox, partition: i32) -> Seat {
    outbox.join(TopicPartition::new("orders", partition).into(), None, Default::default()).unwrap()
}

fn piece(expected: i64, bytes: usize) -> (Piece, Delivery) {
    let (promise, delivery) = Promise::new(Offset(expected));
    let payload = Bytes::from(vec![0; bytes - 61]);
    (Piece { header: [0; 61], payload, expected: Offset(expected), promise: Some(promise) }, delivery)
}

fn offer(outbox: &mut Outbox, seat: Seat, expected: i64) -> Delivery {
    assert!(outbox.has_room(seat).unwrap());
    let (piece, delivery) = piece(expected, 100);
    outbox.offer(seat, [piece]);
    delivery
}

fn gathered(outbox: &mut Outbox) -> Vec<(i32, i64, Sent)> {
    outbox.gather(1000).into_iter().map(|sent| (sent.at.partition, sent.piece.expected.0, sent)).collect()
}

fn only(outbox: &mut Outbox) -> Sent {
    let mut sent = outbox.gather(1000);
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

fn now(delivery: &mut Delivery) -> Option<Result<Offset>> {
    delivery.now_or_never()
}

fn refused() -> Error {
    Error::new(ErrorKind::TooLarge, "too large")
}

/// A seat whose first batch, at offset 0, was acknowledged.
fn proven(outbox: &mut Outbox, partition: i32) -> Seat {
    let seat = seat(outbox, partition);
    let mut delivery = offer(outbox, seat, 0);
    let sent = only(outbox);
    outbox.settle(sent, Ok(Offset(0)));
    assert_eq!(now(&mut delivery).unwrap().unwrap(), Offset(0));
    seat
}

#[test]
fn only_one_batch_is_in_flight_until_the_first_ack() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = seat(&mut outbox, 0);
    let _first = offer(&mut outbox, seat, 0);
    let sent = only(&mut outbox);
    assert!(!outbox.has_room(seat).unwrap());
    outbox.settle(sent, Ok(Offset(0)));
    let _more: Vec<_> = (1..=3).map(|n| offer(&mut outbox, seat, n)).collect();
    assert!(!outbox.has_room(seat).unwrap());
    for expected in 1..=3 {
        assert_eq!(only(&mut outbox).piece.expected, Offset(expected));
    }
}

#[test]
fn a_restricted_writer_keeps_one_in_flight_and_gets_its_room_back() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = proven(&mut outbox, 0);
    let _one = offer(&mut outbox, seat, 1);
    let _two = offer(&mut outbox, seat, 2);
    outbox.limit_to_one(seat, true);
    let sent = only(&mut outbox);
    assert!(outbox.gather(1000).is_empty());
    outbox.limit_to_one(seat, false);
    assert_eq!(only(&mut outbox).piece.expected, Offset(2));
    outbox.settle(sent, Ok(Offset(1)));
    assert!(outbox.has_room(seat).unwrap());
}

#[test]
fn a_request_holds_one_batch_per_partition_within_its_bytes_and_everyone_gets_a_turn() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seats: Vec<_> = (0..15).map(|partition| proven(&mut outbox, partition)).collect();
    let _deliveries: Vec<_> =
        [1, 2].iter().flat_map(|n| seats.iter().map(|s| offer(&mut outbox, *s, *n)).collect::<Vec<_>>()).collect();
    let requests: Vec<Vec<(i32, i64)>> =
        (0..3).map(|_| gathered(&mut outbox).iter().map(|(partition, at, _)| (*partition, *at)).collect()).collect();
    assert_eq!(requests[0], (0..10).map(|p| (p, 1)).collect::<Vec<_>>());
    // The five that had no turn yet come first; sorting by partition is for the encoder.
    let second: Vec<_> = (0..5).map(|p| (p, 2)).chain((10..15).map(|p| (p, 1))).collect();
    assert_eq!(requests[1], second);
    assert_eq!(requests[2], (5..15).map(|p| (p, 2)).collect::<Vec<_>>());
}

#[test]
fn a_batch_larger_than_a_request_travels_alone() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let (small, large) = (seat(&mut outbox, 0), seat(&mut outbox, 1));
    let (piece, _kept) = piece(0, 5000);
    outbox.offer(large, [piece]);
    let _delivery = offer(&mut outbox, small, 0);
    assert_eq!(only(&mut outbox).at.partition, 1);
    assert_eq!(only(&mut outbox).at.partition, 0);
}

#[test]
fn a_stalled_partition_does_not_hold_up_another() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let (stalled, lively) = (seat(&mut outbox, 0), proven(&mut outbox, 1));
    let _delivery = offer(&mut outbox, stalled, 0);
    let _stuck = only(&mut outbox);
    for n in 1..10 {
        let _delivery = offer(&mut outbox, lively, n);
        let sent = only(&mut outbox);
        outbox.settle(sent, Ok(Offset(n)));
    }
    assert!(!outbox.has_room(stalled).unwrap());
}

#[test]
fn after_the_first_failure_everything_behind_fails_in_order() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = proven(&mut outbox, 0);
    let mut deliveries: Vec<_> = (1..=3).map(|n| offer(&mut outbox, seat, n)).collect();
    let (one, two) = (only(&mut outbox), only(&mut outbox));
    outbox.settle(one, Err(refused()));
    assert_eq!(now(&mut deliveries[0]).unwrap().unwrap_err().kind, ErrorKind::TooLarge);
    assert!(now(&mut deliveries[1]).is_none() && now(&mut deliveries[2]).is_none(), "not settled before their turn");
    assert!(outbox.gather(1000).is_empty(), "what was not sent stays unsent");
    // The broker may have taken it after all: attaching will tell.
    outbox.settle(two, Ok(Offset(2)));
    for delivery in &mut deliveries[1..] {
        let error = now(delivery).unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Attach);
        assert!(error.message.contains("too large"), "{error}");
    }
    assert_eq!(outbox.has_room(seat).unwrap_err().kind, ErrorKind::Attach);
}

#[test]
fn an_ack_at_another_offset_is_told_and_nothing_more_is_sent() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = proven(&mut outbox, 0);
    let mut deliveries: Vec<_> = (1..=3).map(|n| offer(&mut outbox, seat, n)).collect();
    let (one, two) = (only(&mut outbox), only(&mut outbox));
    outbox.settle(one, Ok(Offset(11)));
    outbox.settle(two, Ok(Offset(12)));
    assert_eq!(now(&mut deliveries[0]).unwrap().unwrap(), Offset(11));
    assert_eq!(now(&mut deliveries[1]).unwrap().unwrap(), Offset(12));
    assert!(outbox.gather(1000).is_empty());
    assert_eq!(now(&mut deliveries[2]).unwrap().unwrap_err().kind, ErrorKind::Attach);
}

fn offer_split(outbox: &mut Outbox, seat: Seat, parts: [i64; 2]) -> Delivery {
    let (mut pieces, mut delivery) = (Vec::new(), None);
    for (n, expected) in parts.into_iter().enumerate() {
        let (mut piece, _) = piece(expected, 100);
        let (promise, told) = Promise::new(Offset(parts[0]));
        piece.promise = (n == 1).then_some(promise);
        delivery = Some(told);
        pieces.push(piece);
    }
    outbox.offer(seat, pieces);
    delivery.unwrap()
}

#[test]
fn a_split_batch_is_delivered_once_at_its_first_offset() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = proven(&mut outbox, 0);
    let mut delivery = offer_split(&mut outbox, seat, [1, 6]);
    let (one, two) = (only(&mut outbox), only(&mut outbox));
    outbox.settle(one, Ok(Offset(1)));
    assert!(now(&mut delivery).is_none());
    outbox.settle(two, Ok(Offset(6)));
    assert_eq!(now(&mut delivery).unwrap().unwrap(), Offset(1));
}

#[test]
fn a_split_batch_whose_parts_drift_apart_has_no_offset() {
    for (first, second) in [(1, 9), (3, 8), (3, 6)] {
        let mut outbox = Outbox::new(IN_FLIGHT);
        let seat = proven(&mut outbox, 0);
        let mut delivery = offer_split(&mut outbox, seat, [1, 6]);
        let (one, two) = (only(&mut outbox), only(&mut outbox));
        outbox.settle(one, Ok(Offset(first)));
        outbox.settle(two, Ok(Offset(second)));
        assert_eq!(now(&mut delivery).unwrap().unwrap_err().kind, ErrorKind::Attach, "{first}, {second}");
    }
}

#[test]
fn a_lost_connection_fails_all_that_is_open_and_lets_nobody_in() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let (a, b) = (proven(&mut outbox, 0), seat(&mut outbox, 1));
    let mut deliveries = vec![offer(&mut outbox, a, 1), offer(&mut outbox, a, 2), offer(&mut outbox, b, 0)];
    let in_flight: Vec<_> = outbox.gather(1000);
    assert_eq!(in_flight.len(), 2);
    outbox.close(in_flight, &Error::new(ErrorKind::Attach, "connection lost"));
    for delivery in &mut deliveries {
        assert_eq!(now(delivery).unwrap().unwrap_err().kind, ErrorKind::Attach);
    }
    assert!(outbox.has_room(a).is_err() && outbox.has_room(b).is_err());
    assert!(outbox.join(TopicPartition::new("orders", 2).into(), None, Default::default()).is_err());
}

#[test]
fn a_writer_that_left_sends_nothing_more_and_its_open_batches_are_still_told() {
    let mut outbox = Outbox::new(IN_FLIGHT);
    let seat = proven(&mut outbox, 0);
    let mut sent_delivery = offer(&mut outbox, seat, 1);
    let sent = only(&mut outbox);
    let mut unsent_delivery = offer(&mut outbox, seat, 2);
    outbox.leave(seat);
    assert!(outbox.is_vacant());
    assert!(outbox.gather(1000).is_empty());
    assert_eq!(now(&mut unsent_delivery).unwrap().unwrap_err().kind, ErrorKind::Attach);
    outbox.settle(sent, Ok(Offset(1)));
    assert_eq!(now(&mut sent_delivery).unwrap().unwrap(), Offset(1));
}
