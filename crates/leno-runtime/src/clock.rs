//! The real clock.

#![allow(clippy::disallowed_methods)] // this is the seam behind which the real time is

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use leno_model::seam::{Clock, Timestamp};

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// When this process first asked for the time.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        START.elapsed()
    }

    fn wall(&self) -> Timestamp {
        // A clock set before 1970 reads as 1970.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(since.as_millis().try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_is_of_this_century() {
        let (first, second) = (SystemClock.monotonic(), SystemClock.monotonic());
        assert!(second >= first);
        assert!(SystemClock.wall() > Timestamp(1_700_000_000_000));
    }
}
