//! What is known about the load of one endpoint: open requests and latency, and whether it is left out for a while. Shared
//! by all workers.
//!
//! The latency is a *peak EWMA* (Finagle, Linkerd): a slower answer raises it at once, faster ones lower it with a time
//! constant of 10 s, and without any answer it decays towards 0, so that an endpoint that was slow is tried again. The
//! average weighs by elapsed time, not by count: at most one sample per millisecond counts unless it is a peak.
//!
//! A failure counts as a latency of four times the average, at most 10 s: an endpoint that fails fast must not look
//! fast. One failure among equals keeps an endpoint mostly unused for 10 s × ln 4 = 14 s, repeated ones for up to a minute.
//!
//! Average and time of the last sample stand in one 64-bit word (f32 nanoseconds, u32 milliseconds that wrap), so that
//! they change together without a lock. Rejected: two words, between which another worker's sample fits.
//!
//! Hot path: no locks held, no allocations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::LoadReports;

use crate::reported::{Last, Report, Reported};
use crate::window::millis;

/// The time constant with which a latency is forgotten.
pub const DECAY: Duration = Duration::from_secs(10);

/// What an endpoint counts as that has open requests and has not answered one yet.
const UNKNOWN_NS: f32 = 1e9;

/// A failure counts as this many times the average.
const FAILURE_FACTOR: f32 = 4.0;

/// The most that failures alone can raise the average to.
const FAILURE_MAX_NS: f32 = 10e9;

/// How often a sample is tried again when another worker came between. Then it is dropped: the other one counts.
const TRIES_MAX: usize = 4;

/// An endpoint that is tried again gets one request in this time.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// The load of one endpoint, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Load {
    open: AtomicU32,
    /// High half: milliseconds of the last sample. Low half: the average as f32 bits. 0: never answered.
    latency: AtomicU64,
    /// 0 where it takes requests as any other. Else until when it takes none, in milliseconds above the lowest bit, which is
    /// set while it is being tried.
    out: AtomicU64,
    reported: Reported,
    /// What all its answers took together, in microseconds, and how many there were, where somebody asks for the mean.
    took: AtomicU64,
    answers: AtomicU64,
}

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    In,
    /// It was ejected: until then at least, and until somebody tries it.
    Out(Duration),
    /// It is being tried.
    Probing,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The endpoint did its work, whatever it answered.
    Answered,
    /// The endpoint failed: no connection, a reset, a timeout, 5xx.
    Failed,
}

/// One open request; counts until it is finished or dropped.
#[derive(Debug)]
pub struct Open(Arc<Load>);

// === impl Load ===

