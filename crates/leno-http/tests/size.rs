//! What a connection weighs while nothing happens on it.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::rc::Rc;

use bytes::Bytes;
use leno_http::*;

/// A handler whose future is large.
struct Large;

impl Handler for Large {
    async fn handle(&self, _: RequestHead, _: Body, reply: Reply) {
        let large = [0u8; 8000];
        let _ = reply.respond(ResponseHead::new(200), Bytes::new()).await;
        std::hint::black_box(large);
    }
}

#[test]
fn the_future_of_a_connection_is_small_whatever_its_handler_is() {
    kit::run(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = kit::connect(listener.local_addr().unwrap()).await;
        let options = kit::options();
        let served = serve_connection(stream, Bytes::new(), &options, Rc::new(Large), std::future::pending());
        let size = size_of_val(&served);
        assert!(size <= 128, "{size} bytes");
    });
}
