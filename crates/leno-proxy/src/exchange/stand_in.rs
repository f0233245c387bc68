//! What a client hears where its destination gives no answer that is any good: that of another service, or one that its
//! policy has written.
//!
//! A request whose destination has a fallback remembers where it was going ([`Chosen`]); what came of it is looked at when all
//! its retries are over, and after that everything it held is let go. Another service is asked once and without retries, as any
//! request is: by its breaker and limits. Its own fallback is not used, so that there is no circle whatever policies say.
//! An answer stays the destination's failure for its breaker, and for those who read logs.

use leno_http::Response;
use leno_model::snapshot::{FallbackOn, RetryOn, StandIn};
use leno_route::Matched;
use leno_route::cors::CorsFields;
use leno_telemetry::Flag;
use leno_telemetry::flag::REASON_FIELD;

use super::{Exchange, Plan};
use crate::answers::Given;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::filter;
use crate::resilience::StoodIn;
use crate::table::{Destination, RuleRef, Target};

/// The field of an answer that says what stood in for the destination.
pub(super) const FALLBACK_FIELD: &str = "x-leno-fallback";

/// Reasons by which the proxy beside an instance says that it refused a request.
const REFUSED: [Flag; 4] = [Flag::RateLimited, Flag::Overloaded, Flag::RequestOverflow, Flag::QueueTimeout];

/// Where a request was going.
#[derive(Debug)]
pub(super) struct Chosen {
    matched: Matched,
    target: usize,
    cors: Option<CorsFields>,
    /// Its head is changed as the rule says.
    is_changed: bool,
}

