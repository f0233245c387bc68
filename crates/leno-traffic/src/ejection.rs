//! Endpoints that fail are left out for a while (Envoy's outlier detection, Linkerd's failure accrual), and come back by
//! probes.
//!
//! ```text
//!            failures in a row, share of failures or slow answers        time over: one request a second
//!      in ───────────────────────────────────────────────────────► out ───────────────────────────────► probing
//!       ▲                                                            ▲                                    │ │
//!       └── an answer that is neither failed nor slow ───────────────┼────────────────────────────────────┘ │
//!                                                                    └────────── any other, for longer ─────┘
//! ```
//!
//! Where it stands is one word in the endpoint's [`Load`], which a picker reads anyway. An answer costs a load, where runs
//! alone are looked at, and one atomic operation more where shares are; shares are added up only when an answer is bad.
//! Nobody sweeps: what Envoy decides at the end of an interval is decided with the answer that gives the reason, and an
//! endpoint whose time is over is tried by whoever picks it. Rejected: a thread that rebuilds the picker, which would be
//! late by its period, and would have to own what the workers count.
//!
//! Each ejection is longer than the one before by the base time, up to a limit; each window without one forgives one. Who
//! is out while others ask counts towards the greatest share, and one of several may always be out; the last one never, but
//! where workers that do not see each other eject two at the same moment.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::Ejection;

use crate::load::{Load, Standing};
use crate::window::{Window, millis};

/// Steps of a window.
const BUCKETS: u32 = 10;

/// How an answer counts, for ejection and for breakers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// Whoever answered did its work.
    Good,
    /// It answered that it failed: 5xx that is none of a gateway's, or a status of gRPC that says the same.
    Error,
    /// It answered as a gateway does that reached nobody: 502, 503, 504.
    Gateway,
    /// No answer came: no connection, a reset, too late.
    Local,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Failures in a row.
    Consecutive,
    /// The share of failures.
    FailureRatio,
    /// The share of slow answers.
    SlowRatio,
    /// It was out and its probe failed.
    Probe,
}

/// What an endpoint's answers were. Shared by workers, kept from table to table.
#[derive(Debug)]
#[repr(align(64))]
pub struct Conduct {
    /// Failures in a row: any, a gateway's, without an answer.
    runs: [AtomicU32; 3],
    /// Ejections that are not forgiven.
    ejections: AtomicU32,
    /// When it came back, in milliseconds.
    back: AtomicU64,
    /// When it was ejected, in milliseconds.
    out_since: AtomicU64,
    /// Why: 1 more than a [`Cause`]; 0 where it never was.
    cause: AtomicU8,
    window: Window,
}

/// Whom an ejection is decided for.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Members of the cluster.
    pub members: usize,
    /// Those that are out.
    pub out: usize,
}

// === impl Conduct ===

impl Conduct {
    /// Nothing is known.
    pub fn new(terms: &Ejection) -> Self {
        Self {
            runs: Default::default(),
            ejections: AtomicU32::new(0),
            back: AtomicU64::new(0),
            out_since: AtomicU64::new(0),
            cause: AtomicU8::new(0),
            window: Window::new(terms.window, BUCKETS),
        }
    }

    /// Counts an answer of the endpoint with this load; ejects it when that is the reason to, and `crowd` allows it.
    pub fn observe(
        &self,
        terms: &Ejection,
        load: &Load,
        now: Duration,
        (mark, took): (Mark, Duration),
        crowd: impl FnOnce() -> Crowd,
    ) -> Option<Cause> {
        let slow = terms.slow_ratio.is_some() && mark == Mark::Good && took >= terms.slow_after;
        match load.standing() {
            Standing::In => {
                let cause = self.count(terms, now, mark, slow)?;
                allows(terms, crowd()).then(|| self.eject(terms, load, now, cause)).flatten()
            }
            // Asked before it was ejected.
            Standing::Out(_) => None,
            Standing::Probing if mark == Mark::Good && !slow => {
                self.back.store(millis(now), Relaxed);
                self.forget();
                load.take_in();
                None
            }
            Standing::Probing => self.eject(terms, load, now, Cause::Probe),
        }
    }

    /// When it was ejected last, and how many ejections are not forgiven.
    pub fn ejected(&self) -> (Duration, u32) {
        (Duration::from_millis(self.out_since.load(Relaxed)), self.ejections.load(Relaxed))
    }

