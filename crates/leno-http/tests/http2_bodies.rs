//! What is known of a request's body over HTTP/2 when its handler gets it: as much as came with the head.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use kit::{frame, next_frame};
use leno_http::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const END: u8 = 1;
const WHOLE: u8 = 4;

/// What was known of each body, and what came.
#[derive(Default)]
struct Seen(Rc<RefCell<Vec<(BodyLength, Bytes)>>>);

impl Handler for Seen {
    async fn handle(&self, _: RequestHead, body: Body, reply: Reply) {
        let length = body.length();
        let came = body.collect(100_000).await.unwrap();
        self.0.borrow_mut().push((length, came));
        let _ = reply.respond(ResponseHead::new(200), Bytes::new()).await;
    }
}

/// The head of a POST whose body is to come, with these fields besides.
fn post(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x83, 0x86, 0x84, 0x01, 0x01, b'x'];
    for (name, value) in fields {
        block.extend([&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat());
    }
    frame(HEADERS, WHOLE, 1, &block)
}

/// Sends these bytes in one piece, then the others once the server has said something to the first; the kinds and payloads
/// of what it said of the stream, and what its handler saw.
async fn exchange(first: &[u8], then: &[u8]) -> (Vec<(u8, Vec<u8>)>, (BodyLength, Bytes)) {
    let handler = Seen::default();
    let seen = handler.0.clone();
    let mut stream = TcpStream::connect(kit::serve(handler, &kit::options()).await).await.unwrap();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..]].concat();
    stream.write_all(&[&begin, first].concat()).await.unwrap();
    let (mut said, mut is_sent) = (Vec::new(), false);
    while seen.borrow().is_empty() || said.is_empty() {
        let (kind, id, payload) = next_frame(&mut stream).await.unwrap();
        if !std::mem::replace(&mut is_sent, true) {
            stream.write_all(then).await.unwrap();
        }
        if id == 1 {
            said.push((kind, payload));
        }
    }
    let seen = seen.take().remove(0);
    (said, seen)
}

#[test]
fn a_body_that_came_with_its_head_is_of_known_length_and_an_empty_one_is_none() {
    let (small, large) = (frame(DATA, END, 1, b"small"), frame(DATA, END, 1, &[7; 9_000]));
    let in_two = [frame(DATA, 0, 1, b"small"), frame(DATA, END, 1, &[])].concat();
    let grpc = ("content-type", "application/grpc");
    let known = BodyLength::Known(5);
    let cases = [
        ("ended, and nothing in it", [post(&[]), frame(DATA, END, 1, &[])].concat(), BodyLength::Empty),
        (
            "ended, and nothing in it, as it says",
            [post(&[("content-length", "0")]), frame(DATA, END, 1, &[])].concat(),
            BodyLength::Empty,
        ),
        ("small", [post(&[]), small.clone()].concat(), known),
        ("small, its end by itself", [post(&[]), in_two].concat(), known),
        ("small, as it says", [post(&[("content-length", "5")]), small.clone()].concat(), known),
        ("a call, whose client said nothing", [post(&[grpc]), small.clone()].concat(), BodyLength::Unknown),
        ("a call", [post(&[grpc, ("content-length", "5")]), small].concat(), known),
        ("large", [post(&[]), large].concat(), BodyLength::Unknown),
    ];
    for (name, frames, length) in cases {
        kit::run(async {
            let (_, (seen, _)) = exchange(&frames, &[]).await;
            assert_eq!(seen, length, "{name}");
        });
    }
}

#[test]
fn a_body_that_comes_later_is_of_unknown_length_and_comes_whole() {
    kit::run(async {
        let (_, (length, body)) = exchange(&post(&[]), &frame(DATA, END, 1, b"later")).await;
        assert_eq!((length, &body[..]), (BodyLength::Unknown, &b"later"[..]));
    });
}

#[test]
fn a_client_that_asks_whether_to_go_on_hears_so_unless_it_has() {
    let asks = post(&[("expect", "100-continue")]);
    let body = frame(DATA, END, 1, b"small");
    for (first, then, goes_on) in [(asks.clone(), body.clone(), true), ([asks, body].concat(), Vec::new(), false)] {
        kit::run(async move {
            let (said, _) = exchange(&first, &then).await;
            let is_100 = |(kind, block): &(u8, Vec<u8>)| *kind == HEADERS && block.ends_with(b"100");
            assert_eq!(is_100(&said[0]), goes_on, "{said:?}");
        });
    }
}
