//! Fuzz targets: for each parser of hostile bytes, what must hold of it whatever the bytes are. A panic is a finding.
//!
//! ```text
//! corpus/<target>/ ─► tests/corpora.rs: every input and changed copies of it, on the stable compiler, in CI
//!                └──► campaign/:        libFuzzer over the same functions, by `cargo xtask fuzz`, on nightly
//! ```
//!
//! The targets of HTTP stand in `leno_http::fuzzing`, since most of its parsers are private; here are those of the other
//! crates, and [`TARGETS`], the list of all. A finding becomes a file of its corpus and a test in the crate that it is of.
//! `campaign/` is a workspace of its own, so that nobody who builds this one needs libFuzzer or nightly.

mod convert;
mod dns;
mod hello;
mod path;
mod proxy;
mod resources;

/// A target: its name, which is that of its corpus, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    // HTTP/1: heads, bodies, and whole streams of requests that are read, written anew and read again.
    ("request_head", leno_http::fuzzing::request_head),
    ("response_head", leno_http::fuzzing::response_head),
    ("chunked_body", leno_http::fuzzing::chunked_body),
    ("round_trip", leno_http::fuzzing::round_trip),
    ("field_grammars", leno_http::fuzzing::field_grammars),
    // HTTP/2: both ends of a connection, and the compression of heads.
    ("http2_server", leno_http::fuzzing::http2_server),
    ("http2_client", leno_http::fuzzing::http2_client),
    ("hpack", leno_http::fuzzing::hpack),
    ("grpc_frame", leno_http::fuzzing::grpc_frame),
    // What is looked at before a protocol is known.
    ("first_bytes", hello::first_bytes),
    ("proxy_header", proxy::proxy_header),
    ("canonical_path", path::canonical_path),
    ("dns_message", dns::dns_message),
    // YAML to a validated set.
    ("resources", resources::resources),
    // Files of other products to the same.
    ("convert", convert::convert_file),
];

/// Runs one target, for `campaign/`.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("a program of the campaign is named as its target").1(bytes);
}
