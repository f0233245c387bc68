//! A deadline that costs nothing while connections are busy.
//!
//! The timer behind it is armed when something waits for the first time, and left armed when the wait is over. When it
//! fires it is set to the deadline of the wait that is on, if there is one. A connection that serves ten thousand
//! requests a minute touches the timer wheel once a minute.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The deadline of one direction of a connection.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    until: Option<Instant>,
    /// What the pulse said when the wait began.
    pulse: u32,
}

/// Counts what moves in both directions of a stream, so that waiting in one while the other is busy is not idling: an
/// event stream says nothing for an hour to a client who never speaks.
#[derive(Clone, Default)]
pub(crate) struct Pulse(Rc<Cell<u32>>);

impl Pulse {
    pub(crate) fn beat(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    fn get(&self) -> u32 {
        self.0.get()
    }
}

impl Timer {
    /// The wait is over.
    pub(crate) fn done(&mut self) {
        self.until = None;
    }

    /// Waits, for so long since the first call after `done`.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, wait: Duration) -> Poll<()> {
        let until = *self.until.get_or_insert_with(|| Instant::now() + wait);
        self.poll_until(cx, until)
    }

    /// As [`Timer::poll`], but the wait begins anew for as long as the pulse beats.
    pub(crate) fn poll_pulsed(&mut self, cx: &mut Context<'_>, wait: Duration, pulse: &Pulse) -> Poll<()> {
        loop {
            if self.until.is_none() {
                self.pulse = pulse.get();
            }
            ready!(self.poll(cx, wait));
            if self.pulse == pulse.get() {
                return Poll::Ready(());
            }
            self.until = None;
        }
    }

    /// Waits until then.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        Poll::Pending
    }
}
