//! The PROXY header, with which a proxy begins a connection to say whose connection it carries on (HAProxy's "The PROXY
//! protocol, versions 1 and 2"): a line of text, or bytes that begin as no other protocol does.
//!
//! Bytes in → the two ends of the client's connection, "local", "need more", or what is wrong. Strict: exactly the
//! grammar, a line of at most [`LINE_MAX`] bytes, a header of version 2 of at most [`HEADER_MAX`], whose TLVs must fill it,
//! are skipped, and must agree with the checksum (CRC-32C) where there is one. What the specification has a receiver fall
//! back to the connection's own ends for (`UNKNOWN`, `LOCAL`, Unix sockets, datagrams) is [`Header::Local`]. Hardened
//! against downstream: every length is checked, and bytes behind a header are left where they are ([`receive`]).

use std::future::poll_fn;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::stream::Stream;

/// The longest line of version 1, its end included.
pub const LINE_MAX: usize = 107;

/// The longest header of version 2: what every receiver has to take is 536 bytes, and a name and a few certificates'
/// fields fit too.
pub const HEADER_MAX: usize = 4096;

/// What a header of version 2 begins with.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// What is looked at at once.
const PEEKED_MAX: usize = 536;
/// The fixed part of a header of version 2.
const FIXED: usize = 16;
/// The type of the TLV that has the checksum.
const CRC32C: u8 = 3;

/// The two forms of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Bytes.
    V2,
}

/// The ends of the connection that a proxy carries on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who opened it.
    pub client: SocketAddr,
    /// Where it was opened to.
    pub server: SocketAddr,
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Whose connection is carried on.
    Carried(Ends),
    /// The connection is the proxy's own, or one whose ends have no place in TCP.
    Local,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// All of them belong to a header that has not arrived whole.
    NeedMore,
    /// A header of so many bytes.
    Header(Header, usize),
    /// None that is served.
    Fault(Fault),
}

/// Why a header is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// Something else came first.
    #[error("the connection does not begin with a PROXY header")]
    Absent,
    /// It breaks the grammar.
    #[error("the PROXY header is not well-formed: {0}")]
    Malformed(&'static str),
    /// It is longer than is read.
    #[error("the PROXY header is longer than {} bytes as a line, or {} otherwise", LINE_MAX, HEADER_MAX)]
    TooLong,
    /// Its checksum is another.
    #[error("the checksum of the PROXY header is not that of its bytes")]
    Checksum,
    /// The connection ended before its end.
    #[error("the connection ended within its PROXY header")]
    Closed,
    /// The peer left without a byte, as those do who only look whether a port is open.
    #[error("the connection ended before it began")]
    Unused,
}

// === reading ===

/// Reads the header from a connection and nothing behind it.
pub async fn receive(stream: &Stream) -> Result<Header, Fault> {
    let mut header = Vec::new();
    let mut peeked = [0; PEEKED_MAX];
    loop {
        let closed = if header.is_empty() { Fault::Unused } else { Fault::Closed };
        let wanted = PEEKED_MAX.min(HEADER_MAX - header.len());
        let more = peek(stream, &mut peeked[..wanted]).await.map_err(|_| closed)?;
        if more == 0 {
            return Err(closed);
        }
        let before = header.len();
        header.extend_from_slice(&peeked[..more]);
        let (found, taken) = match read(&header) {
            Read::NeedMore if header.len() >= HEADER_MAX => return Err(Fault::TooLong),
            Read::NeedMore => (None, more),
            Read::Header(found, length) => (Some(found), length - before),
            Read::Fault(fault) => return Err(fault),
        };
        // They lie there, for they were seen.
        if !stream.try_read_slice(&mut peeked[..taken]).is_ok_and(|read| read == taken) {
            return Err(Fault::Closed);
        }
        if let Some(found) = found {
            return Ok(found);
        }
    }
}

async fn peek(stream: &Stream, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        match stream.try_peek(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            peeked => return peeked,
        }
    }
}

/// Judges `bytes`, the first of a connection. What was said of a beginning stays, however much follows.
pub fn read(bytes: &[u8]) -> Read {
    match bytes.first() {
        None => Read::NeedMore,
        Some(b'P') => line(bytes).unwrap_or_else(Read::Fault),
        Some(b'\r') => block(bytes).unwrap_or_else(Read::Fault),
        Some(_) => Read::Fault(Fault::Absent),
    }
}

