//! The API of resources, `/api/v1/…`: what `leno apply`, `get`, `history`, `rollback`, `diff`, `check` and `status` call.
//!
//! | method and path | does |
//! | --- | --- |
//! | `GET /resources?kind=&namespace=&set=` | lists |
//! | `GET /resources/{kind}/{namespace}/{name}` | one, with owner and status |
//! | `POST /resources?dryRun=&set=&prune=&expectedRevision=&summary=&file=` | applies YAML, JSON or `{"files": [{"name", "text"}]}` |
//! | `DELETE /resources/{kind}/{namespace}/{name}?dryRun=&set=&expectedRevision=&summary=` | deletes |
//! | `POST /check`, `POST /diff` | faults, differences; change nothing |
//! | `GET /history?resource=&limit=`, `GET /history/{revision}` | revisions, one with its differences |
//! | `POST /rollback {"revision", "resource"?, "set"?, "dryRun"?, "summary"?}` | restores an earlier state as a new revision |
//! | `GET /status`, `GET /status/wait?revision=&timeout=` | proxies, sources, resources; waits for a snapshot revision |
//! | `GET /schemas`, `GET /schemas/{kind}` | JSON Schemas |
//! | `GET /audit?limit=` | who did what (admin) |
//!
//! Whoever serves this puts a [`Principal`] into the request's extensions, and where it came from as [`PeerAddress`];
//! the role that each route needs stands with it. Errors are `{"error": {"code", "message", "fix", "faults"}}`.

mod answer;
mod body;

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method};
use leno_model::fault;
use leno_model::identity::{Principal, Role};
use leno_model::resource::duration::GatewayDuration;
use leno_model::resource::kind::{Kind, ResourceKey};
use leno_model::resource::schema;
use leno_runtime::guard::{PeerAddress, Routes};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::answer::{Answer, Refused};
use crate::source::API_SET;
use crate::{Apply, Control, Delete, Rollback};

/// The most bytes of one request.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

const HISTORY_LIMIT: usize = 50;
const HISTORY_LIMIT_MAX: usize = 1000;
const AUDIT_LIMIT: usize = 100;
const AUDIT_LIMIT_MAX: usize = 10_000;
/// Characters of a summary.
const SUMMARY_MAX: usize = 200;
const WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(600);

