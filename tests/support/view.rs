//! What an application reading committed data sees of a partition, read from raw bytes.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::batch;
use super::raw::{Client, Failure, Isolation, Result, Section};
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
        loop {
            let section = match client.fetch(&self.topic, self.partition, self.next, Isolation::Committed) {
                // 1: out of range. Below the log's start the view goes on there; beyond its end it stays and waits.
                Err(Failure::Refused(1, why)) => {
                    let (start, end) = client.bounds(&self.topic, self.partition)?;
                    if self.next > end {
                        return Err(Failure::Refused(1, why));
                    }
                    self.next = self.next.max(start);
                    continue;
                }
                other => other?,
            };
            let before = self.next;
            let (stable_to, visible) = (section.last_stable, visible(section, self.next)?);
            self.seen.extend(visible.records.iter().map(Seen::of));
            self.next = visible.next;
            if self.next == before {
                // One partition was asked and nothing came: what lies between here and the stable end is a hole.
                self.next = self.next.max(stable_to);
            }
            if self.next >= stable_to {
                return Ok(());
            }
        }
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

/// What a section shows to readers of committed data.
pub struct Visible {
    /// The records.
    pub records: Vec<Stored>,
    /// Exclusive end of what the section tells about.
    pub next: i64,
}

/// What is visible from `from` on in a section that was fetched as committed.
pub fn visible(section: Section, from: i64) -> Result<Visible> {
    let mut aborted = section.aborted;
    aborted.sort_by_key(|(_, first)| *first);
    let (mut aborted, mut aborting) = (aborted.into_iter().peekable(), HashSet::new());
    let mut visible = Visible { records: Vec::new(), next: from };
    for batch in batch::open(&section.bytes).map_err(Failure::Broken)? {
        while let Some((producer, _)) = aborted.next_if(|(_, first)| *first <= batch.last_offset) {
            aborting.insert(producer);
        }
        if batch.commits == Some(false) {
            aborting.remove(&batch.producer_id);
        } else if !(batch.is_transactional() && aborting.contains(&batch.producer_id)) {
            let fresh = batch.records.into_iter().filter(|r| r.offset >= visible.next);
            visible.records.extend(fresh);
        }
        visible.next = batch.last_offset + 1;
    }
    Ok(visible)
}
