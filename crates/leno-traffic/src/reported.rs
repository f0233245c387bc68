//! What an endpoint says of its own load (ORCA: how many requests a second it serves and how much of what it has they take),
//! and the weight that follows: gRPC's A58, which is Envoy's too.
//!
//! ```text
//! weight = requests a second / (utilization + errors a second / requests a second × penalty)
//! ```
//!
//! That is what the endpoint could serve if it were busy to the full, so that shares by it make all of them equally busy,
//! whatever machines they are on. Its last report counts; none counts before an endpoint has reported for a while without a
//! gap, because the first say what it was before it had its share, nor when the last is old.
//!
//! Words of 32 bits that are written one after the other: a reader in between sees two reports, both of which are true.
//! Hot path: no locks held, no allocations.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use leno_model::snapshot::LoadReports;

use crate::load::stamp;
use crate::window::millis;

/// A report of load.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Report {
    /// Requests that it serves a second, of all callers.
    pub rate: f32,
    /// Those of them that fail.
    pub errors: f32,
    /// The part of what it has that they take; above 1 it has more than it can do.
    pub utilization: f32,
}

/// The last report, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Last {
    /// What it said.
    pub report: Report,
    /// How long ago.
    pub age: Duration,
    /// The weight that follows, where it is in force.
    pub weight: Option<f32>,
}

/// What is known of it; a part of a load.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    /// High half: the rate as f32 bits. Low half: the utilization.
    work: AtomicU64,
    errors: AtomicU32,
    /// When the first came after a gap, in milliseconds and one more; 0 is never.
    since: AtomicU64,
    /// When the last came, as a stamp; 0 is never.
    at: AtomicU32,
}

// === impl Report ===

impl Report {
    /// Whether a weight follows from it: numbers that are no numbers, and an endpoint that does nothing, say nothing.
    pub fn is_usable(&self) -> bool {
        let all = [self.rate, self.errors, self.utilization];
        all.iter().all(|number| number.is_finite() && *number >= 0.0) && self.rate > 0.0 && self.weight(1.0).is_some()
    }

    /// What the endpoint could serve.
    fn weight(&self, penalty: f32) -> Option<f32> {
        let weight = self.rate / (self.utilization + self.errors / self.rate * penalty);
        (weight.is_finite() && weight > 0.0).then_some(weight)
    }
}

// === impl Reported ===

impl Reported {
    /// A report came, which is usable.
    pub(crate) fn note(&self, now: Duration, report: Report) {
        self.work.store(u64::from(report.rate.to_bits()) << 32 | u64::from(report.utilization.to_bits()), Relaxed);
        self.errors.store(report.errors.to_bits(), Relaxed);
        if self.since.load(Relaxed) == 0 {
            self.since.store(millis(now) + 1, Relaxed);
        }
        self.at.store(now_of(now), Relaxed);
    }

    /// The last report, if there was one.
    pub(crate) fn last(&self, now: Duration, terms: &LoadReports) -> Option<Last> {
        let weight = self.weight(now, terms);
        let at = self.at.load(Relaxed);
        (at != 0).then(|| Last { report: self.report(), age: age(at, now_of(now)), weight })
    }

    /// The weight that is in force by these terms.
    pub(crate) fn weight(&self, now: Duration, terms: &LoadReports) -> Option<f32> {
        let (at, since) = (self.at.load(Relaxed), self.since.load(Relaxed));
        if at == 0 || since == 0 {
            return None;
        }
        if age(at, now_of(now)) >= terms.expiration {
            // What comes now begins anew.
            self.since.store(0, Relaxed);
            return None;
        }
        let is_known = (millis(now) + 1).saturating_sub(since) >= millis(terms.blackout);
        is_known.then(|| self.report().weight(terms.error_penalty as f32 / 100.0)).flatten()
    }

