//! Congestion control between processes of one machine.
//!
//! On loopback there is no path to be probed, and nothing to be shared with anybody: a round trip is a copy, and what is
//! sent has arrived. BBR, which many systems have as their default, models the path all the same and paces every segment
//! by a timer; a sidecar would pay that four times for each request. Connections over loopback get Reno there, which every
//! Linux has and every process may choose. Other defaults cost nothing that is worth a system call, and stay.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use rustix::net::sockopt;

/// What loopback gets where the default is one that paces.
const PLAIN: &str = "reno";
/// How the names of algorithms begin that pace: `bbr`, `bbr2`, `bbr3`.
const PACING: &str = "bbr";

/// Chooses for a socket that is not connected yet, or listens, by the address it connects to or listens on.
pub(crate) fn choose(socket: &impl AsFd, address: IpAddr) {
    static IS_PACED: OnceLock<bool> = OnceLock::new();
    let is_paced =
        || *IS_PACED.get_or_init(|| sockopt::tcp_congestion(socket).is_ok_and(|name| name.starts_with(PACING)));
    if address.is_loopback() && is_paced() {
        // Refused, it stays as it is: dearer, and not wrong.
        let _ = sockopt::set_tcp_congestion(socket, PLAIN);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dial::{Dial, HostDial};
    use crate::{Address, listen};

    #[tokio::test]
    async fn neither_end_of_a_connection_over_loopback_is_paced() {
        let listener = listen::attach(listen::bind_one("127.0.0.1:0".parse().unwrap()).unwrap()).unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let dialled = HostDial.connect(&address, Duration::from_secs(5)).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        for chosen in [sockopt::tcp_congestion(&dialled).unwrap(), sockopt::tcp_congestion(&accepted).unwrap()] {
            assert!(!chosen.starts_with(PACING), "{chosen}");
        }
    }

    #[test]
    fn what_goes_beyond_this_machine_keeps_the_default() {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let default = sockopt::tcp_congestion(&socket).unwrap();
        choose(&socket, "192.0.2.1".parse().unwrap());
        assert_eq!(sockopt::tcp_congestion(&socket).unwrap(), default);
    }
}
