//! The registry's HTTP API, to be merged into the server's; all below `/api/v1`.
//!
//! ```text
//! GET    /services?namespace=&after=&limit=            services, by name
//! GET    /services/{ns}/{name}                         a service and its instances
//! POST   /services/{ns}/{name}/instances               register, or register again
//! PUT    /services/{ns}/{name}/instances/{id}/renew    begin the lease anew
//! PATCH  /services/{ns}/{name}/instances/{id}          {"status": "draining"}, {"weight": 50}
//! DELETE /services/{ns}/{name}/instances/{id}          deregister
//! ```
//!
//! Whoever serves this has authenticated the caller; the role that each route needs stands with it. [`PeerAddress`] in the
//! extensions says where the request came from; without it a registration is not local. Every change stands in the audit
//! log; a renewal, which changes nothing and comes every few seconds, does not. Refusals are
//! `{"error": {"code", "message", "fix"}}`.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use bytes::Bytes;
use http::request::Parts;
use http::{Method, StatusCode};
use leno_model::identity::Role;
use leno_model::instance::{Instance, InstanceStatus, ProbeResult};
use leno_model::name::ServiceName;
use leno_runtime::guard::{Concerns, PeerAddress, Routes};
use serde::{Deserialize, Serialize};

use crate::{Error, LeaseState, Origin, Registered, Registry, Revision, Routable, ServiceSummary, check_id};

/// The largest body of a request.
pub const BODY_MAX: usize = 64 * 1024;

/// How many services a list has at most, and unless asked.
const LIST_MAX: usize = 10_000;
const LIST_DEFAULT: usize = 1000;

/// The routes above, on this registry.
pub fn routes(registry: Registry) -> Routes {
    use Role::{Operator, Viewer};
    const INSTANCES: &str = "/api/v1/services/{namespace}/{name}/instances";
    const INSTANCE: &str = "/api/v1/services/{namespace}/{name}/instances/{id}";
    Routes::new()
        .read("/api/v1/services", Viewer, list)
        .read("/api/v1/services/{namespace}/{name}", Viewer, show)
        .record(Method::POST, INSTANCES, Operator, "register", register)
        .ask(Method::PUT, "/api/v1/services/{namespace}/{name}/instances/{id}/renew", Operator, renew)
        .record(Method::PATCH, INSTANCE, Operator, "change", change)
        .record(Method::DELETE, INSTANCE, Operator, "deregister", deregister)
        .layered(|router| router.layer(DefaultBodyLimit::max(BODY_MAX)))
        .with_state(registry)
}

/// A service in a list.
#[derive(Debug, Serialize)]
struct ServiceView {
    namespace: Arc<str>,
    name: Arc<str>,
    instances: usize,
    routable: usize,
    revision: Revision,
}

/// An instance as it is shown: what was registered, and how it stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InstanceView<'a> {
    #[serde(flatten)]
    instance: &'a Instance,
    routable: Routable,
    lease_state: LeaseState,
    probe: ProbeResult,
    since: String,
    revision: Revision,
}

#[derive(Debug, Serialize)]
struct Services {
    revision: Revision,
    services: Vec<ServiceView>,
    /// Where to go on: give it as `after`. None at the end.
    next: Option<ServiceName>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    namespace: Option<String>,
    after: Option<ServiceName>,
    limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBody {
    status: Option<InstanceStatus>,
    weight: Option<u32>,
}

/// An answer that says what is wrong.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    fix: String,
}

type Answer = Result<Response, Refusal>;

