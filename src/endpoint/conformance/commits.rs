//! What every [`CommitFeed`] must do. The cluster may have other groups that commit meanwhile.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::stage::within;
use crate::endpoint::{
    COMMITS_TOPIC, Catalog, CommitFeed, CommitTail, CommittedOffset, Error, ErrorKind, GroupOffsets, GroupWriter,
    Result,
};
use crate::model::{GroupId, Offset, TopicName, TopicPartition};

/// A cluster, and a partition in it that groups can commit on.
pub struct CommitStage<'a> {
    /// What is held to its contract.
    pub feed: &'a dyn CommitFeed,
    /// Tells the ends of the topic.
    pub catalog: &'a dyn Catalog,
    /// Commits.
    pub groups: &'a dyn GroupWriter,
    /// Exists.
    pub at: TopicPartition,
}

/// Runs the whole suite.
pub async fn all(stage: &CommitStage<'_>) {
    // A cluster in which nobody has ever committed has nowhere to listen.
    stage.commit(&new_group()).await;
    a_commit_is_heard_from_the_offset_on_by_every_tail(stage).await;
    a_group_is_told_again_only_when_it_commits_again(stage).await;
    a_dropped_wait_loses_nothing(stage).await;
    an_offset_that_is_not_in_the_log_ends_the_tail(stage).await;
}

/// Also one made between looking at the ends and listening.
pub async fn a_commit_is_heard_from_the_offset_on_by_every_tail(stage: &CommitStage<'_>) {
    let (ends, group) = (stage.ends().await, new_group());
    stage.commit(&group).await;
    let (mut one, mut other) = (stage.listen(&ends), stage.listen(&ends));
    hear(&mut *one, &group).await;
    hear(&mut *other, &group).await;
}

/// And for nothing else.
pub async fn a_group_is_told_again_only_when_it_commits_again(stage: &CommitStage<'_>) {
    let ends = stage.ends().await;
    let (first, second) = (new_group(), new_group());
    let mut tail = stage.listen(&ends);
    stage.commit(&first).await;
    hear(&mut *tail, &first).await;
    stage.commit(&second).await;
    // Whatever else rings until then, the first does not.
    let quiet = async {
        loop {
            let heard = tail.next().await.expect("the tail goes on");
            assert!(!heard.is_empty() && !heard.contains(&first), "{heard:?}");
            if heard.contains(&second) {
                return;
            }
        }
    };
    within("a second group commits", quiet).await;
    stage.commit(&first).await;
    hear(&mut *tail, &first).await;
}

/// `next` is cancel-safe.
pub async fn a_dropped_wait_loses_nothing(stage: &CommitStage<'_>) {
    let mut tail = stage.listen(&stage.ends().await);
    for _ in 0..5 {
        // Ends by itself when another group rings: then nothing was dropped, which is as good.
        let _ = tokio::time::timeout(Duration::from_millis(20), tail.next()).await;
        let group = new_group();
        stage.commit(&group).await;
        hear(&mut *tail, &group).await;
    }
}

/// For good, and so that the caller begins again.
pub async fn an_offset_that_is_not_in_the_log_ends_the_tail(stage: &CommitStage<'_>) {
    let mut ends = stage.ends().await;
    ends[0].1 = ends[0].1 + 1_000_000;
    let mut tail = stage.listen(&ends);
    for _ in 0..2 {
        let ended = async {
            loop {
                // Other partitions may ring first.
                if let Err(error) = tail.next().await {
                    return error;
                }
            }
        };
        let error: Error = within("an offset is not in the log", ended).await;
        assert_eq!(error.kind, ErrorKind::Retryable, "{error}");
        assert!(error.message.contains(COMMITS_TOPIC), "{error}");
    }
}

impl CommitStage<'_> {
    async fn ends(&self) -> Vec<(i32, Offset)> {
        let topic = TopicName::from(COMMITS_TOPIC);
        let told =
            self.catalog.describe_topics(std::slice::from_ref(&topic)).await.pop().expect("one answer per topic");
        let count = told.expect("the topic is there after a commit").partitions.len() as i32;
        let all: Vec<TopicPartition> = (0..count).map(|p| TopicPartition::new(topic.clone(), p)).collect();
        let ends: Result<Vec<Offset>> = self.catalog.high_watermarks(&all).await.into_iter().collect();
        (0..).zip(ends.expect("every partition has a leader")).collect()
    }

    async fn commit(&self, group: &GroupId) {
        let position = CommittedOffset { offset: Offset(0), metadata: Bytes::new() };
        let offsets = GroupOffsets::from([(self.at.clone(), position)]);
        let committed = async {
            while let Err(error) = self.groups.commit_offsets(group, &offsets).await {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("a group commits", committed).await;
    }

    fn listen(&self, from: &[(i32, Offset)]) -> Box<dyn CommitTail> {
        self.feed.listen(from).expect("listening starts")
    }
}

fn new_group() -> GroupId {
    GroupId::from(format!("conformance-{}", Uuid::new_v4()))
}

async fn hear(tail: &mut dyn CommitTail, group: &GroupId) {
    let heard = async { while !tail.next().await.expect("the tail goes on").contains(group) {} };
    within("a group committed", heard).await;
}
