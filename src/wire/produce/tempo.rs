//! What a lane has learnt of its broker's tempo, and what follows: how much may be on its way, how many partitions may be
//! opened beside writes, how long an answer may take, and until when the broker does not listen.

use std::time::Duration;

use tokio::time::Instant;

use crate::wire::quota::{LONGEST_SILENCE, silence};

/// Partitions of a lane that are opened at once: enough to hide the round trip, few enough that opening thousands of them
/// takes little memory. A broker handles one question per connection at a time anyway.
pub(super) const OPENING_AT_ONCE: u32 = 64;
/// What a leader is asked for an opening takes it so long, and a write waits behind all that was asked before it: beside
/// writes only as many partitions are opened at once as hide the round trip, so that a write takes at most twice as long.
const OPENING_TAKES: Duration = Duration::from_millis(5);
/// On a long path more batches are on their way than the settings say: one for so much of the round trip, so that a
/// partition with batches of 128 KiB carries 100 MiB/s whatever the distance. Memory permits still bound their bytes.
const APART: Duration = Duration::from_millis(1);
/// Most requests of a lane, and batches of a partition, on their way.
const MOST_IN_FLIGHT: usize = 256;
/// A lane counts as written through for this long after the last batch was offered.
const WRITTEN_FOR: Duration = Duration::from_secs(1);
/// What the network may add to the time the broker itself may take for an answer.
pub(super) const NETWORK_MARGIN: Duration = Duration::from_secs(5);

/// A broker's tempo, seen through one lane.
#[derive(Debug, Default)]
pub(super) struct Tempo {
    /// When the last batch was offered.
    offered: Option<Instant>,
    /// The shortest time in which a request was answered: the round trip, nearly.
    quickest: Option<Duration>,
    /// Requests in flight, in front of which nothing asked from now on is answered.
    requests: usize,
    /// Until then the broker reads nothing that is sent: a quota was exceeded (KIP-219).
    muted_until: Option<Instant>,
}

impl Tempo {
    /// A batch was offered.
    pub(super) fn offered(&mut self) {
        self.offered = Some(Instant::now());
    }

    /// So many requests are in flight now.
    pub(super) fn in_flight_now(&mut self, requests: usize) {
        self.requests = requests;
    }

    /// An answer came after so long, and the broker does not listen for so long; until when, and whether that is news.
    pub(super) fn answered(&mut self, took: Duration, throttle: Duration) -> (Instant, bool) {
        self.quickest = Some(self.quickest.map_or(took, |quickest| quickest.min(took)));
        let listens_at = Instant::now() + silence(throttle);
        let muted = (!throttle.is_zero()).then_some(listens_at);
        let is_news = muted.is_some() && self.muted_until.is_none();
        self.muted_until = muted;
        (listens_at, is_news)
    }

    /// When the broker listens again, while it does not.
    pub(super) fn muted_until(&self) -> Option<Instant> {
        self.muted_until.filter(|until| *until > Instant::now())
    }

    /// How many partitions may be opened at once.
    pub(super) fn openings(&self) -> u32 {
        if self.offered.is_none_or(|at| at.elapsed() >= WRITTEN_FOR) {
            return OPENING_AT_ONCE;
        }
        let round_trips = self.quickest.unwrap_or_default().as_millis() / OPENING_TAKES.as_millis();
        u32::try_from(round_trips).unwrap_or(OPENING_AT_ONCE).clamp(1, OPENING_AT_ONCE)
    }

    /// How much may be on its way where the settings say `near`.
    pub(super) fn most_in_flight(&self, near: usize) -> usize {
        let hide_the_round_trip = self.quickest.unwrap_or_default().as_millis() / APART.as_millis();
        usize::try_from(hide_the_round_trip).unwrap_or(MOST_IN_FLIGHT).min(MOST_IN_FLIGHT).max(near).max(1)
    }

    /// How long what alone would take `timeout` may take behind the writes in flight, each of which has its whole time, and
    /// the silence that may be announced with its answer. The lane ends a silence that was not announced much sooner.
    pub(super) fn patience(&self, timeout: Duration) -> Duration {
        let write = timeout + NETWORK_MARGIN + LONGEST_SILENCE;
        timeout.saturating_add(write.saturating_mul(u32::try_from(self.requests).unwrap_or(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tempo(quickest: Option<u64>) -> Tempo {
        Tempo { quickest: quickest.map(Duration::from_millis), ..Tempo::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn beside_writes_as_many_partitions_are_opened_at_once_as_hide_the_round_trip() {
        let openings = |quickest| Tempo { offered: Some(Instant::now()), ..tempo(quickest) }.openings();
        assert_eq!([None, Some(0), Some(7), Some(150), Some(9_000)].map(openings), [1, 1, 1, 30, 64]);
        assert_eq!(Tempo::default().openings(), 64);
        let written = Tempo { offered: Some(Instant::now()), ..Tempo::default() };
        tokio::time::advance(WRITTEN_FOR).await;
        assert_eq!(written.openings(), 64, "nobody writes any more");
    }

    #[test]
    fn as_many_batches_are_on_their_way_as_hide_the_round_trip() {
        let in_flight = |quickest| tempo(quickest).most_in_flight(5);
        assert_eq!([None, Some(0), Some(3), Some(150), Some(9_000)].map(in_flight), [5, 5, 5, 150, 256]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_listens_again_when_its_quota_says_and_that_is_news_once() {
        let (mut tempo, throttle) = (Tempo::default(), Duration::from_secs(20));
        let (until, is_news) = tempo.answered(Duration::ZERO, throttle);
        assert_eq!((tempo.muted_until(), is_news), (Some(until), true));
        assert!(!tempo.answered(Duration::ZERO, throttle).1);
        tokio::time::advance(throttle).await;
        assert_eq!(tempo.muted_until(), None);
        let (until, _) = tempo.answered(Duration::ZERO, Duration::MAX);
        assert_eq!(until - Instant::now(), LONGEST_SILENCE);
    }
}
