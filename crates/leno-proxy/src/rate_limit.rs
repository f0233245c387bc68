//! Limits on requests as the request path asks them: for which requests each is, in which order they are asked, and what
//! answers tell of them.
//!
//! Built by the control thread with the table and shared by all workers; what a limit has counted stays with it from table to
//! table as long as its numbers do. A proxy beside an instance holds those of its service in [`Inbound`], a caller those of
//! each destination in its target. Where there is none, a request pays a branch.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwapOption, Guard};
use leno_http::Fields;
use leno_model::snapshot::{
    self, Action, HostPattern, Match, Name, Origin, Period, RateForm, RateTell, RouteConfig, Rule, VirtualHost,
};
use leno_route::Router;
use leno_traffic::Limiter;
use leno_traffic::rate::{Granted, Refused};

use crate::overload::Overload;

mod report;
mod shared;
mod show;

pub(crate) use report::report;
pub use shared::{Asked, Holder, SharedLimit, SharedLimits};
pub use show::{describe, measure};

/// The limits of one service that one proxy holds, in the order in which they are asked.
#[derive(Debug)]
pub struct RateLimits {
    /// `cart.shop`.
    pub(crate) service: Box<str>,
    pub(crate) limits: Box<[Limit]>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) terms: snapshot::RateLimit,
    /// What it is for; none where it is for everything.
    pub(crate) when: Option<Router>,
    pub(crate) limiter: Arc<Limiter>,
    /// Whom it tells that little is left, where all proxies count it together.
    shared: Option<Arc<SharedLimits>>,
}

/// What the proxy beside an instance lets in.
#[derive(Debug, Default)]
pub struct Inbound {
    some: AtomicBool,
    limits: ArcSwapOption<RateLimits>,
    is_gated: AtomicBool,
    overload: ArcSwapOption<Overload>,
}

/// Open requests that are counted; they are over when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    limits: Arc<RateLimits>,
    /// A bit for each limit that counts this one.
    which: u16,
}

/// What an answer tells of limits.
#[derive(Debug, Default)]
pub(crate) struct Told {
    policy: String,
    left: String,
    /// The limit, what is left of it and the seconds until it is whole, of the one that has the least left.
    least: Option<(u32, u32, u64)>,
}

/// A request that a limit did not let through.
#[derive(Debug, thiserror::Error)]
#[error("limit {limit} of {service} is used up: come again in {} s", .after.as_secs())]
pub(crate) struct OverLimit {
    service: Box<str>,
    limit: Name,
    /// Whole seconds.
    after: Duration,
    told: Option<Box<Told>>,
}

/// Where limits are held: in front of the service's own instance, or in front of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Side {
    Service,
    Caller,
}

/// Makes limits and remembers what has to outlive tables.
#[derive(Debug, Default)]
pub(crate) struct Limiters {
    /// Which keys are neighbours, which nobody outside may know.
    seed: u64,
    shared: Arc<SharedLimits>,
    built: HashMap<(Side, String), (snapshot::RateLimits, Arc<RateLimits>)>,
}

// === impl Limiters ===

impl Limiters {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, shared: Arc::default(), built: HashMap::new() }
    }

    /// Those that all proxies count together.
    pub(crate) fn shared(&self) -> &Arc<SharedLimits> {
        &self.shared
    }

    /// The limits that these terms ask for; none where there is none.
    pub(crate) fn of(&mut self, terms: &snapshot::RateLimits, side: Side) -> Option<Arc<RateLimits>> {
        if terms.is_none() {
            return None;
        }
        let key = (side, terms.service.clone());
        let before = self.built.get(&key);
        if let Some((_, built)) = before.filter(|(of, _)| of == terms) {
            return Some(built.clone());
        }
        let before = before.map(|(_, built)| built.clone());
        let limits = terms.limits.iter().filter_map(|limit| {
            let made = Limit::new(limit, &terms.service, before.as_deref(), self.seed)?;
            let shared = shared::is_shared(limit).then(|| self.shared.clone());
            Some(Limit { shared, ..made })
        });
        let mut limits: Vec<Limit> = limits.collect();
        // What is given back when a later one refuses comes first; then whoever is over a limit of its own is refused before
        // it takes from what is for all.
        limits.sort_by_key(|limit| (!matches!(limit.terms.form, RateForm::Concurrency(_)), limit.terms.key.is_empty()));
        limits.truncate(u16::BITS as usize);
        let built = Arc::new(RateLimits { service: terms.service.as_str().into(), limits: limits.into() });
        self.built.insert(key, (terms.clone(), built.clone()));
        Some(built)
    }

    /// Drops what no table leads to any more.
    pub(crate) fn forget_unused(&mut self) {
        self.built.retain(|_, (_, built)| Arc::strong_count(built) > 1);
        self.shared.hold(self.built.values().map(|(_, built)| &**built));
    }
}

// === impl Limit ===

impl Limit {
    fn new(terms: &snapshot::RateLimit, service: &str, before: Option<&RateLimits>, seed: u64) -> Option<Self> {
        let when = match compile(&terms.when) {
            Ok(when) => when,
            Err(error) => {
                tracing::warn!(service, limit = %terms.name, %error, "limit left out");
                return None;
            }
        };
        let is_same = |before: &&Limit| {
            let of = |terms: &snapshot::RateLimit| {
                (terms.name.clone(), terms.form, terms.key.clone(), terms.keys, terms.shared.is_some())
            };
            of(&before.terms) == of(terms)
        };
        let known = before.and_then(|before| before.limits.iter().find(is_same)).map(|before| before.limiter.clone());
        let limiter = known.unwrap_or_else(|| Arc::new(Limiter::new(terms, seed)));
        Some(Self { terms: terms.clone(), when, limiter, shared: None })
    }

