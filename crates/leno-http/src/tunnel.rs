//! Bytes in both directions after an upgrade or CONNECT.

use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use leno_net::Stream;

use crate::error::Result;

/// A connection, or a stream of one, that carries bytes and no messages any more.
pub struct Tunnel {
    inner: Inner,
}

enum Inner {}

/// What a pair of joined tunnels carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Joined {
    /// Bytes from the first to the second.
    pub a_to_b: u64,
    /// Bytes from the second to the first.
    pub b_to_a: u64,
}

impl Tunnel {
    /// A tunnel over a plain stream; `first` was read from it already.
    pub fn from_stream(stream: Stream, first: Bytes) -> Tunnel {
        let _ = (stream, first);
        unimplemented!()
    }

    /// The stream itself and what was read from it already, where nobody else uses it (HTTP/1).
    pub fn into_stream(self) -> Result<(Stream, Bytes), Tunnel> {
        match self.inner {}
    }

    /// The next bytes; `None` after the peer's last.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        let _ = cx;
        match self.inner {}
    }

    /// The next bytes; `None` after the peer's last.
    pub async fn read(&mut self) -> Option<Result<Bytes>> {
        std::future::poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes all of them.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let _ = bytes;
        match self.inner {}
    }

    /// Says that nothing more will be written.
    pub fn shutdown_write(&mut self) -> Result<()> {
        match self.inner {}
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tunnel")
    }
}

/// Carries bytes both ways until both ends are done, half-close passed on, or nothing moved for `idle`.
pub async fn join(a: Tunnel, b: Tunnel, idle: Duration) -> Result<Joined> {
    let _ = (a, b, idle);
    Ok(Joined::default())
}
