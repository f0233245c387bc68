//! How long to wait before the next try: exponential, with jitter, so that many who failed together do not come back
//! together (AWS, "Exponential Backoff and Jitter": full jitter).
//!
//! The n-th wait is drawn evenly from the range between the shortest wait and a limit that doubles each time. With a
//! shortest wait of 0 that is full jitter; the Gateway API asks for a shortest wait between retries of requests.

use std::time::Duration;

/// The limit of the first wait where no shortest wait gives it.
const FIRST_LIMIT: Duration = Duration::from_millis(25);

/// How waits grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    shortest: Duration,
    first: Duration,
    longest: Duration,
}

// === impl Backoff ===

impl Backoff {
    /// Full jitter: the first wait is up to `first`, later ones up to twice the one before, never over `longest`.
    pub fn full(first: Duration, longest: Duration) -> Self {
        Self { shortest: Duration::ZERO, first: first.min(longest), longest }
    }

    /// For retries of requests: no wait is shorter than `shortest`; the first is up to twice that, later ones up to twice
    /// the one before, never over `longest`. With a `shortest` of 0 it is full jitter from 25 ms on.
    pub fn at_least(shortest: Duration, longest: Duration) -> Self {
        let shortest = shortest.min(longest);
        let first = if shortest.is_zero() { FIRST_LIMIT } else { shortest.saturating_mul(2) };
        Self { shortest, first: first.min(longest), longest }
    }

    /// After somebody said how long to wait: so long, and by chance up to half as much again, so that not all who were told
    /// the same come at once.
    pub fn told(wait: Duration) -> Self {
        Self { shortest: wait, first: wait.saturating_mul(3) / 2, longest: wait.saturating_mul(3) / 2 }
    }

    /// The wait before try number `attempt` (1 is the first try after a failure), from 64 random bits.
    pub fn wait(&self, attempt: u32, random: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let limit = self.first.saturating_mul(1 << doublings).min(self.longest).max(self.shortest);
        let range = (limit - self.shortest).as_nanos();
        let jitter = (range * u128::from(random >> 32)) >> 32;
        self.shortest + Duration::from_nanos(u64::try_from(jitter).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_limit_doubles_until_the_longest_wait() {
        let backoff = Backoff::full(100 * MS, 1000 * MS);
        let waits = [1, 2, 3, 4, 5, 60, u32::MAX].map(|attempt| backoff.wait(attempt, u64::MAX).as_millis());
        assert_eq!(waits, [99, 199, 399, 799, 999, 999, 999]);
    }

    #[test]
    fn full_jitter_starts_at_nothing_and_is_even() {
        let backoff = Backoff::full(100 * MS, 1000 * MS);
        assert_eq!(backoff.wait(9, 0), Duration::ZERO);
        assert_eq!(backoff.wait(1, 1 << 63), 50 * MS);
    }

    #[test]
    fn no_retry_waits_less_than_its_shortest_wait() {
        let backoff = Backoff::at_least(25 * MS, 250 * MS);
        for attempt in 1..10 {
            assert_eq!(backoff.wait(attempt, 0), 25 * MS);
        }
        assert_eq!(backoff.wait(1, u64::MAX).as_millis(), 49);
        assert_eq!(backoff.wait(9, u64::MAX).as_millis(), 249);
    }

    #[test]
    fn who_was_told_to_wait_waits_so_long_and_up_to_half_as_much_again() {
        let backoff = Backoff::told(1000 * MS);
        assert_eq!(backoff.wait(1, 0), 1000 * MS);
        assert_eq!(backoff.wait(7, u64::MAX).as_millis(), 1499);
    }

    #[test]
    fn a_longest_wait_below_the_shortest_wins() {
        assert_eq!(Backoff::at_least(25 * MS, 10 * MS).wait(3, u64::MAX), 10 * MS);
    }
}
