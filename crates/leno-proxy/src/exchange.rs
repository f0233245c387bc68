//! One request: route, filter, pick, send, reply. The same for both directions and at gateways.
//!
//! ```text
//! serve ─ admit ─► route ─► filter ─► forward ┬ pick ─► connect ─► send ─► head ─┐ ◄─ try again, where that is safe
//!                                             └──────────────────────────────────┴► filter ─► reply ─► relay body
//! ```
//!
//! What was not processed for certain (no connection, a refused stream, an inbound proxy that says so) goes to another
//! endpoint at most [`SAFE_RETRIES_MAX`] times within the cluster's budget; every other retry is asked for by the rule.
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::client::Answer;
use leno_http::{
    Body, BodyLength, Error, Fields, Processed, Reply, RequestHead, Response, ResponseFuture, ResponseHead, Retry,
    Side, TargetForm, Text, Upgrades, grpc, pump, pump_with, tunnel,
};
use leno_model::snapshot::{Action, Redirect, RouteFilter};
use leno_route::cors::{CorsFields, CorsVerdict};
use leno_route::{FieldLookup, Matched, Redirected, RequestView, redirect_location, weighted};
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

/// What stays the same for all requests of a connection.
pub(crate) struct Context<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) direction: Direction,
    pub(crate) downstream: Option<std::net::SocketAddr>,
}

/// A request on its way out.
struct Outgoing<'a> {
    head: RequestHead,
    payload: Payload,
    rule: RuleRef<'a>,
    target: &'a Target,
    cluster: &'a Arc<Cluster>,
    is_grpc: bool,
    deadline: Option<(Instant, Duration)>,
}

/// Serves one request to `destination`.
pub(crate) async fn serve(
    context: &Context<'_>,
    destination: &Destination,
    head: RequestHead,
    body: Body,
    reply: Reply,
) {
    let mut record = Record::begin(context.worker, context.direction, &head, context.downstream);
    let is_grpc = grpc::is_grpc(&head.fields);
    destination.touch(context.worker.now());
    let served = serve_recorded(context, destination, head, body, reply, is_grpc, &mut record).await;
    if let Err((failure, reply)) = served {
        refuse(context, failure, reply, is_grpc, &mut record).await;
    }
    record.finish();
}

/// Serves a request for which there is no destination.
pub(crate) async fn serve_failure(context: &Context<'_>, head: RequestHead, reply: Reply, failure: Failure) {
    let mut record = Record::begin(context.worker, context.direction, &head, context.downstream);
    refuse(context, failure, Some(reply), grpc::is_grpc(&head.fields), &mut record).await;
    record.finish();
}

async fn refuse(context: &Context<'_>, failure: Failure, reply: Option<Reply>, is_grpc: bool, record: &mut Record<'_>) {
    record.failed(failure.flag(), || failure.to_string());
    tracing::debug!(error = %failure, "request not served");
    let Some(reply) = reply else { return };
    let answered = reply::fail(reply, &failure, is_grpc, context.direction == Direction::Gateway).await;
    record.status(answered.status, answered.grpc_status);
}

type Served = Result<(), (Failure, Option<Reply>)>;

