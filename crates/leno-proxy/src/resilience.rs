//! What keeps trouble with a cluster from spreading: the state behind its limits, ejections and breaker, kept from
//! table to table.
//!
//! Built by the control thread, shared by all workers. Where a policy says nothing, the request path pays a branch.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leno_http::ResponseHead;
use leno_model::snapshot::{self, Ejection, ForcedState, Limits, Priority};
use leno_traffic::admission::{HeldBack, Let};
use leno_traffic::breaker::{Passed, Refused};
use leno_traffic::budget::BudgetTerms;
use leno_traffic::bulkhead::{Entered, Fill};
use leno_traffic::ejection::Cause;
use leno_traffic::load::Standing;
use leno_traffic::{Admission, Breaker, Bulkhead, Conduct, Mark};

use crate::answers::Answers;
use crate::balancing::Newcomers;
use crate::cluster::{Cluster, Endpoint, EndpointKey};
use crate::failure::Failure;
use crate::load_report;

mod report;
mod show;

pub(crate) use report::report;
pub use show::measure;
pub(crate) use show::{describe, describe_endpoint};

/// What is learnt of a cluster while it is in use.
#[derive(Debug, Default)]
pub struct State {
    pub(crate) newcomers: Newcomers,
    load_reports: load_report::Counts,
    requests: Bulkhead,
    retries: Bulkhead,
    connections: Arc<Bulkhead>,
    /// Until when a connection is missed, in milliseconds of the process.
    missed_until: AtomicU64,
    /// Tries beside those that are waited for, and those whose answer was the first.
    hedges: AtomicU64,
    hedges_first: AtomicU64,
    /// By [`StoodIn`].
    stood_in: [AtomicU64; StoodIn::ALL.len()],
    /// By [`Cause`].
    ejections: [AtomicU64; CAUSES.len()],
    /// Taken by the control thread alone, when it builds a table.
    conducts: Mutex<HashMap<EndpointKey, (Duration, Arc<Conduct>)>>,
    /// Likewise.
    breaker: Mutex<Option<Arc<Breaker>>>,
    admission: Mutex<Option<Arc<Admission>>>,
    answers: Mutex<Option<Arc<Answers>>>,
}

/// What a policy allows, and what there is of it.
#[derive(Debug)]
pub(crate) struct Resilience {
    limits: Limits,
    ejection: Option<Watch>,
    breaker: Option<Arc<Breaker>>,
    breaker_forced: Option<ForcedState>,
    admission: Option<Arc<Admission>>,
    answers: Option<Arc<Answers>>,
    /// There is more to be done than to ask.
    is_degraded: bool,
    state: Arc<State>,
}

/// What stood in for an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum StoodIn {
    Service,
    LastGood,
    Reply,
    /// It was to, and nothing did.
    Nothing,
}

/// Endpoints under watch.
#[derive(Debug)]
struct Watch {
    terms: Ejection,
    /// In the order of the endpoints.
    conducts: Box<[Arc<Conduct>]>,
}

/// A connection that was missed is for so long: two sweeps of the pools.
const MISSED_FOR: Duration = Duration::from_secs(2);
const CAUSES: [Cause; 4] = [Cause::Consecutive, Cause::FailureRatio, Cause::SlowRatio, Cause::Probe];

/// The end of the answer says how it counts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owing;

/// An answer whose end says how it counts: which endpoint gave it, and how long its head took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owed {
    pub(crate) endpoint: usize,
    pub(crate) took: Duration,
}

// === impl StoodIn ===

impl StoodIn {
    pub(crate) const ALL: [Self; 4] = [Self::Service, Self::LastGood, Self::Reply, Self::Nothing];

    /// In a word.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::LastGood => "last_good",
            Self::Reply => "reply",
            Self::Nothing => "nothing",
        }
    }
}

// === impl Resilience ===

