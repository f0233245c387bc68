//! The body of an answer of which something is to become on its way: it is kept, then it comes slowly.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use leno_http::body::Source;
use leno_http::{Body, Frame};

use super::Exchange;
use super::keep::Coming;

/// A body that is kept as it comes.
struct Kept {
    body: Body,
    coming: Option<Coming>,
}

impl Exchange<'_> {
    /// The body with what is to become of it.
    pub(super) fn altered(&mut self, mut body: Body) -> Body {
        if let Some(coming) = self.take_coming() {
            body = Body::stream(Kept { body, coming: Some(coming) });
        }
        match self.take_slow() {
            Some(slow) => slow.over(body),
            None => body,
        }
    }
}

// === impl Kept ===

impl Source for Kept {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
        let Self { body, coming } = &mut *self;
        let frame = ready!(body.poll_frame(cx));
        match &frame {
            Some(Ok(Frame::Data(data))) => {
                if coming.as_mut().is_some_and(|coming| !coming.take(data)) {
                    *coming = None;
                }
            }
            // What ends with trailers is not kept: who is given it later would not hear them.
            Some(_) => *coming = None,
            None => coming.take().into_iter().for_each(Coming::keep),
        }
        Poll::Ready(frame)
    }
}
