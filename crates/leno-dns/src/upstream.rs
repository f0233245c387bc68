//! The resolvers behind: asked for what is not of the mesh, believed only after checks.
//!
//! A reply counts when it comes from the address that was asked, to a port chosen for this query alone, with its id
//! and its question letter by letter (the case of letters is random: 0x20). One that matches but for the case is
//! either forged or from a resolver that does not keep it; the query goes again by TCP, where forging is out of reach.
//! A reply that holds a virtual address is refused: a name outside must not lead a program into the mesh.
//!
//! Limits: [`SERVERS_MAX`] resolvers, [`IN_FLIGHT_MAX`] queries at once, each at most [`DEADLINE`].

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use leno_model::seam::Random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use crate::address::is_virtual;
use crate::message;

/// Resolvers that are asked at most, as in the C library.
pub const SERVERS_MAX: usize = 3;
/// Search domains that are looked at.
pub const SEARCH_MAX: usize = 32;
/// Queries that wait for a reply at once.
pub const IN_FLIGHT_MAX: usize = 512;
/// Time for all tries of one query: under the 5 s after which the C library asks again.
pub const DEADLINE: Duration = Duration::from_millis(4_500);
/// Bytes of a reply by UDP that are read.
const REPLY_MAX: usize = 4_096;

/// What `/etc/resolv.conf` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Where to ask.
    pub servers: Vec<SocketAddr>,
    /// What programs put behind short names: lower case, no dots around.
    pub search: Vec<String>,
    /// Time for one try.
    pub timeout: Duration,
    /// Rounds through all servers.
    pub attempts: u32,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody to ask.
    #[error("no upstream resolver is known: name one in /etc/resolv.conf")]
    NoServer,
    /// Too many are waiting.
    #[error("{IN_FLIGHT_MAX} DNS queries wait for upstream resolvers already")]
    Busy,
    /// None answered.
    #[error("no answer from {servers} DNS resolvers after {tries} tries; the last one said: {last}")]
    NoAnswer {
        /// How many were asked.
        servers: usize,
        /// How often.
        tries: u32,
        /// What went wrong last.
        last: String,
    },
    /// The reply holds an address that only the mesh may give out.
    #[error("the DNS resolver {server} answered with the virtual address {address}")]
    Virtual {
        /// Who.
        server: SocketAddr,
        /// With what.
        address: IpAddr,
    },
}

/// Asks the resolvers of a [`ResolvConf`].
pub struct Upstream {
    conf: ResolvConf,
    random: RefCell<Box<dyn Random>>,
    in_flight: Cell<usize>,
}

/// What a datagram that came back is.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Reply,
    /// Of someone else, or forged: ignored.
    Stray,
    /// Right but for the case of letters.
    OtherCase,
}

// === impl ResolvConf ===

impl ResolvConf {
    /// Reads the text of `/etc/resolv.conf`; what is not understood is skipped, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new(), timeout: Duration::from_secs(2), attempts: 2 };
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < SERVERS_MAX => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(address.map(|address| SocketAddr::new(address, 53)));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|word| word.trim_matches('.').to_ascii_lowercase());
                    conf.search = domains.filter(|domain| !domain.is_empty()).take(SEARCH_MAX).collect();
                }
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let Some((name, value)) = word.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        match name {
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 4).into()),
            "attempts" => self.attempts = value.clamp(1, 5),
            _ => {}
        }
    }
}

// === impl Upstream ===

impl Upstream {
    /// Asks the servers of `conf`; `random` makes ids and cases, so it must be unpredictable outside tests.
    pub fn new(conf: ResolvConf, random: Box<dyn Random>) -> Self {
        Self { conf, random: RefCell::new(random), in_flight: Cell::new(0) }
    }

    /// The search domains.
    pub fn search(&self) -> &[String] {
        &self.conf.search
    }

    /// Sends a client's query on and returns the reply as that client can use it: its id, its spelling. `end` is where
    /// the question ends; `tcp` says that the client came by TCP, so that a long reply is wanted whole.
    pub async fn exchange(&self, query: &[u8], end: usize, tcp: bool) -> Result<Vec<u8>, UpstreamError> {
        if self.conf.servers.is_empty() {
            return Err(UpstreamError::NoServer);
        }
        let _slot = Slot::take(&self.in_flight).ok_or(UpstreamError::Busy)?;
        let deadline = Instant::now() + DEADLINE;
        let mut tries = 0;
        let mut last = String::new();
        for _ in 0..self.conf.attempts {
            for server in &self.conf.servers {
                let until = deadline.min(Instant::now() + self.conf.timeout);
                if Instant::now() >= deadline {
                    break;
                }
                tries += 1;
                match self.ask(*server, query, end, tcp, until).await {
                    Ok(reply) => return accept(*server, reply, query, end),
                    Err(error) => last = format!("{server}: {error}"),
                }
            }
        }
        Err(UpstreamError::NoAnswer { servers: self.conf.servers.len(), tries, last })
    }

