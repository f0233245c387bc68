//! Copies of requests to other clusters. Their answers are read and thrown away, and nothing of them is waited for.
//!
//! The body is copied frame by frame as the original is read. A mirror that does not keep up is given up: the original
//! never waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use leno_http::body::Source;
use leno_http::{Body, BodyLength, Frame, RequestHead, grpc, pump_with};
use leno_model::snapshot::Mirror;
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::filter;
use crate::upstream;
use crate::worker::Worker;

/// Frames that a mirror may lag behind.
const LAG_MAX: usize = 32;
/// What is read of a mirror's answer, so that its connection can be used again.
const ANSWER_MAX: usize = 1024 * 1024;

/// Copies that a worker has on their way; what is more is not copied.
const MIRRORS_MAX: usize = 1024;
/// How long a copy and its answer may take.
const MIRROR_TIME_MAX: Duration = Duration::from_secs(60);

type Mirrors = [(Mirror, Arc<Cluster>)];

/// Starts the mirrors that this request falls to, and returns its body, which now feeds them too.
pub(crate) fn split(worker: &Worker, rule: &Mirrors, target: &Mirrors, head: &RequestHead, body: Body) -> Body {
    if rule.is_empty() && target.is_empty() {
        return body;
    }
    let length = body.length();
    let mut copies = Vec::new();
    for (mirror, cluster) in rule.iter().chain(target) {
        let share = (worker.random_bits() % u64::from(mirror.denominator.max(1))) as u32;
        if share >= mirror.numerator || worker.mirrors.get() >= MIRRORS_MAX {
            continue;
        }
        let copy = if length == BodyLength::Empty {
            Body::empty()
        } else {
            let (frames, received) = mpsc::channel(LAG_MAX);
            copies.push(frames);
            Body::stream(Copy { frames: received, length })
        };
        start(worker, cluster.clone(), head.clone(), copy);
    }
    if copies.is_empty() { body } else { Body::stream(Split { original: body, copies }) }
}

fn start(worker: &Worker, cluster: Arc<Cluster>, head: RequestHead, body: Body) {
    let handle = worker.handle();
    handle.mirrors.set(handle.mirrors.get() + 1);
    worker.spawn("mirror", async move {
        // A mirror that never answers must not keep what it holds for ever.
        let _ = tokio::time::timeout(MIRROR_TIME_MAX, copy(&handle, &cluster, head, body)).await;
        handle.mirrors.set(handle.mirrors.get() - 1);
    });
}

async fn copy(worker: &Worker, cluster: &Cluster, mut head: RequestHead, mut body: Body) {
    let Some(_entered) = cluster.resilience.enter_at_once() else { return };
    let Some(picked) = worker.pick(cluster, None, &[]) else { return };
    let endpoint = &cluster.endpoints[picked];
    head.fields.remove("upgrade");
    head.fields.remove("connection");
    let (http2, is_grpc) = (upstream::speaks_http2(cluster, head.version), grpc::is_grpc(&head.fields));
    let connection = upstream::connect(worker, cluster, endpoint, http2, Some(Duration::ZERO)).await;
    let Ok(connection) = connection else { return };
    let Ok((sink, answer)) = connection.send(&head, body.length()).await else { return };
    let (_, answered) = tokio::join!(
        pump_with(&mut body, sink, |trailers| filter::change_trailers(trailers, is_grpc)),
        answer.response()
    );
    if let Ok(response) = answered {
        // Only read so that the connection can be used again.
        let _ = response.body.collect(ANSWER_MAX).await;
    }
}

/// The original: what is read of it goes to the copies as well.
struct Split {
    original: Body,
    copies: Vec<mpsc::Sender<Option<Frame>>>,
}

impl Source for Split {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
        let polled = self.original.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.copies.retain(|copy| copy.try_send(Some(frame.clone())).is_ok()),
            Poll::Ready(None) => self.copies.drain(..).for_each(|copy| drop(copy.try_send(None))),
            Poll::Ready(Some(Err(_))) => self.copies.clear(),
            Poll::Pending => {}
        }
        polled
    }

    fn length(&self) -> BodyLength {
        self.original.length()
    }
}

/// What a mirror sends; an original that ended without saying so is cut off here too.
struct Copy {
    frames: mpsc::Receiver<Option<Frame>>,
    length: BodyLength,
}

impl Source for Copy {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
        self.frames.poll_recv(cx).map(|received| match received {
            Some(Some(frame)) => Some(Ok(frame)),
            Some(None) => None,
            None => Some(Err(leno_http::Error::connect(std::io::ErrorKind::BrokenPipe.into()))),
        })
    }

    fn length(&self) -> BodyLength {
        self.length
    }
}
