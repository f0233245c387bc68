use std::time::Duration;

use http_body_util::BodyExt as _;
use leno_collector::{Collector, Limits, Point};
use leno_model::identity::Principal;
use serde_json::Value;
use tower_service::Service as _;

use super::*;
use crate::view::{Answer, Change, ChangeRow, InstanceRow, Known, Live, Policies, Rejection, SyncRow, SyncState};

/// One service with an instance whose metadata is hostile, one proxy that refused something, two revisions.
struct Shop;

impl View for Shop {
    fn live(&self, window: Duration) -> Live {
        let metadata = [("note".to_owned(), "<script>alert(1)</script>\n\u{2028}".to_owned())].into();
        let instance = InstanceRow { id: "cart-1".into(), takes_traffic: true, metadata, ..InstanceRow::default() };
        let rejections = vec![Rejection { resource: "Cluster cart".into(), reason: "no".into() }];
        let refused = SyncRow { proxy: "p2".into(), state: SyncState::Rejected, rejections, ..SyncRow::default() };
        let synced = SyncRow { proxy: "p1".into(), ..SyncRow::default() };
        let known = Known {
            instances: [("cart.shop".parse().unwrap(), vec![instance])].into(),
            syncs: vec![synced, refused],
            revision: 2,
            ..Known::default()
        };
        Live::assemble(&Collector::new(Limits::default()), Duration::from_secs(9), window, known)
    }

    fn is_leaving(&self) -> bool {
        false
    }

    fn series(&self, _: &ServiceName, window: Duration, step: Duration) -> Vec<Point> {
        let steps = window.as_secs() / step.as_secs();
        (0..steps).map(|n| Point { age: n, rate: 1.0, errors: 0.0, latency: Default::default() }).collect()
    }

    fn policies(&self, service: &ServiceName) -> Policies {
        Policies {
            service: service.to_string(),
            resources: vec!["trafficpolicy/shop/cart".into()],
            ..Policies::default()
        }
    }

    fn changes(&self, before: Option<u64>, limit: usize) -> Answer<'_, Vec<ChangeRow>> {
        let rows = (1..=2).rev().filter(|n| before.is_none_or(|before| *n < before)).take(limit).map(row).collect();
        Box::pin(std::future::ready(Ok(rows)))
    }

    fn change(&self, revision: u64) -> Answer<'_, Option<Change>> {
        Box::pin(std::future::ready(match revision {
            1 | 2 => Ok(Some(Change { row: row(revision), diff: "+a\n".into() })),
            3 => Ok(None),
            _ => Err(ViewError { message: "the store is closed".into() }),
        }))
    }
}

fn row(revision: u64) -> ChangeRow {
    let (resources, action, summary) = (vec!["httproute/shop/cart".into()], "apply".into(), "raise the share".into());
    ChangeRow { revision, author: "ada".into(), time: String::new(), action, summary, resources, set: None }
}

