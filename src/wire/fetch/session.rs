//! A fetch session (KIP-227): the broker remembers which partitions are asked for and from where, so that a request for
//! thousands names only those for which something has changed, and the answer only those that have something.
//!
//! The broker keeps the session by its id, across connections, until it needs the slot for somebody else. Whatever goes
//! wrong with it, the next request names everything again.

use std::collections::HashMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::ForgottenTopic;

use crate::model::{LeaderEpoch, Offset, TopicId, TopicPartition};
use crate::wire::fetch::cursor::Cursor;
use crate::wire::fetch::exchange::{BY_ID, named};

/// No session: what a broker answers that has no slot left, or that was not asked for one.
const NONE: i32 = 0;
/// Epoch of a request that names everything and asks for a session; one of the same id ends with it.
const FIRST: i32 = 0;

/// What a broker remembers of one shuttle's requests.
#[derive(Debug)]
pub(super) struct Session {
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// Whether its topics are named by id; the broker refuses to mix.
    by_id: bool,
    told: HashMap<TopicPartition, Told>,
    turn: u64,
}

/// What the broker was told of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    topic_id: Option<TopicId>,
    leader_epoch: LeaderEpoch,
    next: Offset,
    epoch: LeaderEpoch,
    /// The last turn in which the partition was asked for.
    turn: u64,
}

impl Session {
    pub(super) fn new() -> Self {
        Self { id: NONE, epoch: FIRST, by_id: false, told: HashMap::new(), turn: 0 }
    }

    /// What the next request has to name so that the broker serves exactly `asked`; writes the rest into the request.
    pub(super) fn tell<'a>(
        &mut self,
        asked: &[&'a Cursor],
        version: i16,
        request: FetchRequest,
    ) -> (Vec<&'a Cursor>, FetchRequest) {
        if self.by_id != (version >= BY_ID) {
            self.begin_anew();
            self.by_id = version >= BY_ID;
        }
        self.turn += 1;
        let mut news = Vec::new();
        let mut is_replaced = false;
        for cursor in asked {
            let now = Told {
                topic_id: cursor.leader.topic_id,
                leader_epoch: cursor.leader.epoch,
                next: cursor.next,
                epoch: cursor.epoch,
                turn: self.turn,
            };
            match self.told.get_mut(&cursor.at) {
                Some(told) => {
                    is_replaced |= told.topic_id != now.topic_id;
                    if (Told { turn: now.turn, ..*told }) != now {
                        news.push(*cursor);
                    }
                    *told = now;
                }
                None => {
                    self.told.insert(cursor.at.clone(), now);
                    news.push(*cursor);
                }
            }
        }
        // A topic of the same name and another id is rare enough to begin anew for.
        if is_replaced {
            self.epoch = FIRST;
        }
        let turn = self.turn;
        let forgotten = if self.told.len() > asked.len() {
            let left: Vec<_> = self.told.extract_if(|_, told| told.turn != turn).collect();
            forgotten(left, version)
        } else {
            Vec::new()
        };
        let request = request.with_session_id(self.id).with_session_epoch(self.epoch);
        if self.epoch == FIRST {
            (asked.to_vec(), request)
        } else {
            (news, request.with_forgotten_topics_data(forgotten))
        }
    }

    /// Notes the answer to what [`tell`](Self::tell) prepared. Answers whether it continues the session, so that partitions
    /// it leaves out have the same high watermark and log start as when the session last told them.
    pub(super) fn answered(&mut self, id: i32) -> bool {
        let continues = self.epoch != FIRST;
        if id == NONE || (continues && id != self.id) {
            self.begin_anew();
            return false;
        }
        self.id = id;
        self.epoch = self.epoch.checked_add(1).unwrap_or(FIRST + 1);
        continues
    }

    /// Whether a refusal of the whole request means only that the broker has lost the session, so that it begins anew.
    pub(super) fn is_lost(&mut self, code: i16) -> bool {
        let is_lost = self.epoch != FIRST
            && matches!(
                ResponseError::try_from_code(code),
                Some(
                    ResponseError::FetchSessionIdNotFound
                        | ResponseError::InvalidFetchSessionEpoch
                        | ResponseError::FetchSessionTopicIdError
                )
            );
        if is_lost {
            self.begin_anew();
        }
        is_lost
    }

    /// The next request names everything.
    pub(super) fn begin_anew(&mut self) {
        self.epoch = FIRST;
        self.told.clear();
    }
}

fn forgotten(left: Vec<(TopicPartition, Told)>, version: i16) -> Vec<ForgottenTopic> {
    let mut topics: HashMap<_, ForgottenTopic> = HashMap::new();
    for (at, told) in left {
        let topic = topics.entry(at.topic.clone()).or_insert_with(|| {
            let (id, name) = named(&at.topic, told.topic_id, version);
            ForgottenTopic::default().with_topic_id(id).with_topic(name)
        });
        topic.partitions.push(at.partition);
    }
    topics.into_values().collect()
}