    async fn ask(
        &self,
        server: SocketAddr,
        query: &[u8],
        end: usize,
        tcp: bool,
        until: Instant,
    ) -> Result<Vec<u8>, String> {
        let disguised = self.disguise(query, end);
        let late = |_| "no answer in time".to_owned();
        if !tcp {
            let reply = timeout_at(until, ask_udp(server, &disguised, end)).await.map_err(late)?;
            if let Some(reply) = reply.map_err(|error| error.to_string())? {
                return usable(reply);
            }
        }
        let reply = timeout_at(until, ask_tcp(server, &disguised)).await.map_err(late)?;
        let reply = reply.map_err(|error| error.to_string())?;
        match verdict(&disguised, end, &reply) {
            Verdict::Stray => Err("an answer to another question".to_owned()),
            Verdict::Reply | Verdict::OtherCase => usable(reply),
        }
    }

    /// The query with an id and a case of letters of its own.
    fn disguise(&self, query: &[u8], end: usize) -> Vec<u8> {
        let mut random = self.random.borrow_mut();
        let mut bits = random.next_u64();
        let mut disguised = query.to_vec();
        disguised[..2].copy_from_slice(&(bits as u16).to_be_bytes());
        let mut left = 0;
        for byte in &mut disguised[12..end - 4] {
            if left == 0 {
                (bits, left) = (random.next_u64(), 64);
            }
            // Lengths of labels are below 64, so no letter is mistaken for one.
            if byte.is_ascii_alphabetic() && bits & 1 == 1 {
                *byte ^= 0x20;
            }
            (bits, left) = (bits >> 1, left - 1);
        }
        disguised
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("conf", &self.conf).field("in_flight", &self.in_flight).finish()
    }
}

/// The reply by UDP; none when the query should go again by TCP.
async fn ask_udp(server: SocketAddr, query: &[u8], end: usize) -> std::io::Result<Option<Vec<u8>>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; REPLY_MAX];
    loop {
        let length = socket.recv(&mut buffer).await?;
        match verdict(query, end, &buffer[..length]) {
            Verdict::Reply => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Verdict::OtherCase => return Ok(None),
            Verdict::Stray => {}
        }
    }
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(|_| std::io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}

/// Whether `reply` answers `query`, whose question ends at `end`.
fn verdict(query: &[u8], end: usize, reply: &[u8]) -> Verdict {
    let is_reply = reply.len() >= end && reply[2] & 0x80 != 0;
    if !is_reply || reply[..2] != query[..2] || message::question_end(reply) != Some(end) {
        return Verdict::Stray;
    }
    let (asked, answered) = (&query[12..end], &reply[12..end]);
    if asked == answered {
        Verdict::Reply
    } else if asked[asked.len() - 4..] == answered[answered.len() - 4..] && asked.eq_ignore_ascii_case(answered) {
        Verdict::OtherCase
    } else {
        Verdict::Stray
    }
}

/// SERVFAIL and REFUSED are reasons to ask the next server.
fn usable(reply: Vec<u8>) -> Result<Vec<u8>, String> {
    match message::response_code(&reply) {
        2 => Err("it failed (SERVFAIL)".to_owned()),
        5 => Err("it refused (REFUSED)".to_owned()),
        _ => Ok(reply),
    }
}

/// Gives the client its id and spelling back.
fn accept(server: SocketAddr, mut reply: Vec<u8>, query: &[u8], end: usize) -> Result<Vec<u8>, UpstreamError> {
    let addresses = message::addresses(&reply).map_err(|error| UpstreamError::NoAnswer {
        servers: 1,
        tries: 1,
        last: format!("{server}: {error}"),
    })?;
    if let Some(address) = addresses.into_iter().find(|address| is_virtual(*address)) {
        return Err(UpstreamError::Virtual { server, address });
    }
    reply[..2].copy_from_slice(&query[..2]);
    reply[12..end].copy_from_slice(&query[12..end]);
    Ok(reply)
}

/// One of [`IN_FLIGHT_MAX`] places.
struct Slot<'a>(&'a Cell<usize>);

impl<'a> Slot<'a> {
    fn take(in_flight: &'a Cell<usize>) -> Option<Self> {
        let now = in_flight.get();
        (now < IN_FLIGHT_MAX).then(|| {
            in_flight.set(now + 1);
            Self(in_flight)
        })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
pub(crate) mod tests;
