//! Functions by path, served as gRPC.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use prost::Message;
use tokio::time::Instant;

use super::message::{MESSAGE_MAX, Sender, Streaming, encode};
use super::status::{Code, Status};
use super::timeout::parse_timeout;
use crate::body::{Body, BodyLength};
use crate::error::Result;
use crate::message::{Method as HttpMethod, RequestHead, ResponseHead};
use crate::server::{Handler, Reply};

/// What is known about a call besides its messages.
#[derive(Debug)]
pub struct Call {
    /// Path and fields (the metadata).
    pub head: RequestHead,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
}

/// Serves functions by path. It is a [`Handler`].
pub struct Router {
    methods: HashMap<&'static str, Box<dyn Method>>,
    cap: usize,
}

/// A function for one path.
trait Method {
    fn call(&self, call: Call, body: Body, reply: Reply, cap: usize) -> Pin<Box<dyn Future<Output = Result<()>> + '_>>;
}

struct Unary<F, Q>(F, std::marker::PhantomData<fn(Q)>);
struct Bidi<F, Q, R>(F, std::marker::PhantomData<fn(Q) -> R>);

// === impl Router ===

impl Default for Router {
    fn default() -> Router {
        Router { methods: HashMap::new(), cap: MESSAGE_MAX }
    }
}

impl Router {
    /// No paths yet.
    pub fn new() -> Router {
        Router::default()
    }

    /// Requests are at most this long.
    #[must_use]
    pub fn with_message_max(mut self, bytes: usize) -> Router {
        self.cap = bytes;
        self
    }

    /// One message in, one message out. `path` is `/package.Service/Method`.
    #[must_use]
    pub fn unary<Q, R, F>(mut self, path: &'static str, function: F) -> Router
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: AsyncFn(Call, Q) -> Result<R, Status> + 'static,
    {
        self.methods.insert(path, Box::new(Unary(function, std::marker::PhantomData)));
        self
    }

    /// Messages both ways, at their own pace.
    #[must_use]
    pub fn bidi<Q, R, F>(mut self, path: &'static str, function: F) -> Router
    where
        Q: Message + Default + 'static,
        R: Message + 'static,
        F: AsyncFn(Call, Streaming<Q>, &mut Sender<R>) -> Result<(), Status> + 'static,
    {
        self.methods.insert(path, Box::new(Bidi(function, std::marker::PhantomData)));
        self
    }

    async fn serve(&self, head: RequestHead, body: Body, reply: Reply) -> Result<()> {
        if head.method != HttpMethod::Post || !super::is_grpc(&head.fields) {
            let status = if head.method == HttpMethod::Post { 415 } else { 405 };
            let answer = ResponseHead::new(status).with("content-type", "text/plain; charset=utf-8");
            return reply.respond(answer, "only gRPC is served here\n".into()).await;
        }
        let deadline = match head.fields.get("grpc-timeout").map(parse_timeout) {
            None => None,
            Some(Some(timeout)) => Instant::now().checked_add(timeout),
            Some(None) => {
                let status = Status::new(Code::InvalidArgument, "grpc-timeout is not well-formed");
                return reply.respond(status.response(), bytes::Bytes::new()).await;
            }
        };
        let Some(method) = self.methods.get(head.path_only()) else {
            let status = Status::new(Code::Unimplemented, format!("there is no method {}", head.path_only()));
            return reply.respond(status.response(), bytes::Bytes::new()).await;
        };
        method.call(Call { head, deadline }, body, reply, self.cap).await
    }
}

impl Handler for Router {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        // An error here means that the caller is gone.
        if let Err(error) = self.serve(head, body, reply).await {
            tracing::debug!(error = %error, "a caller went away before its answer");
        }
    }
}

/// Ends what takes longer than the caller waits.
async fn in_time<T>(deadline: Option<Instant>, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout_at(deadline, work)
            .await
            .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "the deadline of the call has passed"))),
    }
}

// === impl Method ===

impl<F, Q, R> Method for Unary<F, Q>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
    F: AsyncFn(Call, Q) -> Result<R, Status> + 'static,
{
    fn call(&self, call: Call, body: Body, reply: Reply, cap: usize) -> Pin<Box<dyn Future<Output = Result<()>> + '_>> {
        Box::pin(async move {
            let deadline = call.deadline;
            let work = async {
                let mut requests = Streaming::<Q>::server(body, cap);
                let missing = || Status::new(Code::Internal, "call came without a message");
                let request = requests.message().await?.ok_or_else(missing)?;
                if requests.message().await?.is_some() {
                    return Err(Status::new(Code::Internal, "call came with more than one message"));
                }
                let answer = (self.0)(call, request).await?;
                encode(&answer)
            };
            match in_time(deadline, work).await {
                Err(status) => reply.respond(status.response(), bytes::Bytes::new()).await,
                Ok(frame) => {
                    let head = ResponseHead::new(200).with("content-type", "application/grpc");
                    let mut sink = reply.send(head, BodyLength::Unknown).await?;
                    sink.data(frame).await?;
                    sink.trailers(Status::ok().trailers()).await
                }
            }
        })
    }
}

impl<F, Q, R> Method for Bidi<F, Q, R>
where
    Q: Message + Default + 'static,
    R: Message + 'static,
    F: AsyncFn(Call, Streaming<Q>, &mut Sender<R>) -> Result<(), Status> + 'static,
{
    fn call(&self, call: Call, body: Body, reply: Reply, cap: usize) -> Pin<Box<dyn Future<Output = Result<()>> + '_>> {
        Box::pin(async move {
            let deadline = call.deadline;
            let head = ResponseHead::new(200).with("content-type", "application/grpc");
            let mut sink = reply.send(head, BodyLength::Unknown).await?;
            sink.flush().await?;
            let mut answers = Sender::<R>::reply(sink);
            let work = (self.0)(call, Streaming::server(body, cap), &mut answers);
            let status = in_time(deadline, work).await.err().unwrap_or_else(Status::ok);
            answers.end(&status).await
        })
    }
}
