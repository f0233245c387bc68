//! The body of a request on its way out, kept as far as another try may need it.
//!
//! What was sent to an endpoint that turned out not to have processed it must be sent again, to another one. So frames
//! are noted as they pass (a reference to bytes that are there anyway, no copy) and the next try begins with them, up
//! to [`KEPT_MAX`]; beyond that nothing is noted any more and the body can be sent once. Rejected: reading a body whole
//! before the first try, which delays it and takes streams their streaming.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use leno_http::body::Source;
use leno_http::{Body, BodyLength, Frame};
use smallvec::SmallVec;

/// The most bytes of a body that are kept for another try.
const KEPT_MAX: usize = 64 * 1024;
/// The most frames; small ones weigh more than their bytes.
const FRAMES_MAX: usize = 256;

/// The body of a request, as far as it can still be sent.
pub(crate) enum Payload {
    Empty,
    /// Can be sent once.
    Once(Body),
    /// Can be sent again while not too much of it has passed.
    Again(Rc<RefCell<Kept>>),
    /// Was sent.
    Gone,
}

/// What has passed of a body, and the rest of it.
pub(crate) struct Kept {
    rest: Body,
    length: BodyLength,
    passed: SmallVec<[Frame; 2]>,
    bytes: usize,
    /// Whether `passed` is all that has passed.
    whole: bool,
    /// Whether that is all there is.
    ended: bool,
}

/// One sending of what is kept.
struct Sending {
    kept: Rc<RefCell<Kept>>,
    next: usize,
}

// === impl Payload ===

impl Payload {
    /// The payload of a body; `again` when there may be another try.
    pub(crate) fn new(body: Body, again: bool) -> Self {
        match body.length() {
            BodyLength::Empty => Self::Empty,
            length if again => {
                let kept = Kept { rest: body, length, passed: SmallVec::new(), bytes: 0, whole: true, ended: false };
                Self::Again(Rc::new(RefCell::new(kept)))
            }
            _ => Self::Once(body),
        }
    }

    pub(crate) fn length(&self) -> BodyLength {
        match self {
            Self::Empty | Self::Gone => BodyLength::Empty,
            Self::Once(body) => body.length(),
            Self::Again(kept) => kept.borrow().length,
        }
    }

    /// Whether it can be sent (again).
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::Empty | Self::Once(_) => true,
            Self::Again(kept) => kept.borrow().whole,
            Self::Gone => false,
        }
    }

    /// Whether several may send it at once.
    pub(crate) fn is_held(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Again(kept) => kept.borrow().whole && kept.borrow().ended,
            Self::Once(_) | Self::Gone => false,
        }
    }

    /// For one of several who send it, the first of whom may begin before it is held. What can be sent once goes with it.
    pub(crate) fn share(&mut self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Again(kept) => Self::Again(kept.clone()),
            Self::Once(_) | Self::Gone => std::mem::replace(self, Self::Gone),
        }
    }

    /// The body, from its beginning. Of several only the last one may be read, unless it is held.
    pub(crate) fn take(&mut self) -> Body {
        match self {
            Self::Empty | Self::Gone => Body::empty(),
            Self::Once(body) => {
                let body = std::mem::take(body);
                *self = Self::Gone;
                body
            }
            Self::Again(kept) => Body::stream(Sending { kept: kept.clone(), next: 0 }),
        }
    }

    /// There will be no other try: what still comes is not kept, and what passed is let go once it is sent.
    pub(crate) fn settle(&mut self) {
        if let Self::Again(kept) = std::mem::replace(self, Self::Gone) {
            kept.borrow_mut().whole = false;
        }
    }
}

// === impl Kept ===

impl Kept {
    fn note(&mut self, frame: &Frame) {
        if let Frame::Data(data) = frame {
            self.bytes += data.len();
        }
        if self.bytes > KEPT_MAX || self.passed.len() >= FRAMES_MAX {
            self.forget();
        }
        if self.whole {
            self.passed.push(frame.clone());
        }
    }

    fn forget(&mut self) {
        self.whole = false;
        self.passed = SmallVec::new();
    }
}

