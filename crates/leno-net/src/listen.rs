//! Listening: a group of sockets on one port, one for each worker, and an accept loop that no errno ends.
//!
//! The first socket of a group is bound *without* SO_REUSEPORT, so that a second process that asks for the same port is
//! refused instead of silently taking every other connection; it gets the option between `bind` and `listen`, and the
//! others, bound with it, then join its group. Closing one socket of a group resets what waits on it: pass them on
//! ([`crate::fds`]) instead.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::congestion;
use crate::places::Places;
use crate::stream::Stream;

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub stream: Stream,
    /// Who opened it.
    pub peer: SocketAddr,
}

/// Connections that the kernel completes and keeps until they are accepted (it lowers this to `net.core.somaxconn`).
pub const BACKLOG: i32 = 4096;

/// Bytes that a connection takes to be sent beyond what is on its way. Nine hundred clients that ask for much and read
/// nothing would fill the kernel's memory for TCP, with which every connection of the machine stalls; it is inherited by
/// the connections that are accepted.
const UNSENT: u32 = 128 * 1024;

/// How long accepting pauses when descriptors or memory are short, so that others can give theirs back.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens on `address` with `count` sockets between which the kernel spreads new connections. Port 0 takes a free port,
/// the same for all. `[::]` takes both families.
pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::TcpListener>> {
    let first = bind(address, Group::First).map_err(|error| explain(address, error))?;
    let bound = first.local_addr()?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(bind(bound, Group::Other).map_err(|error| explain(bound, error))?);
    }
    Ok(group)
}

/// Listens on `address` with one socket.
pub fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    bind(address, Group::First).map_err(|error| explain(address, error))
}

/// Hands listeners that were bound (or passed on) to the runtime of the calling thread.
pub fn attach(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Waits for the next connection. Never fails: a connection that broke in the queue is skipped, and while descriptors or
/// memory are short, accepting pauses 50 ms at a time and what comes waits in the kernel's queue.
pub async fn accept(listener: &TcpListener) -> Accepted {
    static ANY: OnceLock<Places> = OnceLock::new();
    accept_within(listener, ANY.get_or_init(Places::default)).await
}

/// As [`accept`], for connections that `places` has room for; the others are reset at once.
pub async fn accept_within(listener: &TcpListener, places: &Places) -> Accepted {
    accept_counting(listener, places, |_| true).await
}

/// As [`accept_within`]; of the peers for which `counts` says no, sources are not counted: they are proxies, who will say
/// for whom they come.
pub async fn accept_counting(listener: &TcpListener, places: &Places, counts: impl Fn(IpAddr) -> bool) -> Accepted {
    loop {
        let (socket, peer) = until_accepted(places, async || listener.accept().await).await;
        let stream = Stream::from(socket);
        match places.admit(Some(peer.ip()).filter(|source| counts(*source))) {
            Ok(place) => return Accepted { stream: stream.with_place(place), peer },
            Err(_) => stream.reset_on_close(),
        }
    }
}

/// As [`accept_within`], for a Unix socket.
pub async fn accept_unix_within(listener: &UnixListener, places: &Places) -> Stream {
    loop {
        let (socket, _) = until_accepted(places, async || listener.accept().await).await;
        if let Ok(place) = places.admit(None) {
            return Stream::from(socket).with_place(place);
        }
    }
}

async fn until_accepted<T>(places: &Places, accept: impl AsyncFn() -> io::Result<T>) -> T {
    let mut is_short = false;
    loop {
        match accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // One shortage is one pause, however often it is looked at.
                if !std::mem::replace(&mut is_short, true) {
                    places.paused(&error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Group {
    First,
    Other,
}

pub(crate) fn bind(address: SocketAddr, group: Group) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of an earlier process that still wait in TIME_WAIT do not hold the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if group == Group::Other {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_notsent_lowat(UNSENT)?;
    congestion::choose(&socket, address.ip());
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Errors that belong to the connection at the head of the queue and are gone with it (accept(2), "Error handling").
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::EOPNOTSUPP
                | libc::EPERM
                | libc::ECONNRESET
                | libc::ETIMEDOUT
        )
    )
}

fn explain(address: SocketAddr, error: io::Error) -> io::Error {
    let port = address.port();
    let hint = match error.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            format!("another program listens there; `ss -ltnp sport = :{port}` names it, or choose another port")
        }
        Some(libc::EACCES) => format!("port {port} is below net.ipv4.ip_unprivileged_port_start; choose one above it"),
        Some(libc::EADDRNOTAVAIL) => format!("{} is no address of this machine", address.ip()),
        Some(libc::EMFILE | libc::ENFILE) => "out of descriptors; raise `ulimit -n`".to_owned(),
        _ => return io::Error::new(error.kind(), format!("listen on {address}: {error}")),
    };
    io::Error::new(error.kind(), format!("listen on {address}: {error}; {hint}"))
}

#[cfg(test)]
#[path = "listen/tests.rs"]
mod tests;
