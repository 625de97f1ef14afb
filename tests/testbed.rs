//! The test bed's own proof: what tests rely on holds, and what must be noticed is noticed.

mod support;

use support::batch::{Batch, Codec, open};
use support::raw::Isolation;
use support::record::Record;
use support::{Cluster, ClusterSpec, shared_pair, unique};

#[test]
fn every_codec_is_taken_by_a_broker_and_read_back() {
    let (source, _) = shared_pair();
    let (client, topic) = (source.client(), unique("codecs"));
    client.create_topic(&topic, 1, &[]).unwrap();
    let mut expected = Vec::new();
    for codec in Codec::ALL {
        let records: Vec<Record> = (0..20).map(|i| Record::order(expected.len() as u64 + i, 700)).collect();
        expected.extend(records.clone());
        client.produce(&topic, 0, &Batch::of(records, codec).encode()).unwrap();
    }
    let section = client.fetch(&topic, 0, 0, Isolation::Committed).unwrap();
    let read: Vec<Record> =
        open(&section.bytes).unwrap().into_iter().flat_map(|b| b.records).map(|r| r.record).collect();
    assert_eq!(read, expected);
}
