//! What a process's network namespace listens on, read from `/proc/PID/net/tcp` and `tcp6`.
//!
//! So `leno run` finds the port of a program that was never told one, and can say what a program is listening on when it
//! does not become ready.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The kernel's number for the state LISTEN.
const LISTEN: &str = "0A";

/// Sockets looked at in one namespace.
const SOCKETS_MAX: usize = 65_536;

/// The addresses on which anything in the network namespace of process `pid` listens for TCP, sorted.
pub fn listening_ports(pid: u32) -> io::Result<Vec<SocketAddr>> {
    let mut found = listening(&std::fs::read_to_string(format!("/proc/{pid}/net/tcp"))?);
    // Absent where IPv6 is off.
    if let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/tcp6")) {
        found.extend(listening(&text));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The listening addresses in a text as of `/proc/net/tcp`. Lines that are not understood are skipped.
fn listening(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .skip(1)
        .take(SOCKETS_MAX)
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let (local, _remote, state) = (words.next()?, words.next()?, words.next()?);
            (state == LISTEN).then(|| address(local)).flatten()
        })
        .collect()
}

/// `0100007F:1F90` is 127.0.0.1:8080: 32-bit words in the machine's byte order, the port in the natural one.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match ip.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn listening_sockets_are_read_and_others_are_not() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n\
            2: 00000000000000000000000001000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000\n\
            garbage\n";
        assert_eq!(listening(text), ["127.0.0.1:8080".parse().unwrap(), "[::1]:80".parse().unwrap()]);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listening_ports(std::process::id()).unwrap().contains(&listener.local_addr().unwrap()));
    }
}