    /// Why it was ejected last, if it ever was.
    pub fn cause(&self) -> Option<Cause> {
        let cause = [Cause::Consecutive, Cause::FailureRatio, Cause::SlowRatio, Cause::Probe];
        cause.into_iter().find(|cause| *cause as u8 + 1 == self.cause.load(Relaxed))
    }

    /// Counts, and finds a reason.
    fn count(&self, terms: &Ejection, now: Duration, mark: Mark, slow: bool) -> Option<Cause> {
        let failed = mark != Mark::Good;
        if terms.failure_ratio.is_some() || terms.slow_ratio.is_some() {
            self.window.count(now, failed, slow);
        }
        if !failed {
            self.runs.iter().filter(|run| run.load(Relaxed) != 0).for_each(|run| run.store(0, Relaxed));
            return slow.then(|| self.ratio(terms, now)).flatten();
        }
        let limits = [terms.consecutive_errors, terms.consecutive_gateway_errors, terms.consecutive_local_errors];
        let [any, gateway, local] = counted(mark, terms.consecutive_local_errors.is_some());
        let mut reached = false;
        for ((run, limit), counts) in self.runs.iter().zip(limits).zip([any, gateway, local]) {
            let Some(limit) = limit else { continue };
            match counts {
                Some(true) => reached |= run.fetch_add(1, Relaxed) + 1 >= limit,
                Some(false) => run.store(0, Relaxed),
                None => {}
            }
        }
        if reached { Some(Cause::Consecutive) } else { self.ratio(terms, now) }
    }

    fn ratio(&self, terms: &Ejection, now: Duration) -> Option<Cause> {
        if terms.failure_ratio.is_none() && terms.slow_ratio.is_none() {
            return None;
        }
        let counts = self.window.counts(now);
        let reaches = |part: u32, ratio: Option<u32>| ratio.is_some_and(|percent| counts.reaches(part, percent));
        if counts.total < terms.requests_min {
            None
        } else if reaches(counts.failed, terms.failure_ratio) {
            Some(Cause::FailureRatio)
        } else {
            reaches(counts.slow, terms.slow_ratio).then_some(Cause::SlowRatio)
        }
    }

    /// None where another worker was first.
    fn eject(&self, terms: &Ejection, load: &Load, now: Duration, cause: Cause) -> Option<Cause> {
        let now_ms = millis(now);
        let mut times = self.ejections.load(Relaxed);
        if cause != Cause::Probe {
            let well_for = now_ms.saturating_sub(self.back.load(Relaxed));
            let forgiven = well_for / millis(terms.window).max(1);
            times = times.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX));
        }
        times = times.saturating_add(1);
        let time = terms.base_time.saturating_mul(times).min(terms.time_max.max(terms.base_time));
        if !load.put_out(now + time) {
            return None;
        }
        self.ejections.store(times, Relaxed);
        self.out_since.store(now_ms, Relaxed);
        self.cause.store(cause as u8 + 1, Relaxed);
        self.forget();
        Some(cause)
    }

    fn forget(&self) {
        self.runs.iter().for_each(|run| run.store(0, Relaxed));
        self.window.clear();
    }
}

/// Which runs a failure makes longer, and which it ends; those of which neither is so stay as they are. Where failures
/// without an answer have a run of their own they count there alone, as with Envoy's `split_external_local_origin_errors`.
fn counted(mark: Mark, split: bool) -> [Option<bool>; 3] {
    match mark {
        Mark::Good => [Some(false), Some(false), Some(false)],
        Mark::Error => [Some(true), Some(false), Some(false)],
        Mark::Gateway => [Some(true), Some(true), Some(false)],
        Mark::Local if split => [None, None, Some(true)],
        Mark::Local => [Some(true), Some(true), None],
    }
}

fn allows(terms: &Ejection, crowd: Crowd) -> bool {
    let share = crowd.members as u64 * u64::from(terms.share_max) / 100;
    let most = match terms.share_max {
        100 => crowd.members as u64,
        _ => share.max(1).min((crowd.members as u64).saturating_sub(1)),
    };
    (crowd.out as u64) < most
}

#[cfg(test)]
mod tests;
