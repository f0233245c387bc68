//! The text form: Istio's default format, then leno's own values.

use std::fmt::Display;
use std::io::Write;

use super::{AccessEvent, escape};

/// Writes an event without the line feed.
pub(super) fn write(event: &AccessEvent<'_>, out: &mut Vec<u8>) {
    out.push(b'[');
    out.extend_from_slice(event.start.rfc3339().as_bytes());
    out.extend_from_slice(b"] \"");
    request_part(event.method, out);
    out.push(b' ');
    request_part(event.path, out);
    out.push(b' ');
    request_part(event.protocol.as_bytes(), out);
    out.push(b'"');
    number(u64::from(event.status), out);
    bare(event.flag.map_or("", |flag| flag.code()).as_bytes(), out);
    bare(event.details().as_bytes(), out);
    bare(b"", out);
    quoted(event.failure.as_bytes(), out);
    number(event.received, out);
    number(event.sent, out);
    number(event.duration.as_millis() as u64, out);
    shown(event.upstream_time.map(|time| time.as_millis()), out);
    quoted(event.forwarded_for, out);
    quoted(event.user_agent, out);
    quoted(event.request_id, out);
    quoted(event.authority, out);
    quoted(event.upstream.as_bytes(), out);
    bare(event.cluster.as_bytes(), out);
    shown(event.upstream_local, out);
    shown(event.downstream_local, out);
    shown(event.downstream_remote, out);
    bare(event.server_name, out);
    bare(event.route.as_bytes(), out);
    bare(event.direction.as_str().as_bytes(), out);
    bare(event.source.as_bytes(), out);
    bare(event.destination.as_bytes(), out);
    number(u64::from(event.tries), out);
    shown(event.grpc_status, out);
}

/// One of the three words between the first quotes: a blank would make it two.
fn request_part(value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() { out.push(b'-') } else { escape::text(value, false, out) }
}

fn bare(value: &[u8], out: &mut Vec<u8>) {
    out.push(b' ');
    request_part(value, out);
}

fn quoted(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    if value.is_empty() {
        out.push(b'-')
    } else {
        escape::text(value, true, out)
    }
    out.push(b'"');
}

fn number(value: u64, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// For numbers and addresses, whose text is ours.
fn shown(value: Option<impl Display>, out: &mut Vec<u8>) {
    let _ = match value {
        Some(value) => write!(out, " {value}"),
        None => write!(out, " -"),
    };
}
