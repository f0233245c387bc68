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

#[cfg(test)]
mod tests {
    use super::*;
    use leno_model::snapshot::PathRewrite;

    fn location(redirect: Redirect, scheme: &str, port: u16) -> String {
        let request =
            Redirected { scheme, authority: "example.com:9999", port, target: "/a/b?q=1", prefix_len: "/a".len() };
        redirect_location(&redirect, &request)
    }

    // The rules of HTTPRequestRedirectFilter.port; the listener speaks the scheme on the port.
    #[test]
    fn the_port_is_written_or_known_or_the_listeners_and_left_out_when_known() {
        for (scheme, port, from, listener, wanted) in [
            (None, None, "http", 80, "http://example.com/a/b?q=1"),
            (None, None, "http", 8080, "http://example.com:8080/a/b?q=1"),
            (None, None, "https", 443, "https://example.com/a/b?q=1"),
            (None, None, "https", 8443, "https://example.com:8443/a/b?q=1"),
            (None, Some(80), "http", 8080, "http://example.com/a/b?q=1"),
            (None, Some(80), "https", 443, "https://example.com:80/a/b?q=1"),
            (None, Some(8083), "http", 80, "http://example.com:8083/a/b?q=1"),
            (Some("https"), None, "http", 80, "https://example.com/a/b?q=1"),
            (Some("https"), None, "http", 8080, "https://example.com/a/b?q=1"),
            (Some("https"), Some(443), "http", 8080, "https://example.com/a/b?q=1"),
            (Some("https"), Some(8443), "http", 80, "https://example.com:8443/a/b?q=1"),
            (Some("http"), None, "https", 443, "http://example.com/a/b?q=1"),
            (Some("http"), Some(80), "https", 443, "http://example.com/a/b?q=1"),
            (Some("http"), Some(8080), "https", 443, "http://example.com:8080/a/b?q=1"),
        ] {
            let redirect = Redirect { scheme: scheme.map(Into::into), port, ..Redirect::default() };
            assert_eq!(location(redirect, from, listener), wanted);
        }
    }

    #[test]
    fn host_and_path_are_replaced() {
        let path = Some(PathRewrite::Prefix("/new".into()));
        let redirect = Redirect { hostname: Some("example.org".into()), path, ..Redirect::default() };
        assert_eq!(location(redirect, "http", 80), "http://example.org/new/b?q=1");
        let path = Some(PathRewrite::Full("/new".into()));
        let redirect = Redirect { path, ..Redirect::default() };
        assert_eq!(location(redirect, "http", 80), "http://example.com/new?q=1");
    }
}
