//! Answers that proxies make by themselves: a body that the status allows, headers that are theirs to write.

use super::{Check, filter, text};
use crate::fault::FaultClass;
use crate::resource::reply::StaticReply;

/// Envoy answers with no more by itself.
const BODY_BYTES_MAX: usize = 4096;
const HEADERS_MAX: usize = 16;

pub(super) fn check(check: &mut Check<'_, '_>, at: &str, reply: &StaticReply) {
    if let Some(content_type) = &reply.content_type {
        text::header_value(check, &format!("{at}.contentType"), content_type);
    }
    headers(check, at, reply);
    let Some(body) = &reply.body else { return };
    let at = format!("{at}.body");
    if let Some(status) = reply.status.filter(|status| !status.has_body() && !body.is_empty()) {
        let message = format!("an answer of status {status} has no body");
        check.error(FaultClass::UnusedField, &at, message, "remove it, or write another status");
    }
    if body.len() > BODY_BYTES_MAX {
        let message = format!("{} bytes, at most {BODY_BYTES_MAX} are allowed", body.len());
        check.error(FaultClass::OutOfRange, &at, message, "have a service answer for more");
    }
}

fn headers(check: &mut Check<'_, '_>, at: &str, reply: &StaticReply) {
    check.count(&format!("{at}.headers"), "headers", reply.headers.len(), 0, HEADERS_MAX);
    for (i, header) in reply.headers.iter().enumerate() {
        let at = format!("{at}.headers[{i}]");
        let (path, lower) = (format!("{at}.name"), header.name.to_ascii_lowercase());
        text::header_name(check, &path, &header.name);
        filter::reserved(check, &path, &lower);
        text::header_value(check, &format!("{at}.value"), &header.value);
        let is_same = |name: &str| name.eq_ignore_ascii_case(&header.name);
        if is_same("content-type") {
            let fix = "write it as `contentType`";
            check.error(FaultClass::ReservedHeader, &path, "`content-type` has a field of its own", fix);
        } else if reply.headers[..i].iter().any(|other| is_same(&other.name)) {
            let fix = "keep one entry for each name; a value may hold commas";
            check.error(FaultClass::RepeatedHeader, &path, format!("header `{}` is named twice", header.name), fix);
        }
    }
}
