//! Dialling with sockets that were made inside a captured program's network namespace.
//!
//! A socket belongs for life to the namespace it was made in, whoever connects it. So the socket agent inside
//! ([`crate::namespace`]) is asked only for unconnected sockets, several at a time, and the connecting is done here.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::{Dial, Dialling, connect_made, connect_unix, within};
use crate::address::Address;
use crate::namespace::wire;
use crate::stream::Stream;

/// Sockets asked for at a time; most wait here until the next connect, which then needs no round trip.
const STOCK: u8 = 8;

/// Dials inside the namespace of a captured program. One for each thread: see [`NamespaceDial::open_channel`].
#[derive(Debug)]
pub struct NamespaceDial {
    agent: Mutex<UnixStream>,
    v4: RefCell<Vec<OwnedFd>>,
    v6: RefCell<Vec<OwnedFd>>,
}

impl NamespaceDial {
    /// Dials over `channel`, on the runtime of the calling thread.
    pub fn new(channel: StdUnixStream) -> io::Result<Self> {
        channel.set_nonblocking(true)?;
        let agent = Mutex::new(UnixStream::from_std(channel)?);
        Ok(NamespaceDial { agent, v4: RefCell::default(), v6: RefCell::default() })
    }

    /// Opens another channel to the same agent over an unused one (it blocks for one round trip), for another thread.
    pub fn open_channel(channel: &StdUnixStream) -> io::Result<StdUnixStream> {
        channel.set_nonblocking(false)?;
        wire::ask_blocking(channel, wire::Ask::Channel)?
            .into_iter()
            .next()
            .map(StdUnixStream::from)
            .ok_or_else(|| io::Error::other("the socket agent answered without a channel"))
    }

    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<Stream> {
        let (stock, ask) = match address {
            SocketAddr::V4(_) => (&self.v4, wire::Ask::Tcp4(STOCK)),
            SocketAddr::V6(_) => (&self.v6, wire::Ask::Tcp6(STOCK)),
        };
        // The borrow ends before the await.
        let ready = stock.borrow_mut().pop();
        let socket = match ready {
            Some(socket) => socket,
            None => {
                let agent = self.agent.lock().await;
                let mut made = wire::ask(&agent, ask).await?;
                let first = made.pop().ok_or_else(|| io::Error::other("the socket agent answered without a socket"))?;
                stock.borrow_mut().append(&mut made);
                first
            }
        };
        connect_made(socket.into(), address).await
    }
}

impl Dial for NamespaceDial {
    fn connect<'a>(&'a self, address: &'a Address, timeout: Duration) -> Dialling<'a> {
        Box::pin(within(address, timeout, async move {
            match address {
                Address::Tcp(tcp) => self.connect_tcp(*tcp).await,
                Address::Unix(_) => connect_unix(address).await,
            }
        }))
    }
}
