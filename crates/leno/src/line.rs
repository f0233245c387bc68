//! A line between two processes of leno: messages with descriptors over a Unix socket.
//!
//! One JSON object a line; descriptors travel with the first bytes of the line that says how many it brings.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Bytes of one message.
const MESSAGE_MAX: usize = 64 * 1024;
/// Descriptors of one message.
pub const FDS_MAX: usize = 128;

/// What two processes tell each other.
pub trait Spoken: Serialize + DeserializeOwned {
    /// How many descriptors come with it.
    fn descriptors(&self) -> usize;
}

/// One end of the line.
pub struct Line<M> {
    stream: UnixStream,
    read: Vec<u8>,
    fds: VecDeque<OwnedFd>,
    speaks: PhantomData<M>,
}

// === impl Line ===

impl<M: Spoken> Line<M> {
    /// Both ends: this process's, and one to be given away.
    pub fn pair() -> io::Result<(Self, StdUnixStream)> {
        let (here, there) = StdUnixStream::pair()?;
        Ok((Self::new(here)?, there))
    }

    /// The end that whoever started this process put on standard input.
    pub fn of_stdin() -> io::Result<Self> {
        let fd = io::stdin().as_fd().try_clone_to_owned()?;
        Self::new(StdUnixStream::from(fd))
    }

    /// One end of a connection.
    pub fn new(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::of(UnixStream::from_std(stream)?))
    }

    /// One end of a connection.
    pub fn of(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new(), fds: VecDeque::new(), speaks: PhantomData }
    }

    /// Says something, with descriptors.
    pub async fn send(&self, message: &M, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        debug_assert_eq!(message.descriptors(), fds.len(), "a message brings what it says");
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
    pub async fn next(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let message: M = serde_json::from_slice(&line).map_err(|error| invalid(error.to_string()))?;
                let (said, came) = (message.descriptors(), self.fds.len());
                if came < said {
                    return Err(invalid(format!("a message of {said} descriptors brought {came}")));
                }
                // Those of the next message may have come with the end of this one.
                return Ok(Some((message, self.fds.drain(..said).collect())));
            }
            if self.read.len() > MESSAGE_MAX || self.fds.len() > 2 * FDS_MAX {
                return Err(invalid("a message without end".to_owned()));
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
    use crate::supervised::{Handed, Message};

    #[tokio::test]
    async fn a_message_arrives_with_its_descriptors() {
        let (here, there) = Line::<Message>::pair().unwrap();
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