impl Exchange<'_> {
    /// Begins a request whose answer may be kept, shared or replaced; whether it is answered already.
    pub(super) async fn begin_degraded(
        &mut self,
        rule: RuleRef<'_>,
        matched: Matched,
        target: &Target,
        cluster: &Cluster,
        cors: Option<&CorsFields>,
    ) -> Result<bool, Failure> {
        self.remember(rule, matched, target, cors);
        match cluster.resilience.answers() {
            Some(answers) => self.look_up(answers, rule, target, cors).await,
            None => Ok(false),
        }
    }

    /// Remembers where the request goes, for what may stand in for its answer.
    fn remember(&mut self, rule: RuleRef<'_>, matched: Matched, target: &Target, cors: Option<&CorsFields>) {
        let target = rule.targets.iter().position(|one| std::ptr::eq(one, target)).unwrap_or_default();
        self.rare().chosen = Some(Chosen { matched, target, cors: cors.cloned(), is_changed: false });
    }

    /// The head is as it goes to the destination.
    pub(super) fn changed(&mut self) {
        if let Some(chosen) = self.rare.as_mut().and_then(|rare| rare.chosen.as_mut()) {
            chosen.is_changed = true;
        }
    }

    /// Whether something may stand in for the answer.
    pub(super) fn may_stand_in(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.chosen.is_some())
    }

    /// Whether something is to stand in for this answer, which is the last that comes.
    pub(super) fn unwanted(&mut self, plan: &Plan<'_>, response: &Response) -> Option<Failure> {
        self.rare.as_ref()?;
        // What another service answers is passed on, unless there is a reply that is better.
        let may = |terms: &StandIn| self.may_stand_in() || plan.stands_in && terms.reply.is_some();
        let terms = plan.target.stand_in().map(|(_, terms)| terms).filter(|terms| may(terms));
        let is_last_good = || !plan.stands_in && self.may_be_last_good(response.head.status);
        let named = terms.and_then(|terms| self.names(terms, response));
        let named = named.or_else(|| is_last_good().then_some(FallbackOn::Failed));
        if named.is_none() {
            self.payload.settle();
        }
        let grpc_status = self.grpc_status(&response.head.fields);
        let cluster = plan.cluster.spec.name.to_string();
        named.map(|why| Failure::Unwanted { cluster, status: response.head.status, grpc_status, why })
    }

    /// Answers where nothing came of the request: by what stands in, else with what went wrong.
    pub(super) async fn come_to_nothing(&mut self, destination: &Destination, failure: Failure) {
        let Some(chosen) = self.rare.as_mut().and_then(|rare| rare.chosen.take()) else {
            return self.refuse(failure).await;
        };
        self.go_alone();
        match self.stand_in(destination, &chosen, failure).await {
            Ok(()) => self.record.finish(),
            Err(failure) => self.refuse(failure).await,
        }
    }

    async fn stand_in(&mut self, destination: &Destination, chosen: &Chosen, failure: Failure) -> Result<(), Failure> {
        let Some(rule) = destination.http.as_ref().map(|routes| routes.rule(chosen.matched.rule)) else {
            return Err(failure);
        };
        let Some(target) = rule.targets.get(chosen.target) else { return Err(failure) };
        let Some(cluster) = target.cluster.as_deref() else { return Err(failure) };
        let terms = target.stand_in().map(|(_, terms)| terms).filter(|terms| self.is_for(terms, &failure));
        let most = terms.and_then(|terms| terms.last_good);
        if self.reply.is_none() || terms.is_none() && self.last_good(&failure, most).is_none() {
            return Err(failure);
        }
        self.ask_without_conditions();
        (self.owed, self.reporter) = (None, None);
        if let Some(other) = target.instead.as_ref().filter(|_| terms.is_some())
            && self.payload.is_there()
        {
            self.record.failed(failure.flag(), || format!("{failure}; {} was asked instead", other.spec.name));
            match self.ask_instead(rule, target, other, chosen).await {
                Ok(()) => {
                    cluster.resilience.stood_in(StoodIn::Service);
                    return Ok(());
                }
                Err(Failure::Downstream(error)) => return Err(Failure::Downstream(error)),
                Err(other) => tracing::debug!(error = %other, "fallback gave no answer"),
            }
        }
        if let Some((kept, answers)) = self.last_good(&failure, most).filter(|_| self.reply.is_some()) {
            self.record.failed(failure.flag(), || format!("{failure}; answered as it was before"));
            cluster.resilience.stood_in(StoodIn::LastGood);
            self.give(&kept, rule, target, chosen.cors.as_ref(), &answers, Given::LastGood).await;
            return Ok(());
        }
        match terms.and_then(|terms| terms.reply.as_ref()) {
            Some(reply) if self.reply.is_some() => {
                self.record.failed(failure.flag(), || format!("{failure}; answered by the reply of its fallback"));
                cluster.resilience.stood_in(StoodIn::Reply);
                self.answer_with(rule, reply, chosen.cors.as_ref(), failure.flag().reason(), Some("reply")).await;
                Ok(())
            }
            _ => {
                cluster.resilience.stood_in(StoodIn::Nothing);
                Err(failure)
            }
        }
    }

    /// Asks another service once.
    async fn ask_instead(
        &mut self,
        rule: RuleRef<'_>,
        target: &Target,
        cluster: &Cluster,
        chosen: &Chosen,
    ) -> Result<(), Failure> {
        if !chosen.is_changed {
            filter::change_request(&rule.rule.filters, &mut self.head, chosen.matched.prefix_len);
            filter::change_request(&target.filters, &mut self.head, chosen.matched.prefix_len);
        }
        self.prioritise(cluster, false);
        let plan = Plan {
            rule,
            target,
            cluster,
            cors: chosen.cors.clone(),
            deadline: self.deadline(rule.rule.request_timeout),
            outside: false,
            stands_in: true,
            bond: None,
            let_go: cluster
                .resilience
                .admit(cluster, || (self.priority(), self.worker.now(), self.worker.random_bits()))?,
            passed: cluster.resilience.pass(cluster, || self.worker.now())?,
        };
        plan.in_time()?;
        let resilience = &cluster.resilience;
        let _entered = match resilience.try_enter() {
            Some(entered) => entered,
            None => Some(resilience.wait_to_enter(cluster, plan.time_left(), self.priority() as u8).await?),
        };
        self.waited();
        self.forward(&plan).await
    }

    /// Whether something stands in after this failure.
    fn is_for(&self, terms: &StandIn, failure: &Failure) -> bool {
        let why = match failure {
            Failure::OverLimit(_) | Failure::HeldBack { .. } | Failure::QueueTimeout { .. } => FallbackOn::Refused,
            Failure::Overflow { .. } | Failure::ConnectionOverflow { .. } | Failure::Short(_) | Failure::Busy(_) => {
                FallbackOn::Refused
            }
            Failure::BreakerOpen { .. } | Failure::BreakerHeldOpen(_) | Failure::NoEndpoint { .. } => FallbackOn::Open,
            Failure::Unwanted { why, .. } => *why,
            other if self.names_failure_of(terms, other) => FallbackOn::Failed,
            _ => return false,
        };
        terms.on.contains(&why)
    }

    fn names_failure_of(&self, terms: &StandIn, failure: &Failure) -> bool {
        let kind = match failure {
            Failure::Connect { .. } => Some(RetryOn::ConnectFailure),
            Failure::Upstream { .. } | Failure::TryTimeout(_) | Failure::Timeout(_) => Some(RetryOn::Reset),
            // What went wrong on purpose went wrong as if an instance had said so.
            Failure::Injected(..) => None,
            _ => return false,
        };
        let (of_grpc, status) = (failure.grpc_code() as u8, failure.status());
        let named = |on: &RetryOn| {
            Some(*on) == kind || on.names_status(status) || self.is_grpc && on.grpc_status() == Some(of_grpc)
        };
        terms.failures.iter().any(named) || terms.codes.contains(&status)
    }

    /// Why something stands in for this answer, if it does.
    fn names(&self, terms: &StandIn, response: &Response) -> Option<FallbackOn> {
        let head = &response.head;
        let of_grpc = self.grpc_status(&head.fields).filter(|status| head.status == 200 && *status != 0);
        if head.status < 400 && of_grpc.is_none() {
            return None;
        }
        let reason = head.fields.get_str(REASON_FIELD);
        let is_refusal = reason.is_some_and(|reason| REFUSED.iter().any(|flag| flag.reason() == reason));
        let failed = |on: &RetryOn| match of_grpc {
            Some(status) => on.grpc_status() == Some(status),
            None => on.names_status(head.status),
        };
        let why = match is_refusal {
            true => FallbackOn::Refused,
            false if terms.failures.iter().any(failed) || terms.codes.contains(&head.status) => FallbackOn::Failed,
            false => return None,
        };
        terms.on.contains(&why).then_some(why)
    }
}
