//! One kind of question about many groups of one coordinator, in as few requests as it takes.

use std::collections::HashMap;
use std::slice;

use futures::future::join_all;
use kafka_protocol::protocol::Request;

use crate::endpoint::{Error, ErrorKind};
use crate::model::GroupId;
use crate::wire::connection::{Connection, DEFAULT_TIMEOUT};
use crate::wire::coordinators::Told;

/// Requests under way to one broker: enough to hide its distance, few enough for their answers to fit into memory.
const UNDER_WAY: usize = 4;

/// A question that one request asks about many groups.
pub(super) trait Question {
    /// The request.
    type Request: Request + 'static;
    /// What its response says of one group.
    type Group: Send;
    /// What follows from that.
    type Answer: Clone + Send;
    /// What is asked for, for messages.
    const WHAT: &'static str;
    /// Groups asked about in one request.
    const AT_ONCE: usize;

    /// The request about these groups.
    fn request(groups: &[GroupId]) -> Self::Request;

    /// The parts of a response, each with the name of its group.
    fn groups(response: <Self::Request as Request>::Response) -> impl Iterator<Item = (String, Self::Group)>;

    /// Reads the part of one group; `what` says for messages what was asked, and where.
    fn read(group: &GroupId, what: &str, told: Self::Group) -> Told<Self::Answer>;
}

/// Asks a coordinator about groups of its own.
pub(super) async fn ask<Q: Question>(at: &Connection, groups: &[GroupId]) -> Vec<(GroupId, Told<Q::Answer>)> {
    let mut told = Vec::with_capacity(groups.len());
    for some in groups.chunks(Q::AT_ONCE * UNDER_WAY) {
        let asked = some.chunks(Q::AT_ONCE).map(|some| ask_at_once::<Q>(at, some));
        told.extend(join_all(asked).await.into_iter().flatten());
    }
    told
}

async fn ask_at_once<Q: Question>(at: &Connection, groups: &[GroupId]) -> Vec<(GroupId, Told<Q::Answer>)> {
    match at.start(Q::request(groups), DEFAULT_TIMEOUT).await {
        Ok(response) => by_group::<Q>(at, groups, response),
        // One text that is not UTF-8 spoils the answer for all: alone each spoils only its own.
        Err(error) if error.kind == ErrorKind::Protocol && groups.len() > 1 && !at.is_closed() => {
            let alone = groups.iter().map(|group| {
                let group = slice::from_ref(group);
                let response = at.start(Q::request(group), DEFAULT_TIMEOUT);
                async move {
                    match response.await {
                        Ok(response) => by_group::<Q>(at, group, response),
                        Err(error) => vec![(group[0].clone(), Told::settled(Err(error)))],
                    }
                }
            });
            join_all(alone.collect::<Vec<_>>()).await.into_iter().flatten().collect()
        }
        Err(error) => groups.iter().map(|group| (group.clone(), Told::unheard(error.clone()))).collect(),
    }
}

fn by_group<Q: Question>(
    at: &Connection,
    groups: &[GroupId],
    response: <Q::Request as Request>::Response,
) -> Vec<(GroupId, Told<Q::Answer>)> {
    let mut told: HashMap<String, Q::Group> = Q::groups(response).collect();
    let answers = groups.iter().map(|group| {
        let what = format!("{}: {} of group {group}", at.peer(), Q::WHAT);
        let answer = match told.remove(group.as_str()) {
            Some(told) => Q::read(group, &what, told),
            None => {
                let why = format!("{what}: the broker left them out of its answer");
                Told::settled(Err(Error::new(ErrorKind::Protocol, why)))
            }
        };
        (group.clone(), answer)
    });
    answers.collect()
}