// === version 1 ===

fn line(bytes: &[u8]) -> Result<Read, Fault> {
    const BEGINNING: &[u8] = b"PROXY ";
    let begun = bytes.len().min(BEGINNING.len());
    if bytes[..begun] != BEGINNING[..begun] {
        return Err(Fault::Absent);
    }
    let seen = &bytes[..bytes.len().min(LINE_MAX)];
    let unfinished = || if bytes.len() < LINE_MAX { Ok(Read::NeedMore) } else { Err(Fault::TooLong) };
    let Some(end) = seen.iter().position(|byte| !matches!(byte, b' '..=b'~')) else { return unfinished() };
    match (seen[end], seen.get(end + 1)) {
        (b'\r', Some(b'\n')) => {}
        (b'\r', None) => return unfinished(),
        _ => return Err(Fault::Malformed("a line is visible ASCII and ends with CR LF")),
    }
    let text = std::str::from_utf8(&seen[BEGINNING.len()..end]).map_err(|_| Fault::Malformed("a line is ASCII"))?;
    Ok(Read::Header(line_of(text)?, end + 2))
}

/// What stands between `PROXY` and the end of the line.
fn line_of(text: &str) -> Result<Header, Fault> {
    let mut parts = text.split(' ');
    let is_v4 = match parts.next() {
        Some("TCP4") => true,
        Some("TCP6") => false,
        // Whatever follows means nothing.
        Some("UNKNOWN") => return Ok(Header::Local),
        _ => return Err(Fault::Malformed("the protocol is TCP4, TCP6 or UNKNOWN")),
    };
    let address = |part: Option<&str>| {
        let part = part.unwrap_or_default();
        let parsed = if is_v4 { part.parse().map(IpAddr::V4).ok() } else { part.parse().map(IpAddr::V6).ok() };
        parsed.ok_or(Fault::Malformed("an address is one of its protocol"))
    };
    let port = |part: Option<&str>| {
        let digits = part.filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let plain = digits.filter(|part| !part.starts_with('0') || *part == "0");
        plain.and_then(|part| part.parse().ok()).ok_or(Fault::Malformed("a port is a number from 0 to 65535"))
    };
    let (client, server) = (address(parts.next())?, address(parts.next())?);
    let (from, to) = (port(parts.next())?, port(parts.next())?);
    if parts.next().is_some() {
        return Err(Fault::Malformed("more than two addresses and two ports"));
    }
    Ok(Header::Carried(Ends::new(client, from, server, to)))
}

// === version 2 ===

fn block(bytes: &[u8]) -> Result<Read, Fault> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err(Fault::Absent);
    }
    let command = match bytes.get(12) {
        None => return Ok(Read::NeedMore),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(Fault::Malformed("version 2 has the commands LOCAL and PROXY")),
    };
    let addresses = match (command, bytes.get(13)) {
        (_, None) => return Ok(Read::NeedMore),
        // Of what is not to be used nothing is looked at.
        (Command::Local, _) | (_, Some(0x00)) => 0,
        (_, Some(0x11 | 0x12)) => 12,
        (_, Some(0x21 | 0x22)) => 36,
        (_, Some(0x31 | 0x32)) => 216,
        _ => return Err(Fault::Malformed("no such family or transport")),
    };
    let Some(length) = bytes.get(14..FIXED) else { return Ok(Read::NeedMore) };
    let whole = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
    if whole > HEADER_MAX {
        return Err(Fault::TooLong);
    }
    if whole < FIXED + addresses {
        return Err(Fault::Malformed("shorter than its addresses"));
    }
    let Some(header) = bytes.get(..whole) else { return Ok(Read::NeedMore) };
    if addresses == 0 {
        return Ok(Read::Header(Header::Local, whole));
    }
    check_tlvs(header, FIXED + addresses)?;
    let body = &header[FIXED..];
    let found = match header[13] {
        0x11 => {
            let at = |at: usize| IpAddr::V4(Ipv4Addr::new(body[at], body[at + 1], body[at + 2], body[at + 3]));
            Header::Carried(Ends::new(at(0), port_at(body, 8), at(4), port_at(body, 10)))
        }
        0x21 => {
            let at = |at: usize| {
                let bytes: [u8; 16] = std::array::from_fn(|i| body[at + i]);
                IpAddr::V6(Ipv6Addr::from(bytes))
            };
            Header::Carried(Ends::new(at(0), port_at(body, 32), at(16), port_at(body, 34)))
        }
        _ => Header::Local,
    };
    Ok(Read::Header(found, whole))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Local,
    Proxy,
}

