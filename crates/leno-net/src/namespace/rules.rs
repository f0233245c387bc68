//! The nftables rules of a captured program's namespace, as text for `nft -f -`.
//!
//! One table for each family (NAT in the `inet` family needs a newer kernel). Order matters: sockets of the agent pass,
//! then DNS is taken even where the resolver's address is a loopback one (as systemd-resolved's is), then loopback
//! passes, then everything else is redirected. `redirect` in the output hook leads to 127.0.0.1 or ::1.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Capture;

/// The mark of sockets that the rules leave alone: `leno` in ASCII.
pub(super) const MARK: u32 = 0x6c65_6e6f;

/// The address that connections from inside come from where the host has none: IPv4's dummy address (RFC 7600), which no
/// network routes.
pub(super) const ADDRESS_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The same for IPv6: from the unique local range, so that programs prefer IPv4 for destinations that have both
/// (RFC 6724), as the host's own reach decides which of them works.
pub(super) const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd6c, 0x656e, 0x6f00, 0, 0, 0, 0, 1);

/// The rules; those for IPv6 only where the kernel has it.
pub(super) fn text(capture: &Capture, ipv6: bool) -> String {
    let mut text = table("ip", "127.0.0.0/8", &ADDRESS_V4.to_string(), capture);
    if ipv6 {
        text.push_str(&table("ip6", "::1", &ADDRESS_V6.to_string(), capture));
    }
    text
}

fn table(family: &str, loopback: &str, own: &str, capture: &Capture) -> String {
    let Capture { outbound_port, dns_port, .. } = capture;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "table {family} leno {{\n  chain out {{\n    type nat hook output priority -100; policy accept;\n    \
         meta mark {MARK:#x} return\n    \
         udp dport 53 redirect to :{dns_port}\n    \
         tcp dport 53 redirect to :{dns_port}\n    \
         {family} daddr {loopback} return\n    \
         {family} daddr {own} return\n    \
         meta l4proto tcp redirect to :{outbound_port}\n  }}\n}}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_is_taken_before_loopback_passes() {
        let text = text(&Capture::default(), true);
        for part in text.split("table ").skip(1) {
            let at = |what| part.find(what).unwrap();
            assert!(at("mark") < at("dport 53") && at("dport 53") < at("daddr") && at("daddr") < at("l4proto tcp"));
        }
    }

    #[test]
    fn without_ipv6_there_is_no_table_for_it() {
        assert!(!text(&Capture::default(), false).contains("ip6"));
    }
}
