//! Any `tower_service::Service`, such as an `axum::Router`, on this server.
//!
//! The service's body must be `Send`, ours is not, so the two meet in a slot of one frame: the service asks for a frame,
//! the connection's task reads it and puts it there. Nothing is read that was not asked for. The answer is written as it
//! comes and flushed whenever the service has nothing more at the moment, so that events are sent when they happen.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::Body as _;
use tower_service::Service;

use crate::body::{Body, BodyLength, Frame};
use crate::error::{Error, ErrorKind, Result, Side};
use crate::fields::{Fields, Known};
use crate::message::{Method, RequestHead, ResponseHead, Scheme};
use crate::server::{Handler, Reply, ReplyBody};

/// Serves a service. It is a [`Handler`].
pub struct ServiceHandler<S> {
    service: S,
    extend: Option<Extend>,
}

type Extend = Box<dyn Fn(&mut http::Extensions)>;

/// The body of a request, as services see it.
#[derive(Debug)]
pub struct RequestBody {
    slot: Arc<Mutex<Slot>>,
    length: Option<u64>,
}

/// What a service reads a broken body as.
#[derive(Debug, thiserror::Error)]
#[error("request body broke off: {0}")]
pub struct BodyError(String);

/// Where connection and service meet.
#[derive(Debug, Default)]
struct Slot {
    frames: VecDeque<Result<http_body::Frame<Bytes>, BodyError>>,
    ended: bool,
    wanted: bool,
    /// Of the service, while it waits for a frame.
    reader: Option<Waker>,
    /// Of the connection's task, while nothing is wanted.
    writer: Option<Waker>,
}

// === impl ServiceHandler ===

impl<S> ServiceHandler<S> {
    /// Serves this service; each request goes to a clone.
    pub fn new(service: S) -> ServiceHandler<S> {
        ServiceHandler { service, extend: None }
    }

    /// Gives every request what `extend` puts into its extensions.
    #[must_use]
    pub fn with_extensions(mut self, extend: impl Fn(&mut http::Extensions) + 'static) -> ServiceHandler<S> {
        self.extend = Some(Box::new(extend));
        self
    }
}

impl<S, B> Handler for ServiceHandler<S>
where
    S: Service<http::Request<RequestBody>, Response = http::Response<B>, Error = Infallible> + Clone + 'static,
    B: http_body::Body<Data = Bytes> + 'static,
    B::Error: std::fmt::Display,
{
    async fn handle(&self, head: RequestHead, mut body: Body, reply: Reply) {
        let slot = Arc::new(Mutex::new(Slot { ended: body.length() == BodyLength::Empty, ..Slot::default() }));
        let bodiless = head.method == Method::Head;
        let Some(mut request) = to_request(head, RequestBody { slot: slot.clone(), length: exact(&body) }) else {
            let _ = reply.respond(ResponseHead::new(400), Bytes::new()).await;
            return;
        };
        if let Some(extend) = &self.extend {
            extend(request.extensions_mut());
        }
        let mut service = self.service.clone();
        let work = async {
            let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
            let Ok(response) = service.call(request).await;
            write(response, reply, bodiless).await
        };
        let mut work = pin!(work);
        let result = poll_fn(|cx| {
            let result = work.as_mut().poll(cx);
            if result.is_pending() {
                feed(&slot, &mut body, cx);
            }
            result
        });
        if let Err(error) = result.await {
            tracing::debug!(error = %error, "an answer was not written to its end");
        }
    }
}

fn exact(body: &Body) -> Option<u64> {
    match body.length() {
        BodyLength::Empty => Some(0),
        BodyLength::Known(length) => Some(length),
        BodyLength::Unknown => None,
    }
}

/// Reads a frame if the service wants one.
fn feed(slot: &Mutex<Slot>, body: &mut Body, cx: &mut Context<'_>) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if !slot.wanted || slot.ended {
        slot.writer = Some(cx.waker().clone());
        return;
    }
    let Poll::Ready(frame) = body.poll_frame(cx) else { return };
    slot.wanted = false;
    match frame {
        None => slot.ended = true,
        Some(Ok(Frame::Data(data))) => slot.frames.push_back(Ok(http_body::Frame::data(data))),
        Some(Ok(Frame::Trailers(trailers))) => {
            slot.ended = true;
            slot.frames.push_back(Ok(http_body::Frame::trailers(to_map(&trailers))));
        }
        Some(Err(error)) => {
            slot.ended = true;
            slot.frames.push_back(Err(BodyError(error.to_string())));
        }
    }
    slot.writer = Some(cx.waker().clone());
    if let Some(reader) = slot.reader.take() {
        reader.wake();
    }
}