/// The story of a request, step by step.
async fn serve_recorded(
    context: &Context<'_>,
    destination: &Destination,
    mut head: RequestHead,
    body: Body,
    reply: Reply,
    is_grpc: bool,
    record: &mut Record<'_>,
) -> Served {
    let source = source_of(context, &head);
    if let Err(failure) = admit(context, &mut head) {
        return Err((failure, Some(reply)));
    }
    let (rule, matched) = match route(destination, &head) {
        Ok(found) => found,
        Err(failure) => return Err((failure, Some(reply))),
    };
    let cors = match filter::cors(&rule.rule.filters, &head) {
        CorsVerdict::Forward => None,
        CorsVerdict::Decorate(fields) => Some(fields),
        CorsVerdict::Answer(fields) => return answer_preflight(&fields, reply, record).await,
    };
    let target = match decide(context, destination, &head, rule, matched) {
        Decided::Target(target) => target,
        Decided::Redirect(redirect, location) => return answer_redirect(rule, redirect, location, reply, record).await,
        Decided::Failure(failure) => return Err((failure, Some(reply))),
    };
    let Some(cluster) = &target.cluster else {
        return Err((Failure::Unresolved(rule.rule.origin.resource.to_string()), Some(reply)));
    };
    let edge = match &source {
        Some(source) => {
            record.source(source);
            context.worker.inbound_edge(source, cluster, is_grpc)
        }
        None => {
            if is_grpc {
                cluster.edges.grpc.clone()
            } else {
                cluster.edges.http.clone()
            }
        }
    };
    record.to(&edge, &cluster.spec.name, &rule.rule.origin.resource);
    let _open = edge.open();
    filter::change_request(&rule.rule.filters, &mut head, matched.prefix_len);
    filter::change_request(&target.filters, &mut head, matched.prefix_len);
    own_fields(context, &mut head);
    let body = mirror::split(context.worker, rule.mirrors, &target.mirrors, &head, body);
    let deadline = deadline(&head, rule.rule.request_timeout, is_grpc, record.started());
    let payload = Payload::new(body, may_try_again(context, rule, cluster, &head));
    let outgoing = Outgoing { head, payload, rule, target, cluster, is_grpc, deadline };
    forward(context, outgoing, cors, reply, record).await
}

// === steps before the destination ===

/// Takes away what belongs to the connection and what only leno may say.
fn admit(context: &Context<'_>, head: &mut RequestHead) -> Result<(), Failure> {
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
    if context.direction != Direction::Inbound {
        head.fields.set(filter::HOPS_FIELD, (hops + 1).to_string());
    }
    Ok(())
}

/// Who calls, as the caller's proxy says.
fn source_of(context: &Context<'_>, head: &RequestHead) -> Option<Text> {
    if context.direction != Direction::Inbound {
        return None;
    }
    head.fields.get_str(filter::SOURCE_FIELD).map(Text::from)
}

/// The rule that matches.
fn route<'d>(destination: &'d Destination, head: &RequestHead) -> Result<(RuleRef<'d>, Matched), Failure> {
    let no_route = || Failure::NoRoute(destination.listener.name.to_string());
    let routes = destination.http.as_ref().ok_or_else(no_route)?;
    let view = RequestView {
        host: head.host(),
        method: head.method.as_str(),
        path: head.path_only(),
        query: head.query().unwrap_or(""),
        fields: &Looked(&head.fields),
    };
    let matched = routes.router.route(&view).ok_or_else(no_route)?;
    Ok((routes.rule(matched.rule), matched))
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

enum Decided<'a> {
    Target(&'a Target),
    Redirect(&'a Redirect, String),
    Failure(Failure),
}

/// What the rule does with this request.
fn decide<'a>(
    context: &Context<'_>,
    destination: &Destination,
    head: &RequestHead,
    rule: RuleRef<'a>,
    matched: Matched,
) -> Decided<'a> {
    match &rule.rule.action {
        Action::Forward(_) => match rule.targets {
            [only] if only.weight > 0 => Decided::Target(only),
            many => match weighted::pick_by(many, |target| target.weight, context.worker.random_bits()) {
                Some(at) => Decided::Target(&many[at]),
                None => Decided::Failure(Failure::Unresolved(rule.rule.origin.resource.to_string())),
            },
        },
        Action::Redirect(redirect) => {
            let request = Redirected {
                scheme: head.scheme.as_str(),
                authority: head.host(),
                port: destination.listener.port,
                target: head.path.as_str(),
                prefix_len: matched.prefix_len,
            };
            Decided::Redirect(redirect, redirect_location(redirect, &request))
        }
        Action::Refuse { status, reason } => Decided::Failure(Failure::Refused(*status, reason.to_string())),
    }
}

async fn answer_preflight(fields: &CorsFields, reply: Reply, record: &mut Record<'_>) -> Served {
    let mut head = ResponseHead::new(204);
    filter::apply_cors(fields, &mut head);
    record.status(204, None);
    answer(head, reply, record).await
}

