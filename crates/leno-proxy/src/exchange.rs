//! One request: route, filter, pick, send, reply. The same for both directions and at gateways.
//!
//! ```text
//! serve ─ admit ─► route ─► filter ─► forward ┬ pick ─► connect ─► send ─► head ─┐ ◄─ try again, where that is safe
//!                                             └──────────────────────────────────┴► filter ─► reply ─► relay body
//! ```
//!
//! An [`Exchange`] is the one context of the path: steps borrow it, so that nothing of a request has a place in the future
//! of each of them; what is rare is boxed. A try reads the clock twice, at its start and at its answer.
//!
//! What was not processed for certain (no connection, a refused stream, an inbound proxy that says so) goes to another
//! endpoint at most [`SAFE_RETRIES_MAX`] times within the cluster's budget; every other retry is asked for by the rule.
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{self, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use leno_http::client::Answer;
use leno_http::{
    Body, BodyLength, Error, Fields, Processed, Reply, ReplyBody, RequestHead, Response, ResponseFuture, ResponseHead,
    Retry, Side, TargetForm, Text, Tunnel, Upgrades, grpc, pump, pump_with, tunnel,
};
use leno_model::snapshot::{Action, Redirect};
use leno_route::cors::{CorsFields, CorsVerdict};
use leno_route::{FieldLookup, Matched, Redirected, RequestView, redirect_location, weighted};
use leno_runtime::SystemRandom;
use leno_telemetry::access::Direction;
use leno_telemetry::flag::REASON_FIELD;
use leno_traffic::{Backoff, Outcome};
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::cluster::{Cluster, Endpoint};
use crate::failure::Failure;
use crate::filter;
use crate::mirror;
use crate::payload::Payload;
use crate::record::Record;
use crate::reply;
use crate::table::{Destination, RuleRef, Target};
use crate::upstream;
use crate::worker::Worker;

/// Tries after the first of what was not processed for certain.
const SAFE_RETRIES_MAX: u32 = 2;
/// The longest wait between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// More proxies than this on the way are a circle.
const HOPS_MAX: u32 = 16;
/// Reasons by which an inbound proxy says that the application has seen nothing of the request.
const UNPROCESSED: [&str; 4] = ["connect_failure", "connect_timeout", "draining", "no_healthy_endpoint"];
/// Reasons by which an inbound proxy says that the application is gone and may have seen something of it.
const BROKEN: [&str; 2] = ["upstream_closed", "upstream_reset"];

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
    record: Record<'a>,
}

