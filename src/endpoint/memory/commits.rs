//! The topic in which the coordinator keeps positions, and hearing from it.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use crate::batch::{BatchBuilder, Record};
use crate::endpoint::memory::log::opened;
use crate::endpoint::memory::{Call, MemoryCluster, State};
use crate::endpoint::{COMMITS_TOPIC, CommitFeed, CommitTail, Error, ErrorKind, Result, TopicSpec};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};

/// Fewer than a broker's 50, but more than one.
const PARTITIONS: i32 = 2;

impl State {
    /// The coordinator writes down that a position of this group changed. As with a broker, the topic is made for the
    /// first group, and a group keeps to one partition; of the records only the group is kept, as their key.
    pub(super) fn ring(&mut self, group: &GroupId) {
        let name = TopicName::from(COMMITS_TOPIC);
        let configs = [("cleanup.policy".to_owned(), "compact".to_owned())].into();
        self.create(&TopicSpec { name: name.clone(), partitions: PARTITIONS, replication: 1, configs });
        let partitions = &mut self.topics.get_mut(&name).expect("made above, if it was not there").partitions;
        let hash = group.as_str().bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let home = hash % partitions.len();
        let mut batch = BatchBuilder::new(Offset(0));
        batch.push(&Record::new(Offset(0), 0, Some(Bytes::copy_from_slice(group.as_str().as_bytes())), None));
        partitions[home].append(&batch.build());
    }
}

impl CommitFeed for MemoryCluster {
    fn listen(&self, from: &[(i32, Offset)]) -> Result<Box<dyn CommitTail>> {
        let next =
            from.iter().map(|(partition, offset)| (TopicPartition::new(COMMITS_TOPIC, *partition), *offset)).collect();
        Ok(Box::new(MemoryTail { cluster: self.clone(), next, ended: None }))
    }
}

struct MemoryTail {
    cluster: MemoryCluster,
    /// Per partition the next offset to read.
    next: Vec<(TopicPartition, Offset)>,
    ended: Option<Error>,
}

#[async_trait]
impl CommitTail for MemoryTail {
    async fn next(&mut self) -> Result<BTreeSet<GroupId>> {
        if let Some(why) = &self.ended {
            return Err(why.clone());
        }
        let heard = self.hear().await;
        self.ended = heard.as_ref().err().cloned();
        heard
    }
}

impl MemoryTail {
    async fn hear(&mut self) -> Result<BTreeSet<GroupId>> {
        self.cluster.enter(Call::HearCommits).await?;
        let next = &mut self.next;
        let heard = self.cluster.wait_for(|state| match state.faults.frozen {
            true => None,
            false => look(state, next).transpose(),
        });
        heard.await
    }
}

/// Whom the records from `next` on are about, and moves on.
fn look(state: &mut State, next: &mut [(TopicPartition, Offset)]) -> Result<Option<BTreeSet<GroupId>>> {
    state.faults.due(Call::HearCommits)?;
    let mut groups = BTreeSet::new();
    for (at, next) in next {
        let bounds = state.log(at)?.bounds();
        if *next < bounds.log_start || *next > bounds.high_watermark {
            return Err(Error::new(ErrorKind::Retryable, format!("{at} has no offset {next}")));
        }
        // What an open transaction wrote is read like anything else.
        let records = state.log(at)?.batches_from(*next).flat_map(opened);
        let replicated = records.filter(|r| r.offset >= *next && r.offset < bounds.high_watermark);
        groups.extend(replicated.filter_map(|r| Some(GroupId::from(std::str::from_utf8(&r.key?).ok()?))));
        *next = bounds.high_watermark;
    }
    Ok((!groups.is_empty()).then_some(groups))
}
