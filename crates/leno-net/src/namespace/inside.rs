//! The process inside: sets up the namespace, makes the listeners, starts the program and stays with it.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use socket2::{Domain, Protocol, Socket, Type};

use super::agent::Agent;
use super::enter::enter;
use super::outside::Arguments;
use super::wire::{self, Frame, Kind};
use super::{Capture, CaptureError, Command, Ended};
use crate::listen::{self, Group};

/// Runs the inside of a capture to its end, and returns the status this process should exit with. `arguments` are those
/// that [`super::start`] put behind its own. To be called first thing in `main`, while there is one thread.
pub fn inside(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let Some(Arguments { control, capture, command }) = Arguments::parse(arguments) else {
        eprintln!("leno: this part of leno is started by `leno run` only");
        return 125;
    };
    match capture_and_run(&control, &capture, &command) {
        Ok(ended) => ended.status(),
        Err(error) => {
            let _ = wire::write_failure(&control, &error);
            error.status()
        }
    }
}

fn capture_and_run(control: &UnixStream, capture: &Capture, command: &Command) -> Result<Ended, CaptureError> {
    let ipv6 = enter(capture)?;
    let listeners = Listeners::bind(capture, ipv6)?;
    let (channel, agents_end) =
        UnixStream::pair().map_err(|error| CaptureError::step("make a channel to the agent", error))?;
    let families = if ipv6 { 2 } else { 1 };
    let mut passed = listeners.descriptors();
    passed.push(channel.as_fd());
    wire::write(control, Frame { count: families, ..Frame::new(Kind::Ready, 0) }, "", &passed)
        .map_err(|error| CaptureError::step("pass the listeners out", error))?;
    // The listeners live outside from here on; what is not held here cannot leak into the program.
    drop((listeners, channel));

    Agent::new(control, agents_end, command)?.run()
}

/// Everything that listens inside.
struct Listeners {
    outbound: Vec<TcpListener>,
    dns_udp: Vec<UdpSocket>,
    dns_tcp: Vec<TcpListener>,
    host_ports: Vec<TcpListener>,
}

// === impl Listeners ===

impl Listeners {
    fn bind(capture: &Capture, ipv6: bool) -> Result<Self, CaptureError> {
        let families: &[IpAddr] = match ipv6 {
            true => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
            false => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        };
        let each = |port: u16| families.iter().map(move |ip| SocketAddr::new(*ip, port));
        let bind_tcp = |address| step(address, listen::bind(address, Group::First));
        let tcp = |port| each(port).map(bind_tcp).collect::<Result<_, _>>();
        Ok(Listeners {
            outbound: tcp(capture.outbound_port)?,
            dns_udp: each(capture.dns_port)
                .map(|address| step(address, bind_udp(address)))
                .collect::<Result<_, _>>()?,
            dns_tcp: tcp(capture.dns_port)?,
            host_ports: capture
                .host_ports
                .iter()
                .flat_map(|port| each(*port))
                .map(bind_tcp)
                .collect::<Result<_, _>>()?,
        })
    }

    /// In the order in which [`super::start`] takes them apart.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let outbound = self.outbound.iter().map(AsFd::as_fd);
        let dns = self.dns_udp.iter().map(AsFd::as_fd).chain(self.dns_tcp.iter().map(AsFd::as_fd));
        outbound.chain(dns).chain(self.host_ports.iter().map(AsFd::as_fd)).collect()
    }
}

/// A reply must come from the address that the redirection chose, so this is bound to it.
fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn step<T>(address: SocketAddr, result: io::Result<T>) -> Result<T, CaptureError> {
    result.map_err(|error| CaptureError::step(format!("listen on {address} inside"), error))
}
