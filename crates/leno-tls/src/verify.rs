//! Who is believed: bundles of roots, certificates of clients, certificates of servers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::{CHAIN_BYTES_MAX, CHAIN_MAX, provider};

/// Roots of one bundle at most.
const ROOTS_MAX: usize = 1024;

/// Roots that are believed.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) roots: Vec<CertificateDer<'static>>,
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BundleError {
    #[error("it has no certificate in PEM")]
    Empty,
    #[error("one of its certificates cannot be read")]
    Unreadable,
    #[error("it has more than {ROOTS_MAX} certificates")]
    TooMany,
}

/// Why nobody can be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    #[error("no bundle of roots is in force")]
    NoRoots,
    #[error("the roots cannot be used: {0}")]
    Roots(String),
    #[error("`{0}` is no name of a server")]
    BadName(String),
}

// === impl Bundle ===

impl Bundle {
    pub(crate) fn read(pem: &[u8]) -> Result<Self, BundleError> {
        let mut roots = Vec::new();
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(pem) {
            let root = root.map_err(|_| BundleError::Unreadable)?;
            if roots.len() == ROOTS_MAX {
                return Err(BundleError::TooMany);
            }
            store.add(root.clone()).map_err(|_| BundleError::Unreadable)?;
            roots.push(root);
        }
        if roots.is_empty() { Err(BundleError::Empty) } else { Ok(Self { roots }) }
    }
}

/// The roots of all bundles.
pub(crate) fn roots<'b>(bundles: impl IntoIterator<Item = &'b Arc<Bundle>>) -> Result<Arc<RootCertStore>, VerifyError> {
    let mut store = RootCertStore::empty();
    for root in bundles.into_iter().flat_map(|bundle| &bundle.roots) {
        store.add(root.clone()).map_err(|error| VerifyError::Roots(error.to_string()))?;
    }
    if store.is_empty() { Err(VerifyError::NoRoots) } else { Ok(Arc::new(store)) }
}

/// Chains beyond the limits are refused before anything in them is read.
fn within_limits(leaf: &CertificateDer<'_>, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
    let bytes: usize = leaf.len() + chain.iter().map(|one| one.len()).sum::<usize>();
    if chain.len() >= CHAIN_MAX || bytes > CHAIN_BYTES_MAX {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    }
    Ok(())
}

// === clients ===

/// Verifies the certificates of clients.
#[derive(Debug)]
pub(crate) struct Clients {
    inner: Arc<dyn ClientCertVerifier>,
    required: bool,
}

impl Clients {
    /// Asks clients for a certificate of these roots. Where it is not required, one that is none of theirs counts as none.
    pub(crate) fn new(roots: Arc<RootCertStore>, required: bool) -> Result<Self, VerifyError> {
        let inner = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        Ok(Self { inner: inner.map_err(|error| VerifyError::Roots(error.to_string()))?, required })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        within_limits(leaf, chain)?;
        match self.inner.verify_client_cert(leaf, chain, now) {
            Err(_) if !self.required => Ok(ClientCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

// === servers ===

/// Verifies the certificates of servers: of these roots, within the limits, for one of the names.
#[derive(Debug)]
pub(crate) struct Servers {
    inner: Arc<rustls::client::WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    /// Any of them will do; empty for the name that was asked for.
    names: Vec<Wanted>,
}

/// What a certificate must have.
#[derive(Debug)]
enum Wanted {
    Name(ServerName<'static>),
    /// As it is written.
    Uri(String),
}

impl Servers {
    pub(crate) fn new(roots: Arc<RootCertStore>, names: &[impl AsRef<str>]) -> Result<Self, VerifyError> {
        let inner = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.clone(), provider()).build();
        Ok(Self {
            inner: inner.map_err(|error| VerifyError::Roots(error.to_string()))?,
            roots,
            names: names.iter().map(|name| Wanted::of(name.as_ref())).collect::<Result<_, _>>()?,
        })
    }

    /// As [`ServerCertVerifier::verify_server_cert`] for a URI, which is compared letter by letter.
    fn verify_uri(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        uri: &str,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (parsed, algorithms) = (ParsedCertificate::try_from(leaf)?, provider().signature_verification_algorithms);
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, chain, now, algorithms.all)?;
        let leaf = webpki::EndEntityCert::try_from(leaf);
        let leaf = leaf.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        match leaf.valid_uri_names().any(|name| name == uri) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }
}

// === impl Wanted ===

impl Wanted {
    fn of(text: &str) -> Result<Self, VerifyError> {
        if text.contains(':') { Ok(Self::Uri(text.to_owned())) } else { server_name(text).map(Self::Name) }
    }
}

pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, VerifyError> {
    ServerName::try_from(name.to_owned()).map_err(|_| VerifyError::BadName(name.to_owned()))
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        within_limits(leaf, chain)?;
        let mut verified = match &self.names[..] {
            [] => return self.inner.verify_server_cert(leaf, chain, name, ocsp, now),
            names => names.iter().map(|wanted| match wanted {
                Wanted::Name(name) => self.inner.verify_server_cert(leaf, chain, name, ocsp, now),
                Wanted::Uri(uri) => self.verify_uri(leaf, chain, uri, now),
            }),
        };
        let first = verified.next().expect("names is not empty");
        if first.is_ok() { first } else { verified.find(Result::is_ok).unwrap_or(first) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