// === impl Sending ===

impl Source for Sending {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
        let this = &mut *self;
        let mut kept = this.kept.borrow_mut();
        if let Some(frame) = kept.passed.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(frame.clone())));
        }
        if !kept.whole && Rc::strong_count(&this.kept) == 1 {
            // Nobody else will read it.
            (kept.passed, this.next) = (SmallVec::new(), 0);
        }
        if kept.ended {
            return Poll::Ready(None);
        }
        let polled = kept.rest.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) if kept.whole => {
                kept.note(frame);
                this.next = kept.passed.len();
            }
            // What the client broke off cannot be sent to anybody.
            Poll::Ready(Some(Err(_))) => kept.forget(),
            Poll::Ready(None) => kept.ended = true,
            _ => {}
        }
        polled
    }

    fn length(&self) -> BodyLength {
        self.kept.borrow().length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pieces(usize, usize);

    impl Source for Pieces {
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
            let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = left;
            Poll::Ready(Some(Ok(Frame::Data(vec![left as u8; self.1].into()))))
        }
    }

    async fn read(body: &mut Body, frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..frames {
            match body.frame().await {
                Some(Ok(Frame::Data(data))) => bytes.extend_from_slice(&data),
                _ => break,
            }
        }
        bytes
    }

    #[test]
    fn what_was_sent_in_part_is_sent_again_from_its_beginning() {
        leno_runtime::threads::control(async {
            let mut payload = Payload::new(Body::stream(Pieces(3, 1)), true);
            assert_eq!(read(&mut payload.take(), 2).await, [2, 1]);
            assert!(payload.is_there());
            assert_eq!(read(&mut payload.take(), 9).await, [2, 1, 0]);
            assert_eq!(read(&mut payload.take(), 9).await, [2, 1, 0]);
        })
        .unwrap();
    }

    #[test]
    fn what_is_too_long_is_sent_once_and_whole() {
        leno_runtime::threads::control(async {
            for (pieces, size) in [(3, KEPT_MAX / 2), (FRAMES_MAX + 1, 1)] {
                let mut payload = Payload::new(Body::stream(Pieces(pieces, size)), true);
                assert_eq!(read(&mut payload.take(), usize::MAX).await.len(), pieces * size);
                assert!(!payload.is_there());
            }
        })
        .unwrap();
    }

    #[test]
    fn what_is_settled_while_it_is_sent_again_is_sent_whole() {
        leno_runtime::threads::control(async {
            let mut payload = Payload::new(Body::stream(Pieces(4, 1)), true);
            assert_eq!(read(&mut payload.take(), 3).await, [3, 2, 1]);
            let mut again = payload.take();
            assert_eq!(read(&mut again, 1).await, [3]);
            payload.settle();
            assert_eq!(read(&mut again, 9).await, [2, 1, 0]);
        })
        .unwrap();
    }

    #[test]
    fn what_is_held_is_sent_by_several_at_once() {
        leno_runtime::threads::control(async {
            let mut payload = Payload::new(Body::stream(Pieces(3, 1)), true);
            let mut first = payload.share().take();
            assert_eq!(read(&mut first, 3).await, [2, 1, 0]);
            assert!(!payload.is_held(), "its end has not come");
            assert!(read(&mut first, 1).await.is_empty());
            assert!(payload.is_held());
            let (mut second, mut third) = (payload.share().take(), payload.share().take());
            assert_eq!(read(&mut second, 1).await, [2]);
            assert_eq!(read(&mut third, 9).await, [2, 1, 0]);
            payload.settle();
            assert_eq!(read(&mut second, 9).await, [1, 0]);
        })
        .unwrap();
    }

    #[test]
    fn what_is_settled_keeps_nothing_and_goes_on() {
        leno_runtime::threads::control(async {
            let mut payload = Payload::new(Body::stream(Pieces(3, 1)), true);
            let mut body = payload.take();
            assert_eq!(read(&mut body, 1).await, [2]);
            payload.settle();
            assert_eq!(read(&mut body, 9).await, [1, 0]);
            assert!(!payload.is_there());
        })
        .unwrap();
    }
}
