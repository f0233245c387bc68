//! Connections take turns: who asks for much at once does not hold those up who ask for little.

#![allow(clippy::unwrap_used)] // Handlers and helpers of tests are tests.

mod kit;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use kit::{frame, next_frame};
use leno_http::*;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Streams that a client opens at once.
const MANY: usize = 96;
/// As many of them as may come before somebody else's only one: those of two turns.
const FEW: usize = 32;

/// Notes whose turn it is.
struct Notes(Rc<RefCell<Vec<u8>>>);

impl Handler for Notes {
    async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
        self.0.borrow_mut().push(head.authority.as_ref().unwrap().as_bytes()[0]);
        let _ = reply.respond(ResponseHead::new(200), Bytes::from_static(b"ok")).await;
    }
}

async fn open(address: std::net::SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(4, 0, 0, &[])[..]].concat();
    stream.write_all(&begin).await.unwrap();
    while next_frame(&mut stream).await.unwrap().0 != 4 {}
    stream
}

fn get(id: usize, host: u8) -> Vec<u8> {
    frame(1, 5, id as u32, &[0x82, 0x86, 0x84, 0x01, 0x01, host])
}

async fn answers(stream: &mut TcpStream, count: usize) {
    let mut ended = 0;
    while ended < count {
        ended += usize::from(matches!(next_frame(stream).await.unwrap(), (0, 1.., _)));
    }
}

#[test]
fn a_stream_of_one_connection_does_not_wait_for_all_that_another_opens_at_once() {
    kit::run(async {
        let notes = Rc::new(RefCell::new(Vec::new()));
        let address = kit::serve(Notes(notes.clone()), &kit::options()).await;
        let (mut greedy, mut modest) = (open(address).await, open(address).await);
        let many: Vec<u8> = (0..MANY).flat_map(|n| get(2 * n + 1, b'g')).collect();
        // Neither waits, so that the server finds both.
        assert_eq!(greedy.try_write(&many).unwrap(), many.len());
        modest.try_write(&get(1, b'm')).unwrap();
        answers(&mut modest, 1).await;
        answers(&mut greedy, MANY).await;
        let before = notes.borrow().iter().position(|host| *host == b'm').unwrap();
        println!("turns: {before} of {MANY} streams of another connection came before the only one");
        assert!(before <= FEW, "{before}");
        assert_eq!(notes.borrow().len(), MANY + 1);
    });
}