async fn list(
    State(registry): State<Registry>,
    query: Result<Query<ListQuery>, axum::extract::rejection::QueryRejection>,
) -> Answer {
    let Query(query) = query.map_err(|error| bad_request(error.body_text(), "give namespace, after and limit only"))?;
    let limit = query.limit.unwrap_or(LIST_DEFAULT).clamp(1, LIST_MAX);
    let revision = registry.revision();
    let wanted = |service: &ServiceSummary| {
        query.namespace.as_deref().is_none_or(|namespace| *service.name.namespace == *namespace)
            && query.after.as_ref().is_none_or(|after| service.name > *after)
    };
    let mut services: Vec<ServiceSummary> = registry.services().into_iter().filter(wanted).take(limit + 1).collect();
    let more = services.len() > limit;
    services.truncate(limit);
    let next = services.last().filter(|_| more).map(|service| service.name.clone());
    let services = services.into_iter().map(ServiceView::from).collect();
    Ok(Json(Services { revision, services, next }).into_response())
}

async fn show(State(registry): State<Registry>, path: ServicePath) -> Answer {
    let service = path.0;
    let revision = registry.revision();
    let instances = registry.instances(&service);
    if instances.is_empty() {
        let message = format!("service {service} has no instances");
        let fix = "list what there is with `leno service list`".to_owned();
        return Err(Refusal { status: StatusCode::NOT_FOUND, code: "not_found", message, fix });
    }
    let views: Vec<InstanceView<'_>> = instances.iter().map(|registered| InstanceView::of(registered)).collect();
    let service = serde_json::json!({ "namespace": service.namespace, "name": service.name });
    Ok(Json(serde_json::json!({ "revision": revision, "service": service, "instances": views })).into_response())
}

async fn register(State(registry): State<Registry>, path: ServicePath, peer: Peer, body: Body) -> Answer {
    let instance = instance_from(&path.0, &body.0)?;
    let concerns = concerns(&path.0, &instance.id, "");
    let registered = registry.register(instance, peer.0).await?;
    Ok((concerns, Json(InstanceView::of(&registered))).into_response())
}

async fn renew(State(registry): State<Registry>, path: InstancePath) -> Answer {
    registry.renew(&path.service, &path.id)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn change(State(registry): State<Registry>, path: InstancePath, body: Body) -> Answer {
    let fix = r#"give {"status": "up" | "starting" | "draining" | "out"} or {"weight": 0 to 10000}"#;
    let wanted: ChangeBody = parse(&body.0).map_err(|message| bad_request(message, fix))?;
    if wanted.status.is_none() && wanted.weight.is_none() {
        return Err(bad_request("nothing is to be changed".to_owned(), fix));
    }
    if let Some(weight) = wanted.weight {
        registry.set_weight(&path.service, &path.id, weight).await?;
    }
    if let Some(status) = wanted.status {
        registry.set_status(&path.service, &path.id, status).await?;
    }
    let registered =
        registry.instance(&path.service, &path.id).ok_or_else(|| Error::unknown(&path.service, &path.id))?;
    let to = [
        wanted.status.map(|status| format!(" {status:?}").to_lowercase()),
        wanted.weight.map(|w| format!(" weight {w}")),
    ];
    let concerns = concerns(&path.service, &path.id, &to.into_iter().flatten().collect::<String>());
    Ok((concerns, Json(InstanceView::of(&registered))).into_response())
}

async fn deregister(State(registry): State<Registry>, path: InstancePath) -> Answer {
    registry.deregister(&path.service, &path.id).await?;
    Ok((concerns(&path.service, &path.id, ""), StatusCode::NO_CONTENT).into_response())
}

/// An instance, and what was done to it, as the audit log names it.
fn concerns(service: &ServiceName, id: &str, what: &str) -> Extension<Concerns> {
    Extension(Concerns(format!("{service} {id}{what}")))
}

/// The instance that a body describes; its service is that of the path.
fn instance_from(service: &ServiceName, body: &[u8]) -> Result<Instance, Refusal> {
    let fix =
        r#"give an instance as {"id": "cart-1", "address": "10.0.3.7", "ports": [{"number": 8080}], "lease": 30000}"#;
    let mut value: serde_json::Map<String, serde_json::Value> =
        parse(body).map_err(|message| bad_request(message, fix))?;
    let named = value.insert("service".to_owned(), serde_json::Value::String(service.to_string()));
    if let Some(named) = named
        && named.as_str().and_then(|named| ServiceName::from_host(named, &service.namespace)).as_ref() != Some(service)
    {
        let message = format!("service: {named} is not the {service} of the path");
        return Err(bad_request(message, "leave `service` out: the path names it"));
    }
    let mut instance: Instance = serde_path_to_error::deserialize(serde_json::Value::Object(value))
        .map_err(|error| bad_request(error.to_string(), fix))?;
    if instance.source.is_empty() {
        instance.source = "api".into();
    }
    Ok(instance)
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

fn bad_request(message: String, fix: &str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, code: "invalid", message, fix: fix.to_owned() }
}

// === what is taken from a request ===

struct ServicePath(ServiceName);

struct InstancePath {
    service: ServiceName,
    id: String,
}

struct Peer(Origin);

/// A JSON body, whole and capped by the router.
struct Body(Bytes);

impl<S: Send + Sync> FromRequestParts<S> for ServicePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((namespace, name)) = path.map_err(|error| bad_request(error.body_text(), PATH_FIX))?;
        service(&namespace, &name).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InstancePath {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<(String, String, String)>::from_request_parts(parts, state).await;
        let Path((namespace, name, id)) = path.map_err(|error| bad_request(error.body_text(), PATH_FIX))?;
        let service = service(&namespace, &name)?;
        check_id(&id)?;
        Ok(Self { service, id })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Peer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let peer = parts.extensions.get::<PeerAddress>();
        Ok(Self(peer.map_or(Origin::Remote, |peer| Origin::from_peer(peer.0))))
    }
}

