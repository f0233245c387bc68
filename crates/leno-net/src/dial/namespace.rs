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
    agent: Mutex<Channel>,
    stock: RefCell<Stock>,
}

/// The way to the agent; whoever holds the lock asks.
#[derive(Debug)]
struct Channel {
    socket: UnixStream,
    /// What was asked for when the asker ran out of time; its answer comes before the next one.
    unanswered: Option<Family>,
}

/// Sockets that are not connected yet.
#[derive(Debug, Default)]
struct Stock {
    v4: Vec<OwnedFd>,
    v6: Vec<OwnedFd>,
}

#[derive(Debug, Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl NamespaceDial {
    /// Dials over `channel`, on the runtime of the calling thread.
    pub fn new(channel: StdUnixStream) -> io::Result<Self> {
        channel.set_nonblocking(true)?;
        let agent = Mutex::new(Channel { socket: UnixStream::from_std(channel)?, unanswered: None });
        Ok(NamespaceDial { agent, stock: RefCell::default() })
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
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let socket = self.socket(family).await?;
        connect_made(socket.into(), address).await
    }

    async fn socket(&self, family: Family) -> io::Result<OwnedFd> {
        if let Some(socket) = self.take(family) {
            return Ok(socket);
        }
        let mut agent = self.agent.lock().await;
        if let Some(earlier) = agent.unanswered {
            self.receive(&mut agent, earlier).await?;
        }
        // What came for others meanwhile may do.
        if let Some(socket) = self.take(family) {
            return Ok(socket);
        }
        let ask = match family {
            Family::V4 => wire::Ask::Tcp4(STOCK),
            Family::V6 => wire::Ask::Tcp6(STOCK),
        };
        wire::send_ask(&agent.socket, ask).await?;
        agent.unanswered = Some(family);
        self.receive(&mut agent, family).await?;
        self.take(family).ok_or_else(|| io::Error::other("the socket agent answered without a socket"))
    }

    async fn receive(&self, agent: &mut Channel, family: Family) -> io::Result<()> {
        let made = wire::receive_made(&agent.socket).await;
        agent.unanswered = None;
        self.stock.borrow_mut().of(family).append(&mut made?);
        Ok(())
    }

    fn take(&self, family: Family) -> Option<OwnedFd> {
        self.stock.borrow_mut().of(family).pop()
    }
}

impl Stock {
    fn of(&mut self, family: Family) -> &mut Vec<OwnedFd> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
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
