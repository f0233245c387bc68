//! What holds for an exchange whatever the version.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use leno_http::*;

/// Answers with what it was asked; `/stream` streams the body back as it comes, with its trailers.
struct Echo;

impl Handler for Echo {
    async fn handle(&self, head: RequestHead, mut body: Body, mut reply: Reply) {
        match head.path_only() {
            "/stream" => {
                let sink = reply.send(ResponseHead::new(200), BodyLength::Unknown).await.unwrap();
                let _ = pump(&mut body, sink).await;
            }
            "/hints" => {
                reply.informational(&ResponseHead::new(103).with("link", "a")).await.unwrap();
                reply.respond(ResponseHead::new(204), Bytes::new()).await.unwrap();
            }
            "/none" => {}
            "/cut" => {
                let mut sink = reply.send(ResponseHead::new(200), BodyLength::Unknown).await.unwrap();
                sink.data(Bytes::from_static(b"half")).await.unwrap();
                sink.flush().await.unwrap();
                sink.abort();
            }
            "/short" => {
                let mut sink = reply.send(ResponseHead::new(200), BodyLength::Known(10)).await.unwrap();
                sink.data(Bytes::from_static(b"half")).await.unwrap();
                assert!(sink.end().await.is_err());
            }
            _ => {
                let body = body.collect(1 << 20).await.unwrap();
                let text = format!("{} {} {} {}", head.method, head.host(), head.path, String::from_utf8_lossy(&body));
                let answer = ResponseHead::new(200).with("X-Up", head.fields.get("x-up").unwrap_or(b"-"));
                let _ = reply.respond(answer, text.into()).await;
            }
        }
    }
}

fn head(method: Method, path: &str) -> RequestHead {
    RequestHead::new(method, "cart.test:80", path)
}

async fn get(connection: &Connection, path: &str) -> Result<client::Response> {
    let (_, response) = connection.send(&head(Method::Get, path), BodyLength::Empty).await?;
    response.response().await
}

#[test]
fn a_request_and_its_answer() {
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Echo, &kit::options()).await, version).await;
        for _ in 0..3 {
            let mut head = head(Method::Post, "/a?b=c");
            head.fields.append("X-Up", "1");
            let (mut body, response) = connection.send(&head, BodyLength::Known(2)).await.unwrap();
            body.data(Bytes::from_static(b"h")).await.unwrap();
            body.data(Bytes::from_static(b"i")).await.unwrap();
            body.end().await.unwrap();
            let response = response.response().await.unwrap();
            assert_eq!(response.head.fields.get("x-up"), Some(&b"1"[..]));
            assert_eq!(response.body.length(), BodyLength::Known(27));
            assert_eq!(response.body.collect(100).await.unwrap(), "POST cart.test:80 /a?b=c hi");
        }
    });
}

#[test]
fn bodies_stream_both_ways_with_trailers() {
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Echo, &kit::options()).await, version).await;
        let (mut body, response) = connection.send(&head(Method::Post, "/stream"), BodyLength::Unknown).await.unwrap();
        body.data(Bytes::from_static(b"first")).await.unwrap();
        body.flush().await.unwrap();
        let mut answer = response.response().await.unwrap().body;
        assert_eq!(answer.frame().await.unwrap().unwrap(), Frame::Data(Bytes::from_static(b"first")));
        let sent = async {
            for _ in 0..50 {
                body.data(Bytes::from(vec![7; 100_000])).await.unwrap();
            }
            body.trailers([("x-sum", "1"), ("content-length", "5")].into_iter().collect()).await.unwrap();
        };
        let received = async {
            let mut total = 0;
            loop {
                match answer.frame().await.unwrap().unwrap() {
                    Frame::Data(data) => total += data.len(),
                    Frame::Trailers(trailers) => return (total, trailers),
                }
            }
        };
        let ((), (total, trailers)) = tokio::join!(sent, received);
        assert_eq!((total, trailers), (5_000_000, [("x-sum", "1")].into_iter().collect()));
        assert!(answer.frame().await.is_none());
    });
}

#[test]
fn a_reader_that_stops_stops_the_writer() {
    struct Flood(Rc<Cell<usize>>);
    impl Handler for Flood {
        async fn handle(&self, _: RequestHead, _: Body, reply: Reply) {
            let mut sink = reply.send(ResponseHead::new(200), BodyLength::Unknown).await.unwrap();
            while sink.data(Bytes::from(vec![0; 64 * 1024])).await.is_ok() {
                self.0.set(self.0.get() + 64 * 1024);
                tokio::task::yield_now().await;
            }
        }
    }
    kit::both(async |version| {
        let written = Rc::new(Cell::new(0));
        let connection = kit::client(kit::serve(Flood(written.clone()), &kit::options()).await, version).await;
        let response = get(&connection, "/").await.unwrap();
        let mut last = usize::MAX;
        while last != written.get() {
            last = written.get();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert!(last < 16 << 20, "{last} bytes were taken off a writer whom nobody reads");
        drop(response);
    });
}

#[test]
fn informationals_come_before_the_answer() {
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Echo, &kit::options()).await, version).await;
        let response = get(&connection, "/hints").await.unwrap();
        assert_eq!((response.head.status, response.informationals.len()), (204, 1));
        assert_eq!(response.informationals[0].fields.get("link"), Some(&b"a"[..]));
    });
}