impl<S: Send + Sync> axum::extract::FromRequest<S> for Body {
    type Rejection = Refusal;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Refusal> {
        let json = request.headers().get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = json
            .and_then(|value| value.split(';').next())
            .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
        if !is_json {
            // A form or plain text is what a foreign web page could send without asking.
            return Err(Refusal {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                code: "not_json",
                message: "the body is not application/json".to_owned(),
                fix: "send `Content-Type: application/json`".to_owned(),
            });
        }
        Bytes::from_request(request, state).await.map(Self).map_err(|error| Refusal {
            status: error.status(),
            code: "body",
            message: error.body_text(),
            fix: format!("send at most {BODY_MAX} bytes"),
        })
    }
}

const PATH_FIX: &str = "write /services/NAMESPACE/NAME/instances/ID";

fn service(namespace: &str, name: &str) -> Result<ServiceName, Refusal> {
    ServiceName::new(namespace, name).map_err(|error| bad_request(error.to_string(), PATH_FIX))
}

// === impl InstanceView ===

impl<'a> InstanceView<'a> {
    fn of(registered: &'a Registered) -> Self {
        Self {
            instance: &registered.instance,
            routable: registered.routable(),
            lease_state: registered.lease,
            probe: registered.probe,
            since: registered.since.rfc3339(),
            revision: registered.revision,
        }
    }
}

// === impl ServiceView ===

impl From<ServiceSummary> for ServiceView {
    fn from(summary: ServiceSummary) -> Self {
        let ServiceSummary { name, instances, routable, revision } = summary;
        Self { namespace: name.namespace, name: name.name, instances, routable, revision }
    }
}

// === impl Refusal ===

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.code() {
            "invalid" => StatusCode::BAD_REQUEST,
            "not_found" => StatusCode::NOT_FOUND,
            "conflict" => StatusCode::CONFLICT,
            "limit" => StatusCode::TOO_MANY_REQUESTS,
            "disk_full" => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, code: error.code(), message: error.to_string(), fix: error.fix() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, code, message, fix } = self;
        let error = serde_json::json!({ "error": { "code": code, "message": message, "fix": fix } });
        (status, Json(error)).into_response()
    }
}

#[cfg(test)]
mod tests;