async fn answer_redirect(
    rule: RuleRef<'_>,
    redirect: &Redirect,
    location: String,
    reply: Reply,
    record: &mut Record<'_>,
) -> Served {
    let mut head = ResponseHead::new(redirect.status).with("location", location);
    filter::change_response(&rule.rule.filters, &mut head);
    record.status(redirect.status, None);
    answer(head, reply, record).await
}

async fn answer(head: ResponseHead, reply: Reply, record: &mut Record<'_>) -> Served {
    if let Err(error) = reply.respond(head, Bytes::new()).await {
        downstream_failed(record, error);
    }
    Ok(())
}

/// Fields that leno adds on the way out, to whomever it goes.
fn own_fields(context: &Context<'_>, head: &mut RequestHead) {
    match context.direction {
        Direction::Outbound | Direction::Inbound => {}
        Direction::Gateway => {
            head.fields.set("x-forwarded-proto", head.scheme.as_str());
            head.fields.remove("forwarded");
            match context.downstream {
                Some(address) => head.fields.set("x-forwarded-for", address.ip().to_string()),
                None => head.fields.remove("x-forwarded-for"),
            };
        }
    }
}

/// The earlier of what the rule and a gRPC client allow.
fn deadline(
    head: &RequestHead,
    rule: Option<Duration>,
    is_grpc: bool,
    started: Instant,
) -> Option<(Instant, Duration)> {
    let asked = is_grpc.then(|| head.fields.get("grpc-timeout").and_then(grpc::parse_timeout)).flatten();
    let least = match (rule, asked) {
        (Some(rule), Some(asked)) => rule.min(asked),
        (rule, asked) => rule.or(asked)?,
    };
    Some((started + least, least))
}

// === forwarding ===

/// What a try came to.
enum Tried {
    /// A head came: answer with it. What is still to be uploaded goes on beside the answer.
    Answered(Response, Option<Upload>, leno_traffic::Open, Instant),
    /// It may be tried again.
    Again(Failure),
    /// It may not.
    Failed(Failure),
}

/// A body on its way up; comes to the number of its bytes.
type Upload = Pin<Box<dyn Future<Output = Result<u64, Error>>>>;

async fn forward(
    context: &Context<'_>,
    mut outgoing: Outgoing<'_>,
    cors: Option<CorsFields>,
    mut reply: Reply,
    record: &mut Record<'_>,
) -> Served {
    let worker = context.worker;
    outgoing.cluster.budget.record_request(worker.now());
    let mut tried: SmallVec<[usize; 4]> = SmallVec::new();
    let (mut safe_retries, mut asked_retries) = (0, 0);
    loop {
        match attempt_in_time(context, &mut outgoing, &mut tried, &mut reply, record).await {
            Tried::Answered(response, upload, open, sent_at) => {
                let mut again = asks_for_retry(&outgoing, &response, asked_retries, worker);
                if again.is_some() {
                    asked_retries += 1;
                } else if safe_retries < SAFE_RETRIES_MAX && may_go_elsewhere(&outgoing, &response, &tried, worker) {
                    safe_retries += 1;
                    again = Some(Duration::ZERO);
                }
                let failed = again.is_some() || response.head.status >= 500;
                let outcome = if failed { Outcome::Failed } else { Outcome::Answered };
                open.finish(worker.now(), sent_at.elapsed(), outcome);
                let Some(wait) = again else {
                    outgoing.payload.settle();
                    return relay(outgoing, response, upload, cors, reply, record).await;
                };
                record.retried();
                drop((response, upload));
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
            }
            Tried::Again(failure) => {
                let allowed = safe_retries < SAFE_RETRIES_MAX && outgoing.cluster.budget.try_retry(worker.now());
                if !allowed {
                    return Err((failure, Some(reply)));
                }
                safe_retries += 1;
                record.retried();
            }
            Tried::Failed(failure) => return Err((failure, Some(reply))),
        }
    }
}

