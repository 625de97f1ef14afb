//! Whether tiny batches are joined before they are written: while a route is behind, never while it is level.
//!
//! A produce request takes one batch per partition, so batches of a few records cost a request each: what a route copies is
//! then bounded by requests, not by bytes (facts/live-measurements §1: ten times less).

/// So many batches that wait unread are a backlog: two windows full of requests.
const BACKLOG: usize = 10;

/// A batch from this size on (bytes as stored) is worth a request of its own.
pub const TINY_BELOW_BYTES: usize = 16 << 10;

/// Joining ends at so many bytes before compression: from here on, less is gained than memory and delay cost.
pub const JOINED_BYTES: usize = 256 << 10;

/// Decides for one route, with hysteresis: joining begins with a backlog and goes on until nothing waits.
#[derive(Debug, Default)]
pub struct Joining {
    on: bool,
}

impl Joining {
    /// Whether to join now. `waiting`: how many batches can be read without waiting.
    pub fn decide(&mut self, waiting: usize) -> bool {
        self.on = waiting >= if self.on { 1 } else { BACKLOG };
        self.on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining_begins_with_a_backlog_and_ends_when_nothing_waits() {
        let mut joining = Joining::default();
        let course = [0, 1, 9, 10, 400, 9, 1, 0, 1, 9, 11, 0];
        let decided: Vec<_> = course.into_iter().filter(|waiting| joining.decide(*waiting)).collect();
        assert_eq!(decided, [10, 400, 9, 1, 11]);
    }
}
