use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0.into(), there)
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_end_is_passed_on_alone() {
    let ((a, mut client), (b, mut server)) = (pair().await, pair().await);
    let talk = async {
        client.write_all(b" world").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        server.read_to_string(&mut question).await.unwrap();
        // The client has ended its direction; the answer still comes.
        server.write_all(b"and to you").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        (question, answer)
    };
    let (relayed, talked) = tokio::join!(relay(a, b, Bytes::from_static(b"hello"), MINUTE), talk);
    assert_eq!(talked, ("hello world".to_owned(), "and to you".to_owned()));
    assert_eq!((relayed.a_to_b, relayed.b_to_a), (11, 10));
    assert!(matches!(relayed.end, RelayEnd::Closed));
}

#[tokio::test]
async fn a_slow_reader_loses_nothing_and_holds_the_writer_back() {
    const LENGTH: usize = 16 << 20;
    let ((a, mut client), (b, mut server)) = (pair().await, pair().await);
    let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    let write = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let read = async {
        let mut got = Vec::with_capacity(LENGTH);
        while server.read_buf(&mut (&mut got).limit_to(1000)).await.unwrap() > 0 {}
        drop(server);
        got
    };
    let (relayed, (), got) = tokio::join!(relay(a, b, Bytes::new(), MINUTE), write, read);
    assert_eq!(relayed.a_to_b as usize, LENGTH);
    assert!(got == sent);
}

#[tokio::test]
async fn a_reset_of_one_side_resets_the_other() {
    let ((a, client), (b, mut server)) = (pair().await, pair().await);
    client.set_zero_linger().unwrap();
    drop(client);
    let relayed = relay(a, b, Bytes::new(), MINUTE).await;
    assert!(matches!(relayed.end, RelayEnd::Broken(RelaySide::A, _)));
    assert_eq!(server.read(&mut [0; 1]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn silence_ends_a_relay_after_the_idle_time_counted_from_the_last_byte() {
    let ((a, mut client), (b, _server)) = (pair().await, pair().await);
    let started = Instant::now();
    let talk = async {
        tokio::time::sleep(MINUTE / 2).await;
        client.write_all(b"x").await.unwrap();
    };
    let (relayed, ()) = tokio::join!(relay(a, b, Bytes::new(), MINUTE), talk);
    assert!(matches!(relayed.end, RelayEnd::Idle));
    assert!(started.elapsed() >= MINUTE * 3 / 2 && started.elapsed() < MINUTE * 2, "{:?}", started.elapsed());
}

/// At most `limit` bytes at a time.
trait LimitTo {
    fn limit_to(self, limit: usize) -> bytes::buf::Limit<Self>
    where
        Self: Sized;
}

impl<B: bytes::BufMut> LimitTo for B {
    fn limit_to(self, limit: usize) -> bytes::buf::Limit<B> {
        self.limit(limit)
    }
}
