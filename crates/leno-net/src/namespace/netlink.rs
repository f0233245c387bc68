//! The three things to ask of the kernel's routing in a fresh namespace: loopback up, an address on it, a default route
//! into it. (rtnetlink(7); each message is sent with NLM_F_ACK and its answer read.)

use std::io;
use std::net::IpAddr;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// The loopback device is always the first of a namespace.
const LOOPBACK: u32 = 1;

const RTA_OIF: u16 = 4;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

/// Brings the loopback device up.
pub(super) fn loopback_up() -> io::Result<()> {
    // struct ifinfomsg: family, padding, type, index, flags, change mask
    let mut body = vec![0, 0, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    body.extend((libc::IFF_UP as u32).to_ne_bytes());
    body.extend((libc::IFF_UP as u32).to_ne_bytes());
    request(libc::RTM_NEWLINK, 0, &body)
}

/// Gives the loopback device one more address.
pub(super) fn add_address(address: IpAddr) -> io::Result<()> {
    // struct ifaddrmsg: family, prefix length, flags, scope, index
    let (family, prefix, octets) = parts(address);
    let mut body = vec![family, prefix, 0, 0];
    body.extend(LOOPBACK.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &octets);
    // Usable at once: nobody else can have the address, so nobody is asked.
    attribute(&mut body, IFA_FLAGS, &libc::IFA_F_NODAD.to_ne_bytes());
    request(libc::RTM_NEWADDR, libc::NLM_F_CREATE, &body)
}

/// Routes everything of the family of `of` into the loopback device.
pub(super) fn add_default_route(of: IpAddr) -> io::Result<()> {
    // struct rtmsg: family, destination and source prefix, tos, table, protocol, scope, type, flags
    let (family, _, _) = parts(of);
    let scope = if of.is_ipv4() { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE };
    let mut body =
        vec![family, 0, 0, 0, libc::RT_TABLE_MAIN, libc::RTPROT_STATIC, scope, libc::RTN_UNICAST, 0, 0, 0, 0];
    attribute(&mut body, RTA_OIF, &LOOPBACK.to_ne_bytes());
    request(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &body)
}

fn parts(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, 32, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, 128, v6.octets().to_vec()),
    }
}

/// Appends a `struct rtattr`; every value here is a multiple of four bytes long.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// Sends one message and waits for its answer, which the kernel makes before `send` returns.
fn request(kind: u16, flags: libc::c_int, body: &[u8]) -> io::Result<()> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0.
        None,
    )?;
    rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;

    // struct nlmsghdr: length, type, flags, sequence, port
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    rustix::net::send(&socket, &message, SendFlags::empty())?;

    let mut answer = [0u8; 512];
    let length = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?.1.min(answer.len());
    // An NLMSG_ERROR carries the negative errno behind the header; 0 is success.
    let code = answer[..length].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "netlink answered with a short message")),
    }
}
