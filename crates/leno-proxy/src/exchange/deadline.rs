//! How long a request may take, and what of that is left for whoever is asked next.
//!
//! The least of what the rule allows and what the caller says counts, from the moment the request came. A caller of gRPC
//! says it in `grpc-timeout`; any other one in [`LEFT_FIELD`], which Envoy writes, so that what is left crosses proxies of
//! either kind, and an application that passes the field on with its own calls passes the deadline on. (Rejected: a field
//! of leno's own, which nobody else would write or read; an absolute time, which needs clocks that agree.) Each try says
//! anew what is left.
//!
//! A caller can only have his own request end sooner. Where he gave less time than the rule does, or the rule gives none,
//! that it was over says nothing about who was asked: neither ejection nor breaker count it, or a stranger's
//! `grpc-timeout` of a millisecond would take a service away from everybody. At a gateway, strangers' [`LEFT_FIELD`] is
//! not even looked at.

use std::time::Duration;

use leno_http::{Fields, RequestHead, grpc};
use tokio::time::Instant;

use super::{Exchange, Plan};
use crate::failure::Failure;

/// What is left of a request's time, in milliseconds.
pub(super) const LEFT_FIELD: &str = "x-envoy-expected-rq-timeout-ms";
/// What a caller of gRPC says.
const GRPC_FIELD: &str = "grpc-timeout";
/// More digits are no time that anybody means.
const DIGITS_MAX: usize = 12;

impl Exchange<'_> {
    /// The earlier of what the rule and the caller allow.
    pub(super) fn deadline(&self, rule: Option<Duration>) -> Option<(Instant, Duration)> {
        let fields = &self.head.fields;
        let of_grpc = self.is_grpc.then(|| fields.get(GRPC_FIELD).and_then(grpc::parse_timeout)).flatten();
        let least = [rule, of_grpc, left(fields)].into_iter().flatten().min()?;
        let passed = self.worker.now().saturating_sub(self.record.began());
        Some((Instant::now() + least.saturating_sub(passed), least))
    }
}

impl Plan<'_> {
    /// Whether there is time left: what is sent now would be cut off else.
    pub(super) fn in_time(&self) -> Result<(), Failure> {
        match self.deadline {
            Some((at, limit)) if Instant::now() >= at => Err(Failure::Timeout(limit)),
            _ => Ok(()),
        }
    }

    /// Whether the caller gives less time than the rule: its end says nothing about who is asked.
    pub(super) fn is_cut_short(&self) -> bool {
        let of_rule = self.rule.rule.request_timeout;
        self.deadline.is_some_and(|(_, limit)| of_rule.is_none_or(|of_rule| limit < of_rule))
    }

    /// Says what is left to whoever is asked now, inside the mesh.
    pub(super) fn tell_time_left(&self, head: &mut RequestHead, is_grpc: bool) {
        let Some(left) = self.time_left().filter(|_| !self.outside) else { return };
        // What is sent has time left; none would be no time to some, and any to others.
        let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
        head.fields.set(LEFT_FIELD, itoa::Buffer::new().format(ms));
        if is_grpc {
            head.fields.set(GRPC_FIELD, grpc::format_timeout(left));
        }
    }

    /// How long the request may take yet.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }
}

fn left(fields: &Fields) -> Option<Duration> {
    let value = fields.get(LEFT_FIELD)?;
    let is_number = !value.is_empty() && value.len() <= DIGITS_MAX && value.iter().all(u8::is_ascii_digit);
    let number = |value| std::str::from_utf8(value).ok()?.parse().ok();
    number(value).filter(|_| is_number).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_a_number_of_milliseconds_and_nothing_else() {
        let read = |value: &str| left(&Fields::from_iter([(LEFT_FIELD, value)]));
        assert_eq!(read("250"), Some(Duration::from_millis(250)));
        assert_eq!(read("0"), Some(Duration::ZERO));
        for bad in ["", "-1", "+1", "1.5", "1s", "1,2", "9999999999999"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(left(&Fields::new()), None);
    }
}
