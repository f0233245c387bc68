//! The server side of a handshake: read the hello, choose terms by its name, do the rest, within a deadline.
//!
//! A handshake in progress costs memory and its client nothing, so a worker has at most [`HANDSHAKES_MAX`] of them: one
//! more, and the oldest is cut off. An honest client is done in milliseconds and never the oldest for long; a limit that
//! made the newest wait was rejected, because whoever fills it with silence would keep everybody else out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::ready;
use std::time::Duration;

use bytes::Bytes;
use leno_net::Stream;
use leno_telemetry::metric::{Exposition, Kind};
use rustls::Connection;
use rustls::server::Acceptor;
use tokio::sync::oneshot;

use crate::holder::Holder;
use crate::stream::{HandshakeError, Socket, complete, stream as carried};
use crate::terms::{ServerTerms, TermsError};
use crate::{ALPN_H2, Agreed, version_name};

/// Handshakes in progress on one worker.
pub const HANDSHAKES_MAX: usize = 512;
/// Time for a whole handshake, where nobody says another.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Accepted {
    /// What is said inside.
    pub stream: Stream,
    /// What was agreed.
    pub agreed: Agreed,
    /// On which terms.
    pub terms: Arc<ServerTerms>,
}

/// The handshakes in progress on a worker.
#[derive(Debug)]
pub struct Handshakes {
    timeout: Duration,
    next: Cell<u64>,
    open: RefCell<BTreeMap<u64, oneshot::Sender<()>>>,
}

/// A handshake that did not come to its end. The client got an alert, where TLS has one, and nothing else.
#[derive(Debug, thiserror::Error)]
#[error("TLS handshake{}: {cause}", self.for_name())]
pub struct AcceptError {
    /// The name that the client asked for, if it was heard.
    pub server_name: Option<Box<str>>,
    cause: Cause,
}

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("not done within {} s", .0.as_secs_f64())]
    Deadline(Duration),
    #[error("cut off: {HANDSHAKES_MAX} newer ones wait on this worker")]
    Displaced,
    #[error("no listener has this name")]
    NoName,
    #[error(transparent)]
    Terms(#[from] TermsError),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

/// Serves the TLS of an accepted connection, of which `first` was read already; `choose` finds the terms of a name.
pub async fn accept(
    below: Stream,
    first: Bytes,
    handshakes: &Rc<Handshakes>,
    holder: &Holder,
    choose: impl FnOnce(Option<&str>) -> Option<Arc<ServerTerms>>,
) -> Result<Accepted, AcceptError> {
    let mut server_name = None;
    let (open, displaced) = handshakes.open();
    let shaking = tokio::time::timeout(handshakes.timeout, shake(&below, first, &mut server_name, choose));
    let done = tokio::select! {
        biased;
        done = shaking => done.unwrap_or(Err(Cause::Deadline(handshakes.timeout))),
        _ = displaced => Err(Cause::Displaced),
    };
    drop(open);
    let failed = |cause: Cause| {
        holder.counts.failed(cause.reason());
        AcceptError { server_name: server_name.clone(), cause }
    };
    let (connection, terms) = match done {
        Ok(done) => done,
        // Who holds a handshake up gets no last word.
        Err(cause @ (Cause::Deadline(_) | Cause::Displaced)) => {
            below.reset_on_close();
            return Err(failed(cause));
        }
        Err(cause) => return Err(failed(cause)),
    };
    let agreed = Agreed {
        version: version_name(connection.protocol_version()),
        server_name,
        http2: connection.alpn_protocol() == Some(ALPN_H2),
        resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    };
    holder.counts.done(&agreed);
    Ok(Accepted { stream: carried(below, connection), agreed, terms })
}

async fn shake(
    below: &Stream,
    first: Bytes,
    server_name: &mut Option<Box<str>>,
    choose: impl FnOnce(Option<&str>) -> Option<Arc<ServerTerms>>,
) -> Result<(Connection, Arc<ServerTerms>), Cause> {
    let hello = hello(below, &first).await?;
    *server_name = hello.client_hello().server_name().map(|name| name.to_ascii_lowercase().into());
    let Some(terms) = choose(server_name.as_deref()) else {
        // `unrecognized_name`, for which rustls has no word at this point.
        let _ = below.try_write(&[0x15, 3, 3, 0, 2, 2, 112]);
        return Err(Cause::NoName);
    };
    let config = match terms.config() {
        Ok(config) => config,
        Err(error) => {
            // `internal_error`.
            let _ = below.try_write(&[0x15, 3, 3, 0, 2, 2, 80]);
            return Err(error.into());
        }
    };
    let connection = hello.into_connection(config).map_err(|(error, mut alert)| {
        // The alert is a courtesy.
        let _ = alert.write(&mut Socket(below));
        Cause::Tls(error)
    })?;
    let mut connection = Connection::Server(connection);
    // Boxed, because it is large and soon gone.
    Box::pin(complete(below, &mut connection)).await.map_err(Cause::from)?;
    Ok((connection, terms))
}

async fn hello(below: &Stream, first: &[u8]) -> Result<rustls::server::Accepted, Cause> {
    let mut acceptor = Acceptor::default();
    let mut first = first;
    std::future::poll_fn(|cx| {
        use std::task::Poll;
        loop {
            if first.is_empty() {
                ready!(below.poll_read_ready(cx))?;
            }
            let read =
                if first.is_empty() { acceptor.read_tls(&mut Socket(below)) } else { acceptor.read_tls(&mut first) };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Ok(_) => {}
            }
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                Err((error, mut alert)) => {
                    // The alert is a courtesy.
                    let _ = alert.write(&mut Socket(below));
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    })
    .await
}

// === impl Handshakes ===

/// Counts as a handshake in progress until it is dropped.
struct Open {
    handshakes: Rc<Handshakes>,
    number: u64,
}

impl Default for Handshakes {
    /// With 10 s for each.
    fn default() -> Self {
        Self::new(HANDSHAKE_TIMEOUT)
    }
}

impl Handshakes {
    /// None yet; each may take `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self { timeout, next: Cell::default(), open: RefCell::default() }
    }

    /// The time for a whole handshake.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    fn open(self: &Rc<Self>) -> (Open, oneshot::Receiver<()>) {
        let number = self.next.replace(self.next.get() + 1);
        let (displace, displaced) = oneshot::channel();
        let mut open = self.open.borrow_mut();
        if open.len() >= HANDSHAKES_MAX
            && let Some((_, oldest)) = open.pop_first()
        {
            // It may have ended just now.
            let _ = oldest.send(());
        }
        open.insert(number, displace);
        (Open { handshakes: self.clone(), number }, displaced)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.handshakes.open.borrow_mut().remove(&self.number);
    }
}

