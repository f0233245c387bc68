//! PROXY headers: believed of the proxies in front that are listed, and sent to endpoints that take them.
//!
//! accepted ─► from a listed network? ─► its header, within the deadline of a head ─► the stream has the ends that it names
//!                     └ no: served as it is, and nothing of it is looked at
//!
//! A listed proxy has to send one: else whoever reaches it could speak in its name by leaving it out. Whoever is named is
//! the client from then on, in logs, in forwarded fields and under the cap on sources; its own proxy is under none. What is
//! refused is closed, counted by its reason, and said once in a while, for it is a mistake in somebody's configuration.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leno_model::snapshot::ProxyProtocol;
use leno_net::proxy_protocol::{Ends, Fault, Header, Version, receive as receive_header, write};
use leno_net::{Network, Stream};
use leno_telemetry::Registry;
use leno_telemetry::metric::Counter;

use crate::worker::Worker;

/// Refusals are said at most so often.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// The proxies in front that begin their connections with a header, and what came of those.
pub struct InFront {
    networks: Vec<Network>,
    taken: [Counter; 2],
    refused: [Counter; Refused::ALL.len()],
    /// The time of the process, in milliseconds, from which on a refusal is said again.
    quiet_until: AtomicU64,
}

/// Why a connection of such a proxy was not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Absent,
    Malformed,
    TooLong,
    Checksum,
    Closed,
    Unused,
    Deadline,
}

// === impl InFront ===

impl InFront {
    /// Those of `networks`, counted in `metrics`.
    pub fn new(networks: Vec<Network>, metrics: &Registry) -> Self {
        let taken = |kind| {
            let help =
                "PROXY headers of proxies in front, by whose connection they begin: a client's or the proxy's own.";
            metrics.counter("leno_proxy_headers_total", help, &[("kind", kind)])
        };
        let refused = |why: Refused| {
            let help = "Connections of proxies in front that did not begin with a PROXY header, by reason.";
            metrics.counter("leno_proxy_headers_refused_total", help, &[("reason", why.reason())])
        };
        Self {
            networks,
            taken: ["client", "own"].map(taken),
            refused: Refused::ALL.map(refused),
            quiet_until: AtomicU64::new(0),
        }
    }