async fn attempt_in_time(
    context: &Context<'_>,
    outgoing: &mut Outgoing<'_>,
    tried: &mut SmallVec<[usize; 4]>,
    reply: &mut Reply,
    record: &mut Record<'_>,
) -> Tried {
    let Some((at, limit)) = outgoing.deadline else { return attempt(context, outgoing, tried, reply, record).await };
    let in_time = tokio::time::timeout_at(at, attempt(context, outgoing, tried, reply, record)).await;
    in_time.unwrap_or(Tried::Failed(Failure::Timeout(limit)))
}

/// One try: an endpoint, a connection, the request, the head of the answer.
async fn attempt(
    context: &Context<'_>,
    outgoing: &mut Outgoing<'_>,
    tried: &mut SmallVec<[usize; 4]>,
    reply: &mut Reply,
    record: &mut Record<'_>,
) -> Tried {
    let (worker, cluster) = (context.worker, outgoing.cluster);
    let Some(endpoint) = pick(worker, cluster, tried) else {
        let (cluster, known) = (cluster.spec.name.to_string(), cluster.endpoints.len());
        return Tried::Failed(Failure::NoEndpoint { cluster, known });
    };
    record.upstream(&endpoint.state.address);
    let open = endpoint.state.load.open();
    let sent_at = Instant::now();
    let sent = send(worker, outgoing, endpoint, tried.len()).await;
    let (mut answer, mut upload) = match sent {
        Ok(sent) => sent,
        Err(tried) => {
            open.finish(worker.now(), sent_at.elapsed(), Outcome::Failed);
            return tried;
        }
    };
    let head = await_head(&mut answer, &mut upload, reply, record);
    let head = match outgoing.rule.rule.try_timeout {
        None => head.await,
        Some(limit) => match tokio::time::timeout(limit, head).await {
            Ok(head) => head,
            Err(_) => {
                open.finish(worker.now(), sent_at.elapsed(), Outcome::Failed);
                return Tried::Failed(Failure::TryTimeout(limit));
            }
        },
    };
    match head {
        Ok(response) => Tried::Answered(response, upload, open, sent_at),
        Err(cause) => {
            if cause.side() != Side::Downstream {
                open.finish(worker.now(), sent_at.elapsed(), Outcome::Failed);
            }
            broken(outgoing, endpoint, cause)
        }
    }
}

/// An endpoint that was not tried yet; when all were, any.
fn pick<'c>(worker: &Worker, cluster: &'c Cluster, tried: &mut SmallVec<[usize; 4]>) -> Option<&'c Endpoint> {
    let picked = match worker.pick(cluster, tried) {
        Some(picked) => picked,
        None if tried.is_empty() => return None,
        None => worker.pick(cluster, &[])?,
    };
    tried.push(picked);
    Some(&cluster.endpoints[picked])
}

/// Sends head and, beside it, the body.
async fn send(
    worker: &Worker,
    outgoing: &mut Outgoing<'_>,
    endpoint: &Endpoint,
    tried: usize,
) -> Result<(ResponseFuture, Option<Upload>), Tried> {
    let cluster = outgoing.cluster;
    let http2 = upstream::speaks_http2(cluster, outgoing.head.version);
    let connection = upstream::connect(worker, cluster, endpoint, http2).await.map_err(|cause| {
        let (to, cluster) = (endpoint.state.address.to_string(), cluster.spec.name.to_string());
        Tried::Again(Failure::Connect { to, cluster, tried: tried as u32, cause })
    })?;
    if endpoint.state.via_proxy {
        outgoing.head.fields.set(filter::SOURCE_FIELD, &worker.shared.source_name);
    } else {
        // Who calls is nobody's business outside the mesh.
        outgoing.head.fields.remove(filter::SOURCE_FIELD);
    }
    let length = outgoing.payload.length();
    let sent = connection.send(&outgoing.head, length).await;
    let (request_body, answer) = sent.map_err(|cause| broken(outgoing, endpoint, cause))?;
    if length == BodyLength::Empty {
        request_body.end().await.map_err(|cause| broken(outgoing, endpoint, cause))?;
        return Ok((answer, None));
    }
    let mut body = outgoing.payload.take();
    let upload = async move { pump(&mut body, request_body).await.map(|pumped| pumped.bytes) };
    Ok((answer, Some(Box::pin(upload))))
}

