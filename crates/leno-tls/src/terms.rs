//! On which terms a listener ends TLS for a name: its certificates, who its clients must be, what is spoken inside.
//!
//! Each terms have a configuration and ticket keys of their own, so that no ticket of one listener, client policy or bundle
//! of roots opens a session under another; a ticket names the server for which it was given besides. When a bundle
//! changes, both are made anew. A new pair needs neither: it is looked up by each full handshake.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use leno_model::seam::Timestamp;
use leno_model::snapshot::{ClientCertificates, Name, TlsTerms, TlsThen};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::holder::Holder;
use crate::verify::{Bundle, Clients, VerifyError, roots};
use crate::{ALPN_H2, ALPN_HTTP1, provider};

/// Terms that can be met, as long as their certificates are there.
#[derive(Debug)]
pub struct ServerTerms {
    spec: TlsTerms,
    certificates: Arc<Certificates>,
    built: ArcSwapOption<Built>,
}

/// A configuration and the bundles that it was made of.
#[derive(Debug)]
struct Built {
    bundles: Vec<Arc<Bundle>>,
    config: Arc<ServerConfig>,
}

/// Why a handshake cannot begin. The client is told nothing of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TermsError {
    #[error("none of the certificates {0} is in force")]
    NoCertificate(String),
    #[error("clients cannot be verified by {0}: {1}")]
    Clients(String, VerifyError),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Finds the certificate for a name among those of a listener.
#[derive(Debug)]
struct Certificates {
    names: Vec<Name>,
    holder: Arc<Holder>,
}

// === impl ServerTerms ===

impl ServerTerms {
    /// Terms as control said them, with the certificates that `holder` has.
    pub fn new(spec: TlsTerms, holder: &Arc<Holder>, now: Timestamp) -> Self {
        holder.want(&spec.certificates, spec.client.bundles(), now);
        let certificates = Certificates { names: spec.certificates.clone(), holder: holder.clone() };
        Self { spec, certificates: Arc::new(certificates), built: ArcSwapOption::empty() }
    }

    /// As control said them.
    pub fn spec(&self) -> &TlsTerms {
        &self.spec
    }

    fn holder(&self) -> &Arc<Holder> {
        &self.certificates.holder
    }

    /// Whether a request for `host` may come over a connection that was made on `made` terms for `server_name`, if these
    /// are the terms of `host`: of the same listener, from the same clients, under the same certificate.
    pub fn allow(&self, host: &str, made: &ServerTerms, server_name: Option<&str>) -> bool {
        if self.spec.host != made.spec.host || self.spec.client != made.spec.client {
            return false;
        }
        server_name.is_some_and(|name| name.eq_ignore_ascii_case(host))
            || self.certificates.name_for(Some(host)) == made.certificates.name_for(server_name)
    }

    /// The configuration for the next handshake.
    pub(crate) fn config(&self) -> Result<Arc<ServerConfig>, TermsError> {
        if self.certificates.name_for(None).is_none() {
            return Err(TermsError::NoCertificate(self.spec.certificates.join(", ")));
        }
        let names = self.spec.client.bundles();
        let bundles: Vec<Arc<Bundle>> = names.iter().filter_map(|name| self.holder().bundle(name)).collect();
        let built = self.built.load();
        if let Some(built) = built.as_ref().filter(|built| same(&built.bundles, &bundles)) {
            return Ok(built.config.clone());
        }
        let config = Arc::new(self.build(&bundles)?);
        self.built.store(Some(Arc::new(Built { bundles, config: config.clone() })));
        Ok(config)
    }

    fn build(&self, bundles: &[Arc<Bundle>]) -> Result<ServerConfig, TermsError> {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
        let builder = match &self.spec.client {
            ClientCertificates::Unasked => builder.with_no_client_auth(),
            ClientCertificates::Optional(names) | ClientCertificates::Required(names) => {
                let required = matches!(self.spec.client, ClientCertificates::Required(_));
                let clients = roots(bundles).and_then(|roots| Clients::new(roots, required));
                let clients = clients.map_err(|error| TermsError::Clients(names.join(", "), error))?;
                builder.with_client_cert_verifier(Arc::new(clients))
            }
        };
        let mut config = builder.with_cert_resolver(self.certificates.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        // 0-RTT: what could be sent again by anybody who saw it is not taken.
        config.max_early_data_size = 0;
        if self.spec.then == TlsThen::Http {
            config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
        }
        Ok(config)
    }
}

fn same(a: &[Arc<Bundle>], b: &[Arc<Bundle>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

// === impl Certificates ===

impl Certificates {
    /// The certificate that names `server`, exactly or else by a wildcard; the first that there is for any other.
    fn name_for(&self, server: Option<&str>) -> Option<&Name> {
        self.best(server, |_| true).map(|(name, _)| name)
    }

    fn best(&self, server: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<(&Name, Arc<CertifiedKey>)> {
        let server = server.map(str::to_ascii_lowercase);
        let mut best = None;
        for name in &self.names {
            let Some(pair) = self.holder.pair(name) else { continue };
            let rank = (server.as_deref().and_then(|server| pair.fit(server)), usable(&pair.certified));
            // The first of equals stays.
            if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                best = Some((rank, (name, pair.certified.clone())));
            }
        }
        best.map(|(_, found)| found)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |certified: &CertifiedKey| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        self.best(hello.server_name(), usable).map(|(_, certified)| certified)
    }
}
