//! The right to append: both transactional producers of a link, claimed at the same time.

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::endpoint::{Error, ErrorKind, LedgerAppender, LedgerEntry, LedgerTopic, Result};
use crate::librdkafka::access::ClusterAccess;
use crate::librdkafka::login::Login;
use crate::librdkafka::producer::{self, Append};
use crate::model::TopicName;

/// Appends waiting for their thread; callers beyond that wait for room.
const WAITING: usize = 16;

/// Handles to the two producer threads, which end when it is dropped (an append under way is finished first).
pub(super) struct RdAppender {
    map: Handle,
    control: Handle,
}

struct Handle {
    topic: TopicName,
    appends: mpsc::Sender<Append>,
}

/// What one producer thread needs.
pub(super) struct Identity {
    pub topic: TopicName,
    pub transactional_id: String,
}

impl RdAppender {
    /// Claims both transactional ids, the control one included: an earlier holder can append nowhere afterwards. A
    /// dropped future abandons the claim, unless a broker has already granted it.
    pub async fn claim(cluster: &ClusterAccess, map: Identity, control: Identity) -> Result<Self> {
        let (map, control) = futures::future::try_join(claim(cluster, map), claim(cluster, control)).await?;
        Ok(Self { map, control })
    }
}

async fn claim(cluster: &ClusterAccess, identity: Identity) -> Result<Handle> {
    let Identity { topic, transactional_id } = identity;
    let (claimed, outcome) = oneshot::channel();
    let (appends, waiting) = mpsc::channel(WAITING);
    let (cluster, name, login) = (cluster.clone(), topic.clone(), Login::of(cluster));
    std::thread::Builder::new()
        .name("ledger-append".to_owned())
        .spawn(move || producer::serve(&cluster, login, name, &transactional_id, claimed, waiting))
        .map_err(|e| Error::new(ErrorKind::Retryable, format!("cannot start a thread to append to {topic}: {e}")))?;
    outcome.await.unwrap_or_else(|_| Err(ended(&topic)))?;
    Ok(Handle { topic, appends })
}

#[async_trait]
impl LedgerAppender for RdAppender {
    async fn append(&self, topic: LedgerTopic, entries: Vec<LedgerEntry>) -> Result<()> {
        let handle = match topic {
            LedgerTopic::Map => &self.map,
            LedgerTopic::Control => &self.control,
        };
        let (done, outcome) = oneshot::channel();
        let sent = handle.appends.send(Append { entries, done }).await;
        match (sent, outcome.await) {
            (Ok(()), Ok(outcome)) => outcome,
            _ => Err(ended(&handle.topic)),
        }
    }
}

fn ended(topic: &TopicName) -> Error {
    Error::new(ErrorKind::Attach, format!("the thread that appends to {topic} has ended"))
}
