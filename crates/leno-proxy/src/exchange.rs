//! One request: route, filter, pick, send, reply. The same for both directions and at gateways.
//!
//! ```text
//! serve ─ admit ─► route ─► limits ─► faults ─► filter ─► forward ┬ pick ─► connect ─► send ─► head ─┐ ◄─ try again, where
//!                                                                 │                                  │    that is safe
//!                                                                 └──────────────────────────────────┴► filter ─► reply ─► relay
//! ```
//!
//! An [`Exchange`] is the one context of the path: steps borrow it, so that nothing of a request has a place in the future
//! of each of them; what is rare is boxed. A try reads the clock twice, at its start and at its answer.
//!
//! What was not processed for certain (no connection, a refused stream, an inbound proxy that says so) goes to another
//! endpoint at most [`retry::SAFE_RETRIES_MAX`] times within the cluster's budget; every other retry is asked for by the rule.
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

mod admission;
mod affinity;
mod ahead;
mod altered;
mod answer;
mod deadline;
mod forward;
mod forwarded;
mod hedge;
mod injection;
mod keep;
mod limits;
mod overload;
mod retry;
mod stand_in;

use std::net::SocketAddr;
use std::time::Duration;

use leno_http::{Body, Reply, RequestHead, grpc};
use leno_route::cors::{CorsFields, CorsVerdict};
use leno_telemetry::access::Direction;
use leno_traffic::admission::Let;
use leno_traffic::breaker::Passed;
use tokio::time::Instant;

use self::admission::Decided;
use self::affinity::Bond;
use self::injection::Slow;
use self::keep::Keeping;
use self::limits::LetThrough;
use self::stand_in::Chosen;
use crate::cluster::Cluster;
use crate::failure::Failure;
use crate::filter;
use crate::overload::Admitted;
use crate::payload::Payload;
use crate::rate_limit::Told;
use crate::record::Record;
use crate::reply;
use crate::resilience::Owed;
use crate::secure::Secure;
use crate::table::{Destination, RuleRef, Target};
use crate::worker::Worker;

/// One request and its answer.
pub(crate) struct Exchange<'a> {
    worker: &'a Worker,
    direction: Direction,
    downstream: Option<SocketAddr>,
    pub(crate) head: RequestHead,
    payload: Payload,
    /// Gone when the answer has begun.
    reply: Option<Reply>,
    is_grpc: bool,
    /// The client waits for trailers that say how its call of gRPC went.
    owes_status: bool,
    record: Record<'a>,
    /// The end of the answer says how it counts.
    owed: Option<Owed>,
    /// The endpoint of the answer, whose trailers may say how busy it is.
    reporter: Option<u32>,
    /// What the answer tells of limits.
    told: Option<Box<Told>>,
    /// Let in to the application, where that may have too much to do.
    admitted: Option<Admitted>,
    /// What few requests have.
    rare: Option<Box<Rare>>,
}

/// What few requests have.
#[derive(Debug, Default)]
struct Rare {
    /// Since when its destination is asked, in the time of the process, where it had to wait for that.
    asked: Option<Duration>,
    /// The body of its answer comes slowly.
    slow: Option<Slow>,
    /// Where it goes, where something may stand in for the answer.
    chosen: Option<Chosen>,
    /// Its answer may be kept or shared.
    keeping: Option<Keeping>,
}

