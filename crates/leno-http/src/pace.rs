//! How slow a peer may be: with a body that it announced, and with a response that waits for it.
//!
//! Both are allowances that time uses up, and that bytes fill again. Nobody is held to a rate while it is not waited for,
//! and the clock is a parameter.

use std::time::Duration;

use tokio::time::Instant;

use crate::fields::Fields;
use crate::grpc;
use crate::limits::Limits;

/// How long the peer was waited for, and what came of it.
pub(crate) struct Pace {
    received: u64,
    waited: Duration,
    since: Option<Instant>,
}

/// How fast the peer takes what is written for it: an allowance that time uses up while something waits, and that every
/// byte taken fills again.
#[derive(Debug)]
pub(crate) struct Uptake {
    allowance: Duration,
    /// What is taken fills it no further than this.
    most: Duration,
    /// When it was looked at last, while something waited.
    looked: Option<Instant>,
    /// Written since, or since the beginning.
    written: u64,
    /// What was not taken yet, of what was written until then.
    held: u64,
}

/// Whether a response with these fields is one of events or of a call, which come and are read when they happen.
pub(crate) fn is_read_at_leisure(fields: &Fields) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    let is_events = |kind: &[u8]| kind.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS));
    fields.get("content-type").is_some_and(|kind| grpc::is_content_type(kind) || is_events(kind))
}

// === impl Pace ===

impl Pace {
    /// So many bytes came with the head.
    pub(crate) fn new(received: usize) -> Pace {
        Pace { received: received as u64, waited: Duration::ZERO, since: None }
    }

    /// So many bytes came.
    pub(crate) fn received(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        self.received += bytes as u64;
        if let Some(since) = self.since.take() {
            self.waited += now() - since;
        }
    }

    /// When the patience that the bytes so far have earned is over; the peer is waited for from now on, if it was not.
    pub(crate) fn wait_until(&mut self, limits: &Limits, now: impl FnOnce() -> Instant) -> Instant {
        let earned = Duration::from_secs(self.received / u64::from(limits.body_rate_min.max(1)));
        let patience = (limits.body_grace + earned).saturating_sub(self.waited).min(limits.stream_idle_timeout);
        *self.since.get_or_insert_with(now) + patience
    }
}

// === impl Uptake ===

impl Uptake {
    /// Of a response that begins; bytes taken ahead are worth so much time besides the grace.
    pub(crate) fn new(limits: &Limits, ahead: Duration) -> Uptake {
        let allowance = limits.response_grace;
        Uptake { allowance, most: allowance + ahead, looked: None, written: 0, held: 0 }
    }

    /// So many bytes were written.
    pub(crate) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Something waits from now on, if it did not: when the allowance is used up if nothing is taken until then. `look`
    /// is the time, and how much of what was written is not taken yet.
    pub(crate) fn waits(&mut self, limits: &Limits, look: impl FnOnce() -> (Instant, u64)) -> Instant {
        let looked = self.looked.unwrap_or_else(|| {
            let (now, held) = look();
            self.fill(limits, held, Duration::ZERO);
            now
        });
        self.looked = Some(looked);
        looked + self.allowance
    }

    /// Looks at what was taken while something waited; whether that was too little.
    pub(crate) fn is_used_up(&mut self, limits: &Limits, now: Instant, held: u64) -> bool {
        let passed = self.looked.replace(now).map_or(Duration::ZERO, |looked| now - looked);
        self.fill(limits, held, passed);
        self.allowance = self.allowance.saturating_sub(passed);
        self.allowance.is_zero()
    }

    /// Nothing waits any more: time does not count.
    pub(crate) fn rests(&mut self, limits: &Limits, look: impl FnOnce() -> (Instant, u64)) {
        if self.looked.is_some() {
            let (now, held) = look();
            self.is_used_up(limits, now, held);
            self.looked = None;
        }
    }

    /// What was taken in a time fills the allowance, which that time has not been taken off yet.
    fn fill(&mut self, limits: &Limits, held: u64, passed: Duration) {
        let taken = (self.held + self.written).saturating_sub(held);
        let rate = u64::from(limits.response_rate_min.max(1));
        let earned = Duration::from_micros(taken.saturating_mul(1_000_000) / rate);
        self.allowance = self.allowance.saturating_add(earned).min(self.most + passed);
        (self.held, self.written) = (held, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let second = Duration::from_secs(1);
        Limits { response_rate_min: 100, response_grace: 8 * second, body_grace: 5 * second, ..Limits::default() }
    }

    #[test]
    fn what_waits_untaken_is_used_up_after_the_grace() {
        let (limits, began) = (limits(), Instant::now());
        let mut uptake = Uptake::new(&limits, Duration::ZERO);
        uptake.wrote(5_000);
        assert_eq!(uptake.waits(&limits, || (began, 5_000)), began + limits.response_grace);
        assert!(!uptake.is_used_up(&limits, began + Duration::from_secs(7), 5_000));
        assert!(uptake.is_used_up(&limits, began + Duration::from_secs(8), 5_000));
    }

    #[test]
    fn what_is_taken_is_worth_its_time_and_no_more_than_is_kept() {
        let (limits, began) = (limits(), Instant::now());
        let second = Duration::from_secs(1);
        for (ahead, lasts) in [(0, 8), (10, 18), (100, 58)] {
            let mut uptake = Uptake::new(&limits, ahead * second);
            uptake.wrote(5_000);
            assert!(!uptake.is_used_up(&limits, began, 0));
            assert!(!uptake.is_used_up(&limits, began + (lasts - 1) * second, 0), "{ahead}");
            assert!(uptake.is_used_up(&limits, began + lasts * second, 0), "{ahead}");
        }
    }

    #[test]
    fn time_in_which_nothing_waits_does_not_count() {
        let (limits, began) = (limits(), Instant::now());
        let mut uptake = Uptake::new(&limits, Duration::ZERO);
        assert!(!uptake.is_used_up(&limits, began, 0));
        uptake.rests(&limits, || (began, 0));
        assert!(!uptake.is_used_up(&limits, began + Duration::from_secs(100), 0));
        assert!(!uptake.is_used_up(&limits, began + Duration::from_secs(107), 0));
        assert!(uptake.is_used_up(&limits, began + Duration::from_secs(108), 0));
    }

    #[test]
    fn a_body_has_the_patience_that_its_bytes_have_earned() {
        let (mut limits, began) = (limits(), Instant::now());
        limits.body_rate_min = 100;
        let mut pace = Pace::new(200);
        assert_eq!(pace.wait_until(&limits, || began), began + Duration::from_secs(7));
        pace.received(100, || began + Duration::from_secs(6));
        let later = began + Duration::from_secs(50);
        assert_eq!(pace.wait_until(&limits, || later), later + Duration::from_secs(2));
    }
}
