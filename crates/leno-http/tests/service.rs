//! An axum router on this server, over both versions.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::routing::{get, post};
use bytes::Bytes;
use leno_http::*;

/// A body of two pieces, the second of which is released by the test.
struct Pieces(Option<&'static str>, Option<tokio::sync::oneshot::Receiver<()>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.0.take() {
            return std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(first.as_bytes())))));
        }
        let Some(wait) = &mut self.1 else { return std::task::Poll::Ready(None) };
        std::task::ready!(std::future::Future::poll(std::pin::Pin::new(wait), cx)).unwrap();
        self.1 = None;
        std::task::Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"second")))))
    }
}

fn head(method: Method, path: &str) -> RequestHead {
    RequestHead::new(method, "x", path)
}

#[test]
fn routes_are_served() {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: Bytes| async move { body }))
        .route("/host", get(|headers: http::HeaderMap| async move { headers["host"].to_str().unwrap().to_owned() }));
    kit::both(async |version| {
        let address = kit::serve(ServiceHandler::new(router.clone()), &kit::options()).await;
        let connection = kit::client(address, version).await;
        for (path, status, body) in [("/hello", 200, "hello"), ("/host", 200, "x"), ("/none", 404, "")] {
            let (_, response) = connection.send(&head(Method::Get, path), BodyLength::Empty).await.unwrap();
            let response = response.response().await.unwrap();
            assert_eq!(response.head.status, status);
            assert_eq!(response.body.collect(100).await.unwrap(), body);
        }
        let (mut body, response) = connection.send(&head(Method::Post, "/echo"), BodyLength::Unknown).await.unwrap();
        for _ in 0..10 {
            body.data(Bytes::from(vec![b'x'; 10_000])).await.unwrap();
        }
        body.end().await.unwrap();
        assert_eq!(response.response().await.unwrap().body.collect(1 << 20).await.unwrap().len(), 100_000);
    });
}

#[test]
fn an_event_is_sent_when_it_happens() {
    kit::both(async |version| {
        let (release, released) = tokio::sync::oneshot::channel();
        let body = std::sync::Arc::new(std::sync::Mutex::new(Some(Pieces(Some("first"), Some(released)))));
        let events = move || async move { AxumBody::new(body.lock().unwrap().take().unwrap()) };
        let address = kit::serve(ServiceHandler::new(Router::new().route("/", get(events))), &kit::options()).await;
        let connection = kit::client(address, version).await;
        let (_, response) = connection.send(&head(Method::Get, "/"), BodyLength::Empty).await.unwrap();
        let mut body = response.response().await.unwrap().body;
        assert_eq!(body.frame().await.unwrap().unwrap(), Frame::Data(Bytes::from_static(b"first")));
        release.send(()).unwrap();
        assert_eq!(body.frame().await.unwrap().unwrap(), Frame::Data(Bytes::from_static(b"second")));
        assert!(body.frame().await.is_none());
    });
}

#[test]
fn extensions_reach_the_handlers() {
    #[derive(Clone)]
    struct Peer(&'static str);
    let router = Router::new().route(
        "/",
        get(|request: axum::extract::Request| async move { request.extensions().get::<Peer>().unwrap().0 }),
    );
    kit::both(async |version| {
        let handler = ServiceHandler::new(router.clone()).with_extensions(|e| {
            e.insert(Peer("me"));
        });
        let connection = kit::client(kit::serve(handler, &kit::options()).await, version).await;
        let (_, response) = connection.send(&head(Method::Get, "/"), BodyLength::Empty).await.unwrap();
        assert_eq!(response.response().await.unwrap().body.collect(10).await.unwrap(), "me");
    });
}
