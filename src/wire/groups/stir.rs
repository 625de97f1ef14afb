//! A write beside a group, for a coordinator that waits for one.
//!
//! A coordinator that loads its partition of `__consumer_offsets` while the high watermark still rises can miss that it
//! has risen (seen with Kafka 4.3.1). From then on it answers no question about stable positions, until the next record is
//! written there; on a target where nobody writes but Twinlog, which asks first, that would be never.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::endpoint::{COMMITS_TOPIC, Catalog, CommittedOffset, Error, ErrorKind, GroupWriter, Result};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};
use crate::wire::brokers::Cluster;

/// Groups of this name hold a position that means nothing.
const STEM: &str = "twinlog.stir";

/// Writes a position on `at` for a group of nobody's that is kept in the same partition as `group`.
pub(super) async fn stir(cluster: &Cluster, group: &GroupId, at: &TopicPartition) -> Result<()> {
    let topic = TopicName::from(COMMITS_TOPIC);
    let info = cluster.describe_topics(std::slice::from_ref(&topic)).await.pop();
    let partitions = match info {
        Some(info) => info?.partitions.len() as i32,
        None => return Err(Error::new(ErrorKind::Protocol, format!("no word on {COMMITS_TOPIC}"))),
    };
    let position = CommittedOffset { offset: Offset(0), metadata: Bytes::new() };
    cluster.commit_offsets(&beside(group, partitions), &BTreeMap::from([(at.clone(), position)])).await
}

fn beside(group: &GroupId, partitions: i32) -> GroupId {
    let home = home(group.as_str(), partitions);
    let found = (0..).map(|n| format!("{STEM}-{n}")).find(|name| home == self::home(name, partitions));
    GroupId::from(found.expect("some name lies in every partition").as_str())
}

/// The partition a broker keeps a group in: Java's hash of its name, made positive, by the number of partitions.
fn home(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lies_where_java_puts_it() {
        // "billing".hashCode() is -109829509, "Zähler" -1504575621, and this one the number that has no positive.
        assert_eq!(home("billing", 50), 9);
        assert_eq!(home("Zähler", 50), 21);
        assert_eq!(home("polygenelubricants", 50), 0);
    }

    #[test]
    fn there_is_a_group_of_nobodys_beside_every_other() {
        for partitions in [1, 4, 50, 100] {
            for name in ["billing", "audit", "Zähler", ""] {
                let group = GroupId::from(name);
                assert_eq!(home(beside(&group, partitions).as_str(), partitions), home(name, partitions));
            }
        }
    }
}
