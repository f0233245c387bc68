//! Answers and errors of the API as JSON.

use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use leno_model::fault::Fault;
use leno_model::resource::duration::DurationError;
use leno_model::resource::kind::KeyError;
use leno_runtime::guard::Recorded;
use leno_xds::status::{KindStatus, Progress, Subscriber};
use serde_json::{Value, json};

use crate::merge::Entry;
use crate::revision::{Action, Change};
use crate::status::ResourceStatus;
use crate::{Applied, Error};

/// A good answer.
pub(crate) struct Answer {
    value: Value,
    /// Whether the audit log has what came of the request.
    recorded: bool,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
    fix: String,
    faults: Vec<Fault>,
    /// Whether the audit log has it.
    recorded: bool,
}

pub(super) fn resource(entry: &Entry, status: Option<ResourceStatus>) -> Value {
    json!({
        "resource": entry.value,
        "key": entry.resource.key,
        "owner": { "set": entry.set, "file": entry.file, "line": entry.line },
        "created": entry.created,
        "revision": entry.revision,
        "author": entry.author,
        "updated": entry.updated.rfc3339(),
        "status": status,
    })
}

pub(super) fn applied(applied: &Applied) -> Result<Answer, Refused> {
    let change = |changed: &crate::Changed| json!({ "resource": changed.summary.resource, "action": changed.summary.action, "diff": changed.diff });
    let changes: Vec<Value> = applied.changes.iter().map(change).collect();
    let changed = applied.changes.iter().filter(|changed| changed.summary.action != Action::Unchanged).count();
    let value = json!({
        "revision": applied.revision,
        "snapshot": applied.snapshot,
        "changed": changed,
        "changes": changes,
        "warnings": applied.warnings,
    });
    Ok(Answer { value, recorded: true })
}

pub(super) fn change(change: &Change) -> Value {
    json!({
        "resource": change.resource,
        "action": change.action(),
        "before": change.before.as_ref().map(|stored| &stored.value),
        "after": change.after.as_ref().map(|stored| &stored.value),
        "diff": change.diff(),
    })
}

pub(super) fn subscriber(subscriber: &Subscriber) -> Value {
    let node = &subscriber.node;
    let kinds = leno_xds::kind::Kind::ALL.into_iter().zip(&subscriber.kinds);
    let subscribed: Vec<_> = kinds.filter(|(_, status)| status.wildcard || status.subscribed > 0).collect();
    let in_effect = subscribed.iter().all(|(_, status)| status.in_effect);
    let kinds: serde_json::Map<String, Value> =
        subscribed.into_iter().map(|(kind, status)| (kind.to_string(), kind_status(status))).collect();
    json!({
        "id": node.id,
        "kind": node.proxy.to_string(),
        "namespace": node.namespace,
        "service": node.service,
        "gateway": node.gateway,
        "version": node.version,
        "zone": node.zone,
        "peer": subscriber.peer,
        "connectedSince": subscriber.connected_since.rfc3339(),
        "inEffect": in_effect,
        "waitingSince": subscriber.waiting_since.map(|since| since.rfc3339()),
        "kinds": kinds,
    })
}

fn kind_status(status: &KindStatus) -> Value {
    json!({
        "subscribed": status.subscribed,
        "wildcard": status.wildcard,
        "resources": status.resources,
        "sent": status.sent,
        "acked": status.acked,
        "inEffect": status.in_effect,
        "rejection": status.rejection.as_ref().map(|rejection| json!({
            "resources": rejection.resources,
            "detail": rejection.detail,
            "at": rejection.at.rfc3339(),
            "revision": rejection.revision,
        })),
    })
}

pub(super) fn progress(progress: &Progress) -> Value {
    let refused: Vec<Value> = progress
        .refused
        .iter()
        .map(|(id, rejection)| json!({ "id": id, "resources": rejection.resources, "detail": rejection.detail }))
        .collect();
    json!({
        "subscribed": progress.subscribed,
        "inEffect": progress.in_effect,
        "pending": progress.pending,
        "refused": refused,
        "done": progress.pending.is_empty(),
    })
}

// === impl Answer ===

impl Answer {
    pub(crate) fn ok(value: Value) -> Result<Self, Refused> {
        Ok(Self { value, recorded: false })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        json_response(StatusCode::OK, &self.value, self.recorded)
    }
}

fn json_response(status: StatusCode, value: &Value, recorded: bool) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    let mut response = (status, headers, value.to_string()).into_response();
    if recorded {
        response.extensions_mut().insert(Recorded);
    }
    response
}

// === impl Refused ===

impl Refused {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), fix: fix.into(), faults: Vec::new(), recorded: false }
    }

    /// The request itself makes no sense.
    pub(super) fn usage(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "usage", message, fix)
    }

    pub(super) fn media_type(found: &str) -> Self {
        let fix = "send application/yaml or application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", format!("content type {found:?} is not read"), fix)
    }

    pub(super) fn unauthenticated() -> Self {
        let fix = "send a token: `Authorization: Bearer …`; the command line reads it by itself";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "no credential", fix)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            "invalid" => StatusCode::UNPROCESSABLE_ENTITY,
            "not-found" | "unknown-revision" => StatusCode::NOT_FOUND,
            "owned" | "conflict" => StatusCode::CONFLICT,
            "too-large" => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        // Control has written down what it refused.
        let mut refused = Self { recorded: true, ..Self::new(status, error.code(), error.to_string(), error.fix()) };
        if let Error::Faults(faults) = error {
            refused.faults = faults;
        }
        refused
    }
}

impl From<KeyError> for Refused {
    fn from(error: KeyError) -> Self {
        Self::usage(error.to_string(), "write kind/namespace/name, as httproute/shop/cart")
    }
}

impl From<DurationError> for Refused {
    fn from(error: DurationError) -> Self {
        Self::usage(error.to_string(), "write 30s")
    }
}

impl From<QueryRejection> for Refused {
    fn from(error: QueryRejection) -> Self {
        Self::usage(error.body_text(), "see the reference of the API for its parameters")
    }
}

impl From<BytesRejection> for Refused {
    fn from(error: BytesRejection) -> Self {
        let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "too-large" } else { "usage" };
        Self::new(error.status(), code, error.body_text(), "split it into several requests")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.code, "message": self.message, "fix": self.fix });
        if !self.faults.is_empty() {
            error["faults"] = json!(self.faults);
        }
        json_response(self.status, &json!({ "error": error }), self.recorded)
    }
}
