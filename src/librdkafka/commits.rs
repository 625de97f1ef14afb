//! Hearing of commits on a real cluster: the keys of `__consumer_offsets`, read as they are written.
//!
//! Only a doorbell: the group's coordinator is asked for the positions. So records of open transactions are read too (a
//! hanging one must not silence the partition behind it), and tombstones ring like commits. A key that cannot be read
//! rings for nobody; callers that must miss nothing look at every group from time to time.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::message::{BorrowedMessage, Message};

use crate::endpoint::{CommitFeed, CommitTail, Error, ErrorKind, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::bell::Bell;
use crate::librdkafka::commit_key::group_of;
use crate::librdkafka::reading::{Going, Listener, Reading};
use crate::model::{GroupId, Offset, TopicName};

/// Where coordinators keep positions.
const TOPIC: &str = "__consumer_offsets";
/// Named because assign() needs one; it never joins and never commits.
const GROUP: &str = "twinlog.commits";

/// The commits on a real cluster.
///
/// Brokers that cannot be reached, and leaders that move, are waited for: nothing is missed then, only late. What ends a
/// tail: a missing right, a refused login or certificate (`Denied`), a partition that does not exist (`UnknownTopic`),
/// an offset that is not in the log, or no longer after an unclean election (`Retryable`: start again from where the log
/// ends now, then look at every group).
#[derive(Debug, Clone)]
pub struct RdCommitFeed(pub ClusterAccess);

impl CommitFeed for RdCommitFeed {
    fn listen(&self, from: &[(i32, Offset)]) -> Result<Box<dyn CommitTail>> {
        let (cluster, topic) = (self.0.clone(), TopicName::from(TOPIC));
        let reading = Reading { cluster, topic, from: from.to_vec(), needs_brokers: false };
        let mut config = reading.client_config("commits", GROUP)?;
        set_for_hearing(&mut config);
        let bell = Arc::new(Bell::default());
        let _going = reading.start("commits-read", config, Ringer { bell: bell.clone() })?;
        Ok(Box::new(RdCommitTail { bell, _going }))
    }
}

fn set_for_hearing(config: &mut ClientConfig) {
    config
        .set("isolation.level", "read_uncommitted")
        .set("enable.partition.eof", "false")
        // A broker answers as soon as it has a byte, so this is no delay but the rhythm of empty answers; and how long a
        // partition that changes its leader may wait to be asked for beside those of the new one. (At 1,000 commits a
        // second that is nearly as many answers, a tenth of a core here. Fewer, larger ones cost the brokers as much
        // when idle; and a partition held back while records wait here would miss the next question, for this long.)
        .set("fetch.wait.max.ms", "500")
        // Small: of each of the 50 partitions in one answer.
        .set("fetch.message.max.bytes", "65536")
        .set("queued.min.messages", "10000")
        // How often a partition's next leader is asked for, in the end; 1 s by default.
        .set("retry.backoff.max.ms", "250");
}

struct RdCommitTail {
    bell: Arc<Bell>,
    _going: Going,
}

#[async_trait]
impl CommitTail for RdCommitTail {
    async fn next(&mut self) -> Result<BTreeSet<GroupId>> {
        self.bell.wait().await
    }
}

/// The thread's side of the bell.
struct Ringer {
    bell: Arc<Bell>,
}

impl Listener for Ringer {
    fn record(&mut self, record: &BorrowedMessage<'_>) -> bool {
        match group_of(record.key().unwrap_or_default()) {
            Ok(Some(group)) => self.bell.ring(group),
            Ok(None) => {}
            Err(_) => {
                let (partition, offset) = (record.partition(), record.offset());
                tracing::debug!(topic = TOPIC, partition, offset, "a key that cannot be read");
            }
        }
        true
    }

    fn failed(&mut self, error: Error) {
        // The offset asked for is not in the log, or a record is damaged: starting behind it helps.
        let kind = if error.kind == ErrorKind::Corrupt { ErrorKind::Retryable } else { error.kind };
        self.bell.end(|| Error { kind, ..error });
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        // However the thread ends, by a bug too: nobody waits for a bell that cannot ring.
        self.bell.end(|| Error::new(ErrorKind::Retryable, "the thread that hears of commits has ended"));
    }
}