/// Where a request goes, and on which terms.
struct Plan<'d> {
    rule: RuleRef<'d>,
    target: &'d Target,
    cluster: &'d Cluster,
    cors: Option<CorsFields>,
    deadline: Option<(Instant, Duration)>,
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
        Self { worker, direction, downstream, head, payload, reply: Some(reply), is_grpc, record }
    }

    /// Serves the request to `destination`.
    pub(crate) async fn serve(&mut self, destination: &Destination) {
        destination.touch(self.record.began());
        match self.go(destination).await {
            Ok(()) => self.record.finish(),
            Err(failure) => Box::pin(self.refuse(failure)).await,
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

    /// The right to answer, for a tunnel: what it carries has records of its own.
    pub(crate) fn take_reply(&mut self) -> Option<Reply> {
        self.record.discard();
        self.reply.take()
    }

    /// The story of a request, step by step.
    async fn go(&mut self, destination: &Destination) -> Result<(), Failure> {
        let source = self.source();
        self.admit()?;
        let (rule, matched) = self.route(destination)?;
        let cors = match filter::cors(&rule.rule.filters, &self.head) {
            CorsVerdict::Forward => None,
            CorsVerdict::Decorate(fields) => Some(fields),
            CorsVerdict::Answer(fields) => return Box::pin(self.answer_preflight(&fields)).await,
        };
        let target = match self.decide(rule)? {
            Decided::Target(target) => target,
            Decided::Redirect(redirect) => {
                let location = self.location(destination, redirect, matched);
                return Box::pin(self.answer_redirect(rule, redirect, location)).await;
            }
        };
        let Some(cluster) = &target.cluster else {
            return Err(Failure::Unresolved(rule.rule.origin.resource.to_string()));
        };
        let from_source;
        let edge = match source {
            Some(source) => {
                self.record.source(&source);
                from_source = self.worker.inbound_edge(&source, cluster, self.is_grpc);
                &from_source
            }
            None if self.is_grpc => &cluster.edges.grpc,
            None => &cluster.edges.http,
        };
        self.record.to(edge, &cluster.spec.name, &rule.rule.origin.resource);
        let _open = edge.open();
        filter::change_request(&rule.rule.filters, &mut self.head, matched.prefix_len);
        filter::change_request(&target.filters, &mut self.head, matched.prefix_len);
        self.own_fields();
        self.prepare_payload(rule, target, cluster);
        let deadline = self.deadline(rule.rule.request_timeout);
        self.forward(&Plan { rule, target, cluster, cors, deadline }).await
    }
}

// === steps before the destination ===

enum Decided<'d> {
    Target(&'d Target),
    Redirect(&'d Redirect),
}

impl Exchange<'_> {
    /// Who calls, as the caller's proxy says.
    fn source(&self) -> Option<Text> {
        if self.direction != Direction::Inbound {
            return None;
        }
        self.head.fields.get_str(filter::SOURCE_FIELD).map(Text::from)
    }

    /// Takes away what belongs to the connection and what only leno may say.
    fn admit(&mut self) -> Result<(), Failure> {
        let head = &mut self.head;
        // Taken from anybody: who forges it only has his own request refused, and a gateway may stand in the circle too.
        let hops: u32 = head.fields.get_str(filter::HOPS_FIELD).and_then(|hops| hops.parse().ok()).unwrap_or(0);
        if hops > HOPS_MAX {
            return Err(Failure::Loop(hops));
        }
        head.fields.strip_hop_by_hop(Upgrades::Keep).map_err(|error| Failure::BadRequest(error.to_string()))?;
        if head.form == TargetForm::Absolute {
            // An origin is asked with the path alone (RFC 9112, section 3.2.1).
            head.form = TargetForm::Origin;
        }
        filter::strip_own(&mut head.fields);
        if self.direction != Direction::Inbound {
            head.fields.append(filter::HOPS_FIELD, itoa::Buffer::new().format(hops + 1));
        }
        Ok(())
    }

    /// The rule that matches.
    fn route<'d>(&self, destination: &'d Destination) -> Result<(RuleRef<'d>, Matched), Failure> {
        let head = &self.head;
        let no_route = || Failure::NoRoute(destination.listener.name.to_string());
        let routes = destination.http.as_ref().ok_or_else(no_route)?;
        let (path, query) = head.path_and_query();
        let view = RequestView {
            host: head.host(),
            method: head.method.as_str(),
            path,
            query: query.unwrap_or(""),
            fields: &Looked(&head.fields),
        };
        let matched = routes.router.route(&view).ok_or_else(no_route)?;
        Ok((routes.rule(matched.rule), matched))
    }

    /// What the rule does with this request.
    fn decide<'d>(&self, rule: RuleRef<'d>) -> Result<Decided<'d>, Failure> {
        match &rule.rule.action {
            Action::Forward(_) => match rule.targets {
                [only] if only.weight > 0 => Ok(Decided::Target(only)),
                many => match weighted::pick_by(many, |target| target.weight, self.worker.random_bits()) {
                    Some(at) => Ok(Decided::Target(&many[at])),
                    None => Err(Failure::Unresolved(rule.rule.origin.resource.to_string())),
                },
            },
            Action::Redirect(redirect) => Ok(Decided::Redirect(redirect)),
            Action::Refuse { status, reason } => Err(Failure::Refused(*status, reason.to_string())),
        }
    }

    fn location(&self, destination: &Destination, redirect: &Redirect, matched: Matched) -> String {
        let request = Redirected {
            scheme: self.head.scheme.as_str(),
            authority: self.head.host(),
            port: destination.listener.port,
            target: self.head.path.as_str(),
            prefix_len: matched.prefix_len,
        };
        redirect_location(redirect, &request)
    }

    async fn answer_preflight(&mut self, fields: &CorsFields) -> Result<(), Failure> {
        let mut head = ResponseHead::new(204);
        filter::apply_cors(fields, &mut head);
        self.answer(head).await;
        Ok(())
    }

    async fn answer_redirect(&mut self, rule: RuleRef<'_>, to: &Redirect, location: String) -> Result<(), Failure> {
        let mut head = ResponseHead::new(to.status).with("location", location);
        filter::change_response(&rule.rule.filters, &mut head);
        self.answer(head).await;
        Ok(())
    }

    async fn answer(&mut self, head: ResponseHead) {
        self.record.status(head.status, None);
        let Some(reply) = self.reply.take() else { return };
        if let Err(error) = reply.respond(head, Bytes::new()).await {
            self.record.broken(&Failure::Downstream(error));
        }
    }

    /// Fields that leno adds on the way out, to whomever it goes.
    fn own_fields(&mut self) {
        let head = &mut self.head;
        match self.direction {
            Direction::Outbound | Direction::Inbound => {}
            Direction::Gateway => {
                head.fields.set("x-forwarded-proto", head.scheme.as_str());
                head.fields.remove("forwarded");
                match self.downstream {
                    Some(address) => head.fields.set("x-forwarded-for", address.ip().to_string()),
                    None => head.fields.remove("x-forwarded-for"),
                };
            }
        }
    }

    /// Feeds the mirrors, and keeps the body for another try where there may be one.
    fn prepare_payload(&mut self, rule: RuleRef<'_>, target: &Target, cluster: &Cluster) {
        let body = mirror::split(self.worker, rule.mirrors, &target.mirrors, &self.head, self.payload.take());
        self.payload = Payload::new(body, self.may_try_again(rule, cluster));
    }

    /// Whether a request may be sent more than once: the rule says so, somebody else may take what one did not, or an
    /// endpoint may refuse a stream.
    fn may_try_again(&self, rule: RuleRef<'_>, cluster: &Cluster) -> bool {
        let elsewhere = self.direction != Direction::Inbound && cluster.eligible() > 1;
        elsewhere || rule.rule.retry.is_some() || upstream::speaks_http2(cluster, self.head.version)
    }

    /// The earlier of what the rule and a gRPC client allow.
    fn deadline(&self, rule: Option<Duration>) -> Option<(Instant, Duration)> {
        let asked = self.is_grpc.then(|| self.head.fields.get("grpc-timeout").and_then(grpc::parse_timeout)).flatten();
        let least = match (rule, asked) {
            (Some(rule), Some(asked)) => rule.min(asked),
            (rule, asked) => rule.or(asked)?,
        };
        let passed = self.worker.now().saturating_sub(self.record.began());
        Some((Instant::now() + least.saturating_sub(passed), least))
    }
}