impl Resilience {
    pub(crate) fn new(spec: &snapshot::Resilience, endpoints: &[Endpoint], state: Arc<State>) -> Self {
        let limits = spec.limits;
        state.requests.set(limits.requests.unwrap_or(u32::MAX), limits.queue.map_or(0, |queue| queue.size));
        state.retries.set(limits.retries.unwrap_or(u32::MAX), 0);
        state.connections.set(limits.connections.unwrap_or(u32::MAX), limits.pending.unwrap_or(0));
        let ejection = spec.ejection.map(|terms| Watch { terms, conducts: state.conducts(&terms, endpoints) });
        let breaker = state.breaker(spec.breaker.as_ref());
        let admission = state.admission(spec.admission.as_ref());
        let answers = state.answers(spec.answers.as_deref());
        let is_degraded = answers.is_some() || spec.stand_in.is_some();
        Self { limits, ejection, breaker, breaker_forced: spec.breaker_forced, admission, answers, is_degraded, state }
    }

    /// Lets a request go, where some are held back.
    pub(crate) fn admit(
        &self,
        cluster: &Cluster,
        of: impl FnOnce() -> (Priority, Duration, u64),
    ) -> Result<Option<Let<'_>>, Failure> {
        let Some(admission) = &self.admission else { return Ok(None) };
        let (priority, now, random) = of();
        let held_back = |HeldBack(share)| Failure::HeldBack { cluster: cluster.spec.name.to_string(), share };
        admission.ask(priority, now, random).map(Some).map_err(held_back)
    }

    /// Whether there is more to be done than to ask.
    pub(crate) fn is_degraded(&self) -> bool {
        self.is_degraded
    }

    /// The answers that are kept or shared, if any are.
    pub(crate) fn answers(&self) -> Option<&Arc<Answers>> {
        self.answers.as_ref()
    }

    /// Counts what stood in for an answer.
    pub(crate) fn stood_in(&self, what: StoodIn) {
        self.state.stood_in[what as usize].fetch_add(1, Relaxed);
    }

    /// Passes the breaker, where there is one.
    pub(crate) fn pass(
        &self,
        cluster: &Cluster,
        now: impl FnOnce() -> Duration,
    ) -> Result<Option<Passed<'_>>, Failure> {
        let Some(breaker) = &self.breaker else { return Ok(None) };
        if let Some(forced) = self.breaker_forced {
            return match forced {
                ForcedState::Closed => Ok(None),
                ForcedState::Open => {
                    breaker.count_refused();
                    Err(Failure::BreakerHeldOpen(cluster.spec.name.to_string()))
                }
            };
        }
        let open = |Refused(left)| Failure::BreakerOpen { cluster: cluster.spec.name.to_string(), left };
        breaker.pass(now()).map(Some).map_err(open)
    }

    /// Enters, where there is a limit; none where that has to be waited for.
    pub(crate) fn try_enter(&self) -> Option<Option<Entered<'_>>> {
        if self.limits.requests.is_none() {
            return Some(None);
        }
        self.state.requests.try_enter().map(Some)
    }

    /// Enters, where there is a limit, and does not wait: none where that is not possible.
    pub(crate) fn enter_at_once(&self) -> Option<Option<Entered<'_>>> {
        if self.limits.requests.is_none() {
            return Some(None);
        }
        self.state.requests.enter_or_refuse().map(Some)
    }

    /// What bounds its connections, where anything does.
    pub(crate) fn connections(&self) -> Option<&Arc<Bulkhead>> {
        self.limits.connections.map(|_| &self.state.connections)
    }

    /// Notes that somebody found all of its connections taken.
    pub(crate) fn missed_connection(&self, now: Duration) {
        self.state.missed_until.store((now + MISSED_FOR).as_millis() as u64, Relaxed);
    }

    /// Whether somebody waits for one of its connections, or found all taken a moment ago.
    pub(crate) fn is_short_of_connections(&self, now: Duration) -> bool {
        let waited_for = |limit: &Arc<Bulkhead>| limit.fill().waiting > 0;
        self.connections().is_some_and(waited_for) || (now.as_millis() as u64) < self.state.missed_until.load(Relaxed)
    }

    /// Whether one more retry may be open; `held` is this request's right to have one.
    pub(crate) fn may_retry<'r>(&'r self, held: &mut Option<Entered<'r>>) -> bool {
        if self.limits.retries.is_some() && held.is_none() {
            *held = self.state.retries.enter_or_refuse();
            return held.is_some();
        }
        true
    }

    /// Counts a try beside one that is waited for.
    pub(crate) fn count_hedge(&self) {
        self.state.hedges.fetch_add(1, Relaxed);
    }

    /// Counts the answer of one of several tries.
    pub(crate) fn count_answered(&self, is_hedge: bool) {
        if is_hedge {
            self.state.hedges_first.fetch_add(1, Relaxed);
        }
    }

    /// Reports of load that came.
    pub(crate) fn load_reports(&self) -> &load_report::Counts {
        &self.state.load_reports
    }

    /// How many tries there were beside others, and how many of them were answered first.
    fn hedges(&self) -> (u64, u64) {
        (self.state.hedges.load(Relaxed), self.state.hedges_first.load(Relaxed))
    }

    /// Waits until it may enter, where there is a queue, at most for `left`, before those of a higher rank.
    pub(crate) async fn wait_to_enter(
        &self,
        cluster: &Cluster,
        left: Option<Duration>,
        rank: u8,
    ) -> Result<Entered<'_>, Failure> {
        let requests = &self.state.requests;
        let max = self.limits.requests.unwrap_or(u32::MAX);
        let overflow = || Failure::Overflow { cluster: cluster.spec.name.to_string(), max };
        let waiting = requests.wait_as(rank).map_err(|_| overflow())?;
        let timeout = self.limits.queue.map(|queue| queue.timeout).unwrap_or_default();
        match (tokio::time::timeout(left.unwrap_or(timeout).min(timeout), waiting).await, left) {
            (Ok(entered), _) => Ok(entered),
            (Err(_), Some(left)) if left < timeout => Err(Failure::Timeout(left)),
            (Err(_), _) => {
                requests.count_late();
                Err(Failure::QueueTimeout { cluster: cluster.spec.name.to_string(), waited: timeout })
            }
        }
    }

    /// Whether it matters how requests are answered.
    fn is_counting(&self) -> bool {
        self.ejection.is_some() || self.breaker.is_some() || self.admission.is_some()
    }

    /// The limits that there are, and how full they are.
    fn fills(&self) -> impl Iterator<Item = (&'static str, Fill)> {
        let requests = self.limits.requests.map(|_| ("requests", self.state.requests.fill()));
        let retries = self.limits.retries.map(|_| ("retries", self.state.retries.fill()));
        let connections = self.connections().map(|limit| ("connections", limit.fill()));
        requests.into_iter().chain(retries).chain(connections)
    }
}