/// What an error of an exchange comes to: another try, if nothing was processed and the body is still there.
fn broken(outgoing: &Outgoing<'_>, endpoint: &Endpoint, cause: Error) -> Tried {
    let idempotent = outgoing.head.method.is_idempotent();
    let safe = match cause.retry() {
        Retry::Never => false,
        Retry::Other | Retry::Same => cause.processed() == Processed::No || idempotent,
    };
    let again = safe && outgoing.payload.is_there();
    let failure = if cause.side() == Side::Downstream {
        Failure::Downstream(cause)
    } else {
        let (to, cluster) = (endpoint.state.address.to_string(), outgoing.cluster.spec.name.to_string());
        Failure::Upstream { to, cluster, cause }
    };
    if again { Tried::Again(failure) } else { Tried::Failed(failure) }
}

/// Waits for the head of the answer while the body is being sent; passes 1xx on.
async fn await_head(
    answer: &mut ResponseFuture,
    upload: &mut Option<Upload>,
    reply: &mut Reply,
    record: &mut Record<'_>,
) -> Result<Response, Error> {
    loop {
        let next = match upload {
            None => answer.answer().await,
            Some(running) => {
                tokio::select! {
                    biased;
                    next = answer.answer() => next,
                    uploaded = running => {
                        *upload = None;
                        match uploaded {
                            Ok(bytes) => record.received(bytes),
                            // The endpoint may have answered before it stopped reading: its word counts more.
                            Err(error) if error.side() == Side::Upstream => {}
                            Err(error) => return Err(error),
                        }
                        continue;
                    }
                }
            }
        };
        match next? {
            Answer::Informational(head) => reply.informational(&head).await?,
            Answer::Final(response) => return Ok(response),
        }
    }
}

/// How long to wait before the retry that the rule asks for after this answer, if it does.
fn asks_for_retry(outgoing: &Outgoing<'_>, response: &Response, retries: u32, worker: &Worker) -> Option<Duration> {
    let retry = outgoing.rule.rule.retry.as_ref()?;
    let wanted = retries < retry.attempts && retry.codes.contains(&response.head.status);
    if !wanted || !outgoing.payload.is_there() || !outgoing.cluster.budget.try_retry(worker.now()) {
        return None;
    }
    Some(Backoff::at_least(retry.backoff, BACKOFF_MAX).wait(retries + 1, worker.random_bits()))
}

/// Whether a request may be sent more than once: the rule says so, somebody else may take what one did not, or an
/// endpoint may refuse a stream.
fn may_try_again(context: &Context<'_>, rule: RuleRef<'_>, cluster: &Cluster, head: &RequestHead) -> bool {
    let elsewhere = context.direction != Direction::Inbound && cluster.eligible() > 1;
    elsewhere || rule.rule.retry.is_some() || upstream::speaks_http2(cluster, head.version)
}

/// Whether the answer is an inbound proxy's word that the application saw nothing of the request, and another endpoint
/// may be tried.
fn may_go_elsewhere(outgoing: &Outgoing<'_>, response: &Response, tried: &[usize], worker: &Worker) -> bool {
    if response.head.status != 503 || !outgoing.payload.is_there() || tried.len() >= outgoing.cluster.eligible() {
        return false;
    }
    let via_proxy = tried.last().is_some_and(|at| outgoing.cluster.endpoints[*at].state.via_proxy);
    let reason = response.head.fields.get_str(REASON_FIELD);
    via_proxy
        && reason.is_some_and(|reason| UNPROCESSED.contains(&reason))
        && outgoing.cluster.budget.try_retry(worker.now())
}

// === the answer ===

