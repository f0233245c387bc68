//! A certificate with its chain and its key, checked so that a handshake can rely on it.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::der::{Validity, validity};
use crate::{CHAIN_BYTES_MAX, CHAIN_MAX, provider};

/// A pair that can be used.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certified: Arc<CertifiedKey>,
    /// The names of its certificate, lower case; a wildcard as `*.example.com`.
    pub(crate) names: Box<[Box<str>]>,
    pub(crate) validity: Validity,
}

/// Why a pair cannot be used. Never says what is in a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum PairError {
    #[error("the certificate file has no certificate in PEM")]
    NoCertificate,
    #[error("the key file has no private key in PEM (PKCS #8, PKCS #1 or SEC 1, without a passphrase)")]
    NoKey,
    #[error("the chain has more than {CHAIN_MAX} certificates or {CHAIN_BYTES_MAX} bytes")]
    ChainTooLong,
    #[error("the first certificate cannot be read")]
    Unreadable,
    #[error("the key is of a kind that cannot be used, or is not the key of the first certificate")]
    Mismatch,
    #[error("the certificate expired on {0}")]
    Expired(String),
}

// === impl Pair ===

impl Pair {
    /// Reads a pair that is to be used at `now` (seconds since 1970).
    pub(crate) fn read(certificates: &[u8], key: &[u8], now: i64) -> Result<Self, PairError> {
        let chain = chain(certificates)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| PairError::NoKey)?;
        let leaf = webpki::EndEntityCert::try_from(&chain[0]).map_err(|_| PairError::Unreadable)?;
        let names = leaf.valid_dns_names().map(|name| name.to_ascii_lowercase().into()).collect();
        let validity = validity(&chain[0]).ok_or(PairError::Unreadable)?;
        if validity.not_after < now {
            return Err(PairError::Expired(crate::holder::date(validity.not_after)));
        }
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| PairError::Mismatch)?;
        Ok(Self { certified: Arc::new(certified), names, validity })
    }

    /// How well it fits a name: exactly, by a wildcard for its first label, or not.
    pub(crate) fn fit(&self, name: &str) -> Option<Fit> {
        if self.names.iter().any(|own| **own == *name) {
            return Some(Fit::Exact);
        }
        let (_, parent) = name.split_once('.')?;
        self.names.iter().any(|own| own.strip_prefix("*.") == Some(parent)).then_some(Fit::Wildcard)
    }
}

/// How well a certificate fits a name; the better is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    Wildcard,
    Exact,
}

/// The certificates of a PEM file, within the limits of a chain.
fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PairError> {
    let mut chain = Vec::new();
    let mut bytes = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| PairError::NoCertificate)?;
        bytes += certificate.len();
        if chain.len() == CHAIN_MAX || bytes > CHAIN_BYTES_MAX {
            return Err(PairError::ChainTooLong);
        }
        chain.push(certificate);
    }
    if chain.is_empty() { Err(PairError::NoCertificate) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn an_exact_name_fits_better_than_a_wildcard_which_stands_for_one_label() {
        let (certificate, key) = made(&["A.test", "*.b.test"]);
        let pair = Pair::read(certificate.as_bytes(), key.as_bytes(), 0).unwrap();
        assert_eq!(pair.fit("a.test"), Some(Fit::Exact));
        assert_eq!(pair.fit("x.b.test"), Some(Fit::Wildcard));
        for other in ["b.test", "y.x.b.test", "x.a.test", ""] {
            assert_eq!(pair.fit(other), None, "{other}");
        }
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_why() {
        let (certificate, key) = made(&["a.test"]);
        let (_, other_key) = made(&["a.test"]);
        let read =
            |certificate: &str, key: &str, now| Pair::read(certificate.as_bytes(), key.as_bytes(), now).unwrap_err();
        assert_eq!(read("", &key, 0), PairError::NoCertificate);
        assert_eq!(read(&certificate, "", 0), PairError::NoKey);
        assert_eq!(read(&certificate, &certificate, 0), PairError::NoKey);
        assert_eq!(read(&certificate, &other_key, 0), PairError::Mismatch);
        assert_eq!(read(&certificate[..certificate.len() / 2], &key, 0), PairError::NoCertificate);
        assert_eq!(read(&certificate.repeat(CHAIN_MAX + 1), &key, 0), PairError::ChainTooLong);
        assert!(matches!(read(&certificate, &key, i64::MAX), PairError::Expired(_)));
    }
}