// === impl Cluster ===

impl Cluster {
    /// Counts how an endpoint answered, and after how long.
    pub(crate) fn observe(&self, endpoint: usize, now: Duration, mark: Mark, took: Duration) {
        let Some(watch) = &self.resilience.ejection else { return };
        let (Some(conduct), Some(answered)) = (watch.conducts.get(endpoint), self.endpoints.get(endpoint)) else {
            return;
        };
        let load = &answered.state.load;
        if let Some(cause) = conduct.observe(&watch.terms, load, now, (mark, took), || self.crowd()) {
            self.ejected(answered, cause, load.standing(), now);
        }
    }

    /// How an answer counts by its head, where that matters; what is owed is said by trailers.
    pub(crate) fn mark_of(&self, head: &ResponseHead, is_grpc: bool) -> Option<Result<Mark, Owing>> {
        if !self.resilience.is_counting() {
            return None;
        }
        if !(is_grpc && head.status == 200) {
            return Some(Ok(mark_of(head.status)));
        }
        let status = head.fields.get_str("grpc-status").map(|status| status.parse().unwrap_or(UNKNOWN));
        Some(status.map(mark_of_grpc).ok_or(Owing))
    }

    #[cold]
    fn ejected(&self, endpoint: &Endpoint, cause: Cause, standing: Standing, now: Duration) {
        let mut counts = CAUSES.iter().zip(&self.resilience.state.ejections);
        if let Some((_, count)) = counts.find(|(of, _)| **of == cause) {
            count.fetch_add(1, Relaxed);
        }
        let for_ = match standing {
            Standing::Out(until) => until.saturating_sub(now),
            Standing::In | Standing::Probing => Duration::ZERO,
        };
        let (cluster, cause) = (&*self.spec.name, show::cause(cause));
        tracing::info!(cluster, instance = &*endpoint.spec.id, address = %endpoint.spec.address, cause, ?for_, "instance ejected");
    }
}

