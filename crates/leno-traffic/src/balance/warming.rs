//! Slow start: a member that is new gets a part of its share which grows until its window is over.
//!
//! Weights that change with time would have whatever is made of them (alias table, round, ring) made again and again. Here
//! they stay: a member that is new is passed over when it was chosen, as often as its part says. Shares are the same to
//! within what is random, and when nobody is new it costs one comparison. With a key, the key decides whether the member
//! is passed over: each key moves to it once, the sooner the more of them have.

use std::time::Duration;

use leno_model::snapshot::SlowStart;

use super::{Ask, Slot, mix};

/// How often a draw is repeated while members are new. One of two is left with a tenth of its share in one of 500 picks.
pub(super) const DRAWS_MAX: usize = 32;

/// Members that are new, and for how long.
#[derive(Debug)]
pub(super) struct Warming {
    terms: SlowStart,
    /// When nobody is new any more.
    over: Duration,
    /// Since when the oldest is new, if all are.
    oldest: Option<Duration>,
}

// === impl Warming ===

impl Warming {
    /// None when nobody is new.
    pub(super) fn of(terms: Option<SlowStart>, slots: &[Slot]) -> Option<Self> {
        let terms = terms?;
        let youngest = slots.iter().filter_map(|slot| slot.since).max()?;
        let all_new = slots.iter().all(|slot| slot.since.is_some());
        let oldest = slots.iter().filter_map(|slot| slot.since).min().filter(|_| all_new);
        Some(Self { terms, over: youngest + terms.window, oldest })
    }

    /// Whether anybody is new.
    pub(super) fn is_on(&self, now: Duration) -> bool {
        now < self.over
    }

    /// The part of its share that a member has, more than 0 and at most 1.
    pub(super) fn part(&self, since: Option<Duration>, now: Duration) -> f64 {
        let Some(since) = since else { return 1.0 };
        let over = now.saturating_sub(since).as_secs_f64() / self.terms.window.as_secs_f64();
        let part =
            if self.terms.aggression == 100 { over } else { over.powf(100.0 / f64::from(self.terms.aggression)) };
        part.clamp(f64::from(self.terms.share_min) / 100.0, 1.0)
    }

    /// Whether a member that was chosen is not passed over. The oldest never is, so that somebody is taken.
    pub(super) fn takes(&self, slot: &Slot, ask: &mut Ask<'_>) -> bool {
        if slot.since.is_none() || !self.is_on(ask.now) {
            return true;
        }
        let most = self.oldest.map_or(1.0, |oldest| self.part(Some(oldest), ask.now));
        let part = self.part(slot.since, ask.now) / most;
        let bits = ask.hash.map_or_else(|| ask.random.next_u64(), |hash| mix(hash, slot.key));
        part >= 1.0 || ((bits >> 11) as f64) < part * (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(aggression: u32, share_min: u32, secs: u64) -> f64 {
        let terms = SlowStart { window: Duration::from_secs(100), aggression, share_min };
        let warming = Warming { terms, over: Duration::ZERO, oldest: None };
        warming.part(Some(Duration::from_secs(1000)), Duration::from_secs(1000 + secs))
    }

    #[test]
    fn the_part_grows_from_the_least_to_the_whole_as_the_aggression_says() {
        let parts: Vec<f64> = [0, 5, 10, 25, 50, 100, 500].map(|secs| part(100, 10, secs)).to_vec();
        assert_eq!(parts, [0.1, 0.1, 0.1, 0.25, 0.5, 1.0, 1.0]);
        assert_eq!((part(200, 1, 25), part(50, 1, 50)), (0.5, 0.25));
    }
}