struct Looked<'a>(&'a Fields);

impl FieldLookup for Looked<'_> {
    fn each_value<'a>(&'a self, name: &str, visit: &mut dyn FnMut(&'a [u8])) {
        for (found, value) in self.0.iter() {
            if found.eq_ignore_ascii_case(name.as_bytes()) {
                visit(value);
            }
        }
    }
}

// === forwarding ===

/// An endpoint answered: a head came. What is still to be uploaded goes on beside the answer.
struct Answered {
    response: Response,
    upload: Option<Upload>,
    open: leno_traffic::Open,
}

/// A try without an answer.
enum Unanswered {
    /// It may be tried again.
    Again(Failure),
    /// It may not.
    Failed(Failure),
}

/// A body on its way up; comes to the number of its bytes.
type Upload = Pin<Box<dyn Future<Output = Result<u64, Error>>>>;

impl Exchange<'_> {
    async fn forward(&mut self, plan: &Plan<'_>) -> Result<(), Failure> {
        let (response, upload) = self.ask(plan).await?;
        match self.begin_answer(plan, response) {
            Begun::Body(body, sink) => self.relay(plan, body, sink, upload).await,
            Begun::Tunnel(upgrade) => Box::pin(self.relay_upgrade(plan, upgrade)).await,
            Begun::Failed => {}
        }
        Ok(())
    }

    /// Tries until an answer is one to pass on. With it comes what is still to be uploaded.
    async fn ask(&mut self, plan: &Plan<'_>) -> Result<(Response, Option<Upload>), Failure> {
        let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
        let (mut safe_retries, mut asked_retries) = (0, 0);
        let mut began = self.record.began();
        plan.cluster.budget.record_request(began);
        loop {
            let wait = match self.attempt_in_time(plan, &mut tried, began).await {
                Ok(answered) => {
                    let mut again = self.asks_for_retry(plan, &answered.response, asked_retries);
                    if again.is_some() {
                        asked_retries += 1;
                    } else if safe_retries < SAFE_RETRIES_MAX && self.may_go_elsewhere(plan, &answered.response, &tried)
                    {
                        safe_retries += 1;
                        again = Some(Duration::ZERO);
                    }
                    let answer = self.settle(answered, began, again.is_some());
                    match again {
                        Some(wait) => wait,
                        None => return Ok(answer),
                    }
                }
                Err(Unanswered::Again(failure)) => {
                    let allowed = safe_retries < SAFE_RETRIES_MAX && plan.cluster.budget.try_retry(self.worker.now());
                    if !allowed {
                        return Err(failure);
                    }
                    safe_retries += 1;
                    Duration::ZERO
                }
                Err(Unanswered::Failed(failure)) => return Err(failure),
            };
            if !wait.is_zero() {
                Box::pin(tokio::time::sleep(wait)).await;
            }
            self.record.retried();
            began = self.worker.now();
        }
    }

    /// Tells the endpoint's load how the try ended.
    fn settle(&mut self, answered: Answered, began: Duration, again: bool) -> (Response, Option<Upload>) {
        let Answered { response, upload, open } = answered;
        let outcome = if again || response.head.status >= 500 { Outcome::Failed } else { Outcome::Answered };
        let now = self.worker.now();
        open.finish(now, now.saturating_sub(began), outcome);
        if !again {
            self.payload.settle();
        }
        (response, upload)
    }

    async fn attempt_in_time(
        &mut self,
        plan: &Plan<'_>,
        tried: &mut SmallVec<[usize; 4]>,
        began: Duration,
    ) -> Result<Answered, Unanswered> {
        let Some((at, limit)) = plan.deadline else { return self.attempt(plan, tried, began).await };
        let in_time = tokio::time::timeout_at(at, self.attempt(plan, tried, began)).await;
        in_time.unwrap_or(Err(Unanswered::Failed(Failure::Timeout(limit))))
    }

    /// One try, begun at that time: an endpoint, a connection, the request, the head of the answer.
    async fn attempt(
        &mut self,
        plan: &Plan<'_>,
        tried: &mut SmallVec<[usize; 4]>,
        began: Duration,
    ) -> Result<Answered, Unanswered> {
        let (worker, cluster) = (self.worker, plan.cluster);
        let Some(endpoint) = pick(cluster, tried, began) else {
            let (cluster, known) = (cluster.spec.name.to_string(), cluster.endpoints.len());
            return Err(Unanswered::Failed(Failure::NoEndpoint { cluster, known }));
        };
        self.record.upstream(&endpoint.state.address);
        let open = endpoint.state.load.open();
        let failed = |open: leno_traffic::Open| {
            let now = worker.now();
            open.finish(now, now.saturating_sub(began), Outcome::Failed);
        };
        let (mut answer, mut upload) = match self.send(cluster, endpoint, tried.len()).await {
            Ok(sent) => sent,
            Err(unanswered) => {
                failed(open);
                return Err(unanswered);
            }
        };
        let head = await_head(&mut answer, &mut upload, &mut self.reply, &mut self.record);
        let head = match plan.rule.rule.try_timeout {
            None => head.await,
            Some(limit) => match tokio::time::timeout(limit, head).await {
                Ok(head) => head,
                Err(_) => {
                    failed(open);
                    return Err(Unanswered::Failed(Failure::TryTimeout(limit)));
                }
            },
        };
        match head {
            Ok(response) => Ok(Answered { response, upload, open }),
            Err(cause) => {
                if cause.side() != Side::Downstream {
                    failed(open);
                }
                Err(self.broken(cluster, endpoint, cause))
            }
        }
    }

    /// Sends head and, beside it, the body.
    async fn send(
        &mut self,
        cluster: &Cluster,
        endpoint: &Endpoint,
        tried: usize,
    ) -> Result<(ResponseFuture, Option<Upload>), Unanswered> {
        let http2 = upstream::speaks_http2(cluster, self.head.version);
        let connection = upstream::connect(self.worker, cluster, endpoint, http2).await.map_err(|cause| {
            let (to, cluster) = (endpoint.state.address.to_string(), cluster.spec.name.to_string());
            Unanswered::Again(Failure::Connect { to, cluster, tried: tried as u32, cause })
        })?;
        if endpoint.state.via_proxy {
            self.head.fields.set(filter::SOURCE_FIELD, &self.worker.shared.source_name);
        } else if tried > 1 {
            // Who calls is nobody's business outside the mesh; the try before may have gone to a proxy.
            self.head.fields.remove(filter::SOURCE_FIELD);
        }
        let length = self.payload.length();
        let sent = connection.send(&self.head, length).await;
        let (request_body, answer) = sent.map_err(|cause| self.broken(cluster, endpoint, cause))?;
        if length == BodyLength::Empty {
            request_body.end().await.map_err(|cause| self.broken(cluster, endpoint, cause))?;
            return Ok((answer, None));
        }
        let mut body = self.payload.take();
        let upload = async move { pump(&mut body, request_body).await.map(|pumped| pumped.bytes) };
        Ok((answer, Some(Box::pin(upload))))
    }

    /// What an error of an exchange comes to: another try, if nothing was processed and the body is still there.
    fn broken(&self, cluster: &Cluster, endpoint: &Endpoint, cause: Error) -> Unanswered {
        let safe = match cause.retry() {
            Retry::Never => false,
            Retry::Other | Retry::Same => cause.processed() == Processed::No || self.head.method.is_idempotent(),
        };
        let again = safe && self.payload.is_there();
        let failure = if cause.side() == Side::Downstream {
            Failure::Downstream(cause)
        } else {
            let (to, cluster) = (endpoint.state.address.to_string(), cluster.spec.name.to_string());
            Failure::Upstream { to, cluster, cause }
        };
        if again { Unanswered::Again(failure) } else { Unanswered::Failed(failure) }
    }

    /// How long to wait before the retry that the rule asks for after this answer, if it does.
    fn asks_for_retry(&self, plan: &Plan<'_>, response: &Response, retries: u32) -> Option<Duration> {
        let retry = plan.rule.rule.retry.as_ref()?;
        let wanted = retries < retry.attempts && retry.codes.contains(&response.head.status);
        if !wanted || !self.payload.is_there() || !plan.cluster.budget.try_retry(self.worker.now()) {
            return None;
        }
        Some(Backoff::at_least(retry.backoff, BACKOFF_MAX).wait(retries + 1, self.worker.random_bits()))
    }

    /// Whether the answer is an inbound proxy's word that the application saw nothing of the request, or broke off one
    /// that may be repeated, and another endpoint may be tried.
    fn may_go_elsewhere(&self, plan: &Plan<'_>, response: &Response, tried: &[usize]) -> bool {
        let cluster = plan.cluster;
        if !matches!(response.head.status, 502 | 503) || !self.payload.is_there() || tried.len() >= cluster.eligible() {
            return false;
        }
        let via_proxy = tried.last().is_some_and(|at| cluster.endpoints[*at].state.via_proxy);
        let says = |reasons: &[&str]| {
            response.head.fields.get_str(REASON_FIELD).is_some_and(|reason| reasons.contains(&reason))
        };
        let safe = says(&UNPROCESSED) || says(&BROKEN) && self.head.method.is_idempotent();
        via_proxy && safe && cluster.budget.try_retry(self.worker.now())
    }
}