// === impl State ===

impl State {
    /// The breaker of these terms: the one that was, if it goes by the same.
    fn breaker(&self, terms: Option<&snapshot::Breaker>) -> Option<Arc<Breaker>> {
        let mut known = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.take().filter(|breaker| Some(breaker.terms()) == terms);
        *known = same.or_else(|| terms.map(|terms| Arc::new(Breaker::new(terms))));
        known.clone()
    }

    /// What is known for these terms: the same as before, if they are.
    fn answers(&self, terms: Option<&snapshot::Answers>) -> Option<Arc<Answers>> {
        let mut known = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.take().filter(|answers| Some(&answers.terms) == terms);
        *known = same.or_else(|| terms.map(|terms| Arc::new(Answers::new(terms.clone()))));
        known.clone()
    }

    fn admission(&self, terms: Option<&snapshot::Admission>) -> Option<Arc<Admission>> {
        let mut known = self.admission.lock().unwrap_or_else(PoisonError::into_inner);
        let same = known.take().filter(|admission| Some(admission.terms()) == terms);
        *known = same.or_else(|| terms.map(|terms| Arc::new(Admission::new(terms))));
        known.clone()
    }

    /// What is known of each of these endpoints; the rest is forgotten.
    fn conducts(&self, terms: &Ejection, endpoints: &[Endpoint]) -> Box<[Arc<Conduct>]> {
        let mut known = self.conducts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        let of = |endpoint: &Endpoint| {
            let key = endpoint.state.key;
            let conduct = match before.get(&key) {
                Some((window, conduct)) if *window == terms.window => conduct.clone(),
                _ => Arc::new(Conduct::new(terms)),
            };
            known.insert(key, (terms.window, conduct.clone()));
            conduct
        };
        endpoints.iter().map(of).collect()
    }
}

/// The terms of a budget, with defaults where nothing is written.
pub(crate) fn budget_terms(budget: Option<&snapshot::RetryBudget>) -> BudgetTerms {
    budget.map_or_else(BudgetTerms::default, |budget| BudgetTerms {
        percent: budget.percent,
        min_per_second: budget.min_per_second,
        window_seconds: budget.window.as_secs().clamp(1, 60) as u32,
    })
}

/// gRPC's UNKNOWN.
const UNKNOWN: u8 = 2;

fn mark_of(status: u16) -> Mark {
    match status {
        502..=504 => Mark::Gateway,
        500.. => Mark::Error,
        _ => Mark::Good,
    }
}

/// As Envoy has it, which turns a status of gRPC into one of HTTP for this.
pub(crate) fn mark_of_grpc(status: u8) -> Mark {
    match status {
        4 | 14 => Mark::Gateway,
        2 | 12 | 13 | 15 => Mark::Error,
        _ => Mark::Good,
    }
}
