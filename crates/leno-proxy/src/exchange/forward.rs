//! From a plan to an answer: pick, connect, send, wait for the head, and try again where that is safe or asked for.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::Duration;

use leno_http::client::Answer;
use leno_http::grpc::Code;
use leno_http::{
    BodyLength, Error, Processed, Reply, RequestHead, Response, ResponseFuture, ResponseHead, Retry, Side, pump_with,
};
use leno_model::snapshot::BalancePolicy;
use leno_runtime::SystemRandom;
use leno_traffic::{Mark, Outcome};
use smallvec::SmallVec;

use super::answer::Begun;
use super::overload::is_shed;
use super::retry::Retries;
use super::{Exchange, Plan};
use crate::cluster::{Cluster, Endpoint};
use crate::failure::Failure;
use crate::filter;
use crate::payload::Payload;
use crate::resilience::{Owed, Owing, mark_of_grpc};
use crate::upstream::{self, Unconnected};
use crate::worker::Worker;

/// An endpoint answered: a head came. What is still to be uploaded goes on beside the answer.
pub(super) struct Answered {
    pub(super) response: Response,
    pub(super) upload: Option<Upload>,
    pub(super) open: leno_traffic::Open,
    /// When the try was begun that it came of.
    pub(super) began: Duration,
}

/// A try without an answer.
pub(super) enum Unanswered {
    /// It may be tried again.
    Again(Failure),
    /// It may not.
    Failed(Failure),
}

/// What one try sends.
#[derive(Clone, Copy)]
pub(super) struct Sending<'s> {
    pub(super) worker: &'s Worker,
    pub(super) plan: &'s Plan<'s>,
    pub(super) endpoint: &'s Endpoint,
    pub(super) is_grpc: bool,
    /// Tries so far, with this one.
    pub(super) tried: usize,
}

/// The endpoints that a request has met, by index.
pub(super) type Tried = SmallVec<[usize; 4]>;

/// A body on its way up; comes to the number of its bytes.
pub(super) type Upload = Pin<Box<dyn Future<Output = Result<u64, Error>>>>;