    fn report(&self) -> Report {
        let work = self.work.load(Relaxed);
        Report {
            rate: f32::from_bits((work >> 32) as u32),
            utilization: f32::from_bits(work as u32),
            errors: f32::from_bits(self.errors.load(Relaxed)),
        }
    }
}

/// A stamp that is not "never".
fn now_of(now: Duration) -> u32 {
    stamp(now).max(1)
}

/// Nothing where the clock of another worker is a moment ahead.
fn age(then: u32, now: u32) -> Duration {
    let elapsed = now.wrapping_sub(then);
    Duration::from_millis(if elapsed > u32::MAX / 2 { 0 } else { elapsed.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;
    const TERMS: LoadReports = LoadReports::DEFAULT;

    fn report(rate: f32, errors: f32, utilization: f32) -> Report {
        Report { rate, errors, utilization }
    }

    /// Its weight by these terms after reports at these times.
    fn weight(reports: &[(u64, Report)], at: u64) -> Option<f32> {
        let reported = Reported::default();
        for (at, report) in reports {
            // As whoever picks does all the time.
            let _ = reported.weight(S(*at), &TERMS);
            reported.note(S(*at), *report);
        }
        reported.weight(S(at), &TERMS)
    }

    #[test]
    fn one_that_reports_for_months_keeps_its_weight() {
        let reported = Reported::default();
        for minute in 1..=90 * 24 * 60 {
            reported.note(S(minute * 60), report(100.0, 0.0, 0.5));
            assert_eq!(reported.weight(S(minute * 60 + 30), &TERMS).is_some(), minute * 60 + 30 >= 70, "{minute}");
        }
    }

    #[test]
    fn the_weight_is_what_an_endpoint_could_serve() {
        assert_eq!(report(100.0, 0.0, 0.5).weight(1.0), Some(200.0));
        assert_eq!(report(100.0, 50.0, 0.5).weight(1.0), Some(100.0), "errors count as work");
        assert_eq!(report(100.0, 50.0, 0.5).weight(0.0), Some(200.0));
        assert_eq!(report(100.0, 0.0, 2.0).weight(1.0), Some(50.0), "more than it can do");
    }

    #[test]
    fn what_is_no_number_or_says_nothing_is_not_usable() {
        assert!(report(1.0, 0.0, 0.1).is_usable() && report(1.0, 1.0, 0.0).is_usable());
        let bad = [
            report(0.0, 0.0, 0.5),
            report(1.0, 0.0, 0.0),
            report(-1.0, 0.0, 0.5),
            report(1.0, 0.0, -0.5),
            report(f32::NAN, 0.0, 0.5),
            report(1.0, f32::INFINITY, 0.5),
            report(f32::MAX, 0.0, f32::MIN_POSITIVE),
        ];
        assert!(bad.iter().all(|report| !report.is_usable()), "{bad:?}");
    }

    #[test]
    fn reports_count_when_they_have_come_for_a_while_and_no_more_when_they_stop() {
        let one = report(100.0, 0.0, 0.5);
        assert_eq!(weight(&[], 100), None);
        assert_eq!(weight(&[(100, one)], 109), None);
        assert_eq!(weight(&[(100, one)], 110), Some(200.0));
        assert_eq!(weight(&[(100, one), (105, report(100.0, 0.0, 0.25))], 110), Some(400.0), "the last counts");
        assert_eq!(weight(&[(100, one)], 279), Some(200.0));
        assert_eq!(weight(&[(100, one)], 280), None);
        assert_eq!(weight(&[(100, one), (300, one)], 309), None, "after a gap it begins anew");
        assert_eq!(weight(&[(100, one), (300, one)], 310), Some(200.0));
    }

    #[test]
    fn a_clock_a_moment_behind_does_no_harm() {
        let reported = Reported::default();
        reported.note(S(100), report(100.0, 0.0, 0.5));
        assert_eq!(reported.weight(S(99), &LoadReports { blackout: Duration::ZERO, ..TERMS }), Some(200.0));
    }
}
