//! Asks a silent peer whether it is still there, for connections on which silence is normal (streams of updates).

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep};

/// Sends a PING now and then; the peer has until the next one to answer.
pub(crate) struct Keepalive {
    ping: PingPong,
    every: Duration,
    sleep: Pin<Box<Sleep>>,
    awaited: bool,
}

impl Keepalive {
    pub(crate) fn new(ping: Option<PingPong>, every: Option<Duration>) -> Option<Keepalive> {
        let (ping, every) = ping.zip(every)?;
        Some(Keepalive { ping, every, sleep: Box::pin(tokio::time::sleep(every)), awaited: false })
    }

    /// Ready when the peer did not answer.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.awaited && self.ping.poll_pong(cx).is_ready() {
            self.awaited = false;
        }
        while self.sleep.as_mut().poll(cx).is_ready() {
            if self.awaited {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(Instant::now() + self.every);
            self.awaited = self.ping.send_ping(Ping::opaque()).is_ok();
            if self.awaited && self.ping.poll_pong(cx).is_ready() {
                self.awaited = false;
            }
        }
        Poll::Pending
    }
}
