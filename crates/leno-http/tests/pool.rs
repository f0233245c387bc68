//! Connections that are used again.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);

struct Ok200;

impl Handler for Ok200 {
    async fn handle(&self, _: RequestHead, body: Body, reply: Reply) {
        let _ = body.collect(1 << 20).await;
        let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"ok")).await;
    }
}

/// Sends a request over a pooled connection and reads the answer; counts what had to be opened. Gives the connection,
/// which is the pool's again.
async fn exchange(
    pool: &Pool<&'static str>,
    version: Version,
    address: SocketAddr,
    dialled: &Cell<usize>,
) -> Result<Connection> {
    let dial = || async {
        dialled.set(dialled.get() + 1);
        Ok::<_, Error>(kit::client(address, version).await)
    };
    let connection = pool.get_or_dial(&"cart", version == Version::Http2, dial).await?;
    let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await?;
    response.response().await?.body.collect(10).await?;
    Ok(connection)
}

#[test]
fn a_connection_is_used_again() {
    kit::both(async |version| {
        let address = kit::serve(Ok200, &kit::options()).await;
        let (pool, dialled) = (Pool::default(), Cell::new(0));
        for _ in 0..5 {
            exchange(&pool, version, address, &dialled).await.unwrap();
        }
        assert_eq!(dialled.get(), 1);
        assert_eq!(pool.size().idle + pool.size().h2, 1);
    });
}

#[test]
fn exchanges_at_one_time_share_http_2_and_not_http_1() {
    kit::both(async |version| {
        let address = kit::serve(Ok200, &kit::options()).await;
        let (pool, dialled) = (Pool::default(), Cell::new(0));
        let one = || exchange(&pool, version, address, &dialled);
        let (a, b, c) = tokio::join!(one(), one(), one());
        a.and(b).and(c).unwrap();
        assert_eq!(dialled.get(), if version == Version::Http2 { 1 } else { 3 });
    });
}

#[test]
fn a_second_http_2_connection_is_opened_when_the_first_is_nearly_full() {
    struct Never;
    impl Handler for Never {
        async fn handle(&self, _: RequestHead, _: Body, _reply: Reply) {
            std::future::pending::<()>().await;
        }
    }
    kit::run(async {
        let address = kit::serve(Never, &kit::options()).await;
        let pool: Pool<()> = Pool::default();
        let mut open = Vec::new();
        for _ in 0..81 {
            let dial = || async { Ok::<_, Error>(kit::client(address, Version::Http2).await) };
            let connection = pool.get_or_dial(&(), true, dial).await.unwrap();
            open.push(connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap());
        }
        assert_eq!((pool.size().h2, pool.size().streams), (2, 81));
    });
}

#[test]
fn a_connection_that_its_server_closed_is_not_used() {
    kit::run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1000];
                let _ = stream.read(&mut buffer).await;
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            }
        });
        let (pool, dialled) = (Pool::default(), Cell::new(0));
        for n in 1..4 {
            let connection = exchange(&pool, Version::Http11, address, &dialled).await.unwrap();
            assert_eq!(dialled.get(), n);
            while connection.is_open() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
}

#[test]
fn idle_connections_beyond_two_go_when_they_were_not_needed_for_a_while() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let options = PoolOptions { idle_surplus: 5 * SECOND, ..PoolOptions::default() };
        let (pool, dialled) = (Pool::new(options), Cell::new(0));
        let one = || exchange(&pool, Version::Http11, address, &dialled);
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        a.and(b).and(c).and(d).unwrap();
        tokio::time::pause();
        pool.sweep();
        assert_eq!(pool.size().idle, 4, "all were busy a moment ago");
        tokio::time::advance(5 * SECOND).await;
        pool.sweep();
        assert_eq!(pool.size().idle, 2);
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    kit::both(async |version| {
        let address = kit::serve(Ok200, &kit::options()).await;
        let options = PoolOptions { idle_timeout: 5 * SECOND, ..PoolOptions::default() };
        let (pool, dialled) = (Pool::new(options), Cell::new(0));
        exchange(&pool, version, address, &dialled).await.unwrap();
        tokio::time::pause();
        pool.sweep();
        assert_eq!(pool.size().idle + pool.size().h2, 1);
        tokio::time::advance(5 * SECOND).await;
        pool.sweep();
        assert_eq!(pool.size().idle + pool.size().h2, 0);
    });
}

