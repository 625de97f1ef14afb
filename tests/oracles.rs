//! The oracles' own proof, without brokers: every kind of difference is noticed, and what is equal passes.

mod support;

use support::oracle::{compare, next_records};
use support::record::{Record, Stored};
use support::view::Seen;

#[test]
fn the_record_oracle_notices_every_kind_of_difference() {
    let seen = |offset, id| Seen::of(&Stored { offset, append_time: false, record: Record::order(id, 100) });
    let original: Vec<Seen> = (0..10).map(|i| seen(i, i as u64)).collect();
    assert!(compare(&original, &original).is_none());
    let shifted: Vec<Seen> = (0..10).map(|i| seen(i + 7, i as u64)).collect();
    assert!(compare(&original, &shifted).is_none(), "offsets may differ");

    let but = |change: &dyn Fn(&mut Vec<Seen>)| {
        let mut copy = original.clone();
        change(&mut copy);
        compare(&original, &copy)
    };
    let lost = but(&|c| c.retain(|s| s.id != Some(4)));
    assert_eq!((lost.missing, lost.is_prefix()), (1, false));
    let tail = but(&|c| c.truncate(7));
    assert_eq!((tail.behind, tail.is_prefix(), tail.is_none()), (3, true, false));
    assert_eq!(but(&|c| c.push(seen(10, 9))).doubled, 1);
    assert_eq!(but(&|c| c.insert(3, seen(3, 99))).foreign, 1);
    assert_eq!(but(&|c| c.swap(2, 3)).reordered, 1);
    assert_eq!(but(&|c| c[5].timestamp += 1).altered, 1);
    assert_eq!(but(&|c| c[5].digest ^= 1).altered, 1);
    assert_eq!(but(&|c| c[5].append_time = true).altered, 1);

    // Records without an id are told apart by content, and equal ones by how often they occur.
    let blank = |offset| Seen::of(&Stored { offset, append_time: false, record: Record::default() });
    let equal: Vec<Seen> = (0..3).map(blank).collect();
    assert!(compare(&equal, &equal).is_none());
    assert_eq!(compare(&equal, &(0..4).map(blank).collect::<Vec<_>>()).doubled, 1);
    assert_eq!(compare(&equal, &equal[..2]).behind, 1);
}

#[test]
fn null_and_empty_differ_for_the_oracle() {
    let digest = |record: Record| Seen::of(&Stored { offset: 0, append_time: false, record }).digest;
    let empty = Record { key: Some(vec![]), ..Record::default() };
    let header = |value| Record { headers: vec![(b"a".to_vec(), value)], ..Record::default() };
    let twice = Record { headers: vec![(b"a".to_vec(), None), (b"a".to_vec(), None)], ..Record::default() };
    let digests = [Record::default(), empty, header(None), header(Some(vec![])), twice].map(digest);
    let different: std::collections::HashSet<u64> = digests.into_iter().collect();
    assert_eq!(different.len(), digests.len());
}

#[test]
fn the_group_oracle_counts_skipped_and_reread_records() {
    let seen = |offset, id| Seen::of(&Stored { offset, append_time: false, record: Record::order(id, 100) });
    // The source has a hole at 3..5; the copy is dense and lacks the last two.
    let original: Vec<Seen> = [0, 1, 2, 5, 6, 7].iter().zip(0..).map(|(o, id)| seen(*o, id)).collect();
    let copy: Vec<Seen> = (0..4).map(|i| seen(i, i as u64)).collect();
    let next = |source, target| next_records(&original, &copy, source, target);
    assert_eq!(next(3, 3), (0, 0), "in the hole: the record behind it");
    assert_eq!(next(5, 3), (0, 0));
    assert_eq!(next(2, 3), (1, 0));
    assert_eq!(next(5, 1), (0, 2));
    assert_eq!(next(6, 4), (0, 0), "the end of the copy is where its next record will be");
    assert_eq!(next(8, 4), (0, 2));
    assert_eq!(next(0, 0), (0, 0));
    assert_eq!(next_records(&original, &[], 2, 0), (0, 2));
}