/// Writes the answer as it comes.
async fn write<B>(response: http::Response<B>, reply: Reply, bodiless: bool) -> Result<()>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Display,
{
    let (parts, body) = response.into_parts();
    let mut body = pin!(body);
    let announced = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
    let length = match body.size_hint().exact().or(announced) {
        _ if body.is_end_stream() && !bodiless => BodyLength::Empty,
        Some(0) => BodyLength::Empty,
        Some(length) => BodyLength::Known(length),
        None => BodyLength::Unknown,
    };
    let mut head = ResponseHead::new(parts.status.as_u16());
    head.fields = from_map(&parts.headers);
    let mut sink = reply.send(head, length).await?;
    loop {
        let frame = match poll_fn(|cx| Poll::Ready(body.as_mut().poll_frame(cx))).await {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                sink.flush().await?;
                poll_fn(|cx| body.as_mut().poll_frame(cx)).await
            }
        };
        sink = match frame {
            None => return sink.end().await,
            Some(Ok(frame)) => match write_frame(frame, sink).await? {
                Some(sink) => sink,
                None => return Ok(()),
            },
            Some(Err(error)) => {
                sink.abort();
                tracing::debug!(error = %error, "the body of an answer broke off");
                return Err(Error::new(ErrorKind::Dropped, Side::Us));
            }
        };
    }
}

async fn write_frame(frame: http_body::Frame<Bytes>, mut sink: ReplyBody) -> Result<Option<ReplyBody>> {
    match frame.into_data() {
        Ok(data) => {
            sink.data(data).await?;
            Ok(Some(sink))
        }
        Err(frame) => {
            let trailers = frame.into_trailers().map(|map| from_map(&map)).unwrap_or_default();
            sink.trailers(trailers).await?;
            Ok(None)
        }
    }
}

/// The request as the `http` crate has it: its target in origin form, and the host in `Host`.
fn to_request(head: RequestHead, body: RequestBody) -> Option<http::Request<RequestBody>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::from_bytes(head.method.as_str().as_bytes()).ok()?;
    let target = if head.method == Method::Connect { head.host().to_owned() } else { head.path.to_string() };
    *request.uri_mut() = target.parse().ok()?;
    *request.version_mut() = match head.version {
        crate::Version::Http10 => http::Version::HTTP_10,
        crate::Version::Http11 => http::Version::HTTP_11,
        crate::Version::Http2 => http::Version::HTTP_2,
    };
    *request.headers_mut() = to_map(&head.fields);
    if let Some(authority) = &head.authority {
        let host = http::HeaderValue::from_maybe_shared(authority.clone().into_bytes()).ok()?;
        request.headers_mut().insert(http::header::HOST, host);
    }
    if head.scheme == Scheme::Https {
        request.extensions_mut().insert(head.scheme);
    }
    Some(request)
}

fn to_map(fields: &Fields) -> http::HeaderMap {
    let mut map = http::HeaderMap::with_capacity(fields.len() + 1);
    for e in fields.entries() {
        if !matches!(e.known, Known::TransferEncoding | Known::Connection | Known::KeepAlive | Known::Host) {
            let value = http::HeaderValue::from_maybe_shared(fields.value_shared(e));
            if let (Ok(name), Ok(value)) = (http::HeaderName::from_bytes(fields.name(e)), value) {
                map.append(name, value);
            }
        }
    }
    map
}

fn from_map(map: &http::HeaderMap) -> Fields {
    let mut fields = Fields::new();
    fields.reserve(map.len(), map.iter().map(|(n, v)| n.as_str().len() + v.len()).sum());
    for (name, value) in map {
        fields.append(name.as_str(), value);
    }
    fields
}

// === impl RequestBody ===

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(frame) = slot.frames.pop_front() {
            return Poll::Ready(Some(frame));
        }
        if slot.ended {
            return Poll::Ready(None);
        }
        slot.wanted = true;
        slot.reader = Some(cx.waker().clone());
        if let Some(writer) = slot.writer.take() {
            writer.wake();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
        slot.ended && slot.frames.is_empty()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.length.map_or_else(http_body::SizeHint::default, http_body::SizeHint::with_exact)
    }
}
