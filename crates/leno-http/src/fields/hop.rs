//! What belongs to one connection only and must not be passed on (RFC 9110 section 7.6.1).
//!
//! `Connection` may name further fields to drop. A sender that names one which others rely upon (host, credentials,
//! what proxies wrote) would have this hop remove it for him, so such a message is refused (CVE-2024-45410 class).

use super::{Fields, Known, elements};

/// What [`Fields::strip_hop_by_hop`] does with `Upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Upgrades {
    /// Drop it with the rest.
    #[default]
    Drop,
    /// Keep it, and `Connection: upgrade`; `h2c` is never kept.
    Keep,
}

/// `Connection` named a field that no hop may drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection field names one that must reach the other end")]
pub struct ProtectedNominated;

impl Fields {
    /// Drops the fields of this connection: `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`,
    /// `Transfer-Encoding`, `Upgrade`, `HTTP2-Settings`, `Trailer`, and `TE` but for `trailers`.
    ///
    /// `Content-Length` stays: the writer checks it against the body it is given. Nothing is changed on an error.
    pub fn strip_hop_by_hop(&mut self, upgrades: Upgrades) -> Result<(), ProtectedNominated> {
        let (mut any, mut named, mut upgrade, mut te) = (false, false, false, false);
        for e in self.entries() {
            match e.known {
                Known::Other | Known::ContentLength | Known::Cookie | Known::Expect | Known::Host => continue,
                Known::Connection => {
                    for name in elements(self.value(e)) {
                        if is_option(name) || is_hop_by_hop(name) {
                            continue;
                        }
                        if is_protected(name) {
                            return Err(ProtectedNominated);
                        }
                        named = true;
                    }
                }
                Known::Upgrade => upgrade = true,
                Known::Te => te = true,
                _ => {}
            }
            any = true;
        }
        if !any {
            return Ok(());
        }
        if named {
            let nominated: Vec<Vec<u8>> = self
                .values_known(Known::Connection)
                .flat_map(elements)
                .filter(|name| !is_option(name))
                .map(<[u8]>::to_vec)
                .collect();
            self.retain_entries(|fields, e| {
                e.known != Known::Other || !nominated.iter().any(|n| n.eq_ignore_ascii_case(fields.name(e)))
            });
        }
        let upgrade = (upgrade && upgrades == Upgrades::Keep && self.has_token("connection", "upgrade"))
            .then(|| self.upgrade_tokens())
            .flatten();
        let trailers = te && self.has_token("te", "trailers");
        self.retain_entries(|_, e| {
            matches!(e.known, Known::Other | Known::ContentLength | Known::Cookie | Known::Expect | Known::Host)
        });
        if trailers {
            self.append_valid(b"te", b"trailers");
        }
        if let Some(tokens) = upgrade {
            self.append_valid(b"Connection", b"Upgrade");
            self.append_valid(b"Upgrade", &tokens);
        }
        Ok(())
    }

    /// Drops from trailers what must not stand there: framing, routing, what proxies and handlers rely upon.
    pub(crate) fn strip_trailers(&mut self) {
        self.retain_entries(|fields, e| e.known == Known::Other && !is_protected(fields.name(e)));
    }

    /// Whether a name has an underscore. Programs that put names into variables take it for a dash.
    pub fn has_underscored_names(&self) -> bool {
        // One look at the whole head, which mostly has none anywhere, before one at each name.
        let possible = [&self.block[..], &self.own].iter().any(|bytes| memchr::memchr(b'_', bytes).is_some());
        possible && self.entries().iter().any(|e| self.name(e).contains(&b'_'))
    }

    /// The tokens of `Upgrade` without `h2c`; `None` when nothing is left.
    pub fn upgrade_tokens(&self) -> Option<Vec<u8>> {
        let tokens: Vec<&[u8]> = self
            .values_known(Known::Upgrade)
            .flat_map(elements)
            .filter(|t| !t.eq_ignore_ascii_case(b"h2c") && !t.eq_ignore_ascii_case(b"h2"))
            .collect();
        (!tokens.is_empty()).then(|| tokens.join(&b", "[..]))
    }
}

/// Whether a field of this name belongs to one connection only.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        Known::of(name),
        Known::Connection
            | Known::Http2Settings
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

/// Whether others rely upon the field of this name, so that `Connection` must not name it and trailers not carry it.
pub fn is_protected(name: &[u8]) -> bool {
    const NAMES: [&str; 14] = [
        "authorization",
        "content-length",
        "content-type",
        "cookie",
        "content-encoding",
        "expect",
        "forwarded",
        "grpc-timeout",
        "host",
        "proxy-authorization",
        "set-cookie",
        "traceparent",
        "tracestate",
        "via",
    ];
    const PREFIXES: [&str; 5] = ["x-leno-", "x-forwarded-", "x-envoy-", "x-b3-", ":"];
    NAMES.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
        || PREFIXES.iter().any(|p| name.len() >= p.len() && name[..p.len()].eq_ignore_ascii_case(p.as_bytes()))
}

/// Whether the field of this name may stand in trailers of any message; beside these there are those of gRPC.
pub fn is_usual_trailer(name: &[u8]) -> bool {
    const NAMES: [&str; 7] =
        ["content-digest", "digest", "etag", "repr-digest", "server-timing", "signature", "signature-input"];
    NAMES.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()))
}

/// Options of a connection that are not names of fields.
fn is_option(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"close") || name.eq_ignore_ascii_case(b"keep-alive")
}