impl Load {
    /// Nothing open, nothing known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request until the result is finished or dropped.
    pub fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Relaxed);
        Open(Arc::clone(self))
    }

    /// How many requests are open.
    pub fn open_requests(&self) -> u32 {
        self.open.load(Relaxed)
    }

    /// The average latency as it has decayed until `now`; none when the endpoint has not answered yet.
    pub fn latency(&self, now: Duration) -> Option<Duration> {
        let average = Average::unpack(self.latency.load(Relaxed))?;
        Some(Duration::from_nanos(average.decayed(stamp(now)) as u64))
    }

    /// Takes a sample of the latency.
    pub fn observe(&self, now: Duration, latency: Duration, outcome: Outcome) {
        let now = stamp(now);
        let mut old = self.latency.load(Relaxed);
        for _ in 0..TRIES_MAX {
            let Some(new) = Average::after(Average::unpack(old), now, latency, outcome) else { return };
            match self.latency.compare_exchange_weak(old, new.pack(), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(current) => old = current,
            }
        }
    }

    /// Counts what an answer took, for the mean.
    pub fn time(&self, took: Duration) {
        self.took.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.answers.fetch_add(1, Relaxed);
    }

    /// What its answers took on average.
    pub fn mean(&self) -> Option<Duration> {
        let answers = self.answers.load(Relaxed);
        (answers > 0).then(|| Duration::from_secs_f64(self.took.load(Relaxed) as f64 / 1e6 / answers as f64))
    }

    /// Takes in what it reports of itself, where that says something; whether it does.
    pub fn report(&self, now: Duration, report: Report) -> bool {
        let is_usable = report.is_usable();
        if is_usable {
            self.reported.note(now, report);
        }
        is_usable
    }

    /// What it reported last.
    pub fn reported(&self, now: Duration, terms: &LoadReports) -> Option<Last> {
        self.reported.last(now, terms)
    }

    /// The weight by its reports, where that is in force.
    pub(crate) fn reported_weight(&self, now: Duration, terms: &LoadReports) -> Option<f32> {
        self.reported.weight(now, terms)
    }

    /// Whether it takes requests.
    pub fn standing(&self) -> Standing {
        match self.out.load(Relaxed) {
            0 => Standing::In,
            word if word & 1 == 1 => Standing::Probing,
            word => Standing::Out(Duration::from_millis(word >> 1)),
        }
    }

    /// Whether it takes no request now.
    pub(crate) fn is_out(&self, now: Duration) -> bool {
        let word = self.out.load(Relaxed);
        word != 0 && millis(now) < word >> 1
    }

    /// It was picked: where its time outside is over that is a try, and for a moment there is no other.
    pub(crate) fn picked(&self, now: Duration) {
        let word = self.out.load(Relaxed);
        if word != 0 && millis(now) >= word >> 1 {
            let next = millis(now + PROBE_EVERY) << 1 | 1;
            // Whoever came between tries it too, or has had it ejected anew.
            let _ = self.out.compare_exchange(word, next, Relaxed, Relaxed);
        }
    }

    /// Leaves it out until then; false where it is out already.
    pub(crate) fn put_out(&self, until: Duration) -> bool {
        let out = millis(until).max(1) << 1;
        let stands_in = |word: u64| word == 0 || word & 1 == 1;
        self.out.fetch_update(Relaxed, Relaxed, |word| stands_in(word).then_some(out)).is_ok()
    }

    /// Has it take requests as any other.
    pub(crate) fn take_in(&self) {
        self.out.store(0, Relaxed);
    }

    /// The latency in ns for comparing: 0 when idle and unknown, so that a new endpoint is tried, and long when
    /// unknown and busy, so that it is tried by few until it has answered.
    pub(crate) fn expected_ns(&self, now_ms: u32, open: u32) -> f32 {
        match Average::unpack(self.latency.load(Relaxed)) {
            Some(average) => average.decayed(now_ms),
            None if open == 0 => 0.0,
            None => UNKNOWN_NS,
        }
    }
}

// === impl Open ===