impl Exchange<'_> {
    pub(super) async fn forward(&mut self, plan: &Plan<'_>) -> Result<(), Failure> {
        let mut retries = if plan.stands_in { Retries::spent() } else { Retries::default() };
        let (response, upload) =
            self.ask(plan, &mut retries).await.inspect_err(|failure| self.count_failure(plan, failure))?;
        // Bound first: what a match looks at is kept until its arm ends.
        let (body, sink) = match self.begin_answer(plan, response) {
            Begun::Body(body, sink) => (body, sink),
            Begun::Tunnel(upgrade) => {
                Box::pin(self.relay_upgrade(plan, upgrade)).await;
                return Ok(());
            }
            Begun::Failed => return Ok(()),
        };
        self.relay(plan, body, sink, upload).await;
        Ok(())
    }

    /// Tries until an answer is one to pass on. With it comes what is still to be uploaded.
    async fn ask<'d>(
        &mut self,
        plan: &Plan<'d>,
        retries: &mut Retries<'d>,
    ) -> Result<(Response, Option<Upload>), Failure> {
        let mut tried = Tried::new();
        let mut began = self.asked();
        plan.cluster.budget.record_request(began);
        loop {
            plan.in_time()?;
            let wait = match self.attempt_in_time(plan, &mut tried, began, retries).await {
                Ok(answered) => {
                    let again = self.again_after_answer(plan, &answered.response, &tried, retries);
                    let mut answer = self.settle(plan, &tried, answered, again.is_some());
                    let Some(wait) = again else {
                        if let Some(unwanted) = self.unwanted(plan, &answer.0) {
                            return Err(unwanted);
                        }
                        // Before the client is told of its own bond, which is nobody else's.
                        if self.rare.is_some() {
                            self.heed(plan, &mut answer.0);
                        }
                        if let Some(bond) = &plan.bond {
                            bond.tell(&mut answer.0.head, plan.cluster, tried.last().copied());
                        }
                        return Ok(answer);
                    };
                    wait
                }
                Err(unanswered) => match self.again_after_failure(plan, &unanswered, retries) {
                    Some(wait) => wait,
                    None => return Err(unanswered.into_failure()),
                },
            };
            if !wait.is_zero() {
                Box::pin(tokio::time::sleep(wait)).await;
            }
            self.record.retried();
            began = self.worker.now();
        }
    }

    /// Tells the endpoint's load, and whoever watches it, how the try ended.
    pub(super) fn settle(
        &mut self,
        plan: &Plan<'_>,
        tried: &[usize],
        answered: Answered,
        again: bool,
    ) -> (Response, Option<Upload>) {
        let Answered { response, upload, open, began } = answered;
        let now = self.worker.now();
        let took = now.saturating_sub(began);
        let failed = again || response.head.status >= 500;
        if let Some(admitted) = &self.admitted {
            // A call that fails, or is refused, in its head has done no work.
            let no_work = |status| status == Code::ResourceExhausted as u8 || mark_of_grpc(status) != Mark::Good;
            if !failed && !self.grpc_status(&response.head.fields).is_some_and(no_work) {
                admitted.answered(now);
            }
        }
        let is_shed = is_shed(&response.head, self.is_grpc);
        let is_cut_short = plan.is_cut_short() && is_late(&response.head, self.is_grpc);
        let outcome = match (is_cut_short, failed || is_shed) {
            // It has taken so long at least.
            (true, _) | (_, false) => Outcome::Answered,
            (false, true) => Outcome::Failed,
        };
        open.finish(now, took, outcome);
        let endpoint = tried.last().copied().unwrap_or_default();
        match plan.cluster.spec.balance {
            BalancePolicy::WeightedRoundRobin => {
                plan.cluster.heed_report(endpoint, &response.head.fields, now);
                self.reporter = Some(endpoint as u32);
            }
            BalancePolicy::WeightedResponseTime if !is_shed => plan.cluster.time(endpoint, took),
            _ => {}
        }
        if is_shed && let Some(let_go) = plan.let_go.as_ref().filter(|_| !again) {
            let_go.settle(now, false);
        }
        let says_nothing = is_shed || is_cut_short;
        if let Some(mark) = plan.cluster.mark_of(&response.head, self.is_grpc).filter(|_| !says_nothing) {
            self.count_head(plan, Owed { endpoint, took }, mark, now, again);
        }
        if !again && !self.may_stand_in() {
            self.payload.settle();
        }
        (response, upload)
    }

    /// Tells the breaker of a request that came to no answer.
    fn count_failure(&self, plan: &Plan<'_>, failure: &Failure) {
        // The breaker hears nothing of who left, of what was refused here, or of who would not wait for long enough.
        let is_silent = match failure {
            // That answer was counted when it came.
            Failure::Downstream(_) | Failure::Unwanted { .. } => true,
            Failure::Timeout(_) => plan.is_cut_short(),
            other => other.is_refusal(),
        };
        if !is_silent {
            let now = self.worker.now();
            plan.count(now, Mark::Local, now.saturating_sub(self.asked()));
        }
    }

    /// Counts how an endpoint answered; with the last of its tries, how the request was answered.
    fn count_head(&mut self, plan: &Plan<'_>, owed: Owed, mark: Result<Mark, Owing>, now: Duration, again: bool) {
        let Ok(mark) = mark else {
            self.owed = (!again).then_some(owed);
            return;
        };
        plan.cluster.observe(owed.endpoint, now, mark, owed.took);
        if !again {
            plan.count(now, mark, now.saturating_sub(self.asked()));
        }
    }

    async fn attempt_in_time<'d>(
        &mut self,
        plan: &Plan<'d>,
        tried: &mut Tried,
        began: Duration,
        retries: &mut Retries<'d>,
    ) -> Result<Answered, Unanswered> {
        if let Some(hedge) = self.hedge(plan) {
            return Box::pin(self.attempt_hedged(plan, hedge, tried, retries, began)).await;
        }
        let Some((at, limit)) = plan.deadline else { return self.attempt(plan, tried, began).await };
        let before = tried.len();
        let in_time = tokio::time::timeout_at(at, self.attempt(plan, tried, began)).await;
        in_time.unwrap_or_else(|_| {
            if tried.len() > before && !plan.is_cut_short() {
                self.unanswered(plan.cluster, tried, began);
            }
            Err(Unanswered::Failed(Failure::Timeout(limit)))
        })
    }

    /// One try, begun at that time: an endpoint, a connection, the request, the head of the answer.
    async fn attempt(&mut self, plan: &Plan<'_>, tried: &mut Tried, began: Duration) -> Result<Answered, Unanswered> {
        let (worker, cluster) = (self.worker, plan.cluster);
        let endpoint = pick(plan, tried, began).ok_or_else(|| Unanswered::nobody(cluster))?;
        self.record.upstream(&endpoint.state.address);
        let open = endpoint.state.load.open();
        let failed = |open: leno_traffic::Open| {
            let now = worker.now();
            open.finish(now, now.saturating_sub(began), Outcome::Failed);
        };
        let sending = Sending { worker, plan, endpoint, is_grpc: self.is_grpc, tried: tried.len() };
        let (mut answer, mut upload) = match sending.send(&mut self.head, &mut self.payload).await {
            Ok(sent) => sent,
            Err(unanswered) => {
                if !unanswered.is_ours() {
                    failed(open);
                }
                if !unanswered.is_downstream() && !unanswered.is_ours() {
                    self.unanswered(cluster, tried, began);
                }
                return Err(unanswered);
            }
        };
        let mut received = None;
        let head = await_head(&mut answer, &mut upload, &mut self.reply, &mut received);
        let head = match plan.rule.rule.try_timeout {
            None => head.await,
            Some(limit) => match tokio::time::timeout(limit, head).await {
                Ok(head) => head,
                Err(_) => {
                    failed(open);
                    self.unanswered(cluster, tried, began);
                    return Err(Unanswered::Failed(Failure::TryTimeout(limit)));
                }
            },
        };
        if let Some(bytes) = received {
            self.record.received(bytes);
        }
        match head {
            Ok(response) => Ok(Answered { response, upload, open, began }),
            Err(cause) => {
                if cause.side() != Side::Downstream {
                    failed(open);
                    self.unanswered(cluster, tried, began);
                }
                Err(sending.broken(&self.head, &self.payload, cause))
            }
        }
    }

    /// No answer came from the endpoint that was tried last.
    pub(super) fn unanswered(&self, cluster: &Cluster, tried: &[usize], began: Duration) {
        if let Some(endpoint) = tried.last() {
            let now = self.worker.now();
            cluster.observe(*endpoint, now, Mark::Local, now.saturating_sub(began));
        }
    }
}

