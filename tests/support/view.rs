//! What an application reading committed data sees of a partition, read from raw bytes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::batch;
use super::raw::{Client, Failure, Isolation, Result};
use super::record::Stored;

/// One visible record, boiled down to what comparing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// The id in its value, if it has one.
    pub id: Option<u64>,
    /// Hash of key, value and headers, null ≠ empty.
    pub digest: u64,
    /// Milliseconds.
    pub timestamp: i64,
    /// Whether the timestamp is the broker's.
    pub append_time: bool,
}

impl Seen {
    /// Boils a record down.
    pub fn of(stored: &Stored) -> Seen {
        let mut hasher = DefaultHasher::new();
        (&stored.record.key, &stored.record.value, &stored.record.headers).hash(&mut hasher);
        let Stored { offset, append_time, record } = stored;
        let (offset, append_time, timestamp) = (*offset, *append_time, record.timestamp);
        Seen { offset, id: record.id(), digest: hasher.finish(), timestamp, append_time }
    }

    /// What makes it the same record on both sides: its id, else its content.
    pub fn identity(&self) -> (bool, u64) {
        self.id.map_or((false, self.digest), |id| (true, id))
    }

    /// Whether a record is this one with every byte and its own time, wherever it stands.
    pub fn is_copied_as(&self, copy: &Seen) -> bool {
        (self.id, self.digest, self.timestamp) == (copy.id, copy.digest, copy.timestamp) && !copy.append_time
    }
}

/// The visible records of a partition, read on demand and kept.
#[derive(Debug, Clone)]
pub struct View {
    topic: String,
    partition: i32,
    next: i64,
    seen: Vec<Seen>,
}

impl View {
    /// A view that begins at `from` and has read nothing.
    pub fn new(topic: &str, partition: i32, from: i64) -> View {
        View { topic: topic.to_owned(), partition, next: from, seen: Vec::new() }
    }

    /// A view of all that is there now.
    pub fn read(client: &Client, topic: &str, partition: i32) -> Result<View> {
        let mut view = View::new(topic, partition, 0);
        view.advance(client)?;
        Ok(view)
    }

    /// Reads on to the last stable offset.
    pub fn advance(&mut self, client: &Client) -> Result<()> {
        read_on(client, &self.topic, self.partition, &mut self.next, |stored| self.seen.push(Seen::of(&stored)))
    }

    /// What has been read, in order.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Next offset to read.
    pub fn next(&self) -> i64 {
        self.next
    }
}

/// Hands out what readers of committed data see of a partition from `next` on, up to the last stable offset, and moves
/// `next` along.
pub fn read_on(
    client: &Client,
    topic: &str,
    partition: i32,
    next: &mut i64,
    mut see: impl FnMut(Stored),
) -> Result<()> {
    loop {
        let section = match client.fetch(topic, partition, *next, Isolation::Committed) {
            // 1: out of range. Below the log's start reading goes on there; beyond its end it stays and waits.
            Err(Failure::Refused(1, why)) => {
                let (start, end) = client.bounds(topic, partition)?;
                if *next > end {
                    return Err(Failure::Refused(1, why));
                }
                *next = start.max(*next);
                continue;
            }
            other => other?,
        };
        let mut aborted = section.aborted;
        aborted.sort_by_key(|(_, first)| *first);
        let (mut aborted, mut aborting) = (aborted.into_iter().peekable(), HashSet::new());
        let before = *next;
        for batch in batch::open(&section.bytes).map_err(Failure::Broken)? {
            while let Some((producer, _)) = aborted.next_if(|(_, first)| *first <= batch.last_offset) {
                aborting.insert(producer);
            }
            if batch.commits == Some(false) {
                aborting.remove(&batch.producer_id);
            } else if !(batch.is_transactional() && aborting.contains(&batch.producer_id)) {
                batch.records.into_iter().filter(|r| r.offset >= *next).for_each(&mut see);
            }
            *next = batch.last_offset + 1;
        }
        if *next == before {
            // One partition was asked and nothing came: what lies between here and the stable end is a hole.
            *next = section.last_stable.max(*next);
        }
        if *next >= section.last_stable {
            return Ok(());
        }
    }
}
