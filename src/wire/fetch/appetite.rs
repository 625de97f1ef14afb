//! How many bytes to ask for: as much as keeps coming, so that an idle fetch holds little of the memory budget.
//!
//! One fetch is on its way at a time, so that from far away its size is what bounds the rate: there it may be larger.

use std::time::Duration;

use crate::wire::fetch::{FetchSettings, FetchSizes};

/// Least bytes asked for.
const LEAST: u32 = 64 * 1024;
/// Asked for first.
const FIRST: u32 = 1024 * 1024;
/// Partitions that should find room in one response where the sizes allow it; not so many that their sections would be
/// copied out of the frame.
const SHARES: u32 = 6;

/// A broker that never answered sooner is far: what a response of the near size carries takes less time than that.
const FAR: Duration = Duration::from_millis(20);

/// The size of the next response of a shuttle. A batch above it comes alone and whole, whatever its size (KIP-74).
#[derive(Debug)]
pub(super) struct Appetite {
    bytes: u32,
    near: FetchSizes,
    far: FetchSizes,
    /// The shortest time in which a fetch was answered.
    quickest: Option<Duration>,
}

impl Appetite {
    /// Asks for what `settings` say is most, as far as it comes.
    pub(super) fn new(settings: &FetchSettings) -> Self {
        let (near, far) = (settings.near.clone(), settings.far.clone());
        Self { bytes: FIRST.min(near.response_bytes), near, far, quickest: None }
    }

    /// The sizes that are right for the distance, as far as it is known.
    pub(super) fn sizes(&self) -> &FetchSizes {
        if self.quickest.is_some_and(|quickest| quickest >= FAR) { &self.far } else { &self.near }
    }

    /// Bytes to ask for in all.
    pub(super) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Bytes to ask for per partition when so many are asked for.
    pub(super) fn share_of(&self, partitions: usize) -> u32 {
        let shares = u32::try_from(partitions).unwrap_or(SHARES).clamp(1, SHARES);
        (self.bytes / shares).max(self.sizes().partition_bytes.min(self.bytes))
    }

    /// Learns from what came within a time: a well-filled response asks for more, a nearly empty one for less.
    pub(super) fn came(&mut self, bytes: u64, took: Duration) {
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        let most = self.sizes().response_bytes;
        if bytes >= u64::from(self.bytes / 2) {
            self.bytes = self.bytes.saturating_mul(4).min(most);
        } else if bytes < u64::from(self.bytes / 16) {
            self.bytes = (self.bytes / 2).max(LEAST.min(most));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);

    #[test]
    fn it_grows_to_the_limit_while_bytes_come_and_shrinks_when_they_do_not() {
        let mut appetite = Appetite::new(&FetchSettings::for_budget(16 << 20));
        appetite.came(1 << 20, SOON);
        assert_eq!(appetite.bytes(), 4 << 20);
        appetite.came(64 << 20, SOON);
        assert_eq!(appetite.bytes(), 4 << 20);
        (0..20).for_each(|_| appetite.came(0, SOON));
        assert_eq!(appetite.bytes(), LEAST);
    }

    #[test]
    fn from_far_away_half_of_the_budget_is_asked_for_until_an_answer_comes_sooner() {
        let mut appetite = Appetite::new(&FetchSettings::for_budget(16 << 20));
        (0..3).for_each(|_| appetite.came(64 << 20, Duration::from_millis(150)));
        assert_eq!(appetite.bytes(), 8 << 20);
        appetite.came(64 << 20, SOON);
        assert_eq!(appetite.bytes(), 4 << 20);
    }

    #[test]
    fn a_lone_partition_gets_all_and_many_get_their_share() {
        let mut settings = FetchSettings::for_budget(16 << 20);
        settings.near.partition_bytes = 512 << 10;
        let appetite = Appetite::new(&settings);
        assert_eq!(appetite.share_of(1), 1 << 20);
        assert_eq!(appetite.share_of(2), 512 << 10);
        assert_eq!(appetite.share_of(1000), 512 << 10);
        settings.near.response_bytes = 16 << 10;
        assert!(Appetite::new(&settings).share_of(9) <= 16 << 10);
    }
}