impl Open {
    /// The request is over: takes the sample.
    pub fn finish(self, now: Duration, latency: Duration, outcome: Outcome) {
        self.0.observe(now, latency, outcome);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// An average and when it was last changed.
#[derive(Clone, Copy)]
struct Average {
    ns: f32,
    at_ms: u32,
}

// === impl Average ===

impl Average {
    fn unpack(word: u64) -> Option<Self> {
        let ns = f32::from_bits(word as u32);
        (ns > 0.0).then_some(Self { ns, at_ms: (word >> 32) as u32 })
    }

    fn pack(self) -> u64 {
        u64::from(self.at_ms) << 32 | u64::from(self.ns.to_bits())
    }

    fn decayed(self, now_ms: u32) -> f32 {
        self.ns * weight(self.at_ms, now_ms)
    }

    /// The average after a sample; none when the sample changes nothing.
    fn after(old: Option<Self>, now_ms: u32, latency: Duration, outcome: Outcome) -> Option<Self> {
        let measured = (latency.as_nanos() as f32).max(1.0);
        let Some(old) = old else {
            let ns = if outcome == Outcome::Failed { measured.max(UNKNOWN_NS) } else { measured };
            return Some(Self { ns, at_ms: now_ms });
        };
        let decayed = old.decayed(now_ms);
        let sample = match outcome {
            Outcome::Answered => measured,
            Outcome::Failed => measured.max((decayed * FAILURE_FACTOR).min(FAILURE_MAX_NS)),
        };
        if sample >= decayed {
            return Some(Self { ns: sample, at_ms: now_ms });
        }
        let weight = weight(old.at_ms, now_ms);
        (weight < 1.0).then_some(Self { ns: old.ns * weight + sample * (1.0 - weight), at_ms: now_ms })
    }
}

/// What is left of an average after the time between; 1 when the clock of another worker is a moment ahead.
fn weight(then_ms: u32, now_ms: u32) -> f32 {
    let elapsed = now_ms.wrapping_sub(then_ms);
    if elapsed == 0 || elapsed > u32::MAX / 2 {
        return 1.0;
    }
    (-(elapsed as f32) / DECAY.as_millis() as f32).exp()
}

/// Milliseconds that wrap after 49 days, which is harmless: only differences count.
pub(crate) fn stamp(now: Duration) -> u32 {
    millis(now) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn latency_ms(load: &Load, now: Duration) -> f64 {
        load.latency(now).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }

    fn answered(load: &Load, now: Duration, latency: Duration) {
        load.observe(now, latency, Outcome::Answered);
    }

    #[test]
    fn a_load_fills_a_cache_line() {
        assert_eq!((size_of::<Load>(), align_of::<Load>()), (64, 64));
    }

    #[test]
    fn requests_are_open_until_finished_or_dropped() {
        let load = Arc::new(Load::new());
        let (first, second) = (load.open(), load.open());
        assert_eq!(load.open_requests(), 2);
        first.finish(MS, MS, Outcome::Answered);
        drop(second);
        assert_eq!(load.open_requests(), 0);
        assert_eq!(load.latency(MS), Some(MS));
    }

    #[test]
    fn a_peak_counts_at_once_and_faster_answers_lower_it_slowly() {
        let load = Load::new();
        answered(&load, MS, 5 * MS);
        answered(&load, 2 * MS, 100 * MS);
        assert_eq!(latency_ms(&load, 2 * MS).round(), 100.0);
        answered(&load, 2 * MS + DECAY, 5 * MS);
        let wanted = 5.0 + 95.0 / std::f64::consts::E;
        assert!((latency_ms(&load, 2 * MS + DECAY) - wanted).abs() < 0.1);
    }

    #[test]
    fn many_samples_decay_as_fast_as_few() {
        let (often, seldom) = (Load::new(), Load::new());
        answered(&often, MS, 100 * MS);
        answered(&seldom, MS, 100 * MS);
        // 0.1 ms apart: nine of ten fall into the same millisecond and must not shorten the average's memory.
        (0..100_000).for_each(|n| answered(&often, MS + MS * n / 10, MS));
        (0..100).for_each(|n| answered(&seldom, MS + 100 * MS * n, MS));
        let now = Duration::from_secs(10);
        assert!((latency_ms(&often, now) - latency_ms(&seldom, now)).abs() < 1.0);
    }

    #[test]
    fn a_latency_without_samples_decays_to_nothing() {
        let load = Load::new();
        answered(&load, MS, 100 * MS);
        assert!((latency_ms(&load, MS + DECAY) - 36.8).abs() < 0.1);
        assert!(latency_ms(&load, MS + 20 * DECAY) < 0.001);
    }

    #[test]
    fn failures_count_more_each_time_up_to_a_limit() {
        let load = Load::new();
        answered(&load, MS, 10 * MS);
        load.observe(MS, MS, Outcome::Failed);
        assert_eq!(latency_ms(&load, MS).round(), 40.0);
        load.observe(MS, MS, Outcome::Failed);
        assert_eq!(latency_ms(&load, MS).round(), 160.0);
        (0..20).for_each(|_| load.observe(MS, MS, Outcome::Failed));
        assert_eq!(latency_ms(&load, MS).round(), 10_000.0);
    }

    #[test]
    fn an_endpoint_whose_first_request_fails_counts_as_unknown() {
        let load = Load::new();
        load.observe(MS, MS, Outcome::Failed);
        assert_eq!(latency_ms(&load, MS).round(), 1000.0);
    }

    #[test]
    fn a_clock_a_moment_behind_or_wrapped_does_no_harm() {
        let load = Load::new();
        answered(&load, 100 * MS, 50 * MS);
        assert_eq!(latency_ms(&load, 90 * MS).round(), 50.0);
        let wrap = Duration::from_millis(u64::from(u32::MAX));
        answered(&load, wrap, 80 * MS);
        assert!((latency_ms(&load, wrap + DECAY) - 80.0 / std::f64::consts::E).abs() < 0.1);
    }
}
