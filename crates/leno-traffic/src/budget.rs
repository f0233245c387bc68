//! How many retries a cluster may get: a share of its requests, so that a retry never multiplies an outage.
//!
//! Allowed is a retry while the retries of the last 10 s are below 20 % of the requests of the last 10 s, or while fewer
//! than 3 were made in the current second and 20 % come to fewer than 3 a second, so that a quiet client may retry at all
//! (Finagle, GEP-3388) and a busy one never exceeds its share; the numbers are its terms. The window is slots of a second, each one 64-bit word of second, requests and retries; a slot is begun anew
//! by whoever first touches it in its second. Workers share it without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The most seconds of the past that count.
const WINDOW_MAX: u64 = 60;

/// Shares and minimum of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetTerms {
    /// Retries per hundred requests.
    pub percent: u32,
    /// Retries per second that are allowed in any case.
    pub min_per_second: u32,
    /// How many seconds of the past count, 1 to 60.
    pub window_seconds: u32,
}

/// What a budget holds, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// Requests of the window.
    pub requests: u64,
    /// Their retries.
    pub retries: u64,
    /// How many more retries there may be now.
    pub left: u64,
    /// Retries that there was nothing left for, since the budget began.
    pub refused: u64,
}

/// The budget of one cluster.
#[derive(Debug)]
#[repr(align(64))]
pub struct RetryBudget {
    slots: [AtomicU64; WINDOW_MAX as usize],
    terms: BudgetTerms,
    refused: AtomicU64,
}

// === impl BudgetTerms ===

impl Default for BudgetTerms {
    fn default() -> Self {
        Self { percent: 20, min_per_second: 3, window_seconds: 10 }
    }
}

// === impl RetryBudget ===

impl Default for RetryBudget {
    fn default() -> Self {
        Self::new(BudgetTerms::default())
    }
}

impl RetryBudget {
    /// Nothing spent.
    pub fn new(terms: BudgetTerms) -> Self {
        let window_seconds = terms.window_seconds.clamp(1, WINDOW_MAX as u32);
        let terms = BudgetTerms { window_seconds, ..terms };
        Self { slots: [const { AtomicU64::new(0) }; WINDOW_MAX as usize], terms, refused: AtomicU64::new(0) }
    }

    /// What it goes by.
    pub fn terms(&self) -> BudgetTerms {
        self.terms
    }

    /// Counts a request (not its retries).
    pub fn record_request(&self, now: Duration) {
        self.update(now.as_secs(), |slot| Some(Slot { requests: slot.requests.saturating_add(1), ..slot }));
    }

    /// Takes a retry out of the budget, if one is left.
    pub fn try_retry(&self, now: Duration) -> bool {
        let second = now.as_secs();
        let (requests, retries) = self.window(second);
        let share_left = retries * 100 < requests * u64::from(self.terms.percent);
        let least = self.least(requests);
        let taken = self.update(second, |slot| {
            let allowed = share_left || u32::from(slot.retries) < least;
            allowed.then(|| Slot { retries: slot.retries.saturating_add(1), ..slot })
        });
        if !taken {
            self.refused.fetch_add(1, Relaxed);
        }
        taken
    }

    /// What it holds.
    pub fn spent(&self, now: Duration) -> Spent {
        let second = now.as_secs();
        let (requests, retries) = self.window(second);
        let of_share = (requests * u64::from(self.terms.percent)).div_ceil(100).saturating_sub(retries);
        let slot = Slot::unpack(self.slots[(second % WINDOW_MAX) as usize].load(Relaxed));
        let this_second = if slot.stamp == stamp(second) { u64::from(slot.retries) } else { 0 };
        let left = of_share.max(u64::from(self.least(requests)).saturating_sub(this_second));
        Spent { requests, retries, left, refused: self.refused() }
    }

    /// Retries that there was nothing left for.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How many a second are allowed in any case, after so many requests in the window.
    fn least(&self, requests: u64) -> u32 {
        let BudgetTerms { percent, min_per_second, window_seconds } = self.terms;
        let is_quiet = requests * u64::from(percent) < u64::from(min_per_second) * u64::from(window_seconds) * 100;
        if is_quiet { min_per_second } else { 0 }
    }

    /// Requests and retries of the window that ends with `second`.
    fn window(&self, second: u64) -> (u64, u64) {
        let slots = self.slots.iter().map(|slot| Slot::unpack(slot.load(Relaxed)));
        slots
            .filter(|slot| stamp(second).wrapping_sub(slot.stamp) & MASK < self.terms.window_seconds)
            .fold((0, 0), |(requests, retries), slot| {
                (requests + u64::from(slot.requests), retries + u64::from(slot.retries))
            })
    }

    /// Changes the slot of `second`, unless `change` says no.
    fn update(&self, second: u64, change: impl Fn(Slot) -> Option<Slot>) -> bool {
        let slot = &self.slots[(second % WINDOW_MAX) as usize];
        let fresh = Slot { stamp: stamp(second), requests: 0, retries: 0 };
        slot.fetch_update(Relaxed, Relaxed, |word| {
            let old = Slot::unpack(word);
            change(if old.stamp == fresh.stamp { old } else { fresh }).map(Slot::pack)
        })
        .is_ok()
    }
}