// === impl Plan ===

impl Plan<'_> {
    /// Tells the breaker, and whoever holds requests back, how the request ended.
    pub(super) fn count(&self, now: Duration, mark: Mark, took: Duration) {
        self.passed.iter().for_each(|passed| passed.settle(now, mark, took));
        self.let_go.iter().for_each(|let_go| let_go.settle(now, mark == Mark::Good));
    }
}

// === impl Sending ===

impl Sending<'_> {
    /// Sends head and, beside it, the body.
    pub(super) async fn send(
        &self,
        head: &mut RequestHead,
        payload: &mut Payload,
    ) -> Result<(ResponseFuture, Option<Upload>), Unanswered> {
        let Self { worker, plan, endpoint, .. } = *self;
        let cluster = plan.cluster;
        let http2 = upstream::speaks_http2(cluster, head.version);
        let connected = upstream::connect(worker, cluster, endpoint, http2, plan.time_left()).await;
        let connection = connected.map_err(|unconnected| match unconnected {
            Unconnected::Full(failure) => Unanswered::Failed(failure),
            Unconnected::Error(cause) => {
                let (to, cluster) = (endpoint.state.address.to_string(), cluster.spec.name.to_string());
                Unanswered::Again(Failure::Connect { to, cluster, tried: self.tried as u32, cause })
            }
        })?;
        if endpoint.state.via_proxy {
            head.fields.set(filter::SOURCE_FIELD, &worker.shared.source_name);
        } else if self.tried > 1 {
            // Who calls is nobody's business outside the mesh; the try before may have gone to a proxy.
            head.fields.remove(filter::SOURCE_FIELD);
        }
        plan.tell_time_left(head, self.is_grpc);
        let length = payload.length();
        let sent = connection.send(head, length).await;
        let (request_body, answer) = sent.map_err(|cause| self.broken(head, payload, cause))?;
        if length == BodyLength::Empty {
            request_body.end().await.map_err(|cause| self.broken(head, payload, cause))?;
            return Ok((answer, None));
        }
        let mut body = payload.take();
        let all_trailers = self.is_grpc || plan.outside;
        let upload = async move {
            let pumped = pump_with(&mut body, request_body, |trailers| filter::change_trailers(trailers, all_trailers));
            pumped.await.map(|pumped| pumped.bytes)
        };
        Ok((answer, Some(Box::pin(upload))))
    }

    /// What an error of an exchange comes to: another try, if nothing was processed and the body is still there.
    pub(super) fn broken(&self, head: &RequestHead, payload: &Payload, cause: Error) -> Unanswered {
        let safe = match cause.retry() {
            Retry::Never => false,
            Retry::Other | Retry::Same => cause.processed() == Processed::No || head.method.is_idempotent(),
        };
        let again = safe && payload.is_there();
        let failure = if cause.side() == Side::Downstream {
            Failure::Downstream(cause)
        } else {
            let cluster = self.plan.cluster.spec.name.to_string();
            Failure::Upstream { to: self.endpoint.state.address.to_string(), cluster, cause }
        };
        if again { Unanswered::Again(failure) } else { Unanswered::Failed(failure) }
    }
}

