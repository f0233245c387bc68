//! A body that is read as fast as it comes, because others wait for it, and written as fast as its client takes it.
//!
//! Else who asks first and reads slowly would have everybody wait. What is held in between is what is kept anyway, and as
//! bounded: what is longer is for nobody else, and goes on at the pace of its client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use leno_http::body::Source;
use leno_http::{Body, BodyLength, Error, Frame};
use tokio::sync::oneshot;

use super::keep::Coming;
use crate::worker::Worker;

/// More pieces weigh more than their bytes.
const PIECES_MAX: usize = 4096;

/// What was read and not yet written.
#[derive(Default)]
struct Read {
    pieces: VecDeque<Piece>,
    waker: Option<Waker>,
}

enum Piece {
    Frame(Frame),
    Broken(Error),
    /// The rest comes at the client's pace.
    Rest(Body),
    End,
}

struct Ahead {
    read: Rc<RefCell<Read>>,
    length: BodyLength,
    rest: Option<Body>,
    has_ended: bool,
    /// Dropped with it, so that whoever reads knows.
    _client: oneshot::Sender<()>,
}

/// Reads a body for those who wait, whether its own client stays or not; what its client gets.
pub(super) fn read(worker: &Worker, body: Body, coming: Coming) -> Body {
    let (read, length) = (Rc::<RefCell<Read>>::default(), body.length());
    if length == BodyLength::Empty {
        coming.keep();
        return body;
    }
    let (client, left) = oneshot::channel();
    // Whoever waits last has joined in one time of waiting, and waits for another one.
    let most = coming.wait_max() * 2;
    let pouring = pour(body, coming, read.clone());
    worker.spawn("collapse", async move {
        let mut pouring = pin!(pouring);
        tokio::select! {
            () = &mut pouring => {}
            // Its client has left: it is read for those who wait, for as long as anybody may.
            _ = left => drop(tokio::time::timeout(most, pouring).await),
        }
    });
    Body::stream(Ahead { read, length, rest: None, has_ended: false, _client: client })
}

async fn pour(mut body: Body, mut coming: Coming, read: Rc<RefCell<Read>>) {
    let tell = |piece: Piece| {
        let mut read = read.borrow_mut();
        read.pieces.push_back(piece);
        if let Some(waker) = read.waker.take() {
            waker.wake();
        }
    };
    loop {
        match body.frame().await {
            Some(Ok(Frame::Data(data))) => {
                let goes_on = read.borrow().pieces.len() < PIECES_MAX && coming.take(&data);
                tell(Piece::Frame(Frame::Data(data)));
                if !goes_on {
                    coming.give_up();
                    return tell(Piece::Rest(body));
                }
            }
            Some(Ok(trailers)) => {
                coming.give_up();
                tell(Piece::Frame(trailers));
                return tell(Piece::End);
            }
            Some(Err(error)) => {
                coming.give_up();
                return tell(Piece::Broken(error));
            }
            None => {
                coming.keep();
                return tell(Piece::End);
            }
        }
    }
}

// === impl Ahead ===

impl Source for Ahead {
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<leno_http::Result<Frame>>> {
        if let Some(rest) = &mut self.rest {
            return rest.poll_frame(cx);
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let piece = {
            let mut read = self.read.borrow_mut();
            match read.pieces.pop_front() {
                Some(piece) => piece,
                None => {
                    read.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        };
        match piece {
            Piece::Frame(frame) => Poll::Ready(Some(Ok(frame))),
            Piece::Broken(error) => {
                self.has_ended = true;
                Poll::Ready(Some(Err(error)))
            }
            Piece::Rest(body) => self.rest.insert(body).poll_frame(cx),
            Piece::End => {
                self.has_ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn length(&self) -> BodyLength {
        self.length
    }
}
