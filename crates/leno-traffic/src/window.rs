//! Answers of the last so many seconds: how many, how many of them failed, how many were slow.
//!
//! A ring of buckets, each one 64-bit word of number, answers, failures and slow ones, begun anew by whoever first counts
//! in its time. Workers share it without a lock. With one bucket the window does not roll: it is emptied when its time is
//! over (Sentinel). A bucket that is full is halved, which keeps its shares.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A window that rolls.
#[derive(Debug)]
pub struct Window {
    buckets: Box<[AtomicU64]>,
    width_ms: u64,
}

/// What a window holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Answers.
    pub total: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were slow.
    pub slow: u32,
}

/// One bucket: 22 bits of its number, 14 each of the counts. All 0 is an empty one, whatever its number.
#[derive(Clone, Copy)]
struct Bucket {
    number: u64,
    counts: Counts,
}

const NUMBER: u64 = (1 << 22) - 1;
const COUNT: u64 = (1 << 14) - 1;

// === impl Window ===

impl Window {
    /// An empty window over `span`, in so many steps.
    pub fn new(span: Duration, buckets: u32) -> Self {
        let buckets = buckets.max(1);
        let width_ms = (millis(span) / u64::from(buckets)).max(1);
        Self { buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(), width_ms }
    }

    /// Counts an answer.
    pub fn count(&self, now: Duration, failed: bool, slow: bool) {
        let number = millis(now) / self.width_ms;
        let bucket = &self.buckets[(number % self.buckets.len() as u64) as usize];
        let number = number & NUMBER;
        // It never says no.
        let _ = bucket.fetch_update(Relaxed, Relaxed, |word| {
            let mut bucket = Bucket::unpack(word);
            if bucket.number != number {
                bucket = Bucket { number, counts: Counts::default() };
            }
            Some(bucket.and(failed, slow).pack())
        });
    }

    /// What was counted in the window that ends now.
    pub fn counts(&self, now: Duration) -> Counts {
        let number = millis(now) / self.width_ms;
        let buckets = self.buckets.iter().map(|bucket| Bucket::unpack(bucket.load(Relaxed)));
        let recent = buckets.filter(|bucket| (number.wrapping_sub(bucket.number) & NUMBER) < self.buckets.len() as u64);
        recent.fold(Counts::default(), |sum, bucket| Counts {
            total: sum.total + bucket.counts.total,
            failed: sum.failed + bucket.counts.failed,
            slow: sum.slow + bucket.counts.slow,
        })
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Relaxed));
    }
}

// === impl Counts ===

impl Counts {
    /// Whether `part` is at least so many percent of all answers.
    pub(crate) fn reaches(&self, part: u32, percent: u32) -> bool {
        u64::from(part) * 100 >= u64::from(self.total) * u64::from(percent)
    }
}

// === impl Bucket ===

impl Bucket {
    fn and(self, failed: bool, slow: bool) -> Self {
        let mut counts = self.counts;
        if u64::from(counts.total) == COUNT {
            counts = Counts { total: counts.total / 2, failed: counts.failed / 2, slow: counts.slow / 2 };
        }
        counts.total += 1;
        counts.failed += u32::from(failed);
        counts.slow += u32::from(slow);
        Self { counts, ..self }
    }

    fn unpack(word: u64) -> Self {
        let at = |shift: u32| (word >> shift & COUNT) as u32;
        Self { number: word >> 42, counts: Counts { total: at(28), failed: at(14), slow: at(0) } }
    }

    fn pack(self) -> u64 {
        let Counts { total, failed, slow } = self.counts;
        self.number << 42 | u64::from(total) << 28 | u64::from(failed) << 14 | u64::from(slow)
    }
}

/// Milliseconds, in fewer instructions than `as_millis` takes for its 128 bits.
pub(crate) fn millis(time: Duration) -> u64 {
    time.as_secs() * 1000 + u64::from(time.subsec_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn total(window: &Window, now: u64) -> u32 {
        window.counts(ms(now)).total
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::new(ms(10_000), 10);
        window.count(ms(500), true, false);
        window.count(ms(1_500), false, true);
        assert_eq!(window.counts(ms(1_999)), Counts { total: 2, failed: 1, slow: 1 });
        assert_eq!(total(&window, 9_999), 2);
        assert_eq!(total(&window, 10_000), 1, "the first second is out");
        assert_eq!(total(&window, 11_000), 0);
    }

    #[test]
    fn a_bucket_is_begun_anew_after_a_round() {
        let window = Window::new(ms(1_000), 10);
        (0..5).for_each(|_| window.count(ms(50), true, true));
        window.count(ms(1_050), false, false);
        assert_eq!(window.counts(ms(1_050)), Counts { total: 1, failed: 0, slow: 0 });
    }

    #[test]
    fn a_window_of_one_bucket_is_emptied_at_its_end() {
        let window = Window::new(ms(1_000), 1);
        window.count(ms(10), false, false);
        window.count(ms(999), false, false);
        assert_eq!((total(&window, 999), total(&window, 1_000)), (2, 0));
    }

    #[test]
    fn a_full_bucket_keeps_its_shares() {
        let window = Window::new(ms(1_000), 1);
        (0..100_000).for_each(|n| window.count(ms(1), n % 4 == 0, n % 2 == 0));
        let counts = window.counts(ms(1));
        assert!(counts.total > 8_000 && counts.total < 16_384, "{counts:?}");
        assert_eq!((counts.failed * 100 / counts.total, (counts.slow * 100 + 50) / counts.total), (25, 50));
    }

    #[test]
    fn a_window_that_is_cleared_is_empty_whatever_the_time() {
        let window = Window::new(ms(10_000), 10);
        (0..20).for_each(|n| window.count(ms(n * 500), true, true));
        window.clear();
        assert_eq!(window.counts(ms(9_999)), Counts::default());
    }

    #[test]
    fn threads_lose_nothing() {
        let window = Window::new(ms(1_000), 2);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1_000).for_each(|n| window.count(ms(n), n % 2 == 0, false)));
            }
        });
        assert_eq!(window.counts(ms(999)), Counts { total: 4_000, failed: 2_000, slow: 0 });
    }
}
