//! What a proxy has for one destination: its own view of the instances, and everything that keeps trouble from spreading.

use std::time::Duration;

use leno_model::seam;
use leno_model::snapshot::{BalancePolicy, Priority};
use leno_traffic::admission::{Admission, Let};
use leno_traffic::backoff::Backoff;
use leno_traffic::balance::{Ask, Member, Picker};
use leno_traffic::breaker::{Breaker, Passed};
use leno_traffic::bulkhead::{Bulkhead, Entered};
use leno_traffic::ejection::{Conduct, Mark};
use leno_traffic::load::{Open, Outcome, Standing};
use leno_traffic::reported::Report;
use leno_traffic::{RetryBudget, breaker};

use crate::plan::{Bug, Plan};

/// The longest wait before a retry, as in a proxy.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(crate) struct Caller<'p> {
    plan: &'p Plan,
    picker: Picker,
    members: Vec<Member>,
    conducts: Vec<Conduct>,
    breaker: Option<Breaker>,
    admission: Option<Admission>,
    pub(crate) requests: Bulkhead,
    retries: Bulkhead,
    budget: RetryBudget,
    backoff: Backoff,
}

/// Whether a request passes the breaker.
pub(crate) enum Pass<'c> {
    /// There is none, or it is open and the bug lets it through.
    Free,
    Passed(Passed<'c>),
    Refused,
}

struct Bits<'r>(&'r mut fastrand::Rng);

impl seam::Random for Bits<'_> {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

// === impl Caller ===

impl<'p> Caller<'p> {
    pub(crate) fn new(plan: &'p Plan, seed: u64) -> Self {
        let key = |n: usize| fastrand::Rng::with_seed(n as u64).u64(..);
        let member = |(n, weight): (usize, &u32)| Member::new(key(n), *weight);
        let members: Vec<Member> = plan.weights.iter().enumerate().map(member).collect();
        let caller = Self {
            plan,
            picker: Picker::tuned(plan.policy, &plan.balancing, &members, seed).watched(plan.ejection.is_some()),
            conducts: plan.ejection.iter().flat_map(|terms| members.iter().map(|_| Conduct::new(terms))).collect(),
            members,
            breaker: plan.breaker.as_ref().map(Breaker::new),
            admission: plan.admission.as_ref().map(Admission::new),
            requests: Bulkhead::new(),
            retries: Bulkhead::new(),
            budget: RetryBudget::new(plan.budget),
            backoff: Backoff::at_least(plan.backoff, BACKOFF_MAX),
        };
        let limits = &plan.limits;
        caller.requests.set(limits.requests.unwrap_or(u32::MAX), limits.queue.map_or(0, |queue| queue.size));
        caller.retries.set(limits.retries.unwrap_or(u32::MAX), 0);
        caller
    }

    /// Lets a request go, where some are held back; none where it is one of those.
    pub(crate) fn let_go(&self, priority: Priority, now: Duration, random: u64) -> Option<Option<Let<'_>>> {
        self.admission
            .as_ref()
            .map(|admission| admission.ask(priority, now, random).ok())
            .map_or(Some(None), |let_go| let_go.map(Some))
    }

    pub(crate) fn pass(&self, now: Duration) -> Pass<'_> {
        let Some(breaker) = &self.breaker else { return Pass::Free };
        match breaker.pass(now) {
            Ok(passed) => Pass::Passed(passed),
            Err(_) if self.plan.bug == Some(Bug::ProbeStorm) && self.stands() == breaker::State::HalfOpen => Pass::Free,
            Err(_) => Pass::Refused,
        }
    }

    /// Where its breaker stands.
    pub(crate) fn stands(&self) -> breaker::State {
        self.breaker.as_ref().map_or(breaker::State::Closed, |breaker| breaker.seen(Duration::ZERO).state)
    }

    pub(crate) fn opened(&self) -> u64 {
        self.breaker.as_ref().map_or(0, |breaker| breaker.seen(Duration::ZERO).opened)
    }

    /// Counts a request that is let in.
    pub(crate) fn admit(&self, now: Duration) {
        self.budget.record_request(now);
    }

    /// An instance that was not tried; where there is none, any.
    pub(crate) fn pick(&self, now: Duration, random: &mut fastrand::Rng, tried: &[usize]) -> Option<(usize, Open)> {
        if self.plan.bug == Some(Bug::Stampede) {
            let open = |n: &usize| self.members[*n].load.open_requests();
            let least = (0..self.members.len()).min_by_key(open)?;
            return Some((least, self.members[least].load.open()));
        }
        let hashes = matches!(self.plan.policy, BalancePolicy::RingHash | BalancePolicy::Maglev);
        let hash = hashes.then(|| random.u64(..));
        let mut pick =
            |excluded: &[usize]| self.picker.pick(&mut Ask { now, random: &mut Bits(random), hash, excluded });
        let picked = pick(tried).or_else(|| pick(&[]))?;
        Some((picked, self.members[picked].load.open()))
    }

    /// How a try ended. Whether its instance is ejected for it.
    pub(crate) fn observe(
        &self,
        now: Duration,
        instance: usize,
        open: Open,
        (mark, took): (Mark, Duration),
        report: Option<Report>,
    ) -> bool {
        open.finish(now, took, if mark == Mark::Good { Outcome::Answered } else { Outcome::Failed });
        let load = &self.members[instance].load;
        match self.plan.policy {
            BalancePolicy::WeightedResponseTime => load.time(took),
            BalancePolicy::WeightedRoundRobin => {
                report.map(|report| load.report(now, report));
            }
            _ => {}
        }
        let (Some(terms), Some(conduct)) = (&self.plan.ejection, self.conducts.get(instance)) else { return false };
        let crowd = || self.picker.crowd();
        conduct.observe(terms, &self.members[instance].load, now, (mark, took), crowd).is_some()
    }

    /// How long to wait before one more try, if there may be one.
    pub(crate) fn retry<'c>(
        &'c self,
        now: Duration,
        retries: u32,
        random: &mut fastrand::Rng,
        held: &mut Option<Entered<'c>>,
    ) -> Option<Duration> {
        if retries >= self.plan.retries {
            return None;
        }
        let bits = if self.plan.bug == Some(Bug::NoJitter) { 0 } else { random.u64(..) };
        let wait = self.backoff.wait(retries + 1, bits);
        if self.plan.bug == Some(Bug::BudgetIgnored) {
            return Some(wait);
        }
        if self.plan.limits.retries.is_some() && held.is_none() {
            *held = Some(self.retries.enter_or_refuse()?);
        }
        self.budget.try_retry(now).then_some(wait)
    }

    /// Requests that it has open.
    pub(crate) fn open(&self) -> usize {
        let at_instances: u32 = self.members.iter().map(|member| member.load.open_requests()).sum();
        let (requests, retries) = (self.requests.fill(), self.retries.fill());
        (at_instances + requests.open + requests.waiting + retries.open) as usize
    }

    /// Endpoints that are out.
    pub(crate) fn out(&self, now: Duration) -> usize {
        let is_out = |member: &&Member| match member.load.standing() {
            Standing::In => false,
            Standing::Out(until) => until > now,
            Standing::Probing => true,
        };
        self.members.iter().filter(is_out).count()
    }
}
