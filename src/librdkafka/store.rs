//! A link's ledger on a real cluster.

use async_trait::async_trait;

use crate::endpoint::{LedgerAppender, LedgerFollower, LedgerReader, LedgerStore, LedgerTopic, Ledgers, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::appender::{Identity, RdAppender};
use crate::librdkafka::follower::RdFollower;
use crate::model::{LinkName, TopicName};

/// The two topics `__twinlog.LINK.map` and `__twinlog.LINK.control`, which must exist, and the transactional ids
/// `twinlog.LINK.0.map` and `twinlog.LINK.0.control`.
#[derive(Debug, Clone)]
pub struct RdLedgerStore {
    cluster: ClusterAccess,
    link: LinkName,
}

impl RdLedgerStore {
    /// Describes the ledger of `link` on `cluster`. No I/O.
    pub fn new(cluster: ClusterAccess, link: &LinkName) -> Self {
        Self { cluster, link: link.clone() }
    }

    fn topic(&self, topic: LedgerTopic) -> TopicName {
        topic.name(&self.link)
    }

    fn identity(&self, topic: LedgerTopic) -> Identity {
        let transactional_id = format!("twinlog.{}.0.{}", self.link, topic.suffix());
        Identity { topic: self.topic(topic), transactional_id }
    }
}

/// The ledgers on a real cluster, for reading.
#[derive(Debug, Clone)]
pub struct RdLedgers(pub ClusterAccess);

impl Ledgers for RdLedgers {
    fn of(&self, link: &LinkName) -> Box<dyn LedgerReader> {
        Box::new(RdLedgerStore::new(self.0.clone(), link))
    }
}

#[async_trait]
impl LedgerReader for RdLedgerStore {
    async fn follow(&self, topic: LedgerTopic) -> Result<Box<dyn LedgerFollower>> {
        let group = format!("twinlog.{}.ledger", self.link);
        Ok(Box::new(RdFollower::start(&self.cluster, &group, self.topic(topic))?))
    }
}

#[async_trait]
impl LedgerStore for RdLedgerStore {
    async fn claim(&self) -> Result<Box<dyn LedgerAppender>> {
        let (map, control) = (self.identity(LedgerTopic::Map), self.identity(LedgerTopic::Control));
        Ok(Box::new(RdAppender::claim(&self.cluster, map, control).await?))
    }
}
