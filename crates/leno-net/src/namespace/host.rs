//! What of the host's network a program inside still sees: its addresses, and which ports are free to bind.
//!
//! The host's addresses are put on the loopback device inside, so that a program which binds to its host's name, or tells
//! others the address it finds, does as it did before. Connections to them are captured all the same: whoever else
//! listens on this host is reached through the proxy.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Addresses taken over.
const ADDRESSES_MAX: usize = 64;

/// The lowest port that needs no privilege.
const PORT_START: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Seen before the namespace was entered.
#[derive(Debug)]
pub(super) struct Host {
    /// The one that connections to the world come from is the first of its family.
    pub(super) addresses: Vec<IpAddr>,
    port_start: Option<String>,
}

// === impl Host ===

impl Host {
    /// Looks at the network this process is in. What cannot be found out is left out.
    pub(super) fn see() -> Self {
        let mut addresses = interface_addresses().unwrap_or_default();
        addresses.retain(is_usable);
        let primary = ["192.0.2.1:9", "[2001:db8::1]:9"].map(|far| far.parse().ok().and_then(source_towards));
        addresses.sort_by_key(|address| !primary.contains(&Some(*address)));
        addresses.dedup();
        addresses.truncate(ADDRESSES_MAX);
        Host { addresses, port_start: std::fs::read_to_string(PORT_START).ok() }
    }

    /// Lets the same ports be bound inside. Where `/proc/sys` is read-only, the kernel's default stands.
    pub(super) fn allow_ports(&self) {
        if let Some(port_start) = &self.port_start {
            let _ = std::fs::write(PORT_START, port_start);
        }
    }
}

fn is_usable(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

/// The address that a packet to `far` would come from. A UDP socket sends nothing when it is connected.
fn source_towards(far: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if far.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(far).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// The addresses of all interfaces.
fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first = MaybeUninit::<*mut libc::ifaddrs>::uninit();
    // SAFETY: on success, getifaddrs writes a pointer to a list.
    if unsafe { libc::getifaddrs(first.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the call above.
    let first = unsafe { first.assume_init() };
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: the list is valid until it is freed below, and its last element's `ifa_next` is null.
    while let Some(interface) = unsafe { next.as_ref() } {
        // SAFETY: `ifa_addr` is null or points to an address of the size its family has.
        addresses.extend(unsafe { address(interface.ifa_addr) });
        next = interface.ifa_next;
    }
    // SAFETY: freed once, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

/// SAFETY: `pointer` is null or points to an address of the size its family has.
unsafe fn address(pointer: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller promises; the family is read before anything that depends on it.
    unsafe {
        match i32::from(pointer.as_ref()?.sa_family) {
            libc::AF_INET => {
                let v4 = pointer.cast::<libc::sockaddr_in>().read_unaligned();
                Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
            }
            libc::AF_INET6 => {
                let v6 = pointer.cast::<libc::sockaddr_in6>().read_unaligned();
                Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_interfaces_but_not_among_what_is_taken_over() {
        assert!(interface_addresses().unwrap().contains(&Ipv4Addr::LOCALHOST.into()));
        assert!(Host::see().addresses.iter().all(|address| !address.is_loopback()));
    }
}
