//! A limit that is low while it is cold: Guava's `SmoothWarmingUp` and Sentinel's `WarmUpController`, which are the same
//! curve.
//!
//! Idle time is saved up, as *coldness* in requests. Each request spends one, and costs the more the more there are: up to a
//! threshold as much as ever, above it up to `cold_factor` times as much.
//!
//! ```text
//!  cost ^                 threshold: n / (cold_factor - 1)           n: requests of the warm-up period at the full rate
//! cold  +           /     most:      threshold + 2 n / (1 + cold_factor)
//!       |         / :
//!  warm +-------/   :     the area from the most to the threshold is the warm-up period
//!       +------+----+--> coldness
//! ```
//!
//! Differs from both by choice: a request may come earlier by as much as the bucket's burst, where Guava has none and Sentinel
//! a second; the state moves with each request, where Sentinel's does once a second.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leno_model::snapshot::{Rate, WarmUp};

use super::bucket::Pace;
use super::{Granted, Refused};

#[derive(Debug)]
pub(super) struct Warm {
    threshold: f64,
    most: f64,
    /// How much a cost rises with each request of coldness above the threshold, in costs of a warm one.
    slope: f64,
    /// Units of idle time that are one request of coldness.
    cooling: f64,
    /// Held for the few operations of a request.
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// As a bucket's.
    mark: u64,
    coldness: f64,
}

// === impl Warm ===

impl Warm {
    pub(super) fn new(pace: Pace, rate: Rate, warm_up: WarmUp) -> Self {
        let factor = f64::from(warm_up.cold_factor.max(2));
        let n = warm_up.period.as_secs_f64() / rate.per.as_secs_f64() * f64::from(rate.requests);
        let threshold = n / (factor - 1.0);
        let most = threshold + 2.0 * n / (1.0 + factor);
        let slope = (factor - 1.0) / (most - threshold);
        let cooling = n * pace.each as f64 / most;
        Self { threshold, most, slope, cooling, state: Mutex::new(State { mark: 0, coldness: most }) }
    }

    pub(super) fn take(&self, pace: &Pace, now: Duration, patience: Duration) -> Result<Granted, Refused> {
        let at = pace.at(now);
        let mut state = self.state();
        if at > state.mark {
            let idle = (at - state.mark) as f64;
            state.coldness = (state.coldness + idle / self.cooling).min(self.most);
            state.mark = at;
        }
        let wait = pace.wait(state.mark, at).unwrap_or_default();
        if wait > patience {
            return Err(Refused { after: wait - patience, mark: state.mark });
        }
        state.mark += self.cost(state.coldness, pace.each);
        state.coldness = (state.coldness - 1.0).max(0.0);
        Ok(Granted { wait, holds: false, mark: state.mark })
    }

    pub(super) fn mark(&self) -> u64 {
        self.state().mark
    }

    /// The units of one request: the area under the curve from this coldness to one less.
    fn cost(&self, coldness: f64, each: u64) -> u64 {
        let above = coldness - self.threshold;
        if above <= 0.0 {
            // Exactly, so that nothing adds up.
            return each;
        }
        let part = above.min(1.0);
        let height = 1.0 + self.slope * (above - part / 2.0);
        ((part * height + 1.0 - part) * each as f64).ceil() as u64
    }

    /// Numbers that are written one after the other: a panic between them cannot happen.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