// === impl Unanswered ===

impl Unanswered {
    /// There is nobody to try.
    pub(super) fn nobody(cluster: &Cluster) -> Self {
        let (cluster, known) = (cluster.spec.name.to_string(), cluster.endpoints.len());
        Self::Failed(Failure::NoEndpoint { cluster, known })
    }

    pub(super) fn failure(&self) -> &Failure {
        let (Self::Again(failure) | Self::Failed(failure)) = self;
        failure
    }

    fn into_failure(self) -> Failure {
        let (Self::Again(failure) | Self::Failed(failure)) = self;
        failure
    }

    /// The endpoint was not asked: a limit of ours was in the way, or there was no time left for it.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.failure(), Failure::Timeout(_)) || self.failure().is_refusal()
    }

    pub(super) fn is_downstream(&self) -> bool {
        matches!(self.failure(), Failure::Downstream(_))
    }
}

/// An endpoint that was not tried yet; when all were, any.
pub(super) fn pick<'d>(plan: &Plan<'d>, tried: &mut Tried, now: Duration) -> Option<&'d Endpoint> {
    let cluster = plan.cluster;
    let (hash, named, among) =
        plan.bond.as_ref().map_or_else(Default::default, |bond| (bond.hash, bond.named, bond.among));
    if let Some(named) = named.filter(|_| tried.is_empty()) {
        tried.push(named);
        return Some(cluster.take(named, now));
    }
    let picked = match cluster.pick_among(among, now, &mut SystemRandom, hash, tried) {
        Some(picked) => picked,
        None if tried.is_empty() => return None,
        None => cluster.pick_among(among, now, &mut SystemRandom, hash, &[])?,
    };
    tried.push(picked);
    Some(&cluster.endpoints[picked])
}

/// Whether an answer says that the time was over.
fn is_late(head: &ResponseHead, is_grpc: bool) -> bool {
    head.status == 504 || is_grpc && head.fields.get("grpc-status").map(Code::parse) == Some(Code::DeadlineExceeded)
}

/// Waits for the head of the answer while the body is being sent; passes 1xx on.
pub(super) async fn await_head(
    answer: &mut ResponseFuture,
    upload: &mut Option<Upload>,
    reply: &mut Option<Reply>,
    received: &mut Option<u64>,
) -> Result<Response, Error> {
    loop {
        let informational = match poll_fn(|cx| poll_head(answer, upload, received, cx)).await? {
            Answer::Final(response) => return Ok(response),
            Answer::Informational(head) => Box::new(head),
        };
        if let Some(reply) = reply {
            Box::pin(reply.informational(&informational)).await?;
        }
    }
}

fn poll_head(
    answer: &mut ResponseFuture,
    upload: &mut Option<Upload>,
    received: &mut Option<u64>,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Answer, Error>> {
    if let Poll::Ready(next) = answer.poll_answer(cx) {
        return Poll::Ready(next);
    }
    let Some(running) = upload else { return Poll::Pending };
    let uploaded = ready!(running.as_mut().poll(cx));
    *upload = None;
    match uploaded {
        Ok(bytes) => *received = Some(bytes),
        // The endpoint may have answered before it stopped reading: its word counts more.
        Err(error) if error.side() == Side::Upstream => {}
        Err(error) => return Poll::Ready(Err(error)),
    }
    answer.poll_answer(cx)
}
