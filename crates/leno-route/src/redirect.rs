//! Where a redirect leads: the `Location` of the Gateway API's `RequestRedirect`.
//!
//! The port: the one written, or the well-known one of the scheme written, or the listener's. It is left out when it is
//! the well-known one of the resulting scheme. The query of the request is kept.

use leno_model::snapshot::Redirect;

use crate::host::bare_host;
use crate::path::rewrite_path;

/// The request that is redirected.
#[derive(Debug, Clone, Copy)]
pub struct Redirected<'a> {
    /// `http` or `https`: how it came.
    pub scheme: &'a str,
    /// Its authority, with or without port.
    pub authority: &'a str,
    /// The port on which it came, as callers know it.
    pub port: u16,
    /// Its path and query.
    pub target: &'a str,
    /// From [`crate::Matched`].
    pub prefix_len: usize,
}

/// The value of `Location`.
pub fn redirect_location(redirect: &Redirect, request: &Redirected<'_>) -> String {
    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = redirect.hostname.as_deref().unwrap_or(bare_host(request.authority));
    let port = redirect.port.or_else(|| well_known_port(redirect.scheme.as_deref()?)).unwrap_or(request.port);
    let port = if well_known_port(scheme) == Some(port) { String::new() } else { format!(":{port}") };
    match &redirect.path {
        Some(rewrite) => {
            format!("{scheme}://{host}{port}{}", rewrite_path(rewrite, request.target, request.prefix_len))
        }
        None => format!("{scheme}://{host}{port}{}", request.target),
    }
}

fn well_known_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}
