//! The client side: TLS to a server, whose certificate must be of roots that are believed and for the name that is wanted.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use leno_model::seam::Timestamp;
use leno_model::snapshot::{Roots, UpstreamTls};
use leno_net::Stream;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, Connection, RootCertStore};

use crate::holder::Holder;
use crate::stream::{HandshakeError, complete, stream as carried};
use crate::verify::{Bundle, Servers, VerifyError, roots, server_name};
use crate::{ALPN_H2, ALPN_HTTP1, Agreed, provider, version_name};

/// Sessions with servers that may be gone on with, for each terms.
const SESSIONS_MAX: usize = 64;

/// How servers of a cluster are spoken to.
#[derive(Debug)]
pub struct ClientTerms {
    number: u64,
    spec: UpstreamTls,
    holder: Arc<Holder>,
    built: ArcSwapOption<Built>,
}

#[derive(Debug)]
struct Built {
    bundles: Vec<Arc<Bundle>>,
    config: Arc<ClientConfig>,
}

/// What is offered to be spoken inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// HTTP/2, else HTTP/1.1.
    Either,
    /// Nothing: it is not HTTP.
    Bytes,
}

/// Why no TLS came about.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("TLS to {0}: {1}")]
    Verify(String, VerifyError),
    #[error("TLS to {0}: {1}")]
    Tls(String, rustls::Error),
    #[error("TLS to {name} was not done after {} ms", after.as_millis())]
    Deadline { name: String, after: Duration },
}

/// TLS over a stream that was dialled, within `timeout`.
pub async fn connect(
    below: Stream,
    terms: &ClientTerms,
    offer: Offer,
    timeout: Duration,
) -> io::Result<(Stream, Agreed)> {
    let name = || terms.spec.server_name.to_string();
    let invalid = |error: ConnectError| io::Error::new(io::ErrorKind::InvalidData, error);
    let config = terms.config().map_err(|error| invalid(ConnectError::Verify(name(), error)))?;
    let server = server_name(&terms.spec.server_name).map_err(|error| invalid(ConnectError::Verify(name(), error)))?;
    let alpn = match offer {
        Offer::Http1 => vec![ALPN_HTTP1.to_vec()],
        Offer::Http2 => vec![ALPN_H2.to_vec()],
        Offer::Either => vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()],
        Offer::Bytes => Vec::new(),
    };
    let connection = ClientConnection::new_with_alpn(config, server, alpn);
    let mut connection = Connection::Client(connection.map_err(|error| invalid(ConnectError::Tls(name(), error)))?);
    match tokio::time::timeout(timeout, Box::pin(complete(&below, &mut connection))).await {
        Ok(Ok(())) => {}
        Ok(Err(HandshakeError::Io(error))) => return Err(error),
        Ok(Err(HandshakeError::Tls(error))) => return Err(invalid(ConnectError::Tls(name(), error))),
        Err(_) => {
            let late = ConnectError::Deadline { name: name(), after: timeout };
            return Err(io::Error::new(io::ErrorKind::TimedOut, late));
        }
    }
    let agreed = Agreed {
        version: version_name(connection.protocol_version()),
        server_name: Some((&*terms.spec.server_name).into()),
        http2: connection.alpn_protocol() == Some(ALPN_H2),
        resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    };
    Ok((carried(below, connection), agreed))
}

// === impl ClientTerms ===

impl ClientTerms {
    /// Terms as control said them.
    pub fn new(spec: UpstreamTls, holder: &Arc<Holder>, now: Timestamp) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        holder.want(&[], spec.roots.bundles(), now);
        Self { number: NEXT.fetch_add(1, Relaxed), spec, holder: holder.clone(), built: ArcSwapOption::empty() }
    }

    /// Names these terms in pools: no others have or had it, and none is 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// As control said them.
    pub fn spec(&self) -> &UpstreamTls {
        &self.spec
    }

    /// Anew when a bundle has changed: sessions that were begun under the old one end with it.
    fn config(&self) -> Result<Arc<ClientConfig>, VerifyError> {
        let names = self.spec.roots.bundles();
        let bundles: Vec<Arc<Bundle>> = names.iter().filter_map(|name| self.holder.bundle(name)).collect();
        let built = self.built.load();
        let same = |known: &[Arc<Bundle>]| {
            known.len() == bundles.len() && known.iter().zip(&bundles).all(|(a, b)| Arc::ptr_eq(a, b))
        };
        if let Some(built) = built.as_ref().filter(|built| same(&built.bundles)) {
            return Ok(built.config.clone());
        }
        let roots = match &self.spec.roots {
            Roots::System => system_roots()?,
            Roots::Bundles(_) => roots(&bundles)?,
        };
        let servers = Servers::new(roots, &self.spec.names)?;
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| VerifyError::Roots(error.to_string()))?;
        let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(servers)).with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        config.enable_early_data = false;
        let config = Arc::new(config);
        self.built.store(Some(Arc::new(Built { bundles, config: config.clone() })));
        Ok(config)
    }
}

/// What the operating system believes, read once: it is updated with the system, not with leno, and has an enterprise's
/// own roots. `SSL_CERT_FILE` and `SSL_CERT_DIR` say otherwise.
fn system_roots() -> Result<Arc<RootCertStore>, VerifyError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a root of the operating system cannot be read");
        }
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(found.certs);
        Arc::new(store)
    });
    if roots.is_empty() { Err(VerifyError::NoRoots) } else { Ok(roots.clone()) }
}
