//! What Twinlog answers when it is asked for offsets, held against the ids of the records.

use super::*;
use crate::support::oracle::Places;
use crate::support::until;
use crate::support::view::View;

/// Both sides of partition 0 of a topic as they were seen to grow: what compaction removes later stays in here.
pub struct Histories {
    original: View,
    copy: View,
}

impl Histories {
    /// What is there now.
    pub fn read(source: &Cluster, target: &Cluster, topic: &str) -> Histories {
        let mut both = Histories { original: View::new(topic, 0, 0), copy: View::new(topic, 0, 0) };
        both.advance(source, target);
        both
    }

    /// Reads on.
    pub fn advance(&mut self, source: &Cluster, target: &Cluster) {
        self.original.advance(source.client()).unwrap();
        self.copy.advance(target.client()).unwrap();
    }

    /// Records by where they lie.
    pub fn places(&self) -> Places {
        Places::of(self.original.seen(), self.copy.seen())
    }

    /// Whether both sides end with the same record.
    pub fn last_is_the_same(&self) -> bool {
        let last = |view: &View| view.seen().last().map(|seen| seen.identity());
        last(&self.original) == last(&self.copy)
    }

    /// Asks the daemon for every offset, both ways, the ends included, and holds the answers against the record ids.
    #[track_caller]
    pub fn every_offset_is_exact(&self, mirror: &Twinlog, topic: &str) {
        let places = self.places();
        for offset in 0..=self.original.next() {
            let there = exactly(mirror, topic, offset, false);
            assert_eq!(places.between(offset, there), (0, 0), "source offset {offset} → {there}");
        }
        for offset in 0..=self.copy.next() {
            let there = exactly(mirror, topic, offset, true);
            assert_eq!(places.between(there, offset), (0, 0), "target offset {offset} → {there}");
        }
    }
}

/// Asks the daemon over HTTP, which is what `twinlog translate` does, for an offset that must have an exact answer.
pub fn exactly(mirror: &Twinlog, topic: &str, offset: i64, reverse: bool) -> i64 {
    let link = mirror.link();
    let path = format!("/v1/links/{link}/translate?topic={topic}&partition=0&offset={offset}&reverse={reverse}");
    let (code, body) = mirror.get(&path).expect("the daemon answers");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, body["answer"].as_str()), (200, Some("exact")), "{offset} reverse={reverse}: {body}");
    body["offset"].as_i64().unwrap()
}

/// Waits until the partition of a mirror that was started again is attached.
pub fn attached(mirror: &Twinlog) {
    let settled = || mirror.get("/v1/links").is_some_and(|(_, body)| body.contains("\"replicating\""));
    until(SOON, "the partition is attached", settled);
}

/// `twinlog translate` of one offset: prints the other side's, and exits with 0.
pub fn translated(mirror: &Twinlog, topic: &str, offset: i64, reverse: bool) -> i64 {
    let (partition, offset) = (format!("{topic}/0"), offset.to_string());
    let mut arguments = vec!["translate", mirror.link(), &partition, &offset];
    arguments.extend(reverse.then_some("--reverse"));
    let output = mirror.run(&arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let answer = text.trim().strip_prefix(&format!("{partition} ")).unwrap_or_else(|| panic!("{text}"));
    answer.parse().unwrap()
}

/// `twinlog translate` of an offset without an exact answer: says so, prints nothing, and exits with 4.
pub fn refused(mirror: &Twinlog, topic: &str, offset: i64, reverse: bool, why: &str) {
    let (partition, offset) = (format!("{topic}/0"), offset.to_string());
    let mut arguments = vec!["translate", mirror.link(), &partition, &offset];
    arguments.extend(reverse.then_some("--reverse"));
    let output = mirror.run(&arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty() && said.contains(why), "{arguments:?}: {said}");
}

/// Exclusive end of what is mapped, as a source offset.
pub fn mapped_to(mirror: &Twinlog) -> i64 {
    let body = mirror.get("/v1/links").map(|(_, body)| body).unwrap_or_default();
    let links: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    links[0]["partitions"][0]["position"].as_i64().unwrap_or(-1)
}
