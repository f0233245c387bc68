//! The answer on its way back: head, then body, while the rest of the request is still going up.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};

use bytes::Bytes;
use leno_http::grpc::{self, Code, Status};
use leno_http::{
    Body, BodyLength, Error, ErrorKind, Fields, Reply, ReplyBody, Response, ResponseHead, Side, Sink, Tunnel, Upgrades,
    Version, pump_with, tunnel,
};
use leno_telemetry::access::Direction;
use leno_traffic::Mark;

use super::forward::Upload;
use super::stand_in::FALLBACK_FIELD;
use super::{Exchange, Plan};
use crate::failure::Failure;
use crate::filter;
use crate::load_report;
use crate::pressure::stalled;
use crate::record::Record;
use crate::resilience::{Owed, mark_of_grpc};
use crate::worker::Worker;

/// What became of the head of an answer.
pub(super) enum Begun {
    /// It is on its way; this body follows.
    Body(Body, AnswerBody),
    Tunnel(Box<Upgrade>),
    /// The client has gone.
    Failed,
}

/// An endpoint that agreed to speak something else.
pub(super) struct Upgrade {
    head: ResponseHead,
    reply: Reply,
    upstream: Tunnel,
}

/// The body of an answer on its way out.
pub(super) struct AnswerBody {
    sink: ReplyBody,
    /// It is of gRPC, so that its status stands in trailers: where none come, the client hears why.
    owes_status: bool,
}

/// What is done with trailers: a piece of its own, so that the future of the relay has one reference to all of it.
struct Trailed<'p> {
    /// Boxed, because it is rare.
    reporting: Option<Box<Reporting<'p>>>,
    /// Of gRPC.
    status: Cell<Option<u8>>,
    passes_all: bool,
    is_gateway: bool,
}

/// An endpoint that may say how busy it is.
struct Reporting<'p> {
    plan: &'p Plan<'p>,
    worker: &'p Worker,
    endpoint: u32,
}

impl Exchange<'_> {
    /// Sends the head of the answer on.
    pub(super) fn begin_answer(&mut self, plan: &Plan<'_>, response: Response) -> Begun {
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
        if self.direction == Direction::Gateway {
            load_report::strip(&mut head.fields);
        }
        if plan.stands_in {
            head.fields.set(FALLBACK_FIELD, "service");
        }
        if let Some(told) = self.told.take() {
            told.tell(&mut head.fields);
        }
        self.owes_status = self.owes_status(&head);
        if self.owes_status && matches!(body.length(), BodyLength::Empty | BodyLength::Known(0)) {
            without_status().write(&mut head.fields);
            self.record.status(head.status, status_in(&head.fields));
        }
        match reply.begin(&head, body.length()) {
            Ok(sink) => Begun::Body(body, AnswerBody { sink, owes_status: self.owes_status }),
            Err(error) => {
                self.record.broken(&Failure::Downstream(error));
                Begun::Failed
            }
        }
    }

    /// Sends the body of the answer on, while the rest of the request is still going up.
    pub(super) async fn relay(&mut self, plan: &Plan<'_>, mut body: Body, sink: AnswerBody, upload: Option<Upload>) {
        if self.rare.is_some() {
            body = self.altered(body);
        }
        let (worker, is_gateway) = (self.worker, self.direction == Direction::Gateway);
        let reporting = |endpoint| Box::new(Reporting { plan, worker, endpoint });
        let trailed = Trailed {
            reporting: self.reporter.take().map(reporting),
            status: Cell::new(None),
            passes_all: self.is_grpc || plan.outside,
            is_gateway,
        };
        let download = pin!(pump_with(&mut body, sink, |trailers| trailed.hear(trailers)));
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
        if let Some(owed) = self.owed.take() {
            self.count_end(plan, owed, &downloaded, trailed.status.get());
        }
        match downloaded {
            Ok(pumped) => {
                if self.owes_status && !pumped.trailers {
                    trailed.status.set(Some(Code::Internal as u8));
                }
                self.record.sent(pumped.bytes);
            }
            Err(error) => {
                trailed.status.set(broken_off(self.owes_status, &error).map(|status| status.code as u8));
                self.record.broken(&relay_failure(plan, error));
            }
        }
        if self.is_grpc && trailed.status.get().is_some() {
            self.record.status(200, trailed.status.get());
        }
    }

    /// Counts how a call of gRPC ended for the endpoint. Without a status that is a failure; a client that left says nothing.
    fn count_end<T>(&self, plan: &Plan<'_>, owed: Owed, downloaded: &Result<T, Error>, status: Option<u8>) {
        let mark = match downloaded {
            Ok(_) if status == Some(Code::DeadlineExceeded as u8) && plan.is_cut_short() => return,
            Ok(_) => status.map_or(Mark::Error, mark_of_grpc),
            Err(error) if error.side() == Side::Upstream => Mark::Local,
            Err(_) => return,
        };
        let now = self.worker.now();
        plan.cluster.observe(owed.endpoint, now, mark, owed.took);
        plan.count(now, mark, owed.took);
    }

    pub(super) async fn relay_upgrade(&mut self, plan: &Plan<'_>, upgrade: Box<Upgrade>) {
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

    pub(super) fn grpc_status(&self, fields: &Fields) -> Option<u8> {
        if self.is_grpc { status_in(fields) } else { None }
    }

    /// Whether the client waits for trailers that say how its call of gRPC went.
    fn owes_status(&self, head: &ResponseHead) -> bool {
        self.is_grpc
            && self.head.version == Version::Http2
            && head.status == 200
            && grpc::is_grpc(&head.fields)
            && !head.fields.contains("grpc-status")
    }
}

