//! The broker's side of fetch sessions (KIP-227).

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{FetchRequest, FetchResponse};

use super::broker::TOPIC_ID;

/// The sessions of all brokers.
#[derive(Debug, Default)]
pub(in super::super) struct Sessions {
    open: BTreeMap<i32, Session>,
    begun: i32,
    /// How many partitions the requests of sessions named, one after the other.
    pub(in super::super) named: Vec<usize>,
    /// New ones are refused while there is no slot for them.
    pub(in super::super) are_full: bool,
}

#[derive(Debug, Default)]
struct Session {
    epoch: i32,
    partitions: BTreeMap<i32, FetchPartition>,
    high_watermarks: BTreeMap<i32, i64>,
}

impl Sessions {
    /// The request as if it named everything, and the session's id; the refusal, as code.
    pub(in super::super) fn enter(&mut self, mut request: FetchRequest) -> Result<(FetchRequest, i32), i16> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        if epoch <= 0 {
            self.open.remove(&id);
        }
        if epoch < 0 || (epoch == 0 && self.are_full) {
            return Ok((request, 0));
        }
        let named: Vec<FetchPartition> = request.topics.iter().flat_map(|topic| topic.partitions.clone()).collect();
        self.named.push(named.len());
        let id = if epoch == 0 {
            self.begun += 1;
            self.open.insert(self.begun, Session::default());
            self.begun
        } else {
            id
        };
        let session = self.open.get_mut(&id).ok_or(70_i16)?;
        if session.epoch != epoch {
            return Err(71);
        }
        session.epoch += 1;
        session.partitions.extend(named.into_iter().map(|partition| (partition.partition, partition)));
        for gone in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            session.partitions.remove(gone).expect("only what is remembered is forgotten");
        }
        let all = session.partitions.values().cloned().collect();
        request.topics = vec![FetchTopic::default().with_topic_id(TOPIC_ID).with_partitions(all)];
        Ok((request, id))
    }

    /// Leaves out, in a session that goes on, what has nothing new.
    pub(in super::super) fn leave(&mut self, id: i32, response: FetchResponse) -> FetchResponse {
        let Some(session) = self.open.get_mut(&id) else { return response };
        let is_new = session.epoch == 1;
        let mut response = response.with_session_id(id);
        for topic in &mut response.responses {
            topic.partitions.retain(|data| {
                let before = session.high_watermarks.insert(data.partition_index, data.high_watermark);
                let has_records = data.records.as_ref().is_some_and(|records| !records.is_empty());
                is_new || has_records || data.error_code != 0 || before != Some(data.high_watermark)
            });
        }
        response.responses.retain(|topic| !topic.partitions.is_empty());
        response
    }

    /// As a broker that starts, or that needed the slots for others.
    pub(in super::super) fn lose(&mut self) {
        self.open.clear();
    }
}
