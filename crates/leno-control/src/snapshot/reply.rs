//! An answer that proxies make by themselves, as a resource says it, with defaults.

use leno_model::resource::number::HttpStatus;
use leno_model::resource::reply::StaticReply;
use leno_model::snapshot::DirectReply;

const STATUS: u16 = 503;
/// UNAVAILABLE.
const GRPC_STATUS: u8 = 14;
const TEXT: &str = "text/plain; charset=utf-8";

/// `says` is the body of one that has none.
pub(super) fn of(written: Option<&StaticReply>, says: &str) -> DirectReply {
    let status = written.and_then(|reply| reply.status);
    let body = match written.and_then(|reply| reply.body.as_deref()) {
        Some(body) => body,
        None if status.is_none_or(HttpStatus::has_body) => says,
        None => "",
    };
    let headers = written.map(|reply| &*reply.headers).unwrap_or_default();
    DirectReply {
        status: status.map_or(STATUS, HttpStatus::get),
        content_type: written.and_then(|reply| reply.content_type.as_deref()).unwrap_or(TEXT).into(),
        fields: headers
            .iter()
            .map(|header| (header.name.to_ascii_lowercase().into(), header.value.as_str().into()))
            .collect(),
        body: body.into(),
        grpc_status: GRPC_STATUS,
    }
}