/// The routes, to be merged into the server's.
pub fn routes(control: Control) -> Routes {
    use Role::{Admin, Operator, Viewer};
    const ONE: &str = "/api/v1/resources/{kind}/{namespace}/{name}";
    Routes::new()
        .read("/api/v1/resources", Viewer, list)
        .record(Method::POST, "/api/v1/resources", Operator, "apply", apply)
        .read(ONE, Viewer, one)
        .record(Method::DELETE, ONE, Operator, "delete", delete)
        .ask(Method::POST, "/api/v1/check", Viewer, check)
        .ask(Method::POST, "/api/v1/diff", Viewer, diff)
        .read("/api/v1/history", Viewer, history)
        .read("/api/v1/history/{revision}", Viewer, revision)
        .record(Method::POST, "/api/v1/rollback", Operator, "rollback", rollback)
        .read("/api/v1/status", Viewer, status)
        .read("/api/v1/status/wait", Viewer, wait)
        .read("/api/v1/schemas", Viewer, schemas)
        .read("/api/v1/schemas/{kind}", Viewer, schema_of)
        .read("/api/v1/audit", Admin, audit)
        .layered(|router| router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .with_state(control)
}

/// Who asks, and from where; 401 where nobody said.
struct Asker {
    principal: Principal,
    from: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ListQuery {
    kind: Option<String>,
    namespace: Option<String>,
    set: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ChangeQuery {
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    prune: bool,
    set: Option<String>,
    expected_revision: Option<u64>,
    summary: Option<String>,
    file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HistoryQuery {
    resource: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct WaitQuery {
    revision: u64,
    timeout: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RollbackBody {
    revision: u64,
    resource: Option<String>,
    set: Option<String>,
    #[serde(default)]
    dry_run: bool,
    summary: Option<String>,
}

pub(crate) type Handled = Result<Answer, Refused>;
type Asked<T> = Result<Query<T>, QueryRejection>;

async fn list(State(control): State<Control>, query: Asked<ListQuery>) -> Handled {
    let Query(query) = query?;
    let kind: Option<Kind> = query.kind.as_deref().map(|kind| kind.parse()).transpose()?;
    let (revision, entries) = control.resources();
    let wanted = entries.iter().filter(|entry| {
        let key = &entry.resource.key;
        kind.is_none_or(|kind| key.kind == kind)
            && query.namespace.as_deref().is_none_or(|namespace| *key.namespace == *namespace)
            && query.set.as_deref().is_none_or(|set| *entry.set == *set)
    });
    let items: Vec<Value> =
        wanted.map(|entry| answer::resource(entry, control.status_of(&entry.resource.key))).collect();
    Answer::ok(json!({ "revision": revision, "items": items }))
}

async fn one(State(control): State<Control>, Path(key): Path<(String, String, String)>) -> Handled {
    let key = key_of(&key)?;
    let Some(entry) = control.resource_in_force(&key) else { return Err(crate::Error::NotFound(key).into()) };
    Answer::ok(answer::resource(&entry, control.status_of(&key)))
}

async fn apply(
    asker: Asker,
    State(control): State<Control>,
    query: Asked<ChangeQuery>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Handled {
    let Query(query) = query?;
    let apply = apply_of(asker, &query, &headers, &body?)?;
    answer::applied(&control.apply(apply).await?)
}

async fn diff(
    asker: Asker,
    State(control): State<Control>,
    query: Asked<ChangeQuery>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Handled {
    let Query(query) = query?;
    let apply = Apply { dry_run: true, ..apply_of(asker, &query, &headers, &body?)? };
    answer::applied(&control.apply(apply).await?)
}

async fn check(
    State(control): State<Control>,
    query: Asked<ChangeQuery>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Handled {
    let Query(query) = query?;
    let parsed = body::parse(&headers, &body?, query.file.as_deref())?;
    let faults = control.check(&parsed);
    Answer::ok(json!({ "ok": !fault::refuses(&faults), "resources": parsed.resources.len(), "faults": faults }))
}

async fn delete(
    asker: Asker,
    State(control): State<Control>,
    Path(key): Path<(String, String, String)>,
    query: Asked<ChangeQuery>,
) -> Handled {
    let Query(query) = query?;
    let delete = Delete {
        principal: asker.principal,
        from: asker.from,
        set: set_of(query.set.as_deref())?.into(),
        resources: vec![key_of(&key)?],
        dry_run: query.dry_run,
        expected: query.expected_revision,
        summary: summary(query.summary.as_deref()),
    };
    answer::applied(&control.delete(delete).await?)
}

async fn history(State(control): State<Control>, query: Asked<HistoryQuery>) -> Handled {
    let Query(query) = query?;
    let resource: Option<ResourceKey> = query.resource.as_deref().map(|key| key.parse()).transpose()?;
    let limit = query.limit.unwrap_or(HISTORY_LIMIT).min(HISTORY_LIMIT_MAX);
    Answer::ok(json!({ "items": control.history(resource.as_ref(), limit).await? }))
}

async fn revision(State(control): State<Control>, Path(number): Path<String>) -> Handled {
    let number: u64 = number.parse().map_err(|_| Refused::usage("a revision is a number", "write `history/42`"))?;
    let (revision, changes) = control.revision_content(number).await?;
    let changes: Vec<Value> = changes.iter().map(answer::change).collect();
    Answer::ok(json!({ "revision": revision, "changes": changes }))
}

async fn rollback(
    asker: Asker,
    State(control): State<Control>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Handled {
    let body: RollbackBody = body::json(&headers, &body?)?;
    let rollback = Rollback {
        principal: asker.principal,
        from: asker.from,
        set: set_of(body.set.as_deref())?.into(),
        revision: body.revision,
        resource: body.resource.as_deref().map(|key| key.parse()).transpose()?,
        dry_run: body.dry_run,
        summary: summary(body.summary.as_deref()),
    };
    answer::applied(&control.rollback(rollback).await?)
}

async fn status(State(control): State<Control>) -> Handled {
    let (revision, entries) = control.resources();
    let bad: Vec<_> = control.statuses().into_iter().filter(|status| !status.is_good()).collect();
    let proxies: Vec<Value> = control.subscribers().list().iter().map(answer::subscriber).collect();
    Answer::ok(json!({
        "revision": revision,
        "snapshot": leno_xds::provide::Provide::revision(&control),
        "resources": { "total": entries.len(), "bad": bad },
        "sources": control.sources(),
        "proxies": proxies,
    }))
}

async fn wait(State(control): State<Control>, query: Asked<WaitQuery>) -> Handled {
    let Query(query) = query?;
    let timeout: Option<GatewayDuration> = query.timeout.as_deref().map(|text| text.parse()).transpose()?;
    let timeout = timeout.map_or(WAIT, |timeout| timeout.0).min(WAIT_MAX);
    let progress = control.subscribers().wait(query.revision, timeout).await;
    Answer::ok(answer::progress(&progress))
}

async fn schemas() -> Handled {
    let schemas: serde_json::Map<String, Value> =
        Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), schema(kind))).collect();
    Answer::ok(Value::Object(schemas))
}

async fn schema_of(Path(kind): Path<String>) -> Handled {
    let kind: Kind = kind.parse()?;
    Answer::ok(schema(kind))
}

async fn audit(State(control): State<Control>, query: Asked<HistoryQuery>) -> Handled {
    let Query(query) = query?;
    let limit = query.limit.unwrap_or(AUDIT_LIMIT).min(AUDIT_LIMIT_MAX);
    Answer::ok(json!({ "items": control.audit().list(limit).await? }))
}

/// The set that is changed, which is nobody's whose files would say otherwise.
fn set_of(asked: Option<&str>) -> Result<&str, Refused> {
    let set = asked.unwrap_or(API_SET);
    if set.starts_with("file:") {
        let fix = "change the files, or name a set of another name";
        return Err(Refused::usage("sets named `file:…` belong to watched directories", fix));
    }
    Ok(set)
}

fn apply_of(asker: Asker, query: &ChangeQuery, headers: &HeaderMap, body: &Bytes) -> Result<Apply, Refused> {
    let set = set_of(query.set.as_deref())?;
    if query.prune && set == API_SET {
        let fix = "name the set with `set=`, or delete what is to go";
        return Err(Refused::usage("`prune` needs a set of its own", fix));
    }
    Ok(Apply {
        principal: asker.principal,
        from: asker.from,
        set: set.into(),
        parsed: body::parse(headers, body, query.file.as_deref())?,
        prune: query.prune,
        dry_run: query.dry_run,
        expected: query.expected_revision,
        summary: summary(query.summary.as_deref()),
    })
}

/// The words of a caller, as far as they are kept.
fn summary(text: Option<&str>) -> Option<String> {
    text.map(|text| text.chars().take(SUMMARY_MAX).collect())
}

fn key_of((kind, namespace, name): &(String, String, String)) -> Result<ResourceKey, Refused> {
    Ok(ResourceKey::new(kind.parse()?, namespace, name))
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        let principal = parts.extensions.get::<Principal>().cloned().ok_or_else(Refused::unauthenticated)?;
        Ok(Self { principal, from: parts.extensions.get().map(|PeerAddress(from)| *from) })
    }
}
