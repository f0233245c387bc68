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

struct Ok200;

impl Handler for Ok200 {
    async fn handle(&self, _: RequestHead, body: Body, reply: Reply) {
        let _ = body.collect(1 << 20).await;
        let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"ok")).await;
    }
}

/// Sends a request over a pooled connection and reads the answer; counts what had to be opened.
async fn exchange(
    pool: &Pool<&'static str>,
    version: Version,
    address: SocketAddr,
    dialled: &Cell<usize>,
) -> Result<()> {
    let dial = || async {
        dialled.set(dialled.get() + 1);
        Ok::<_, Error>(kit::client(address, version).await)
    };
    let connection = pool.get_or_dial(&"cart", version == Version::Http2, dial).await?;
    let (_, response) = connection.send(&RequestHead::new(Method::Get, "x", "/"), BodyLength::Empty).await?;
    response.response().await?.body.collect(10).await?;
    Ok(())
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
            exchange(&pool, Version::Http11, address, &dialled).await.unwrap();
            assert_eq!(dialled.get(), n);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn idle_connections_beyond_two_go_when_they_were_not_needed_for_a_while() {
    kit::run(async {
        let address = kit::serve(Ok200, &kit::options()).await;
        let options = PoolOptions { idle_surplus: Duration::from_millis(30), ..PoolOptions::default() };
        let (pool, dialled) = (Pool::new(options), Cell::new(0));
        let one = || exchange(&pool, Version::Http11, address, &dialled);
        let (a, b, c, d) = tokio::join!(one(), one(), one(), one());
        a.and(b).and(c).and(d).unwrap();
        pool.sweep();
        assert_eq!(pool.size().idle, 4, "all were busy a moment ago");
        tokio::time::sleep(Duration::from_millis(40)).await;
        pool.sweep();
        assert_eq!(pool.size().idle, 2);
    });
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    kit::both(async |version| {
        let address = kit::serve(Ok200, &kit::options()).await;
        let options = PoolOptions { idle_timeout: Duration::from_millis(20), ..PoolOptions::default() };
        let (pool, dialled) = (Pool::new(options), Cell::new(0));
        exchange(&pool, version, address, &dialled).await.unwrap();
        pool.sweep();
        assert_eq!(pool.size().idle + pool.size().h2, 1);
        tokio::time::sleep(Duration::from_millis(30)).await;
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