#[test]
fn a_keep_alive_timeout_is_honoured() {
    kit::run(async {
        let answer: &'static [u8] = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n";
        let (address, _server) = kit::scripted(vec![answer], false).await;
        let (pool, dialled) = (Pool::default(), Cell::new(0));
        exchange(&pool, Version::Http11, address, &dialled).await.unwrap();
        assert_eq!(pool.size().idle, 1);
        pool.sweep();
        assert_eq!(pool.size().idle, 0);
    });
}

#[test]
fn a_forgotten_key_takes_nothing_back() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let pool: Pool<u8> = Pool::default();
        let connection = kit::client(address, Version::Http11).await;
        pool.adopt(&1, &connection);
        let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await.unwrap();
        pool.retain(|_| false);
        response.response().await.unwrap().body.collect(10).await.unwrap();
        assert_eq!(pool.size(), PoolSize::default());
    });
}

#[test]
fn when_the_shared_dial_fails_each_dials_once_for_itself() {
    kit::run(async {
        let pool: Pool<()> = Pool::default();
        let dialled = Rc::new(Cell::new(0));
        let one = || {
            let dialled = dialled.clone();
            pool.get_or_dial(&(), true, move || async move {
                dialled.set(dialled.get() + 1);
                tokio::task::yield_now().await;
                Err::<Connection, ()>(())
            })
        };
        let results = tokio::join!(one(), one(), one());
        assert!(results.0.is_err() && results.1.is_err() && results.2.is_err());
        assert_eq!(dialled.get(), 3);
    });
}

/// A server that answers each head with its target, reads no body, and takes whatever follows for the next head.
async fn careless() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let mut unread = Vec::new();
                loop {
                    while let Some(end) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                        let head: Vec<u8> = unread.drain(..end + 4).collect();
                        let target = String::from_utf8_lossy(&head).split(' ').nth(1).unwrap_or("?").to_owned();
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                    if stream.read_buf(&mut unread).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// Sends a request with this body over a pooled connection; the answer's body.
async fn ask(pool: &Pool<()>, address: SocketAddr, method: Method, target: &str, body: &'static [u8]) -> Bytes {
    let dial = || async { Ok::<_, Error>(kit::client(address, Version::Http11).await) };
    let connection = pool.get_or_dial(&(), false, dial).await.unwrap();
    let mut body = Body::full(body);
    let (sink, response) = connection.send(&RequestHead::new(method, "x", target), body.length()).await.unwrap();
    pump(&mut body, sink).await.unwrap();
    response.response().await.unwrap().body.collect(100).await.unwrap()
}

#[test]
fn a_body_that_a_server_leaves_unread_is_not_the_next_callers_request() {
    const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for method in [Method::Get, Method::Head, Method::Delete, Method::Options, Method::parse(b"REPORT").unwrap()] {
        kit::run(async move {
            let (pool, address) = (Pool::default(), careless().await);
            // Once on a fresh connection, and once on one from the pool.
            for _ in 0..2 {
                ask(&pool, address, method.clone(), "/attack", SMUGGLED).await;
                assert_eq!(pool.size().idle, 0, "{method} with a body");
                assert_eq!(ask(&pool, address, Method::Get, "/mine", b"").await, "/mine");
                assert_eq!(pool.size().idle, 1, "GET without one");
            }
        });
    }
}

#[test]
fn a_connection_whose_answer_came_before_the_end_of_the_request_is_not_used_again() {
    kit::run(async {
        let (pool, address) = (Pool::<()>::default(), careless().await);
        let connection = kit::client(address, Version::Http11).await;
        pool.adopt(&(), &connection);
        let head = RequestHead::new(Method::Post, "x", "/");
        let (mut body, response) = connection.send(&head, BodyLength::Known(4)).await.unwrap();
        body.flush().await.unwrap();
        let answered = response.response().await.unwrap().body;
        body.data(Bytes::from_static(b"rest")).await.unwrap();
        body.end().await.unwrap();
        answered.collect(10).await.unwrap();
        assert_eq!(pool.size().idle, 0);
        assert!(!connection.is_open());
    });
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn who_waits_for_a_connection_that_does_not_open_hears_so() {
    let pool = Pool::<&'static str>::default();
    assert!(pool.dialled(&"cart").await.is_none(), "nobody opens one");
    let dial = || async {
        tokio::time::sleep(SECOND).await;
        Err::<Connection, _>(Error::connect(std::io::ErrorKind::ConnectionRefused.into()))
    };
    let (dialled, (heard, after)) = tokio::join!(pool.get_or_dial(&"cart", true, dial), async {
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        (pool.dialled(&"cart").await, began.elapsed())
    });
    assert!(dialled.is_err() && heard.is_none() && after >= SECOND, "{after:?}");
}
