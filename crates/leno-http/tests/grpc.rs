//! gRPC between our client and our server.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::time::Duration;

use leno_http::grpc::{Call, Client, Code, Router, Sender, Status, Streaming};
use leno_http::*;

/// One text field, as any message would do.
#[derive(Clone, PartialEq, prost::Message)]
struct Text1 {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: &str) -> Text1 {
    Text1 { text: text.to_owned() }
}

fn router() -> Router {
    Router::new()
        .with_message_max(10_000)
        .unary("/t.Echo/Upper", async |call: Call, request: Text1| {
            if request.text == "who" {
                return Ok(text(call.head.fields.get_str("authorization").unwrap_or("nobody")));
            }
            Ok::<_, Status>(text(&request.text.to_uppercase()))
        })
        .unary("/t.Echo/Fail", async |_: Call, _: Text1| Err::<Text1, _>(Status::new(Code::NotFound, "no ü")))
        .unary("/t.Echo/Sleep", async |_: Call, _: Text1| std::future::pending::<Result<Text1, Status>>().await)
        .bidi("/t.Echo/Each", async |_: Call, mut requests: Streaming<Text1>, answers: &mut Sender<Text1>| {
            while let Some(request) = requests.message().await? {
                if request.text == "stop" {
                    return Err(Status::new(Code::Aborted, "stopped"));
                }
                answers.send(&text(&format!("<{}>", request.text))).await?;
            }
            Ok(())
        })
}

async fn client() -> Client {
    let address = kit::serve(router(), &kit::options()).await;
    Client::new(kit::client(address, Version::Http2).await, "echo")
}

#[test]
fn a_unary_call_is_answered() {
    kit::run(async {
        let client = client().await.with_field("authorization", "me");
        assert_eq!(client.unary::<_, Text1>("/t.Echo/Upper", &text("abc")).await, Ok(text("ABC")));
        assert_eq!(client.unary::<_, Text1>("/t.Echo/Upper", &text("who")).await, Ok(text("me")));
    });
}

#[test]
fn failures_are_statuses() {
    kit::run(async {
        let client = client().await;
        let failed = client.unary::<_, Text1>("/t.Echo/Fail", &text("")).await;
        assert_eq!(failed, Err(Status::new(Code::NotFound, "no ü")));
        let unknown = client.unary::<_, Text1>("/t.Echo/None", &text("")).await.unwrap_err();
        assert_eq!(unknown.code, Code::Unimplemented);
        let long = client.unary::<_, Text1>("/t.Echo/Upper", &text(&"x".repeat(20_000))).await.unwrap_err();
        assert_eq!(long.code, Code::ResourceExhausted);
        assert!(client.is_open());
    });
}

#[test]
fn a_deadline_ends_a_call_on_both_sides() {
    kit::run(async {
        let client = client().await.with_timeout(Duration::from_millis(20));
        let slow = client.unary::<_, Text1>("/t.Echo/Sleep", &text("")).await.unwrap_err();
        assert_eq!(slow.code, Code::DeadlineExceeded);
    });
}

#[test]
fn messages_go_both_ways_at_their_own_pace() {
    kit::run(async {
        let (mut requests, mut answers) = client().await.open::<Text1, Text1>("/t.Echo/Each").await.unwrap();
        for n in 0..3 {
            requests.send(&text(&n.to_string())).await.unwrap();
            assert_eq!(answers.message().await.unwrap(), Some(text(&format!("<{n}>"))));
        }
        requests.send(&text("a")).await.unwrap();
        requests.send(&text("b")).await.unwrap();
        requests.finish().await.unwrap();
        assert_eq!(answers.message().await.unwrap(), Some(text("<a>")));
        assert_eq!(answers.message().await.unwrap(), Some(text("<b>")));
        assert_eq!(answers.message().await.unwrap(), None);
    });
}

#[test]
fn a_stream_that_fails_says_why() {
    kit::run(async {
        let (mut requests, mut answers) = client().await.open::<Text1, Text1>("/t.Echo/Each").await.unwrap();
        requests.send(&text("stop")).await.unwrap();
        assert_eq!(answers.message().await, Err(Status::new(Code::Aborted, "stopped")));
    });
}

#[test]
fn a_lost_connection_is_unavailable() {
    struct Drops;
    impl Handler for Drops {
        async fn handle(&self, _: RequestHead, _: Body, reply: Reply) {
            let head = ResponseHead::new(200).with("content-type", "application/grpc");
            let mut sink = reply.send(head, BodyLength::Unknown).await.unwrap();
            sink.flush().await.unwrap();
        }
    }
    kit::run(async {
        let address = kit::serve(Drops, &kit::options()).await;
        let client = Client::new(kit::client(address, Version::Http2).await, "echo");
        let lost = client.unary::<_, Text1>("/t.Echo/Upper", &text("abc")).await.unwrap_err();
        assert_eq!(lost.code, Code::Internal, "the stream was reset: {lost}");
    });
}

#[test]
fn a_compressed_message_is_refused_and_so_is_one_that_claims_four_gigabytes() {
    kit::run(async {
        let address = kit::serve(router(), &kit::options()).await;
        for (bytes, code) in [(&b"\x01\0\0\0\x01x"[..], "12"), (b"\0\xff\xff\xff\xffx", "8")] {
            let connection = kit::client(address, Version::Http2).await;
            let mut head = RequestHead::new(Method::Post, "x", "/t.Echo/Upper");
            head.fields.append("content-type", "application/grpc");
            let (mut body, response) = connection.send(&head, BodyLength::Unknown).await.unwrap();
            body.data(bytes::Bytes::copy_from_slice(bytes)).await.unwrap();
            body.end().await.unwrap();
            assert_eq!(response.response().await.unwrap().head.fields.get_str("grpc-status"), Some(code));
        }
    });
}