/// An endpoint that was not tried yet; when all were, any.
fn pick<'c>(cluster: &'c Cluster, tried: &mut SmallVec<[usize; 4]>, now: Duration) -> Option<&'c Endpoint> {
    let picked = match cluster.pick(now, &mut SystemRandom, tried) {
        Some(picked) => picked,
        None if tried.is_empty() => return None,
        None => cluster.pick(now, &mut SystemRandom, &[])?,
    };
    tried.push(picked);
    Some(&cluster.endpoints[picked])
}

/// Waits for the head of the answer while the body is being sent; passes 1xx on.
async fn await_head(
    answer: &mut ResponseFuture,
    upload: &mut Option<Upload>,
    reply: &mut Option<Reply>,
    record: &mut Record<'_>,
) -> Result<Response, Error> {
    loop {
        let informational = match poll_fn(|cx| poll_head(answer, upload, record, cx)).await? {
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
    record: &mut Record<'_>,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Answer, Error>> {
    if let Poll::Ready(next) = answer.poll_answer(cx) {
        return Poll::Ready(next);
    }
    let Some(running) = upload else { return Poll::Pending };
    let uploaded = ready!(running.as_mut().poll(cx));
    *upload = None;
    match uploaded {
        Ok(bytes) => record.received(bytes),
        // The endpoint may have answered before it stopped reading: its word counts more.
        Err(error) if error.side() == Side::Upstream => {}
        Err(error) => return Poll::Ready(Err(error)),
    }
    answer.poll_answer(cx)
}

// === the answer ===

/// What became of the head of an answer.
enum Begun {
    /// It is on its way; this body follows.
    Body(Body, ReplyBody),
    Tunnel(Box<Upgrade>),
    /// The client has gone.
    Failed,
}

/// An endpoint that agreed to speak something else.
struct Upgrade {
    head: ResponseHead,
    reply: Reply,
    upstream: Tunnel,
}

impl Exchange<'_> {
    /// Sends the head of the answer on.
    fn begin_answer(&mut self, plan: &Plan<'_>, response: Response) -> Begun {
        let Response { mut head, body, tunnel, .. } = response;
        self.record.status(head.status, self.grpc_status(&head.fields));
        let Some(reply) = self.reply.take() else { return Begun::Failed };
        if let Some(upstream) = tunnel {
            return Begun::Tunnel(Box::new(Upgrade { head, reply, upstream }));
        }
        if head.fields.strip_hop_by_hop(Upgrades::Drop).is_err() {
            head.fields.remove("connection");
        }
        change_answer(plan, &mut head);
        match reply.begin(&head, body.length()) {
            Ok(sink) => Begun::Body(body, sink),
            Err(error) => {
                self.record.broken(&Failure::Downstream(error));
                Begun::Failed
            }
        }
    }

    /// Sends the body of the answer on, while the rest of the request is still going up.
    async fn relay(&mut self, plan: &Plan<'_>, mut body: Body, sink: ReplyBody, upload: Option<Upload>) {
        let trailer_status = Cell::new(None);
        let download = pin!(pump_with(&mut body, sink, |trailers| trailer_status.set(status_in(trailers))));
        let downloaded = match (upload, plan.deadline) {
            (None, None) => download.await,
            (upload, None) => Box::pin(with_upload(download, upload, &mut self.record)).await,
            (upload, Some((at, limit))) => {
                let downloaded = with_upload(download, upload, &mut self.record);
                match Box::pin(tokio::time::timeout_at(at, downloaded)).await {
                    Ok(downloaded) => downloaded,
                    Err(_) => {
                        let words = || format!("answer not complete within {limit:?}");
                        return self.record.failed(Failure::Timeout(limit).flag(), words);
                    }
                }
            }
        };
        match downloaded {
            Ok(pumped) => self.record.sent(pumped.bytes),
            Err(error) => self.record.broken(&relay_failure(plan, error)),
        }
        if self.is_grpc && trailer_status.get().is_some() {
            self.record.status(200, trailer_status.get());
        }
    }

    async fn relay_upgrade(&mut self, plan: &Plan<'_>, upgrade: Box<Upgrade>) {
        let Upgrade { head, reply, upstream } = *upgrade;
        let downstream = match reply.upgrade(head).await {
            Ok(tunnel) => tunnel,
            Err(error) => return self.record.broken(&Failure::Downstream(error)),
        };
        let (joined, ended) = tunnel::join(downstream, upstream).await;
        self.record.received(joined.a_to_b);
        self.record.sent(joined.b_to_a);
        if let Err(error) = ended {
            self.record.broken(&relay_failure(plan, error));
        }
    }

    fn grpc_status(&self, fields: &Fields) -> Option<u8> {
        if self.is_grpc { status_in(fields) } else { None }
    }
}

fn change_answer(plan: &Plan<'_>, head: &mut ResponseHead) {
    filter::change_response(&plan.rule.rule.filters, head);
    filter::change_response(&plan.target.filters, head);
    if let Some(cors) = &plan.cors {
        filter::apply_cors(cors, head);
    }
}

/// Drives the download to its end, and the upload beside it as long as it lasts; the download decides.
async fn with_upload<T>(
    mut download: Pin<&mut impl Future<Output = Result<T, Error>>>,
    upload: Option<Upload>,
    record: &mut Record<'_>,
) -> Result<T, Error> {
    let Some(mut upload) = upload else { return download.await };
    tokio::select! {
        downloaded = &mut download => downloaded,
        uploaded = &mut upload => {
            if let Ok(bytes) = uploaded {
                record.received(bytes);
            }
            download.await
        }
    }
}

/// The status of gRPC in a head or in trailers.
fn status_in(fields: &Fields) -> Option<u8> {
    fields.get_str("grpc-status")?.parse().ok().filter(|status| *status <= 16)
}

fn relay_failure(plan: &Plan<'_>, cause: Error) -> Failure {
    if cause.side() == Side::Upstream {
        Failure::Upstream { to: String::new(), cluster: plan.cluster.spec.name.to_string(), cause }
    } else {
        Failure::Downstream(cause)
    }
}