// === impl AcceptError ===

impl AcceptError {
    fn for_name(&self) -> String {
        self.server_name.as_ref().map(|name| format!(" for {name}")).unwrap_or_default()
    }
}

impl Cause {
    fn reason(&self) -> Reason {
        match self {
            Self::Deadline(_) => Reason::Deadline,
            Self::Displaced => Reason::Displaced,
            Self::NoName => Reason::NoName,
            Self::Terms(_) => Reason::Unready,
            Self::Io(_) => Reason::Broken,
            Self::Tls(rustls::Error::NoApplicationProtocol) => Reason::Alpn,
            Self::Tls(rustls::Error::NoCertificatesPresented | rustls::Error::InvalidCertificate(_)) => {
                Reason::ClientCertificate
            }
            Self::Tls(rustls::Error::PeerIncompatible(_)) => Reason::Incompatible,
            Self::Tls(rustls::Error::AlertReceived(_)) => Reason::ClientRefused,
            Self::Tls(_) => Reason::Malformed,
        }
    }
}

impl From<HandshakeError> for Cause {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::Io(error) => Self::Io(error),
            HandshakeError::Tls(error) => Self::Tls(error),
        }
    }
}

// === counting ===

/// Why handshakes fail, as the metric names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Deadline,
    Displaced,
    NoName,
    Unready,
    Broken,
    Alpn,
    ClientCertificate,
    Incompatible,
    ClientRefused,
    Malformed,
}

const REASONS: [(Reason, &str); 10] = [
    (Reason::Deadline, "deadline"),
    (Reason::Displaced, "displaced"),
    (Reason::NoName, "unknown_name"),
    (Reason::Unready, "no_certificate"),
    (Reason::Broken, "connection_broken"),
    (Reason::Alpn, "no_application_protocol"),
    (Reason::ClientCertificate, "client_certificate"),
    (Reason::Incompatible, "incompatible"),
    (Reason::ClientRefused, "client_refused"),
    (Reason::Malformed, "malformed"),
];

const VERSIONS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];

/// How handshakes ended.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By version, in full and resumed.
    done: [[AtomicU64; 2]; VERSIONS.len()],
    failed: [AtomicU64; REASONS.len()],
}

impl Counts {
    fn done(&self, agreed: &Agreed) {
        let version = usize::from(agreed.version == VERSIONS[1]);
        self.done[version][usize::from(agreed.resumed)].fetch_add(1, Relaxed);
    }

    fn failed(&self, reason: Reason) {
        self.failed[reason as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn expose(&self, out: &mut Exposition) {
        let done = "leno_tls_handshakes_total";
        out.family(done, "Handshakes with clients that came to their end.", Kind::Counter);
        for (version, counts) in VERSIONS.iter().zip(&self.done) {
            for (resumed, count) in ["false", "true"].iter().zip(counts) {
                out.sample(done, &[("version", version), ("resumed", resumed)], count.load(Relaxed) as f64);
            }
        }
        let failed = "leno_tls_handshake_failures_total";
        out.family(failed, "Handshakes with clients that did not come to their end.", Kind::Counter);
        for ((_, reason), count) in REASONS.iter().zip(&self.failed) {
            out.sample(failed, &[("reason", reason)], count.load(Relaxed) as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_their_order() {
        assert!(REASONS.iter().enumerate().all(|(at, (reason, _))| *reason as usize == at));
    }

    #[test]
    fn one_handshake_too_many_cuts_the_oldest_off() {
        let handshakes = Rc::new(Handshakes::default());
        let mut open: Vec<_> = (0..HANDSHAKES_MAX).map(|_| handshakes.open()).collect();
        assert!(open[0].1.try_recv().is_err());
        let _one_more = handshakes.open();
        assert!(open[0].1.try_recv().is_ok());
        assert!(open[1].1.try_recv().is_err());
        drop(open);
        assert_eq!(handshakes.open.borrow().len(), 1);
    }
}
