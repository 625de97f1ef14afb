//! Pacing of retries: exponential, jittered, clamped.
//!
//! The `backoff` crate is unmaintained (RUSTSEC-2025-0012); it was named by the project's owner and is confined to this
//! module, behind [`Pace`]. Its random factor is applied after its cap, so the delay is clamped again here.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Delays between attempts of one piece of work: grows from `first` to `longest`, never gives up.
#[derive(Debug)]
pub struct Pace {
    inner: ExponentialBackoff,
    longest: Duration,
}

impl Pace {
    /// Starts at about `first`, doubles, never exceeds `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        let inner = ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.3,
            multiplier: 2.0,
            max_interval: longest,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { inner, longest }
    }

    /// How long to wait before the next attempt; always in `0..=longest`.
    pub fn next_delay(&mut self) -> Duration {
        self.inner.next_backoff().unwrap_or(self.longest).min(self.longest)
    }

    /// Success: the next failure starts from the shortest delay again.
    pub fn reset(&mut self) {
        self.inner.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_clamped_and_never_end() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut pace = Pace::new(first, longest);
        let delays: Vec<_> = (0..200).map(|_| pace.next_delay()).collect();
        assert!(delays.iter().all(|d| *d <= longest));
        assert!(delays[0] <= first * 2);
        assert!(delays[50..].iter().all(|d| *d >= longest.mul_f64(0.6)));
        pace.reset();
        assert!(pace.next_delay() <= first * 2);
    }
}