#[test]
fn head_has_fields_and_no_body() {
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Echo, &kit::options()).await, version).await;
        let (_, response) = connection.send(&head(Method::Head, "/h"), BodyLength::Empty).await.unwrap();
        let mut response = response.response().await.unwrap();
        assert_eq!(response.head.fields.get_str("content-length"), Some("21"));
        assert!(response.body.frame().await.is_none());
        assert_eq!(get(&connection, "/next").await.unwrap().head.status, 200);
    });
}

#[test]
fn an_answer_that_is_cut_off_is_an_error_for_its_reader() {
    kit::both(async |version| {
        for path in ["/none", "/cut", "/short"] {
            let connection = kit::client(kit::serve(Echo, &kit::options()).await, version).await;
            let result = match get(&connection, path).await {
                Ok(response) => response.body.collect(100).await.map(|_| ()),
                Err(error) => Err(error),
            };
            assert_eq!(result.unwrap_err().side(), Side::Upstream, "{path}");
        }
    });
}

#[test]
fn a_client_that_gives_up_ends_the_handler() {
    struct Forever(Rc<Cell<bool>>);
    struct Flag(Rc<Cell<bool>>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    impl Handler for Forever {
        async fn handle(&self, _: RequestHead, _: Body, _reply: Reply) {
            let _flag = Flag(self.0.clone());
            std::future::pending::<()>().await;
        }
    }
    kit::both(async |version| {
        let ended = Rc::new(Cell::new(false));
        let connection = kit::client(kit::serve(Forever(ended.clone()), &kit::options()).await, version).await;
        let (_body, response) = connection.send(&head(Method::Get, "/"), BodyLength::Empty).await.unwrap();
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        drop(response);
        while !ended.get() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_deadline_for_the_answer_is_a_timeout() {
    struct Slow;
    impl Handler for Slow {
        async fn handle(&self, _: RequestHead, _: Body, _reply: Reply) {
            std::future::pending::<()>().await;
        }
    }
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Slow, &kit::options()).await, version).await;
        let (_body, mut response) = connection.send(&head(Method::Get, "/"), BodyLength::Empty).await.unwrap();
        response.set_deadline(tokio::time::Instant::now() + std::time::Duration::from_millis(20));
        let error = response.response().await.unwrap_err();
        assert!(error.is_timeout() && error.flag() == "UT", "{error}");
    });
}

#[test]
fn connect_opens_a_tunnel() {
    struct Tunnels;
    impl Handler for Tunnels {
        async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
            assert_eq!((head.form, head.host()), (TargetForm::Authority, "db:5432"));
            let mut tunnel = reply.upgrade(ResponseHead::new(200)).await.unwrap();
            while let Some(Ok(bytes)) = tunnel.read().await {
                tunnel.write(bytes).await.unwrap();
            }
            tunnel.shutdown_write().unwrap();
        }
    }
    kit::both(async |version| {
        let connection = kit::client(kit::serve(Tunnels, &kit::options()).await, version).await;
        let mut head = RequestHead::new(Method::Connect, "db:5432", "");
        head.form = TargetForm::Authority;
        let (_, response) = connection.send(&head, BodyLength::Empty).await.unwrap();
        let mut tunnel = response.response().await.unwrap().tunnel.unwrap();
        let mut echoed = 0;
        for _ in 0..20 {
            tunnel.write(Bytes::from(vec![1; 1000])).await.unwrap();
            while let Some(Ok(bytes)) = tunnel.read().await {
                echoed += bytes.len();
                if echoed % 1000 == 0 {
                    break;
                }
            }
        }
        tunnel.shutdown_write().unwrap();
        assert!(tunnel.read().await.is_none());
        assert_eq!(echoed, 20_000);
    });
}

#[test]
fn a_drained_connection_finishes_what_is_on_and_takes_no_more() {
    kit::both(async |version| {
        let (drain, drained) = tokio::sync::oneshot::channel::<()>();
        let (address, served) = kit::serve_once(Echo, &kit::options(), async { drop(drained.await) }).await;
        let connection = kit::client(address, version).await;
        let (mut body, response) = connection.send(&head(Method::Post, "/stream"), BodyLength::Unknown).await.unwrap();
        body.data(Bytes::from_static(b"one")).await.unwrap();
        body.flush().await.unwrap();
        let mut answer = response.response().await.unwrap().body;
        answer.frame().await.unwrap().unwrap();
        drain.send(()).unwrap();
        body.data(Bytes::from_static(b"two")).await.unwrap();
        body.end().await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap(), Frame::Data(Bytes::from_static(b"two")));
        assert!(answer.frame().await.is_none());
        assert!(matches!(served.await.unwrap(), Served::Drained | Served::Closed));
        assert!(get(&connection, "/").await.is_err() && !connection.is_open());
    });
}
