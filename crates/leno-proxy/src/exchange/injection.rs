//! What goes wrong with a request on purpose: it waits, is answered by the proxy, or its answer comes slowly.
//!
//! That is done after limits let the request through and before its breaker, so that it counts against nobody. Its time runs
//! on meanwhile, as with a service that is slow.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use leno_http::body::Source;
use leno_http::{Body, Error, Frame};
use leno_telemetry::Flag;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::Exchange;
use crate::failure::Failure;
use crate::injection::{Active, Drawn, Injections};

/// Pieces of a body in a second, where it comes slowly, as with Envoy.
const PIECES: u64 = 16;

/// A body that comes slowly.
#[derive(Debug)]
pub(super) struct Slow {
    bytes_per_second: u64,
    /// When the next piece may go; none before the first.
    due: Option<Instant>,
    _active: Option<Active>,
}

/// A body that comes slowly, with what of it was read and not passed on yet.
struct Slowly {
    body: Body,
    slow: Slow,
    rest: Bytes,
    turn: Option<Pin<Box<Sleep>>>,
}

/// What has to be over before a request goes on.
type Wait<'s> = Pin<Box<dyn Future<Output = Result<(), Failure>> + 's>>;

impl Exchange<'_> {
    /// Has the request wait for its turn, and something go wrong with it, where either is so; boxed, because it is rare.
    pub(super) fn hold_up<'s>(
        &'s mut self,
        turn: Option<Pin<Box<Sleep>>>,
        injections: Option<&'s Injections>,
        timeout: Option<Duration>,
    ) -> Option<Wait<'s>> {
        // Who waits for its turn suffers nothing yet.
        let mut drawn = if turn.is_some() { None } else { injections.and_then(|injections| self.draw(injections)) };
        if turn.is_none() && drawn.is_none() {
            return None;
        }
        Some(Box::pin(async move {
            if let Some(turn) = turn {
                turn.await;
                self.waited();
                drawn = injections.and_then(|injections| self.draw(injections));
            }
            match injections.zip(drawn) {
                Some((injections, drawn)) => self.suffer(injections, drawn, timeout).await,
                None => Ok(()),
            }
        }))
    }

    /// What goes wrong with this request, if anything does.
    fn draw(&self, injections: &Injections) -> Option<Drawn> {
        let fault = injections.faults.iter().find(|fault| self.fits(fault.when.as_ref()))?;
        injections.draw(fault, || self.worker.random_bits())
    }

    /// Since when its destination is asked: it has waited for what had to come first.
    pub(super) fn asked(&self) -> Duration {
        self.rare.as_ref().and_then(|rare| rare.asked).unwrap_or(self.record.began())
    }

    /// Its destination is asked from now on.
    pub(super) fn waited(&mut self) {
        self.rare().asked = Some(self.worker.now());
    }

    /// How slowly the body of its answer comes, if it does.
    pub(super) fn take_slow(&mut self) -> Option<Slow> {
        self.rare.as_mut()?.slow.take()
    }

    async fn suffer(
        &mut self,
        injections: &Injections,
        drawn: Drawn,
        timeout: Option<Duration>,
    ) -> Result<(), Failure> {
        let Drawn { delay, abort, kib_per_second, active } = drawn;
        if let Some(delay) = delay {
            self.record.failed(Flag::FaultDelay, || format!("delayed on purpose by {delay:?}"));
            sleep(delay.min(self.time_left(timeout).unwrap_or(Duration::MAX))).await;
        }
        if let Some(with) = abort {
            return Err(Failure::Injected(injections.service.to_string(), with));
        }
        self.waited();
        if let Some(kib) = kib_per_second {
            if delay.is_none() {
                self.record.failed(Flag::FaultBandwidth, || format!("slowed down on purpose to {kib} KiB in a second"));
            }
            let slow = Slow { bytes_per_second: u64::from(kib) * 1024, due: None, _active: active };
            self.rare().slow = Some(slow);
        }
        Ok(())
    }
}

// === impl Slow ===

impl Slow {
    /// The body as it comes.
    pub(super) fn over(self, body: Body) -> Body {
        Body::stream(Slowly { body, slow: self, rest: Bytes::new(), turn: None })
    }
}

// === impl Slowly ===

impl Source for Slowly {
    /// A piece of the body, in pieces of its own, each when it is its turn.
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let Self { body, slow, rest, turn } = &mut *self;
        if rest.is_empty() {
            match ready!(body.poll_frame(cx)) {
                Some(Ok(Frame::Data(data))) => *rest = data,
                other => return Poll::Ready(other),
            }
        }
        if turn.is_none() {
            *turn = slow.due.filter(|due| *due > Instant::now()).map(|due| Box::pin(sleep_until(due)));
        }
        let begin = match turn {
            Some(turn) => {
                ready!(turn.as_mut().poll(cx));
                turn.deadline()
            }
            None => Instant::now(),
        };
        *turn = None;
        let at_once = usize::try_from(slow.bytes_per_second / PIECES).unwrap_or(usize::MAX).max(1);
        let piece = rest.split_to(rest.len().min(at_once));
        let nanos = (piece.len() as u64).saturating_mul(1_000_000_000) / slow.bytes_per_second;
        slow.due = Some(begin + Duration::from_nanos(nanos));
        Poll::Ready(Some(Ok(Frame::Data(piece))))
    }
}
