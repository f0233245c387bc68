//! The JSON form: Istio's keys, then leno's own. What is empty is left out.

use std::fmt::Display;
use std::io::Write;

use super::{AccessEvent, escape};

/// Writes an event as one object, without the line feed.
pub(super) fn write(event: &AccessEvent<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"start_time\":\"");
    out.extend_from_slice(event.start.rfc3339().as_bytes());
    out.push(b'"');
    string("method", event.method, out);
    string("path", event.path, out);
    string("protocol", event.protocol.as_bytes(), out);
    number("response_code", Some(event.status), out);
    string("response_flags", event.flag.map_or("-", |flag| flag.code()).as_bytes(), out);
    string("response_code_details", event.details().as_bytes(), out);
    string("upstream_transport_failure_reason", event.failure.as_bytes(), out);
    number("bytes_received", Some(event.received), out);
    number("bytes_sent", Some(event.sent), out);
    number("duration", Some(event.duration.as_millis()), out);
    number("upstream_service_time", event.upstream_time.map(|time| time.as_millis()), out);
    string("x_forwarded_for", event.forwarded_for, out);
    string("user_agent", event.user_agent, out);
    string("request_id", event.request_id, out);
    string("authority", event.authority, out);
    string("upstream_host", event.upstream.as_bytes(), out);
    string("upstream_cluster", event.cluster.as_bytes(), out);
    shown("upstream_local_address", event.upstream_local, out);
    shown("downstream_local_address", event.downstream_local, out);
    shown("downstream_remote_address", event.downstream_remote, out);
    string("requested_server_name", event.server_name, out);
    string("downstream_tls_version", event.tls_version.as_bytes(), out);
    string("route_name", event.route.as_bytes(), out);
    string("direction", event.direction.as_str().as_bytes(), out);
    string("source", event.source.as_bytes(), out);
    string("destination", event.destination.as_bytes(), out);
    number("tries", Some(event.tries), out);
    number("grpc_status", event.grpc_status, out);
    out.push(b'}');
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn string(name: &str, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        key(name, out);
        out.push(b'"');
        escape::json(value, out);
        out.push(b'"');
    }
}

fn number(name: &str, value: Option<impl Display>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        let _ = write!(out, "{value}");
    }
}

/// For addresses, whose text is ours.
fn shown(name: &str, value: Option<impl Display>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        key(name, out);
        let _ = write!(out, "\"{value}\"");
    }
}
