//! The silence of a broker whose quota was exceeded: it answers at once, names a time, and reads nothing of the connection
//! until that is over (KIP-219).

use std::time::Duration;

/// Longest silence that is believed. Brokers do not bound it: it is what was moved beyond the quota, divided by the quota.
pub(in crate::wire) const LONGEST_SILENCE: Duration = Duration::from_secs(300);

/// How long nothing is to be sent, by an answer that names `throttle`: what is sent sooner waits unread, and its own time
/// runs out.
pub(in crate::wire) fn silence(throttle: Duration) -> Duration {
    throttle.min(LONGEST_SILENCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_of_minutes_is_believed_and_one_without_end_is_not() {
        let silences = [0, 31, 299, 100_000].map(|seconds| silence(Duration::from_secs(seconds)).as_secs());
        assert_eq!(silences, [0, 31, 299, 300]);
    }
}
