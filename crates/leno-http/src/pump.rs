//! Moves a body from where it is read to where it is written, with the back-pressure of the writer.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;

use crate::body::{Body, Frame};
use crate::client::RequestBody;
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::server::ReplyBody;

/// Where a body is written to.
#[allow(async_fn_in_trait)] // Everything here belongs to one thread.
pub trait Sink: Sized {
    /// Writes a piece; may keep it back until `flush` or the end.
    async fn data(&mut self, data: Bytes) -> Result<()>;
    /// Ends with trailers.
    async fn trailers(self, trailers: Fields) -> Result<()>;
    /// Ends.
    async fn end(self) -> Result<()>;
    /// Writes what was kept back.
    async fn flush(&mut self) -> Result<()>;
    /// Cuts off, because reading broke.
    async fn broken(self, error: &Error);
}

/// What a pump did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pumped {
    /// Bytes of data moved.
    pub bytes: u64,
    /// Whether trailers came last.
    pub trailers: bool,
}

/// Moves every frame of `body` to `sink` and ends it. Written in as few writes as the source's pace allows: whatever is
/// there goes out together, and nothing is kept back while the source has nothing.
///
/// The error says by its side whether reading or writing broke; the sink is cut off when reading did.
pub async fn pump<S: Sink>(body: &mut Body, sink: S) -> Result<Pumped> {
    pump_with(body, sink, |_| {}).await
}

/// As [`pump`], and `on_trailers` sees the trailers (the status of gRPC is there) before they are written, and may change
/// them.
pub async fn pump_with<S: Sink>(body: &mut Body, mut sink: S, on_trailers: impl FnOnce(&mut Fields)) -> Result<Pumped> {
    let mut pumped = Pumped::default();
    loop {
        // A look without waiting first: only a source that has nothing makes a flush worth its write.
        let ready = poll_fn(|cx| match body.poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Some(frame)),
            Poll::Pending => Poll::Ready(None),
        });
        let frame = match ready.await {
            Some(frame) => frame,
            None => {
                sink.flush().await?;
                body.frame().await
            }
        };
        match frame {
            Some(Ok(Frame::Data(data))) => {
                pumped.bytes += data.len() as u64;
                sink.data(data).await?;
            }
            Some(Ok(Frame::Trailers(mut trailers))) => {
                pumped.trailers = true;
                on_trailers(&mut trailers);
                // Boxed, because it is larger than all the rest of this future.
                Box::pin(sink.trailers(trailers)).await?;
                return Ok(pumped);
            }
            Some(Err(error)) => {
                // Boxed, because it is rare.
                Box::pin(sink.broken(&error)).await;
                return Err(error);
            }
            None => {
                sink.end().await?;
                return Ok(pumped);
            }
        }
    }
}

macro_rules! sink {
    ($type:ty) => {
        // Not async functions: their futures would be twice as large as those they pass on.
        impl Sink for $type {
            fn data(&mut self, data: Bytes) -> impl Future<Output = Result<()>> {
                <$type>::data(self, data)
            }
            fn trailers(self, trailers: Fields) -> impl Future<Output = Result<()>> {
                <$type>::trailers(self, trailers)
            }
            fn end(self) -> impl Future<Output = Result<()>> {
                <$type>::end(self)
            }
            fn flush(&mut self) -> impl Future<Output = Result<()>> {
                <$type>::flush(self)
            }
            async fn broken(self, _error: &Error) {
                self.abort();
            }
        }
    };
}

sink!(ReplyBody);
sink!(RequestBody);
