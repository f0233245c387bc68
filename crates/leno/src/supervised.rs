//! The line between the supervisor of `leno run` and its proxy: a Unix socket, on the proxy's standard input.
//!
//! One JSON object a line; descriptors travel with the first bytes of the line that names them. The supervisor keeps a
//! duplicate of every descriptor, so that a proxy that dies is replaced without a connection being refused.
//!
//! ```text
//! supervisor ─ take [names] ─────► proxy      listeners made in the program's namespace, the channel for sockets there
//!            ◄───── started ─────             accepts what the program sends
//!            ─ ports [port] ─────►            the program listens: accept for it, register it
//!            ◄── ready | waiting ─            registered, or why not yet
//!            ─ drain ────────────►            no new requests; the registry knows
//!            ◄───── drained ─────             open requests are done, or their time is over
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use leno_model::instance::Protocol;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes of one message.
const MESSAGE_MAX: usize = 64 * 1024;
/// Descriptors of one message.
const FDS_MAX: usize = 128;

/// What the two tell each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Message {
    /// Descriptors, in this order.
    Take(Vec<Handed>),
    /// The program listens here; each comes with the socket at which the proxy accepts for it.
    Ports(Vec<ProgramPort>),
    /// Finish.
    Drain,
    /// The proxy accepts what the program sends.
    Started,
    /// The instance is registered, or there is nothing to register.
    Ready,
    /// It is not registered yet, and why.
    Waiting(String),
    /// Everything is finished.
    Drained,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Handed {
    /// Accepts redirected connections.
    Outbound,
    /// Receives DNS queries.
    DnsUdp,
    /// Accepts DNS queries.
    DnsTcp,
    /// Makes sockets in the namespace.
    Sockets,
}

/// A port of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgramPort {
    /// The port that the service is known by.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where the program listens.
    pub address: SocketAddr,
}

/// One end of the line.
pub struct Line {
    stream: UnixStream,
    read: Vec<u8>,
    fds: Vec<OwnedFd>,
}

// === impl Line ===

impl Line {
    /// Both ends: this process's, and one to be given away.
    pub fn pair() -> io::Result<(Self, StdUnixStream)> {
        let (here, there) = StdUnixStream::pair()?;
        Ok((Self::new(here)?, there))
    }

    /// The end that the supervisor put on standard input.
    pub fn of_stdin() -> io::Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        Self::new(StdUnixStream::from(fd))
    }

    fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(stream)?, read: Vec::new(), fds: Vec::new() })
    }

    /// Says something, with descriptors.
    pub async fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut line = serde_json::to_vec(message).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut rest = &line[..];
        let mut fds = fds;
        while !rest.is_empty() {
            let sent =
                self.stream.async_io(Interest::WRITABLE, || leno_net::fds::send(&self.stream, rest, fds)).await?;
            rest = &rest[sent..];
            // They went with the first byte.
            fds = &[];
        }
        Ok(())
    }

    /// The next message with its descriptors; none when the other end is gone. May be cancelled.
    pub async fn next(&mut self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let message =
                    serde_json::from_slice(&line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                return Ok(Some((message, std::mem::take(&mut self.fds))));
            }
            if self.read.len() > MESSAGE_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message without end"));
            }
            let mut buffer = [0; 4096];
            let receive = || leno_net::fds::receive(&self.stream, &mut buffer, FDS_MAX);
            let (received, fds) = self.stream.async_io(Interest::READABLE, receive).await?;
            if received == 0 {
                return Ok(None);
            }
            self.read.extend_from_slice(&buffer[..received]);
            self.fds.extend(fds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors() {
        let (here, there) = Line::pair().unwrap();
        let mut there = Line::new(there).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        here.send(&Message::Take(vec![Handed::Outbound]), &[listener.as_fd()]).await.unwrap();
        here.send(&Message::Drain, &[]).await.unwrap();
        let (message, fds) = there.next().await.unwrap().unwrap();
        assert_eq!((message, fds.len()), (Message::Take(vec![Handed::Outbound]), 1));
        let taken = std::net::TcpListener::from(fds.into_iter().next().unwrap());
        assert_eq!(taken.local_addr().unwrap(), listener.local_addr().unwrap());
        assert_eq!(there.next().await.unwrap().unwrap().0, Message::Drain);
        drop(here);
        assert!(there.next().await.unwrap().is_none());
    }
}