async fn get_with(path: &str, field: Option<(&str, &HeaderValue)>) -> http::Response<Body> {
    let viewer = Principal { name: "ada".into(), role: Viewer };
    let mut request = http::Request::get(path).extension(viewer);
    if let Some((name, value)) = field {
        request = request.header(name, value);
    }
    routes(Arc::new(Shop)).into_router(None).call(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn get(path: &str) -> http::Response<Body> {
    get_with(path, None).await
}

async fn json(path: &str) -> (StatusCode, Value) {
    let response = get(path).await;
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn every_page_has_a_strict_policy_and_its_type() {
    for (path, kind) in
        [("/dashboard/", "text/html"), ("/dashboard/app.js", "text/javascript"), ("/dashboard/style.css", "text/css")]
    {
        let response = get(path).await;
        let fields = response.headers();
        assert_eq!(response.status(), 200, "{path}");
        assert!(fields["content-type"].to_str().unwrap().starts_with(kind), "{path}");
        assert!(
            fields["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'; script-src 'self'")
        );
        assert_eq!(fields["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    let etag = get("/dashboard/").await.headers()["etag"].clone();
    assert_eq!(get_with("/dashboard/", Some(("if-none-match", &etag))).await.status(), 304);
}

#[tokio::test]
async fn what_is_no_page_is_not_found() {
    for path in ["/dashboard/../Cargo.toml", "/dashboard/vendor/README.md", "/dashboard/nope.js"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    assert_eq!(get("/dashboard").await.headers()["location"], "/dashboard/");
}

#[tokio::test]
async fn the_live_stream_sends_one_document_as_one_event() {
    let response = get("/api/v1/live?window=61").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let frame = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    let event = std::str::from_utf8(&frame).unwrap();
    let data = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap();
    assert!(!data.contains('\n'));
    let document: Value = serde_json::from_str(data).unwrap();
    assert_eq!((document["window"].as_u64(), document["revision"].as_u64()), (Some(60), Some(2)));
    assert_eq!(document["services"][0]["instances"][0]["metadata"]["note"], "<script>alert(1)</script>\n\u{2028}");
    assert_eq!(document["proxies"][0]["rejections"][0]["resource"], "Cluster cart");
    assert_eq!(
        (&document["counts"]["not_synced"], &document["counts"]["rejected"]),
        (&Value::from(1), &Value::from(1))
    );
}

#[tokio::test]
async fn whoever_looks_at_a_service_gets_its_policies_behind_each_document() {
    let response = get("/api/v1/live?service=cart.shop").await;
    let frame = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    let text = std::str::from_utf8(&frame).unwrap();
    let (_, behind) = text.split_once("\n\nevent: policies\ndata: ").unwrap();
    let policies: Value = serde_json::from_str(behind.strip_suffix("\n\n").unwrap()).unwrap();
    let (status, asked) = json("/api/v1/dashboard/services/cart.shop/policies").await;
    assert_eq!((status, &policies), (StatusCode::OK, &asked));
    assert_eq!((&policies["service"], &policies["rows"]), (&"cart.shop".into(), &Value::Array(Vec::new())));
    for path in ["/api/v1/live?service=%0A", "/api/v1/dashboard/services/a%20b/policies"] {
        assert_eq!(get(path).await.status(), StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn documents_follow_each_second() {
    let mut body = get("/api/v1/live").await.into_body();
    let before = tokio::time::Instant::now();
    for _ in 0..4 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test]
async fn watchers_have_a_limit_and_a_seat_that_is_left_is_free() {
    let shared = Arc::new(Shared::new(Arc::new(Shop)));
    let seats: Vec<_> = (0..live::WATCHERS_MAX).map(|_| shared.seat().unwrap()).collect();
    assert!(shared.seat().is_none());
    drop(seats);
    assert!(shared.seat().is_some());
}

#[tokio::test]
async fn a_series_has_at_most_sixty_points() {
    let (status, points) = json("/api/v1/dashboard/services/cart.shop?window=3600").await;
    assert_eq!((status, points.as_array().unwrap().len()), (StatusCode::OK, 60));
    let (status, problem) = json("/api/v1/dashboard/services/%3Cscript%3E").await;
    assert_eq!(
        (status, problem["error"].as_str()),
        (StatusCode::BAD_REQUEST, Some("not a service name: write cart.shop"))
    );
}

#[tokio::test]
async fn changes_are_read_page_by_page() {
    let (_, newest) = json("/api/v1/dashboard/changes?limit=1").await;
    assert_eq!(newest[0]["revision"], 2);
    let (_, older) = json("/api/v1/dashboard/changes?before=2").await;
    assert_eq!((older.as_array().unwrap().len(), &older[0]["revision"]), (1, &Value::from(1)));
}

#[tokio::test]
async fn a_change_has_its_difference() {
    assert_eq!(json("/api/v1/dashboard/changes/2").await.1["diff"], "+a\n");
    assert_eq!(json("/api/v1/dashboard/changes/3").await.0, StatusCode::NOT_FOUND);
    let (status, problem) = json("/api/v1/dashboard/changes/4").await;
    assert_eq!((status, problem["error"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("the store is closed")));
}