// === impl Trailed ===

impl Trailed<'_> {
    fn hear(&self, trailers: &mut Fields) {
        self.status.set(status_in(trailers));
        if let Some(reporting) = &self.reporting {
            let Reporting { plan, worker, endpoint } = **reporting;
            plan.cluster.heed_report(endpoint as usize, trailers, worker.now());
        }
        if self.is_gateway {
            load_report::strip(trailers);
        }
        filter::change_trailers(trailers, self.passes_all);
    }
}

impl Sink for AnswerBody {
    fn data(&mut self, data: Bytes) -> impl Future<Output = Result<(), Error>> {
        stalled::write(self.sink.data(data))
    }

    fn trailers(self, trailers: Fields) -> impl Future<Output = Result<(), Error>> {
        stalled::write(self.sink.trailers(trailers))
    }

    async fn end(self) -> Result<(), Error> {
        match self.owes_status {
            // Boxed, because it is rare.
            true => Box::pin(stalled::write(self.sink.trailers(without_status().trailers()))).await,
            false => stalled::write(self.sink.end()).await,
        }
    }

    fn flush(&mut self) -> impl Future<Output = Result<(), Error>> {
        stalled::write(self.sink.flush())
    }

    async fn broken(self, error: &Error) {
        match broken_off(self.owes_status, error) {
            // A reset would be heard as INTERNAL, whatever broke.
            Some(status) => drop(self.sink.trailers(status.trailers()).await),
            None => self.sink.abort(),
        }
    }
}

fn without_status() -> Status {
    Status::new(Code::Internal, "the answer ended without a status")
}

/// What a client of gRPC hears of an answer that broke off upstream: what it would hear without a proxy.
fn broken_off(owes_status: bool, error: &Error) -> Option<Status> {
    let heard = owes_status && error.side() == Side::Upstream;
    heard.then(|| Status::new(Status::from(error).code, "the answer broke off"))
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
    if matches!(cause.kind(), ErrorKind::GivenUp) {
        Failure::GivenUp
    } else if cause.side() == Side::Upstream {
        Failure::Upstream { to: String::new(), cluster: plan.cluster.spec.name.to_string(), cause }
    } else {
        Failure::Downstream(cause)
    }
}
