//! How often a request makes the proxy allocate. Client and server are threads that allocate nothing, so all that is
//! counted is the proxy's.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.
#![allow(clippy::disallowed_methods)] // Threads stand for other processes.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use leno_model::instance::Protocol;
use leno_model::snapshot::{Action, KeySource, Rate, RateForm, RateLimit, RateLimits, RateTell, Rule};
use leno_test::proxy;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM_UP: usize = 1_000;
const REQUESTS: usize = 10_000;
/// The future that answers it; boxed, so that a connection that waits is small.
const PER_REQUEST: f64 = 1.01;

const REQUEST: &[u8] =
    b"GET /items/7?full=1 HTTP/1.1\r\nHost: cart\r\nAccept: */*\r\nUser-Agent: test\r\nX-Request-Id: 12\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Sat, 21 Nov 2026 08:00:00 GMT\r\nContent-Length: 2\r\n\r\nok";

// One test, because what other threads of the process allocate would count.
#[test]
fn a_request_on_a_warm_connection_allocates_once_and_limits_on_requests_allocate_nothing() {
    leno_test::run(async {
        let plain = proxy().outbound_at("cart", Protocol::Detect, [server()]).start().await;
        measure("no limits", plain.outbound).await;
        let limited = proxy().with_rule(limit).outbound_at("cart", Protocol::Detect, [server()]).start().await;
        measure("four limits", limited.outbound).await;
    });
}

/// A limit of each kind that lets everything through, and one by key.
fn limit(rule: &mut Rule) {
    let rate = Rate { requests: 100_000, per: Duration::from_secs(1) };
    let bucket = RateForm::Bucket { rate, burst: 100_000, warm_up: None };
    let limit = |name: &str, key, form| RateLimit {
        name: name.into(),
        when: Vec::new(),
        key,
        keys: 64,
        form,
        shared: None,
        tell: RateTell::Nothing,
    };
    let limits = vec![
        limit("bucket", Vec::new(), bucket),
        limit("window", Vec::new(), RateForm::Window(rate)),
        limit("open", Vec::new(), RateForm::Concurrency(100)),
        limit("keyed", vec![KeySource::Header("x-request-id".into()), KeySource::Path], bucket),
    ];
    if let Action::Forward(clusters) = &mut rule.action {
        clusters[0].rate_limits = RateLimits { service: "cart.default".into(), limits };
    }
}

async fn measure(what: &str, outbound: SocketAddr) {
    let asking = tokio::task::spawn_blocking(move || {
        let mut client = TcpStream::connect(outbound).unwrap();
        ask(&mut client, WARM_UP);
        let region = Region::new(ALLOCATOR);
        ask(&mut client, REQUESTS);
        region.change()
    });
    let change = asking.await.unwrap();
    let each = |count: usize| count as f64 / REQUESTS as f64;
    let (made, grown) = (each(change.allocations), each(change.reallocations));
    println!(
        "allocations per HTTP/1 request with {what}: {made:.2} made, {grown:.2} grown, of {:.0} bytes",
        each(change.bytes_allocated)
    );
    assert!(made + grown <= PER_REQUEST, "{what}: {change:?}");
}

/// Asks on one connection, one request after the other.
fn ask(client: &mut TcpStream, requests: usize) {
    let mut buffer = [0; 4096];
    for _ in 0..requests {
        client.write_all(REQUEST).unwrap();
        read_until(client, &mut buffer, b"\r\n\r\nok");
        assert!(buffer.starts_with(b"HTTP/1.1 200 "));
    }
}

/// Answers every request in the same way.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        while read_until(&mut stream, &mut buffer, b"\r\n\r\n") {
            stream.write_all(ANSWER).unwrap();
        }
    });
    address
}

/// Reads until the bytes end so; false at the end of the stream.
fn read_until(stream: &mut TcpStream, buffer: &mut [u8], end: &[u8]) -> bool {
    let mut filled = 0;
    while !buffer[..filled].ends_with(end) {
        match stream.read(&mut buffer[filled..]).unwrap() {
            0 => return false,
            read => filled += read,
        }
    }
    true
}
