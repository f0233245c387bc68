//! The test kit: a server that answers as told, a whole proxy, a client, in a line each.
//!
//! ```text
//! leno_test::run(async {
//!     let cart = server::http().respond("/", 503).then("/", 200).start().await;
//!     let proxy = proxy().outbound_to("cart", [&cart]).start().await;
//!     assert_eq!(client::h1(&proxy).get("cart", "/").await.status(), 200);
//! });
//! ```
//!
//! Everything runs on the test's own thread over real sockets of loopback with free ports, and ends with the test.

pub mod client;
pub mod proxy;
pub mod server;

pub use proxy::proxy;

/// Runs a test on a runtime of its own. A test that does not end within a minute has failed.
pub fn run(test: impl Future<Output = ()>) {
    let limit = std::time::Duration::from_secs(60);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    let timed = async { tokio::time::timeout(limit, test).await.expect("the test takes longer than a minute") };
    runtime.expect("a runtime needs a few descriptors").block_on(timed);
}
