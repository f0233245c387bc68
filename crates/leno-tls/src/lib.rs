//! TLS on leno's streams: certificates, handshakes, verification. The only crate of leno with rustls.
//!
//! ```text
//! directory of pairs and bundles ─► holder ─► server terms ─► accept ─► stream, and what was agreed
//!                                        └──► client terms ─► connect ─┘
//! ```
//!
//! Read in the order of the `mod` lines. A stream that TLS carries is a [`leno_net::Stream`] like any other: whoever reads
//! and writes it does not know. Certificates are looked up for each handshake, so that a new pair holds for the next
//! connection and for no earlier one.
//!
//! Invariants: a private key leaves the file it stands in for memory only and is in no log, page or error; a pair that
//! cannot be used never replaces one that can; terms that cannot be met refuse, and never fall back to weaker ones; tickets
//! belong to the terms that gave them, and to the name that was asked for; there is no 0-RTT.

mod der;
mod pair;

pub mod holder;
pub mod terms;

mod stream;
mod verify;

pub mod accept;
pub mod connect;

pub use accept::{Accepted, Handshakes, accept};
pub use connect::{ClientTerms, connect};
pub use holder::Holder;
pub use terms::ServerTerms;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

/// Certificates of one chain at most.
pub const CHAIN_MAX: usize = 10;
/// Bytes of one chain at most.
pub const CHAIN_BYTES_MAX: usize = 64 * 1024;

/// The one provider of cryptography: aws-lc-rs with its own defaults, which are TLS 1.3's three suites, for TLS 1.2 the
/// six with forward secrecy and authenticated encryption, and X25519MLKEM768 before X25519, P-256 and P-384.
static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));

fn provider() -> Arc<CryptoProvider> {
    PROVIDER.clone()
}

/// What was agreed in a handshake, for people and their logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// `TLSv1.3`.
    pub version: &'static str,
    /// The name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// Whether it was agreed by ALPN to speak HTTP/2.
    pub http2: bool,
    /// Whether it goes on from an earlier session.
    pub resumed: bool,
}

fn version_name(version: Option<rustls::ProtocolVersion>) -> &'static str {
    match version {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    }
}

const ALPN_H2: &[u8] = b"h2";
const ALPN_HTTP1: &[u8] = b"http/1.1";
