//! What matters most where there is more to do than can be done: the priority of a request, and the gate before the
//! application.
//!
//! A request's priority stands in [`PRIORITY_FIELD`], which leno's proxies and the application pass on as they do with trace
//! fields. Where it stands in none, the rules of the service that is called say it, at the caller's proxy or at a gateway,
//! which believes no client. The field is not one of `x-leno-`, which applications never see. (Rejected: RFC 9218's
//! `priority`, which is about the order of answers to one client; `baggage`, which would have to be taken apart.) Built by the
//! control thread; a gate stays from table to table as long as its terms do. Where nothing is configured, a request pays a
//! branch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leno_http::Fields;
use leno_model::snapshot::{self, Priority, PriorityRule, Shedding};
use leno_route::Router;
use leno_traffic::Gate;
use leno_traffic::overload::In;

use crate::rate_limit::compile;

mod report;
mod show;

pub(crate) use report::report;
pub use show::{describe, measure};

/// How much a request matters.
pub(crate) const PRIORITY_FIELD: &str = "x-request-priority";
/// What a client of gRPC looks at before it tries again, in milliseconds.
const PUSHBACK_FIELD: &str = "grpc-retry-pushback-ms";
/// When to come again.
const AFTER: Duration = Duration::from_secs(1);

/// Rules of priorities, first match first.
#[derive(Debug)]
pub(crate) struct Priorities(Box<[(Option<Router>, Priority)]>);

/// What the proxy beside an instance does where there is too much for it.
#[derive(Debug)]
pub struct Overload {
    /// `cart.shop`.
    pub(crate) service: Box<str>,
    pub(crate) priorities: Option<Priorities>,
    pub(crate) gate: Arc<Gate>,
}

/// A request that was let in, until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    held: In,
    /// In the time of the process, in microseconds: a request's future has no room to give away.
    since: u64,
}

/// Makes gates and remembers them from table to table.
#[derive(Debug)]
pub(crate) struct Gates {
    seed: u64,
    built: HashMap<String, (snapshot::Overload, Arc<Overload>)>,
}

// === impl Priorities ===

impl Priorities {
    /// None where there is no rule.
    pub(crate) fn new(service: &str, rules: &[PriorityRule]) -> Option<Self> {
        let rule = |rule: &PriorityRule| match compile(&rule.when) {
            Ok(when) => Some((when, rule.priority)),
            Err(error) => {
                tracing::warn!(service, priority = rule.priority.text(), %error, "priority left out");
                None
            }
        };
        let rules: Box<[_]> = rules.iter().filter_map(rule).collect();
        (!rules.is_empty()).then_some(Self(rules))
    }

    /// The priority of a request that comes without one, by the first rule whose conditions fit.
    pub(crate) fn find(&self, fits: impl Fn(Option<&Router>) -> bool) -> Option<Priority> {
        self.0.iter().find(|(when, _)| fits(when.as_ref())).map(|(_, priority)| *priority)
    }
}

// === impl Admitted ===

impl Admitted {
    pub(crate) fn new(held: In, now: Duration) -> Self {
        Self { held, since: now.as_micros() as u64 }
    }

    /// The application answered, and did not fail.
    pub(crate) fn answered(&self, now: Duration) {
        self.held.gate().answered(now, now.saturating_sub(Duration::from_micros(self.since)));
    }
}

// === impl Gates ===

impl Gates {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, built: HashMap::new() }
    }

    /// What these terms ask for, for a service; none where they ask for no gate.
    pub(crate) fn of(&mut self, service: &str, terms: &snapshot::Overload) -> Option<Arc<Overload>> {
        let shedding: Shedding = terms.shedding?;
        let before = self.built.get(service);
        if let Some((_, built)) = before.filter(|(of, _)| of == terms) {
            return Some(built.clone());
        }
        let known = before.filter(|(_, built)| *built.gate.terms() == shedding).map(|(_, built)| built.gate.clone());
        let gate = known.unwrap_or_else(|| Arc::new(Gate::new(shedding, self.seed)));
        let built = Overload { service: service.into(), priorities: Priorities::new(service, &terms.priorities), gate };
        let built = Arc::new(built);
        self.built.insert(service.to_owned(), (terms.clone(), built.clone()));
        Some(built)
    }

    /// Drops what no table leads to any more.
    pub(crate) fn forget_unused(&mut self) {
        self.built.retain(|_, (_, built)| Arc::strong_count(built) > 1);
    }
}

/// Says in the fields of a refusal when to come again.
pub(crate) fn tell(fields: &mut Fields) {
    fields.set("retry-after", itoa::Buffer::new().format(AFTER.as_secs()));
    if fields.contains("grpc-status") {
        fields.set(PUSHBACK_FIELD, itoa::Buffer::new().format(AFTER.as_millis()));
    }
}