fn port_at(body: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([body[at], body[at + 1]])
}

/// Walks the TLVs of a header that begin at `at`: they have to fill it.
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), Fault> {
    let mut is_checked = false;
    while at < header.len() {
        let beyond = Fault::Malformed("a TLV reaches beyond the end");
        let [kind, high, low] = *header.get(at..at + 3).ok_or(beyond)? else { return Err(beyond) };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let content = header.get(value..at).ok_or(beyond)?;
        if kind != CRC32C {
            continue;
        }
        let Ok(said) = <[u8; 4]>::try_from(content) else { return Err(Fault::Malformed("a checksum has 4 bytes")) };
        if std::mem::replace(&mut is_checked, true) {
            return Err(Fault::Malformed("two checksums"));
        }
        // Over the header with zeroes in place of the checksum.
        let sum = crc32c(header[..value].iter().chain(&[0; 4]).chain(&header[at..]));
        if sum != u32::from_be_bytes(said) {
            return Err(Fault::Checksum);
        }
    }
    Ok(())
}

/// CRC-32C (RFC 3720, appendix B.4).
fn crc32c<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut sum, mut bit) = (byte as u32, 0);
            while bit < 8 {
                sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
                bit += 1;
            }
            table[byte] = sum;
            byte += 1;
        }
        table
    };
    !bytes.fold(!0u32, |sum, byte| sum >> 8 ^ TABLE[(sum as u8 ^ byte) as usize])
}

// === writing ===

/// A header in one of its forms; without ends it says that the connection has none that could be told.
pub fn write(version: Version, ends: Option<Ends>) -> Vec<u8> {
    match version {
        Version::V1 => write_line(ends),
        Version::V2 => write_block(ends),
    }
}

fn write_line(ends: Option<Ends>) -> Vec<u8> {
    let Some(ends) = ends else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let (Ends { client, server }, is_v4) = ends.of_one_family();
    let mut line = Vec::with_capacity(LINE_MAX);
    let family = if is_v4 { "TCP4" } else { "TCP6" };
    let (from, to) = (client.port(), server.port());
    // A vector takes everything.
    let _ = write!(line, "PROXY {family} {} {} {from} {to}\r\n", client.ip(), server.ip());
    line
}

fn write_block(ends: Option<Ends>) -> Vec<u8> {
    let mut block = SIGNATURE.to_vec();
    let Some(ends) = ends else {
        block.extend_from_slice(&[0x20, 0, 0, 0]);
        return block;
    };
    let (Ends { client, server }, is_v4) = ends.of_one_family();
    block.extend_from_slice(if is_v4 { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
    for end in [client, server] {
        match end.ip() {
            IpAddr::V4(v4) => block.extend_from_slice(&v4.octets()),
            IpAddr::V6(v6) => block.extend_from_slice(&v6.octets()),
        }
    }
    block.extend_from_slice(&client.port().to_be_bytes());
    block.extend_from_slice(&server.port().to_be_bytes());
    block
}

// === impl Ends ===

impl Ends {
    /// An address of IPv4 that is written as one of IPv6 is one of IPv4.
    fn new(client: IpAddr, from: u16, server: IpAddr, to: u16) -> Self {
        let end = |address: IpAddr, port| SocketAddr::new(address.to_canonical(), port);
        Self { client: end(client, from), server: end(server, to) }
    }

    /// Both as addresses of IPv4, if they are, else both of IPv6: a header has one family.
    fn of_one_family(self) -> (Self, bool) {
        let Self { client, server } =
            Self::new(self.client.ip(), self.client.port(), self.server.ip(), self.server.port());
        if client.is_ipv4() && server.is_ipv4() {
            return (Self { client, server }, true);
        }
        let wide = |end: SocketAddr| match end.ip() {
            IpAddr::V4(v4) => SocketAddr::new(v4.to_ipv6_mapped().into(), end.port()),
            // Without a zone, which means nothing elsewhere.
            IpAddr::V6(v6) => SocketAddr::new(v6.into(), end.port()),
        };
        (Self { client: wide(client), server: wide(server) }, false)
    }
}

#[cfg(test)]
#[path = "proxy_protocol/tests.rs"]
mod tests;
