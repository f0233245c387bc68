//! What a whole proxy does, seen from its clients and its endpoints, over HTTP/1 and HTTP/2.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod blame;
mod failures;
mod headers;
mod leaving;
mod outside;
mod readings;
mod requests;
mod rules;
mod streams;
mod upgrades;

use leno_telemetry::Flag;
use leno_test::client::{self, Client};
use leno_test::proxy::Proxy;

/// Makes the client of a proxy.
type ClientOf = fn(&Proxy) -> Client;

/// Runs a body for both versions of HTTP.
fn both(test: impl AsyncFn(ClientOf)) {
    leno_test::run(async {
        test(client::h1).await;
        test(client::h2).await;
    });
}

/// How many requests a proxy counted with this flag.
fn flagged(proxy: &Proxy, flag: Flag) -> u64 {
    let outcomes = proxy.metrics.edges().into_iter().flat_map(|edge| edge.snapshot().outcomes);
    outcomes.filter(|(outcome, _)| outcome.flag == Some(flag)).map(|(_, count)| count).sum()
}

/// Waits until something is so; the time limit of the test is the limit.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}
