//! TLS that ends at a gateway: which terms a connection gets by its server name, and which hosts its requests may ask for.
//!
//! ```text
//! accepted ─► server name ┬ terms say pass ─► opaque, by `tls`
//!                         └ handshake ┬ HTTP inside ─► connection
//!                                     └ bytes ───────► opaque, by `tls`
//! ```
//!
//! A request for a host that is served on other terms (another listener's, from other clients, under another certificate)
//! is answered with 421, so that a client certificate that one name asks for cannot be left out by asking another first.

use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use leno_model::snapshot::TlsThen;
use leno_net::Stream;
use leno_route::host::bare_host;
use leno_telemetry::access::Direction;
use leno_tls::{Accepted, Agreed, ServerTerms};

use crate::connection::{self, HttpConnection, Where};
use crate::failure::Failure;
use crate::opaque;
use crate::protocol::ServerName;
use crate::table::{Destination, Target};
use crate::worker::Worker;

/// What a connection was made on.
pub(crate) struct Secure {
    agreed: Agreed,
    terms: Arc<ServerTerms>,
}

/// Serves a connection to a gateway's port. HTTP is given back; what is not is served here.
pub(crate) async fn receive(
    worker: Rc<Worker>,
    opened_for: Arc<Destination>,
    stream: Stream,
) -> Option<HttpConnection> {
    let destination = match connection::current(&worker, &opened_for) {
        Some(Ok(now)) => now,
        _ => opened_for,
    };
    let Some(certificates) = &destination.certificates else {
        let to = Where::Named(destination);
        return connection::receive(&worker, Direction::Gateway, to, stream, Bytes::new()).await;
    };
    let mut first = Bytes::new();
    if destination.listener.terms.iter().any(|terms| terms.then == TlsThen::Pass) {
        let mut buffer = BytesMut::new();
        let reading = connection::read_server_name(&stream, &mut buffer);
        let name = match tokio::time::timeout(worker.handshakes.timeout(), reading).await {
            Ok(ServerName::Name(name)) => name,
            _ => String::new(),
        };
        first = buffer.freeze();
        if destination.terms.get(&name).is_some_and(|terms| terms.spec().then == TlsThen::Pass) {
            connection::serve_tls(&worker, Direction::Gateway, &destination, stream, first).await;
            return None;
        }
    }
    let choose = |name: Option<&str>| {
        let found = destination.terms.get(name.unwrap_or_default());
        found.filter(|terms| terms.spec().then != TlsThen::Pass).cloned()
    };
    match leno_tls::accept(stream, first, &worker.handshakes, certificates, choose).await {
        Ok(accepted) => go_on(worker, &destination, accepted).await,
        Err(error) => {
            tracing::debug!(%error, port = destination.listener.port, "connection not served");
            None
        }
    }
}

async fn go_on(worker: Rc<Worker>, destination: &Arc<Destination>, accepted: Accepted) -> Option<HttpConnection> {
    let Accepted { stream, agreed, terms } = accepted;
    if terms.spec().then == TlsThen::Http {
        let secure = Secure { agreed, terms };
        return Some(HttpConnection::over_tls(worker, destination.clone(), stream, secure));
    }
    let name = agreed.server_name.as_deref().unwrap_or_default();
    let targets: &[Target] = destination.tls.get(name).map_or(&destination.tcp, |targets| targets);
    opaque::serve(&worker, Direction::Gateway, destination, targets, stream, Bytes::new(), name).await;
    None
}

// === impl Secure ===

impl Secure {
    pub(crate) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// Whether a request for `authority` may come over this connection. A host that has no terms has no listener, which is
    /// for the routes to say.
    pub(crate) fn admit(&self, destination: &Destination, authority: Option<&str>) -> Result<(), Failure> {
        let Some(host) = authority.map(bare_host) else { return Ok(()) };
        let made_for = self.agreed.server_name.as_deref();
        match destination.terms.get(host) {
            Some(terms) if !terms.allow(host, &self.terms, made_for) => {
                Err(Failure::Misdirected { host: host.to_owned(), made_for: made_for.unwrap_or("no name").to_owned() })
            }
            _ => Ok(()),
        }
    }
}
