//! Whether a request is sent once more, and after which wait: where that is safe, and where its rule asks for it.
//!
//! What an endpoint has not processed for certain goes to another one at once, at most [`SAFE_RETRIES_MAX`] times. What
//! the rule names comes after that, with its waits, so that the two do not eat each other's tries. Both come out of the
//! cluster's budget.

use std::time::Duration;

use leno_http::{Fields, Processed, Response};
use leno_model::snapshot::{Retry, RetryOn};
use leno_telemetry::flag::REASON_FIELD;
use leno_traffic::Backoff;
use leno_traffic::bulkhead::Entered;
use tokio::time::Instant;

use super::forward::Unanswered;
use super::overload::is_shed;
use super::{Exchange, Plan};
use crate::failure::Failure;

/// Tries after the first of what was not processed for certain.
const SAFE_RETRIES_MAX: u32 = 2;
/// Reasons by which an inbound proxy says that the application has seen nothing of the request.
const UNPROCESSED: [&str; 4] = ["connect_failure", "connect_timeout", "draining", "no_healthy_endpoint"];
/// Reasons by which an inbound proxy says that the application is gone and may have seen something of it.
const BROKEN: [&str; 2] = ["upstream_closed", "upstream_reset"];

/// The retries of one request; what they hold, they hold as long as it is open.
#[derive(Default)]
pub(super) struct Retries<'d> {
    safe: u32,
    asked: u32,
    held: Option<Entered<'d>>,
}

impl Exchange<'_> {
    /// How long to wait before the request is sent once more after this answer, if it is.
    pub(super) fn again_after_answer<'d>(
        &self,
        plan: &Plan<'d>,
        response: &Response,
        tried: &[usize],
        retries: &mut Retries<'d>,
    ) -> Option<Duration> {
        if retries.safe < SAFE_RETRIES_MAX && self.may_go_elsewhere(plan, response, tried) && retries.take(self, plan) {
            retries.safe += 1;
            return Some(Duration::ZERO);
        }
        let retry = plan.rule.rule.retry.as_ref()?;
        let named = self.names_answer(retry, response);
        if named { self.asked_wait(plan, retry, Some(&response.head.fields), retries) } else { None }
    }

    /// How long to wait before the request is sent once more after a try without an answer, if it is.
    pub(super) fn again_after_failure<'d>(
        &self,
        plan: &Plan<'d>,
        unanswered: &Unanswered,
        retries: &mut Retries<'d>,
    ) -> Option<Duration> {
        let is_safe = matches!(unanswered, Unanswered::Again(_));
        if is_safe && retries.safe < SAFE_RETRIES_MAX && retries.take(self, plan) {
            retries.safe += 1;
            return Some(Duration::ZERO);
        }
        let retry = plan.rule.rule.retry.as_ref()?;
        let named = self.names_failure(retry, unanswered.failure());
        if named { self.asked_wait(plan, retry, None, retries) } else { None }
    }

    /// The wait before a retry that the rule asks for, where there may be one.
    fn asked_wait<'d>(
        &self,
        plan: &Plan<'d>,
        retry: &Retry,
        answered: Option<&Fields>,
        retries: &mut Retries<'d>,
    ) -> Option<Duration> {
        if retries.asked >= retry.attempts || !self.payload.is_there() {
            return None;
        }
        let random = self.worker.random_bits();
        let mut wait = Backoff::at_least(retry.backoff, retry.backoff_max).wait(retries.asked + 1, random);
        let told = answered.filter(|_| !retry.retry_after_max.is_zero()).and_then(retry_after);
        if let Some(told) = told {
            // Who asks for more is not asked again: the client hears for how long.
            if told > retry.retry_after_max {
                return None;
            }
            wait = wait.max(Backoff::told(told).wait(1, random));
        }
        // The answer that is there is better than none at the deadline.
        let in_time = plan.deadline.is_none_or(|(at, _)| Instant::now() + wait < at);
        let again = in_time && retries.take(self, plan);
        retries.asked += u32::from(again);
        again.then_some(wait)
    }

    /// Whether the rule names this answer. That of an instance which has too much to do is named by none: asked once more, it
    /// has still more.
    pub(super) fn names_answer(&self, retry: &Retry, response: &Response) -> bool {
        let head = &response.head;
        if is_shed(head, self.is_grpc) {
            return false;
        }
        if self.is_grpc && head.status == 200 {
            let status = || head.fields.get_str("grpc-status").and_then(|status| status.parse().ok());
            return !retry.on.is_empty() && status().is_some_and(|status| names_grpc(retry, status));
        }
        let named = head.status >= 400
            && (retry.codes.contains(&head.status) || retry.on.iter().any(|on| on.names_status(head.status)));
        named && retry.repeats(self.head.method.as_str(), true)
    }

    /// Whether the rule names this failure.
    fn names_failure(&self, retry: &Retry, failure: &Failure) -> bool {
        let (kind, unseen) = match failure {
            Failure::Connect { .. } => (RetryOn::ConnectFailure, true),
            Failure::Upstream { cause, .. } if cause.processed() == Processed::No => (RetryOn::RefusedStream, true),
            Failure::Upstream { .. } | Failure::TryTimeout(_) => (RetryOn::Reset, false),
            _ => return false,
        };
        if self.is_grpc && names_grpc(retry, failure.grpc_code() as u8) {
            return true;
        }
        let kinds = [kind, RetryOn::ServerError, RetryOn::GatewayError];
        let named = retry.on.iter().any(|on| kinds.contains(on));
        let by_status = !unseen && retry.codes.contains(&failure.status());
        (named || by_status) && (unseen || retry.repeats(self.head.method.as_str(), false))
    }

    /// Whether the answer is an inbound proxy's word that the application saw nothing of the request, or broke off one
    /// that may be repeated, and another endpoint may be tried.
    fn may_go_elsewhere(&self, plan: &Plan<'_>, response: &Response, tried: &[usize]) -> bool {
        let cluster = plan.cluster;
        if !matches!(response.head.status, 502 | 503) || !self.payload.is_there() {
            return false;
        }
        if tried.len() >= cluster.eligible_among(plan.bond.as_ref().and_then(|bond| bond.among)) {
            return false;
        }
        let via_proxy = tried.last().is_some_and(|at| cluster.endpoints[*at].state.via_proxy);
        let says = |reasons: &[&str]| {
            response.head.fields.get_str(REASON_FIELD).is_some_and(|reason| reasons.contains(&reason))
        };
        let safe = says(&UNPROCESSED) || says(&BROKEN) && self.head.method.is_idempotent();
        via_proxy && safe
    }
}

// === impl Retries ===

impl<'d> Retries<'d> {
    /// None are left.
    pub(super) fn spent() -> Self {
        Self { safe: SAFE_RETRIES_MAX, asked: u32::MAX, held: None }
    }

    /// Takes one out of the cluster's budget and limit, if both have one left.
    pub(super) fn take(&mut self, exchange: &Exchange<'_>, plan: &Plan<'d>) -> bool {
        plan.cluster.try_retry(exchange.worker.now(), &mut self.held)
    }
}

fn names_grpc(retry: &Retry, status: u8) -> bool {
    retry.on.iter().any(|on| on.grpc_status() == Some(status))
}

/// What an answer says of when to come again, in seconds; a date is not looked at.
fn retry_after(fields: &Fields) -> Option<Duration> {
    let value = fields.get_str("retry-after")?;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    // What has more digits than a number is longer than any wait.
    is_number.then(|| Duration::from_secs(value.parse().unwrap_or(u64::from(u32::MAX))))
}