/// Where a request goes, and on which terms.
struct Plan<'d> {
    rule: RuleRef<'d>,
    target: &'d Target,
    cluster: &'d Cluster,
    cors: Option<CorsFields>,
    deadline: Option<(Instant, Duration)>,
    /// It goes outside the mesh.
    outside: bool,
    /// It goes to what stands in for its destination.
    stands_in: bool,
    /// What binds it to an endpoint, where the destination's affinity says something.
    bond: Option<Bond<'d>>,
    /// Let go, where some are held back.
    let_go: Option<Let<'d>>,
    /// Through the breaker, where there is one.
    passed: Option<Passed<'d>>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn begin(
        worker: &'a Worker,
        direction: Direction,
        downstream: Option<SocketAddr>,
        head: RequestHead,
        body: Body,
        reply: Reply,
    ) -> Self {
        let record = Record::begin(worker, direction, &head, downstream);
        let is_grpc = grpc::is_grpc(&head.fields);
        let payload = Payload::new(body, false);
        Self {
            worker,
            direction,
            downstream,
            head,
            payload,
            reply: Some(reply),
            is_grpc,
            owes_status: false,
            record,
            owed: None,
            reporter: None,
            told: None,
            admitted: None,
            rare: None,
        }
    }

    /// Notes what carries the request.
    pub(crate) fn over_tls(&mut self, secure: &Secure) {
        self.record.over_tls(secure.agreed());
    }

    /// Serves the request to `destination`.
    pub(crate) async fn serve(&mut self, destination: &Destination) {
        destination.touch(self.record.began());
        match self.go(destination).await {
            Ok(()) => self.record.finish(),
            Err(failure) => Box::pin(self.come_to_nothing(destination, failure)).await,
        }
    }

    /// Answers with what went wrong.
    pub(crate) async fn refuse(&mut self, failure: Failure) {
        self.record.failed(failure.flag(), || failure.to_string());
        tracing::debug!(error = %failure, "request not served");
        if let Some(reply) = self.reply.take() {
            let answered = reply::fail(reply, &failure, self.is_grpc, self.direction == Direction::Gateway).await;
            self.record.status(answered.status, answered.grpc_status);
        }
        self.record.finish();
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// The right to answer, for a tunnel: what it carries has records of its own.
    pub(crate) fn take_reply(&mut self) -> Option<Reply> {
        self.record.discard();
        self.reply.take()
    }

    /// The story of a request, step by step.
    async fn go(&mut self, destination: &Destination) -> Result<(), Failure> {
        let source = self.source();
        self.admit()?;
        if !destination.outside {
            self.read_in_one_way()?;
        }
        let (rule, matched) = self.route(destination)?;
        let cors = match filter::cors(&rule.rule.filters, &self.head) {
            CorsVerdict::Forward => None,
            CorsVerdict::Decorate(fields) => Some(fields),
            CorsVerdict::Answer(fields) => return Box::pin(self.answer_preflight(&fields)).await,
        };
        let target = match self.decide(rule)? {
            Decided::Target(target) => target,
            Decided::Reply(reply) => return Box::pin(self.answer_directly(rule, reply, cors.as_ref())).await,
            Decided::Redirect(redirect) => {
                let location = self.location(destination, redirect, matched);
                return Box::pin(self.answer_redirect(rule, redirect, location)).await;
            }
        };
        let Some(cluster) = &target.cluster else {
            return Err(Failure::Unresolved(rule.rule.origin.resource.to_string()));
        };
        let from_source;
        let edge = match &source {
            Some(source) => {
                self.record.source(source);
                from_source = self.worker.inbound_edge(source, cluster, self.is_grpc);
                &from_source
            }
            None if self.is_grpc => &cluster.edges.grpc,
            None => &cluster.edges.http,
        };
        self.record.to(edge, &cluster.spec.name, &rule.rule.origin.resource);
        let _open = edge.open();
        // Boxed, because it is rare.
        if cluster.resilience.is_degraded()
            && Box::pin(self.begin_degraded(rule, matched, target, cluster, cors.as_ref())).await?
        {
            return Ok(());
        }
        self.prioritise(cluster, destination.outside);
        if self.worker.shared.strain.now().refuses_some() {
            self.bear()?;
        }
        let LetThrough { turn, held: _held } = self.ask_limits(target, source.as_ref(), rule.rule.request_timeout)?;
        if let Some(wait) = self.hold_up(turn, target.injections.as_deref(), rule.rule.request_timeout) {
            wait.await?;
        }
        // Made in its place: what is kept in a variable first, the future has room for twice.
        let mut plan = Plan {
            rule,
            target,
            cluster,
            cors,
            deadline: self.deadline(rule.rule.request_timeout),
            outside: destination.outside,
            stands_in: false,
            bond: None,
            let_go: cluster
                .resilience
                .admit(cluster, || (self.priority(), self.worker.now(), self.worker.random_bits()))?,
            passed: cluster.resilience.pass(cluster, || self.worker.now())?,
        };
        // Before anybody is asked, so that nobody is blamed for what came too late.
        plan.in_time()?;
        if let Some(full) = self.enter()? {
            // Boxed, because it is rare.
            Box::pin(self.wait_for_room(full, plan.time_left())).await?;
        }
        // Bound first: what a match looks at is kept until its arm ends.
        let entered = cluster.resilience.try_enter();
        let _entered = match entered {
            Some(entered) => entered,
            None => {
                let rank = self.priority() as u8;
                // Boxed, because it is rare.
                let entered = Box::pin(cluster.resilience.wait_to_enter(cluster, plan.time_left(), rank)).await?;
                self.waited();
                Some(entered)
            }
        };
        filter::change_request(&rule.rule.filters, &mut self.head, matched.prefix_len);
        filter::change_request(&target.filters, &mut self.head, matched.prefix_len);
        self.prepare_payload(rule, target, cluster);
        self.changed();
        if let Some(affinity) = &target.affinity {
            plan.bond = Some(self.bond(affinity, cluster));
        }
        self.forward(&plan).await
    }
}
