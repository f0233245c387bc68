//! A deadline that costs nothing while connections are busy.
//!
//! The timer behind it is armed when something waits for the first time, and left armed when the wait is over. When it
//! fires it is set to the deadline of the wait that is on, if there is one. A connection that serves ten thousand
//! requests a minute touches the timer wheel once a minute.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// The deadline of one direction of a connection.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    until: Option<Instant>,
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
