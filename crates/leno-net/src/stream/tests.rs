use std::future::poll_fn;
use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

async fn pair() -> (Stream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let there = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (here, _) = listener.accept().unwrap();
    here.set_nonblocking(true).unwrap();
    (TcpStream::from_std(here).unwrap().into(), there)
}

async fn read(stream: &Stream) -> io::Result<Bytes> {
    let mut buffer = BytesMut::with_capacity(64);
    poll_fn(|cx| stream.poll_read(cx, &mut buffer)).await?;
    Ok(buffer.freeze())
}

#[tokio::test]
async fn bytes_come_in_order_and_end_with_nothing() {
    let (here, mut there) = pair().await;
    there.write_all(b"one").unwrap();
    assert_eq!(read(&here).await.unwrap(), "one");
    there.write_all(b"two").unwrap();
    drop(there);
    assert_eq!(read(&here).await.unwrap(), "two");
    assert_eq!(read(&here).await.unwrap(), "");
}

#[tokio::test]
async fn after_a_partial_read_the_next_bytes_still_wake() {
    let (here, mut there) = pair().await;
    for round in 0..100u8 {
        there.write_all(&[round]).unwrap();
        assert_eq!(read(&here).await.unwrap(), vec![round]);
        assert_eq!(here.try_read(&mut BytesMut::with_capacity(8)).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[tokio::test]
async fn a_read_that_fills_its_buffer_is_followed_by_the_rest() {
    let (here, mut there) = pair().await;
    there.write_all(&[7; 100]).unwrap();
    assert_eq!((read(&here).await.unwrap().len(), read(&here).await.unwrap().len()), (64, 36));
}

#[tokio::test]
async fn a_full_socket_takes_the_rest_later() {
    let (here, mut there) = pair().await;
    let sent = vec![5u8; 8 << 20];
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        there.read_to_end(&mut got).unwrap();
        got.len()
    });
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let written = poll_fn(|cx| here.poll_write(cx, rest)).await.unwrap();
        rest = &rest[written..];
    }
    here.shutdown_write().unwrap();
    assert_eq!(reader.join().unwrap(), sent.len());
}

#[tokio::test]
async fn slices_are_written_in_order() {
    let (here, mut there) = pair().await;
    let slices = [IoSlice::new(b"head "), IoSlice::new(b""), IoSlice::new(b"body")];
    poll_fn(|cx| here.poll_write_vectored(cx, &slices)).await.unwrap();
    drop(here);
    let mut text = String::new();
    there.read_to_string(&mut text).unwrap();
    assert_eq!(text, "head body");
}

#[tokio::test]
async fn a_stream_is_stale_when_the_peer_closed_or_spoke_unasked() {
    let (idle, _kept) = pair().await;
    let (closed, peer) = pair().await;
    drop(peer);
    let (spoken, mut peer) = pair().await;
    peer.write_all(b"?").unwrap();
    assert_eq!([idle.is_stale(), closed.is_stale(), spoken.is_stale()], [false, true, true]);
    assert_eq!(read(&spoken).await.unwrap(), "?");
}

#[tokio::test]
async fn a_reset_reaches_the_peer_as_one() {
    let (here, mut there) = pair().await;
    here.reset_on_close();
    drop(here);
    assert_eq!(there.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_read_without_room_is_an_error_and_not_the_end() {
    let (here, mut there) = pair().await;
    there.write_all(b"x").unwrap();
    let result = poll_fn(|cx| here.poll_read(cx, &mut BytesMut::new())).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[tokio::test]
async fn it_is_also_what_tokio_calls_a_stream() {
    let (mut here, mut there) = pair().await;
    there.write_all(b"ping").unwrap();
    let mut text = [0; 4];
    here.read_exact(&mut text).await.unwrap();
    here.write_all(b"pong").await.unwrap();
    here.shutdown().await.unwrap();
    let mut answer = String::new();
    there.read_to_string(&mut answer).unwrap();
    assert_eq!((&text, answer.as_str()), (b"ping", "pong"));
}

#[tokio::test]
async fn a_detached_stream_goes_on_in_another_runtime() {
    let (here, mut there) = pair().await;
    let detached = here.detach().unwrap();
    there.write_all(b"moved").unwrap();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { read(&detached.attach().unwrap()).await.unwrap() })
    });
    assert_eq!(elsewhere.join().unwrap(), "moved");
}

#[tokio::test]
async fn a_unix_stream_says_so() {
    let (here, there) = UnixStream::pair().unwrap();
    let (here, there) = (Stream::from(here), Stream::from(there));
    here.try_write(b"x").unwrap();
    assert_eq!(read(&there).await.unwrap(), "x");
    assert_eq!((here.peer_addr(), here.original_destination()), (Peer::Unix, None));
}
