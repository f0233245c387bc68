//! Where a connection was going before a firewall rule redirected it here (SO_ORIGINAL_DST, answered by conntrack).

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::sockopt;
use tokio::net::TcpStream;

/// The destination that the peer asked for; `None` when the connection was not redirected.
pub fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    original_destination_of(stream.as_fd(), local)
}

/// The same for a socket that belongs to no runtime; `local` is its own address.
pub fn original_destination_of(socket: BorrowedFd<'_>, local: SocketAddr) -> Option<SocketAddr> {
    // A dual-stack socket carries IPv4 connections in mapped addresses; conntrack knows them as IPv4.
    let destination = if local.ip().to_canonical().is_ipv4() {
        SocketAddr::V4(sockopt::ip_original_dst(socket).ok()?)
    } else {
        SocketAddr::V6(sockopt::ipv6_original_dst(socket).ok()?)
    };
    // Where conntrack merely watches, it answers with the address the connection arrived at.
    let arrived = (local.ip().to_canonical(), local.port());
    (arrived != (destination.ip(), destination.port())).then_some(destination)
}
