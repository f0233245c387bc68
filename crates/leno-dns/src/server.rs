//! The server loop: packets in, answers out, over sockets that someone else bound.
//!
//! One future does all of it, without tasks: queries that wait stand in a set with a limit, and while it is full
//! nothing is read, so that the kernel's queue drops what is too much. Over TCP a client may send one query after the
//! other; it is heard as long as it sends one every [`IDLE`].

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{sleep, timeout};

use crate::resolver::{Names, Resolver};

/// Queries by UDP that are answered at once.
pub const UDP_QUERIES_MAX: usize = 1_024;
/// TCP connections at once.
pub const TCP_CONNECTIONS_MAX: usize = 128;
/// Queries on one TCP connection.
pub const TCP_QUERIES_MAX: usize = 1_000;
/// Time for a query to arrive whole on a TCP connection, and for its answer to be taken.
pub const IDLE: Duration = Duration::from_secs(10);
/// Bytes of a query.
const QUERY_MAX: usize = 4_096;
/// After an error that is not about one packet.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers queries on both sockets until it is dropped.
pub async fn serve<N: Names>(udp: UdpSocket, tcp: TcpListener, resolver: &Resolver<N>) {
    tokio::join!(serve_udp(udp, resolver), serve_tcp(tcp, resolver));
}

/// Answers queries by UDP until it is dropped.
pub async fn serve_udp<N: Names>(socket: UdpSocket, resolver: &Resolver<N>) {
    let socket = &socket;
    let mut running = FuturesUnordered::new();
    let mut buffer = vec![0; QUERY_MAX];
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            received = socket.recv_from(&mut buffer), if running.len() < UDP_QUERIES_MAX => match received {
                Ok((length, peer)) => {
                    let packet = buffer[..length].to_vec();
                    running.push(async move {
                        if let Some(reply) = resolver.answer(&packet, false).await {
                            // A reply that cannot be sent is lost, as UDP may lose it anyway.
                            let _ = socket.send_to(&reply, peer).await;
                        }
                    });
                }
                // A peer that closed its port shows up here as refused; that is not about this socket.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(error) => {
                    tracing::warn!(%error, "receiving DNS queries paused");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Answers queries by TCP until it is dropped.
pub async fn serve_tcp<N: Names>(listener: TcpListener, resolver: &Resolver<N>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next() => {}
            accepted = listener.accept(), if running.len() < TCP_CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => running.push(converse(stream, resolver)),
                Err(error) => {
                    tracing::warn!(%error, "accepting DNS connections paused");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

/// Answers the queries of one connection.
async fn converse<N: Names>(mut stream: TcpStream, resolver: &Resolver<N>) {
    for _ in 0..TCP_QUERIES_MAX {
        let Ok(Some(query)) = timeout(IDLE, read(&mut stream)).await else { return };
        let Some(reply) = resolver.answer(&query, true).await else { return };
        let Ok(length) = u16::try_from(reply.len()) else { return };
        let framed = [&length.to_be_bytes(), reply.as_slice()].concat();
        if !matches!(timeout(IDLE, stream.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// One query; none at the end of the stream and for one that is too long.
async fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = usize::from(stream.read_u16().await.ok()?);
    if length > QUERY_MAX {
        return None;
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await.ok()?;
    Some(query)
}

#[cfg(test)]
mod tests;