/// What happened in one second: 24 bits of the second (194 days), 24 of requests, 16 of retries. All 0 is an empty
/// slot, whatever its second.
#[derive(Debug, Clone, Copy)]
struct Slot {
    stamp: u32,
    requests: u32,
    retries: u16,
}

/// The lowest 24 bits: of seconds and of requests.
const MASK: u32 = 0xff_ffff;

// === impl Slot ===

impl Slot {
    fn unpack(word: u64) -> Self {
        Self { stamp: (word >> 40) as u32, requests: (word >> 16) as u32 & MASK, retries: word as u16 }
    }

    fn pack(self) -> u64 {
        u64::from(self.stamp) << 40 | u64::from(self.requests.min(MASK)) << 16 | u64::from(self.retries)
    }
}

fn stamp(second: u64) -> u32 {
    second as u32 & MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn retries(budget: &RetryBudget, now: Duration, tries: usize) -> usize {
        (0..tries).filter(|_| budget.try_retry(now)).count()
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_retried() {
        let budget = RetryBudget::default();
        (0..1000).for_each(|_| budget.record_request(second(5)));
        assert_eq!(retries(&budget, second(5), 1000), 200);
    }

    #[test]
    fn a_quiet_client_may_retry_three_times_a_second() {
        let budget = RetryBudget::default();
        for s in 0..30 {
            assert_eq!(retries(&budget, second(s), 10), 3);
        }
    }

    #[test]
    fn requests_count_for_ten_seconds() {
        let budget = RetryBudget::new(BudgetTerms { min_per_second: 0, ..BudgetTerms::default() });
        (0..100).for_each(|_| budget.record_request(second(100)));
        assert!(budget.try_retry(second(109)));
        assert!(!budget.try_retry(second(110)));
    }

    #[test]
    fn what_was_spent_comes_back_after_ten_seconds() {
        let budget = RetryBudget::new(BudgetTerms { min_per_second: 0, ..BudgetTerms::default() });
        (0..100).for_each(|_| budget.record_request(second(1)));
        assert_eq!(retries(&budget, second(1), 100), 20);
        (0..50).for_each(|_| budget.record_request(second(8)));
        assert_eq!(retries(&budget, second(8), 100), 10);
        assert_eq!(retries(&budget, second(12), 100), 0);
        (0..50).for_each(|_| budget.record_request(second(12)));
        assert_eq!(retries(&budget, second(12), 100), 10);
    }

    #[test]
    fn an_outage_is_multiplied_by_at_most_a_fifth() {
        let budget = RetryBudget::default();
        let mut granted = 0;
        for ms in 0..60_000_u64 {
            let now = Duration::from_millis(ms);
            budget.record_request(now);
            granted += retries(&budget, now, 3);
        }
        assert!((11_000..=12_300).contains(&granted), "{granted}");
    }

    #[test]
    fn a_budget_shows_what_it_holds() {
        let budget = RetryBudget::new(BudgetTerms { percent: 10, min_per_second: 2, window_seconds: 60 });
        (0..100).for_each(|_| budget.record_request(second(1)));
        assert_eq!(retries(&budget, second(50), 12), 10);
        assert_eq!(budget.spent(second(50)), Spent { requests: 100, retries: 10, left: 0, refused: 2 });
        assert_eq!(budget.spent(second(51)).left, 2, "in a second in any case");
        assert_eq!(budget.spent(second(61)), Spent { requests: 0, retries: 10, left: 2, refused: 2 });
    }

    #[test]
    fn nothing_is_tried_again_without_a_share_and_a_minimum() {
        let budget = RetryBudget::new(BudgetTerms { percent: 0, min_per_second: 0, window_seconds: 1 });
        (0..100).for_each(|_| budget.record_request(second(1)));
        assert_eq!(retries(&budget, second(1), 10), 0);
    }

    #[test]
    fn a_busy_client_never_exceeds_its_share() {
        let budget = RetryBudget::default();
        let (mut requests, mut granted) = (0, 0);
        for ms in 0..30_000_u64 {
            let now = Duration::from_millis(ms);
            budget.record_request(now);
            requests += 1;
            granted += retries(&budget, now, 3);
            assert!(requests < 1000 || granted * 5 <= requests + 5, "{granted} of {requests}");
        }
    }

    #[test]
    fn a_clock_that_wraps_its_bits_does_no_harm() {
        let budget = RetryBudget::new(BudgetTerms { min_per_second: 0, ..BudgetTerms::default() });
        let before = u64::from(MASK);
        (0..100).for_each(|_| budget.record_request(second(before)));
        assert!(budget.try_retry(second(before + 5)));
        assert!(!budget.try_retry(second(before + 50)));
    }
}
