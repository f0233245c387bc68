//! Answers that the proxy makes itself. The only place that turns a failure into a status, a gRPC status, fields, words.
//!
//! Each says that it is leno's: `x-leno-reason` holds the flag's reason, the body a sentence. At a gateway no address of
//! an instance leaves. To a gRPC request the answer is HTTP 200 with the status in the head (trailers-only).

use bytes::Bytes;
use leno_http::grpc::Status;
use leno_http::{Reply, ResponseHead};
use leno_telemetry::flag::REASON_FIELD;

use crate::failure::Failure;

/// What an answer of our own looked like, for the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u8>,
}

/// Answers a request with what went wrong. `public` is for clients outside the mesh.
pub(crate) async fn fail(reply: Reply, failure: &Failure, is_grpc: bool, public: bool) -> Answered {
    let message = if public { failure.public_message() } else { failure.to_string() };
    let reason = failure.flag().reason();
    // A client that is gone does not hear it; the record says what happened either way.
    if is_grpc {
        let code = failure.grpc_code();
        let mut head = Status::new(code, message).response().with(REASON_FIELD, reason);
        failure.tell(&mut head.fields);
        let _ = reply.respond(head, Bytes::new()).await;
        return Answered { status: 200, grpc_status: Some(code as u8) };
    }
    let status = failure.status();
    if status == 0 {
        // Nobody listens any more; dropping the reply closes.
        return Answered { status, grpc_status: None };
    }
    let head = ResponseHead::new(status).with("content-type", "text/plain; charset=utf-8");
    let mut head = head.with(REASON_FIELD, reason);
    failure.tell(&mut head.fields);
    let _ = reply.respond(head, Bytes::from(format!("leno: {message}\n"))).await;
    Answered { status, grpc_status: None }
}
