//! Whether a request may go on now: the limits of its service that this proxy holds.
//!
//! All that are for it are asked, in their order; the first that refuses ends it. What has to wait waits for the longest of
//! the times that they say. No lock is held and nothing allocated, but where one waits, or answers tell of limits.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use leno_http::Text;
use leno_model::snapshot::{KeySource, RateForm};
use leno_route::{RequestView, Router, with_parameter};
use leno_telemetry::access::Direction;
use leno_traffic::hash;
use tokio::time::{Instant, Sleep};

use super::Exchange;
use super::admission::Looked;
use super::affinity::{cookie_of, of_values};
use crate::failure::Failure;
use crate::rate_limit::{Held, Limit, OverLimit, RateLimits, Told};
use crate::table::Target;

/// What a part of a key is where a request has no value.
const NOTHING: u64 = 0;

/// What limits let through.
#[derive(Default)]
pub(super) struct LetThrough {
    /// Its turn, where it has to wait for that.
    pub(super) turn: Option<Pin<Box<Sleep>>>,
    /// It is counted as open as long as this is kept.
    pub(super) held: Option<Held>,
}

impl Exchange<'_> {
    /// Asks the limits on what comes to the application, or on what goes to the destination.
    pub(super) fn ask_limits(
        &mut self,
        target: &Target,
        source: Option<&Text>,
        timeout: Option<Duration>,
    ) -> Result<LetThrough, Failure> {
        if self.direction != Direction::Inbound {
            return match &target.rate_limits {
                Some(limits) => self.pass(limits, source, timeout),
                None => Ok(LetThrough::default()),
            };
        }
        let worker = self.worker;
        match worker.shared.inbound.limits().as_deref() {
            Some(Some(limits)) => self.pass(limits, source, timeout),
            _ => Ok(LetThrough::default()),
        }
    }

    fn pass(
        &mut self,
        limits: &Arc<RateLimits>,
        source: Option<&Text>,
        timeout: Option<Duration>,
    ) -> Result<LetThrough, Failure> {
        let now = self.worker.now();
        let (mut wait, mut which, mut told) = (Duration::ZERO, 0, None);
        let mut refused = None;
        for (at, limit) in limits.limits.iter().enumerate().filter(|(_, limit)| self.fits(limit.when.as_ref())) {
            let key = self.key(limit, source);
            let left = match limit.terms.form {
                RateForm::Queue { .. } => self.time_left(timeout),
                _ => None,
            };
            let taken = limit.limiter.take(key, now, left);
            limit.call_for_more();
            Told::add(&mut told, limit, &taken, now);
            match taken {
                Ok(granted) => {
                    wait = wait.max(granted.wait);
                    which |= u16::from(granted.holds) << at;
                }
                Err(over) => {
                    refused = Some((limit, over));
                    break;
                }
            }
        }
        let held = Held::new(limits, which);
        if let Some((limit, over)) = refused {
            return Err(Failure::OverLimit(Box::new(OverLimit::new(&limits.service, limit, over, told))));
        }
        self.told = told;
        let turn = (!wait.is_zero()).then(|| Box::pin(tokio::time::sleep(wait)));
        Ok(LetThrough { turn, held })
    }

    /// How long the request may take yet.
    pub(super) fn time_left(&self, timeout: Option<Duration>) -> Option<Duration> {
        self.deadline(timeout).map(|(at, _)| at.saturating_duration_since(Instant::now()))
    }

    /// Whether these conditions hold for the request, where there are any.
    pub(super) fn fits(&self, when: Option<&Router>) -> bool {
        let Some(router) = when else { return true };
        let (path, query) = self.head.path_and_query();
        let view = RequestView {
            host: self.head.host(),
            method: self.head.method.as_str(),
            path,
            query: query.unwrap_or(""),
            fields: &Looked(&self.head.fields),
        };
        router.route(&view).is_some()
    }

    /// What this request is counted by.
    fn key(&self, limit: &Limit, source: Option<&Text>) -> u64 {
        let value = |part: &KeySource| match part {
            KeySource::Caller => source.map(|source| hash::of(source.as_bytes())),
            KeySource::Header(name) => of_values(self.head.fields.get_all(name)),
            KeySource::Cookie(name) => cookie_of(&self.head, name).map(hash::of),
            KeySource::Query(name) => {
                let query = self.head.path_and_query().1.unwrap_or_default();
                with_parameter(query, name, |value| value.map(hash::of))
            }
            KeySource::Path => Some(hash::of(self.head.path_and_query().0.as_bytes())),
            KeySource::SourceAddress => self.address(),
        };
        limit.limiter.key(limit.terms.key.iter().map(|part| value(part).unwrap_or(NOTHING)))
    }

    /// The address that calls: of a client outside, of IPv6 what one client has; of the machine of another proxy.
    fn address(&self) -> Option<u64> {
        match self.direction {
            Direction::Gateway => Some(match self.client()?.to_canonical() {
                IpAddr::V4(address) => hash::of(&address.octets()),
                IpAddr::V6(address) => hash::of(&address.octets()[..8]),
            }),
            Direction::Inbound => Some(match self.downstream?.ip().to_canonical() {
                IpAddr::V4(address) => hash::of(&address.octets()),
                IpAddr::V6(address) => hash::of(&address.octets()),
            }),
            Direction::Outbound => self.worker.caller(None),
        }
    }
}