/// Sends the answer on: head, then body, while the rest of the request is still going up.
async fn relay(
    outgoing: Outgoing<'_>,
    mut response: Response,
    upload: Option<Upload>,
    cors: Option<CorsFields>,
    reply: Reply,
    record: &mut Record<'_>,
) -> Served {
    let mut head = std::mem::take(&mut response.head);
    record.status(head.status, grpc_status(&outgoing, &head.fields));
    if let Some(upstream) = response.tunnel.take() {
        return relay_upgrade(outgoing, head, upstream, reply, record).await;
    }
    if head.fields.strip_hop_by_hop(Upgrades::Drop).is_err() {
        head.fields.remove("connection");
    }
    change_answer(&outgoing.rule.rule.filters, &outgoing.target.filters, cors.as_ref(), &mut head);
    let mut body = response.body;
    let sink = match reply.send(head, body.length()).await {
        Ok(sink) => sink,
        Err(error) => {
            downstream_failed(record, error);
            return Ok(());
        }
    };
    let mut trailer_status = None;
    let download =
        pump_with(&mut body, sink, |trailers| trailer_status = trailers.get_str("grpc-status").and_then(parse_status));
    let downloaded = match outgoing.deadline {
        None => with_upload(download, upload, record).await,
        Some((at, limit)) => match tokio::time::timeout_at(at, with_upload(download, upload, record)).await {
            Ok(downloaded) => downloaded,
            Err(_) => {
                record.failed(Failure::Timeout(limit).flag(), || format!("answer not complete within {limit:?}"));
                return Ok(());
            }
        },
    };
    match downloaded {
        Ok(pumped) => record.sent(pumped.bytes),
        Err(error) => relay_failed(&outgoing, record, error),
    }
    if outgoing.is_grpc && trailer_status.is_some() {
        record.status(200, trailer_status);
    }
    Ok(())
}

fn change_answer(rule: &[RouteFilter], target: &[RouteFilter], cors: Option<&CorsFields>, head: &mut ResponseHead) {
    filter::change_response(rule, head);
    filter::change_response(target, head);
    if let Some(cors) = cors {
        filter::apply_cors(cors, head);
    }
}

/// Drives the download to its end, and the upload beside it as long as it lasts; the download decides.
async fn with_upload<T>(
    download: impl Future<Output = Result<T, Error>>,
    upload: Option<Upload>,
    record: &mut Record<'_>,
) -> Result<T, Error> {
    let Some(mut upload) = upload else { return download.await };
    let mut download = std::pin::pin!(download);
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

async fn relay_upgrade(
    outgoing: Outgoing<'_>,
    head: ResponseHead,
    upstream: leno_http::Tunnel,
    reply: Reply,
    record: &mut Record<'_>,
) -> Served {
    let downstream = match reply.upgrade(head).await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            downstream_failed(record, error);
            return Ok(());
        }
    };
    let (joined, ended) = tunnel::join(downstream, upstream).await;
    record.received(joined.a_to_b);
    record.sent(joined.b_to_a);
    if let Err(error) = ended {
        relay_failed(&outgoing, record, error);
    }
    Ok(())
}

fn grpc_status(outgoing: &Outgoing<'_>, fields: &Fields) -> Option<u8> {
    if !outgoing.is_grpc {
        return None;
    }
    fields.get_str("grpc-status").and_then(parse_status)
}

fn parse_status(text: &str) -> Option<u8> {
    text.parse().ok().filter(|status| *status <= 16)
}

fn downstream_failed(record: &mut Record<'_>, error: Error) {
    let failure = Failure::Downstream(error);
    record.failed(failure.flag(), || failure.to_string());
}

fn relay_failed(outgoing: &Outgoing<'_>, record: &mut Record<'_>, cause: Error) {
    let failure = if cause.side() == Side::Upstream {
        Failure::Upstream { to: String::new(), cluster: outgoing.cluster.spec.name.to_string(), cause }
    } else {
        Failure::Downstream(cause)
    };
    record.failed(failure.flag(), || failure.to_string());
}