    /// Says that more is wanted of what all proxies count together, where little of it is left here.
    pub(crate) fn call_for_more(&self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.limiter.is_hungry()) {
            shared.call();
        }
    }
}

/// Conditions as a router of which any rule will do; none where they are no conditions.
pub(crate) fn compile(when: &[Match]) -> Result<Option<Router>, leno_route::CompileError> {
    if when.is_empty() || when.contains(&Match::default()) {
        return Ok(None);
    }
    let rule = |when: &Match| Rule {
        origin: Origin { resource: "limit".into(), rule: 0, name: None },
        when: when.clone(),
        filters: Vec::new(),
        action: Action::Forward(Vec::new()),
        request_timeout: None,
        try_timeout: None,
        retry: None,
    };
    let hosts = vec![VirtualHost { hostnames: vec![HostPattern::Any], rules: when.iter().map(rule).collect() }];
    Router::compile(&RouteConfig { name: "limit".into(), hosts }).map(Some)
}

// === impl Inbound ===

impl Inbound {
    /// What is let in, if that is limited.
    pub(crate) fn limits(&self) -> Option<Guard<Option<Arc<RateLimits>>>> {
        self.some.load(Relaxed).then(|| self.limits.load())
    }

    /// What is done where there is too much for the instance, if anything is.
    pub(crate) fn overload(&self) -> Option<Arc<Overload>> {
        if self.is_gated.load(Relaxed) { self.overload.load_full() } else { None }
    }

    /// Has these in force from now on.
    pub(crate) fn set(&self, limits: Option<Arc<RateLimits>>, overload: Option<Arc<Overload>>) {
        let (some, is_gated) = (limits.is_some(), overload.is_some());
        self.limits.store(limits);
        self.some.store(some, Relaxed);
        self.overload.store(overload);
        self.is_gated.store(is_gated, Relaxed);
    }
}

// === impl Held ===

impl Held {
    /// Keeps what was granted by the limits of these bits.
    pub(crate) fn new(limits: &Arc<RateLimits>, which: u16) -> Option<Self> {
        (which != 0).then(|| Self { limits: limits.clone(), which })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        for (at, limit) in self.limits.limits.iter().enumerate() {
            if self.which & 1 << at != 0 {
                limit.limiter.leave();
            }
        }
    }
}

// === impl OverLimit ===

impl OverLimit {
    pub(crate) fn new(service: &str, limit: &Limit, refused: Refused, told: Option<Box<Told>>) -> Self {
        let after = Duration::from_secs(seconds(refused.after).max(1));
        Self { service: service.into(), limit: limit.terms.name.clone(), after, told }
    }

    /// Says in the fields of the answer when to come again.
    pub(crate) fn tell(&self, fields: &mut Fields) {
        fields.set("retry-after", itoa::Buffer::new().format(self.after.as_secs()));
        if let Some(told) = &self.told {
            told.tell(fields);
        }
    }
}

// === impl Told ===

impl Told {
    /// Takes in what a limit granted or refused, if that is to be told.
    pub(crate) fn add(told: &mut Option<Box<Self>>, limit: &Limit, taken: &Result<Granted, Refused>, now: Duration) {
        if limit.terms.tell == RateTell::Nothing {
            return;
        }
        let told = told.get_or_insert_default();
        let left = limit.limiter.left(taken, now);
        let reset = seconds(left.reset);
        if limit.terms.tell == RateTell::XRateLimit {
            if told.least.is_none_or(|(_, least, _)| left.now < least) {
                told.least = Some((limit.limiter.most(), left.now, reset));
            }
            return;
        }
        for text in [&mut told.policy, &mut told.left] {
            if !text.is_empty() {
                text.push_str(", ");
            }
        }
        let name = &limit.terms.name;
        // Writing to a text does not fail.
        let _ = match limit.terms.form {
            RateForm::Bucket { rate, .. } | RateForm::Queue { rate, .. } | RateForm::Window(rate) => {
                write!(told.policy, "\"{name}\";q={};w={}", rate.requests, seconds(rate.per).max(1))
            }
            RateForm::Quota { requests, per: Period::Day } => write!(told.policy, "\"{name}\";q={requests};w=86400"),
            // Months are not equally long.
            RateForm::Quota { requests, per: Period::Month } => write!(told.policy, "\"{name}\";q={requests}"),
            RateForm::Concurrency(max) => write!(told.policy, "\"{name}\";q={max};qu=\"concurrent-requests\""),
        };
        let _ = write!(told.left, "\"{name}\";r={};t={reset}", left.now);
    }

    /// Writes it into the fields of an answer.
    pub(crate) fn tell(&self, fields: &mut Fields) {
        if !self.policy.is_empty() {
            fields.append("ratelimit-policy", self.policy.as_str());
            fields.append("ratelimit", self.left.as_str());
        }
        if let Some((limit, left, reset)) = self.least {
            fields.set("x-ratelimit-limit", itoa::Buffer::new().format(limit));
            fields.set("x-ratelimit-remaining", itoa::Buffer::new().format(left));
            fields.set("x-ratelimit-reset", itoa::Buffer::new().format(reset));
        }
    }
}

/// Whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
