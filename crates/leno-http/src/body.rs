//! The body of a message on its way in: frames of data, then perhaps trailers.
//!
//! A `Body` is owned, lives as long as it likes and belongs to one thread. It reads from its connection only when polled,
//! which is the back-pressure. Dropped before its end it tells its connection, which then drains or closes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use crate::error::{Error, ErrorKind, Result, Side};
use crate::fields::Fields;
use crate::{h1, h2};

/// A body to be read.
#[derive(Default)]
pub struct Body {
    inner: Inner,
}

#[derive(Default)]
enum Inner {
    #[default]
    Empty,
    Full(Bytes),
    H1Server(h1::server::Incoming),
    H1Client(h1::client::Incoming),
    H2(Box<h2::stream::Incoming>),
    Stream(Pin<Box<dyn Source>>),
}

/// A piece of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Bytes, at least one.
    Data(Bytes),
    /// The fields after the last byte. Nothing follows.
    Trailers(Fields),
}

/// What is known about the length of a body before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    Empty,
    /// So many bytes.
    Known(u64),
    /// It ends when it ends.
    Unknown,
}

/// Where frames of a body come from, for bodies that are made rather than read off the wire.
pub trait Source {
    /// The next frame; `None` after the last.
    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>>;

    /// What is known about the length.
    fn length(&self) -> BodyLength {
        BodyLength::Unknown
    }
}

// === impl Body ===

impl Body {
    /// No body.
    pub const fn empty() -> Body {
        Body { inner: Inner::Empty }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Body {
        let bytes = bytes.into();
        if bytes.is_empty() { Body::empty() } else { Body { inner: Inner::Full(bytes) } }
    }

    /// Frames from elsewhere.
    pub fn stream(source: impl Source + 'static) -> Body {
        Body { inner: Inner::Stream(Box::pin(source)) }
    }

    pub(crate) fn h1_server(incoming: h1::server::Incoming) -> Body {
        Body { inner: Inner::H1Server(incoming) }
    }

    pub(crate) fn h1_client(incoming: h1::client::Incoming) -> Body {
        Body { inner: Inner::H1Client(incoming) }
    }

    pub(crate) fn h2(incoming: h2::stream::Incoming) -> Body {
        Body { inner: Inner::H2(Box::new(incoming)) }
    }

    /// What is known about the length of what is left.
    pub fn length(&self) -> BodyLength {
        match &self.inner {
            Inner::Empty => BodyLength::Empty,
            Inner::Full(bytes) => BodyLength::Known(bytes.len() as u64),
            Inner::H1Server(incoming) => incoming.length(),
            Inner::H1Client(incoming) => incoming.length(),
            Inner::H2(incoming) => incoming.length(),
            Inner::Stream(source) => source.length(),
        }
    }

    /// Whether all of it is here already.
    pub(crate) fn is_there(&self) -> bool {
        matches!(self.inner, Inner::Empty | Inner::Full(_))
    }

    /// The next frame; `None` after the last.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match &mut self.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.inner = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::Data(bytes))))
            }
            Inner::H1Server(incoming) => incoming.poll_frame(cx),
            Inner::H1Client(incoming) => incoming.poll_frame(cx),
            Inner::H2(incoming) => incoming.poll_frame(cx),
            Inner::Stream(source) => source.as_mut().poll_frame(cx),
        }
    }

    /// The next frame; `None` after the last.
    pub async fn frame(&mut self) -> Option<Result<Frame>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// All of it, if it has at most `cap` bytes; trailers are dropped.
    pub async fn collect(mut self, cap: usize) -> Result<Bytes> {
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Frame::Data(data) = frame? else { break };
            if first.len() + all.len() + data.len() > cap {
                return Err(Error::new(ErrorKind::TooLong(cap), Side::Us));
            }
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Body").field(&self.length()).finish()
    }
}
