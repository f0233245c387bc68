//! UDP sockets: a group on one port, one for each worker, and one towards an endpoint.
//!
//! The first of a group is bound without SO_REUSEPORT and joined by the others, as `leno_net::listen` does it: a second
//! process that asks for the port is refused, and the kernel gives all datagrams of one source to the same socket as long
//! as the group stays as it is. An answer leaves from the address that the routing table chooses: on a machine with several
//! addresses in one network that need not be the one that was asked.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

/// The longest datagram there is.
pub(super) const DATAGRAM_MAX: usize = 65_535;

/// Binds `address` with `count` sockets between which the kernel spreads sources.
pub(crate) fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let first = bind(address, false)?;
    let bound = first.local_addr()?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(bind(bound, true)?);
    }
    Ok(group)
}

/// Hands a socket to the runtime of the calling thread.
pub(super) fn attach(socket: std::net::UdpSocket) -> io::Result<UdpSocket> {
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// A socket that talks to one address alone, so that nobody else's datagrams are taken for its.
pub(super) fn connect(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&any.into())?;
    socket.connect(&to.into())?;
    attach(socket.into())
}

/// Sends to whom the socket is connected. Past the runtime, which takes a new socket for a full one until it has looked.
pub(super) fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<usize> {
    SockRef::from(socket).send(datagram)
}

/// As [`send`], to an address.
pub(super) fn send_to(socket: &UdpSocket, datagram: &[u8], to: SocketAddr) -> io::Result<usize> {
    SockRef::from(socket).send_to(datagram, &to.into())
}

fn bind(address: SocketAddr, joins: bool) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(joins)?;
    let port = address.port();
    let hint = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let hint = format!("another program has it; `ss -lunp sport = :{port}` names it, or choose another port");
            io::Error::new(error.kind(), format!("{error}; {hint}"))
        }
        io::ErrorKind::PermissionDenied => {
            let hint = format!("port {port} is below net.ipv4.ip_unprivileged_port_start; choose one above it");
            io::Error::new(error.kind(), format!("{error}; {hint}"))
        }
        _ => error,
    };
    socket.bind(&address.into()).map_err(hint)?;
    socket.set_reuse_port(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_another_program_has_is_refused_and_named() {
        let taken = bind_group(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 2).unwrap();
        let address = taken[0].local_addr().unwrap();
        let error = bind_group(address, 1).unwrap_err().to_string();
        assert!(error.contains(&format!("ss -lunp sport = :{}", address.port())), "{error}");
    }

    #[tokio::test]
    async fn the_first_datagram_of_a_new_socket_is_sent() {
        let to = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = connect(to.local_addr().unwrap()).unwrap();
        assert_eq!(send(&socket, b"hello").unwrap(), 5);
        assert_eq!(to.recv(&mut [0; 8]).unwrap(), 5);
    }

    #[test]
    fn datagrams_of_one_source_come_to_one_socket_of_the_group() {
        let group = bind_group(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 4).unwrap();
        let to = group[0].local_addr().unwrap();
        group.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        for _ in 0..16 {
            let source = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            (0..8).for_each(|_| assert_eq!(source.send_to(b"x", to).unwrap(), 1));
            let count = |socket: &std::net::UdpSocket| (0..8).filter(|_| socket.recv(&mut [0; 8]).is_ok()).count();
            let mut counts: Vec<usize> = group.iter().map(count).collect();
            counts.sort();
            assert_eq!(counts, [0, 0, 0, 8]);
        }
    }
}
