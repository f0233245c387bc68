//! Opening connections: from the host's own network, or with a socket made inside a captured program's namespace.
//!
//! Whoever connects takes a [`Dial`], so that the request path does not know which network it is in, and tests can dial
//! nothing at all. Every connect has a deadline; an error says where to, what, and after how long, and keeps its
//! [`io::ErrorKind`], by which callers tell a refusal from a timeout.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::net::{TcpSocket, UnixStream};

use crate::address::Address;
use crate::congestion;
use crate::stream::Stream;

mod namespace;
pub use namespace::NamespaceDial;

/// What [`Dial::connect`] returns; stays on its thread.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = io::Result<Stream>> + 'a>>;

/// Opens connections.
pub trait Dial {
    /// Connects to `address` within `timeout`.
    fn connect<'a>(&'a self, address: &'a Address, timeout: Duration) -> Dialling<'a>;
}

/// Dials from the network of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostDial;

impl Dial for HostDial {
    fn connect<'a>(&'a self, address: &'a Address, timeout: Duration) -> Dialling<'a> {
        Box::pin(within(address, timeout, async move {
            match address {
                Address::Tcp(tcp) => {
                    let socket = if tcp.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
                    connect_tcp(socket, *tcp).await
                }
                Address::Unix(_) => connect_unix(address).await,
            }
        }))
    }
}

/// Connects to a Unix socket, which is found by its path in every network namespace.
async fn connect_unix(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Unix(path) => UnixStream::connect(path).await.map(Stream::from),
        Address::Tcp(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Connects a socket that was made elsewhere.
async fn connect_made(socket: std::net::TcpStream, address: SocketAddr) -> io::Result<Stream> {
    socket.set_nonblocking(true)?;
    connect_tcp(TcpSocket::from_std_stream(socket), address).await
}

async fn connect_tcp(socket: TcpSocket, address: SocketAddr) -> io::Result<Stream> {
    congestion::choose(&socket, address.ip());
    socket.connect(address).await.map(Stream::from)
}

async fn within(
    address: &Address,
    timeout: Duration,
    connecting: impl Future<Output = io::Result<Stream>>,
) -> io::Result<Stream> {
    match tokio::time::timeout(timeout, connecting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(io::Error::new(error.kind(), format!("connect to {address}: {error}"))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("connect to {address} timed out after {} ms", timeout.as_millis()),
        )),
    }
}

#[cfg(test)]
#[path = "dial/tests.rs"]
mod tests;