    /// Whether connections from an address begin with a header.
    pub(crate) fn includes(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// The stream with the ends that its header names; none when it is refused.
    async fn receive(&self, worker: &Worker, peer: IpAddr, mut stream: Stream) -> Option<Stream> {
        let read = tokio::time::timeout(worker.shared.limits.head_timeout, receive_header(&stream)).await;
        let refused = match read {
            Ok(Ok(Header::Local)) => {
                self.taken[1].increment();
                return Some(stream);
            }
            Ok(Ok(Header::Carried(ends))) => {
                self.taken[0].increment();
                if stream.count_for(ends.client.ip()).is_err() {
                    stream.reset_on_close();
                    return None;
                }
                return Some(stream.with_ends(ends));
            }
            Ok(Err(fault)) => (Refused::from(fault), fault.to_string()),
            Err(_) => (Refused::Deadline, "no PROXY header came within the deadline".to_owned()),
        };
        self.refuse(worker.now(), peer, refused);
        None
    }

    fn refuse(&self, now: Duration, peer: IpAddr, (why, words): (Refused, String)) {
        self.refused[why as usize].increment();
        // Whoever only looks whether the port is open makes no mistake.
        if why == Refused::Unused || !self.is_time_to_say(now) {
            return tracing::debug!(%peer, error = words, "connection of a proxy in front refused");
        }
        let refused: u64 = self.refused.iter().map(Counter::get).sum();
        tracing::warn!(%peer, error = words, refused, "connections of proxies in front refused: --proxy-protocol-from");
    }

    fn is_time_to_say(&self, now: Duration) -> bool {
        let now = now.as_millis() as u64 + 1;
        let (quiet, next) = (self.quiet_until.load(Ordering::Relaxed), now + SAY_EVERY.as_millis() as u64);
        now > quiet && self.quiet_until.compare_exchange(quiet, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// === impl Refused ===

impl Refused {
    const ALL: [Refused; 7] = [
        Refused::Absent,
        Refused::Malformed,
        Refused::TooLong,
        Refused::Checksum,
        Refused::Closed,
        Refused::Unused,
        Refused::Deadline,
    ];

    fn reason(self) -> &'static str {
        match self {
            Refused::Absent => "absent",
            Refused::Malformed => "malformed",
            Refused::TooLong => "too_long",
            Refused::Checksum => "checksum",
            Refused::Closed => "closed",
            Refused::Unused => "unused",
            Refused::Deadline => "deadline",
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Absent => Self::Absent,
            Fault::Malformed(_) => Self::Malformed,
            Fault::TooLong => Self::TooLong,
            Fault::Checksum => Self::Checksum,
            Fault::Closed => Self::Closed,
            Fault::Unused => Self::Unused,
        }
    }
}

/// The stream as it is to be served: as it is, unless a listed proxy has opened it; none when it is refused.
pub(crate) async fn receive(worker: &Worker, stream: Stream) -> Option<Stream> {
    let Some(in_front) = &worker.shared.in_front else { return Some(stream) };
    match stream.peer_addr().ip().filter(|peer| in_front.includes(*peer)) {
        Some(peer) => Box::pin(in_front.receive(worker, peer, stream)).await,
        None => Some(stream),
    }
}

/// Begins a connection to an endpoint with the header of the connection that it carries on, if that is one of TCP.
pub(crate) async fn send(
    to: &Stream,
    form: ProxyProtocol,
    client: Option<&Stream>,
    timeout: Duration,
) -> io::Result<()> {
    let version = match form {
        ProxyProtocol::V1 => Version::V1,
        ProxyProtocol::V2 => Version::V2,
    };
    let header = write(version, client.and_then(ends_of));
    let written = async {
        let mut rest = &header[..];
        while !rest.is_empty() {
            let taken = poll_fn(|cx| to.poll_write(cx, rest)).await?;
            rest = &rest[taken..];
        }
        Ok(())
    };
    // A connection that was made just now has room for it.
    tokio::time::timeout(timeout, written).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Who a connection is from, and where it was opened to before anybody redirected it.
fn ends_of(stream: &Stream) -> Option<Ends> {
    let client = stream.peer_addr().tcp()?;
    let server = stream.original_destination().or_else(|| stream.local_addr().tcp())?;
    Some(Ends { client, server })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_front(networks: &[&str]) -> InFront {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        InFront::new(networks, &Registry::new(0, Default::default()))
    }

    #[test]
    fn only_listed_networks_are_in_front() {
        let in_front = in_front(&["10.0.0.0/8", "2001:db8::7"]);
        for (address, is_one) in [
            ("10.9.8.7", true),
            ("::ffff:10.9.8.7", true),
            ("2001:db8::7", true),
            ("2001:db8::8", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(in_front.includes(address.parse().unwrap()), is_one, "{address}");
        }
    }

    #[test]
    fn refusals_are_counted_by_their_reasons_and_said_once_in_a_while() {
        let in_front = in_front(&["10.0.0.0/8"]);
        assert!(Refused::ALL.iter().enumerate().all(|(at, why)| *why as usize == at));
        let said = |seconds| in_front.is_time_to_say(Duration::from_secs(seconds));
        assert!(said(0) && !said(0) && !said(9) && said(11) && !said(12));
        in_front.refuse(Duration::ZERO, "10.0.0.1".parse().unwrap(), (Refused::from(Fault::Absent), String::new()));
        assert_eq!(in_front.refused.each_ref().map(Counter::get), [1, 0, 0, 0, 0, 0, 0]);
    }
}
