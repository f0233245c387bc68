//! What the two sides of a capture say to each other over Unix stream sockets: frames of eight bytes (kind, count, two
//! unused, a number), some followed by a text, some with descriptors. Both ends are always the same binary, so there are
//! no versions.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{CaptureError, Why};
use crate::fds;

/// A frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What it says.
    pub(crate) kind: Kind,
    /// How many of it.
    pub(crate) count: u8,
    /// A pid, an exit status, a signal, an errno.
    pub(crate) value: i32,
    /// Bytes of text that follow.
    pub(crate) text: u16,
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Inside is set up; the descriptors are listeners; `count` is 1 without IPv6 and 2 with it.
    Ready = 1,
    /// Inside could not be set up: `value` is the errno, `count` the case, the text what was done.
    Failed,
    /// Start the program.
    Go,
    /// The program runs as process `value`.
    Started,
    /// The program could not be executed: `value` is the errno.
    NotExecuted,
    /// Send signal `value` to the program.
    Signal,
    /// The program exited with status `value`.
    Exited,
    /// Signal `value` ended the program.
    Killed,
    /// Make `count` sockets.
    AskTcp4,
    /// Make `count` sockets.
    AskTcp6,
    /// Make another channel to the agent.
    AskChannel,
    /// What was asked for is attached; `value` is an errno where it could not be made.
    Made,
}

/// Which failure a [`Kind::Failed`] tells of, in its `count`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Case {
    Other,
    NftMissing,
    Forbidden,
    Powerless,
    NftRefused,
    Step,
}

/// What one can ask the socket agent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// So many unconnected TCP sockets for IPv4.
    Tcp4(u8),
    /// So many unconnected TCP sockets for IPv6.
    Tcp6(u8),
    /// Another channel.
    Channel,
}

/// The bytes of a frame.
pub(crate) const FRAME: usize = 8;

/// The longest text.
pub(crate) const TEXT_MAX: usize = 1024;

/// Sockets made for one question.
pub(crate) const SOCKETS_MAX: u8 = 32;

const KINDS: [Kind; 12] = [
    Kind::Ready,
    Kind::Failed,
    Kind::Go,
    Kind::Started,
    Kind::NotExecuted,
    Kind::Signal,
    Kind::Exited,
    Kind::Killed,
    Kind::AskTcp4,
    Kind::AskTcp6,
    Kind::AskChannel,
    Kind::Made,
];

/// Writes a frame, its text and its descriptors to a blocking socket.
pub(crate) fn write(mut socket: &StdUnixStream, frame: Frame, text: &str, passed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = &text.as_bytes()[..text.len().min(TEXT_MAX)];
    let bytes = Frame { text: text.len() as u16, ..frame }.bytes();
    // Eight bytes into a socket pair whose other end reads: they go whole.
    let sent = fds::send(socket, &bytes, passed)?;
    socket.write_all(&bytes[sent..])?;
    socket.write_all(text)
}

/// Tells what could not be done inside.
pub(crate) fn write_failure(socket: &StdUnixStream, error: &CaptureError) -> io::Result<()> {
    let errno_of = |error: &io::Error| error.raw_os_error().unwrap_or(libc::EIO);
    let (case, errno, text) = match error {
        CaptureError::Execute { source, .. } => {
            return write(socket, Frame::new(Kind::NotExecuted, errno_of(source)), "", &[]);
        }
        CaptureError::Impossible(Why::NftMissing) => (Case::NftMissing, 0, String::new()),
        CaptureError::Impossible(Why::NamespacesForbidden { errno, .. }) => (Case::Forbidden, *errno, String::new()),
        CaptureError::Impossible(Why::NamespacesPowerless { errno, .. }) => (Case::Powerless, *errno, String::new()),
        CaptureError::Impossible(Why::NftRefused(said)) => (Case::NftRefused, 0, said.clone()),
        CaptureError::Step { step, source } => (Case::Step, errno_of(source), step.clone()),
        other => (Case::Other, 0, other.to_string()),
    };
    write(socket, Frame { count: case as u8, ..Frame::new(Kind::Failed, errno) }, &text, &[])
}

/// Reads a frame and its text from a blocking socket; `None` at its end.
pub(crate) fn read_with_text(mut socket: &StdUnixStream) -> io::Result<Option<(Frame, String)>> {
    let Some(frame) = read(socket)? else { return Ok(None) };
    let mut text = vec![0; usize::from(frame.text).min(TEXT_MAX)];
    socket.read_exact(&mut text)?;
    Ok(Some((frame, String::from_utf8_lossy(&text).into_owned())))
}

/// Reads a frame from a blocking socket; `None` at its end.
pub(crate) fn read(mut socket: &StdUnixStream) -> io::Result<Option<Frame>> {
    let mut bytes = [0; FRAME];
    match socket.read_exact(&mut bytes) {
        Ok(()) => Frame::parse(bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a frame without text.
pub(crate) async fn send(socket: &UnixStream, frame: Frame) -> io::Result<()> {
    let bytes = frame.bytes();
    let sent = socket.async_io(Interest::WRITABLE, || fds::send(socket.as_fd(), &bytes, &[])).await?;
    if sent == FRAME { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Reads a frame, its text and its descriptors; `None` at the end. Not to be cancelled between its first byte and its
/// last, which are written together.
pub(crate) async fn receive(socket: &UnixStream) -> io::Result<Option<(Frame, String, Vec<OwnedFd>)>> {
    let mut head = [0; FRAME];
    let mut descriptors = Vec::new();
    if !receive_exact(socket, &mut head, &mut descriptors).await? {
        return Ok(None);
    }
    let frame = Frame::parse(head)?;
    let mut text = vec![0; usize::from(frame.text).min(TEXT_MAX)];
    if !receive_exact(socket, &mut text, &mut descriptors).await? {
        return Ok(None);
    }
    Ok(Some((frame, String::from_utf8_lossy(&text).into_owned(), descriptors)))
}

/// Asks the agent, which answers in order.
pub(crate) async fn send_ask(socket: &UnixStream, ask: Ask) -> io::Result<()> {
    send(socket, ask.frame()).await
}

/// Waits for what the agent made.
pub(crate) async fn receive_made(socket: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let (frame, _, descriptors) = receive(socket).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    made(frame, descriptors)
}

/// Asks and waits on a blocking socket.
pub(crate) fn ask_blocking(socket: &StdUnixStream, ask: Ask) -> io::Result<Vec<OwnedFd>> {
    write(socket, ask.frame(), "", &[])?;
    let mut head = [0; FRAME];
    let (length, descriptors) = fds::receive(socket, &mut head, usize::from(SOCKETS_MAX))?;
    if length < FRAME {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    made(Frame::parse(head)?, descriptors)
}

fn made(frame: Frame, descriptors: Vec<OwnedFd>) -> io::Result<Vec<OwnedFd>> {
    match frame {
        Frame { kind: Kind::Made, value: 0, .. } => Ok(descriptors),
        Frame { kind: Kind::Made, value, .. } => Err(io::Error::from_raw_os_error(value)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the socket agent answered {:?}", frame.kind))),
    }
}

async fn receive_exact(socket: &UnixStream, bytes: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<bool> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        let (length, mut came) =
            socket.async_io(Interest::READABLE, || fds::receive(socket.as_fd(), rest, fds::FDS_MAX)).await?;
        if length == 0 {
            return Ok(false);
        }
        filled += length;
        descriptors.append(&mut came);
    }
    Ok(true)
}

// === impl CaptureError ===

impl CaptureError {
    /// The failure that [`write_failure`] wrote.
    pub(crate) fn from_failure(frame: Frame, text: String) -> Self {
        let is = |case: Case| frame.kind == Kind::Failed && frame.count == case as u8;
        if is(Case::NftMissing) {
            Why::NftMissing.into()
        } else if is(Case::Forbidden) {
            Why::of_unshare(frame.value).into()
        } else if is(Case::Powerless) {
            Why::of_powerless(frame.value).into()
        } else if is(Case::NftRefused) {
            Why::NftRefused(text).into()
        } else if is(Case::Step) {
            CaptureError::step(text, io::Error::from_raw_os_error(frame.value))
        } else {
            Why::Other(text).into()
        }
    }
}

// === impl Frame ===

impl Frame {
    /// A frame that says only this.
    pub(crate) fn new(kind: Kind, value: i32) -> Self {
        Frame { kind, count: 0, value, text: 0 }
    }

    fn bytes(self) -> [u8; FRAME] {
        let ([t0, t1], [v0, v1, v2, v3]) = (self.text.to_le_bytes(), self.value.to_le_bytes());
        [self.kind as u8, self.count, t0, t1, v0, v1, v2, v3]
    }

    fn parse([kind, count, t0, t1, v0, v1, v2, v3]: [u8; FRAME]) -> io::Result<Self> {
        let kind = KINDS
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("unknown frame {kind}")))?;
        Ok(Frame { kind, count, text: u16::from_le_bytes([t0, t1]), value: i32::from_le_bytes([v0, v1, v2, v3]) })
    }
}

impl Ask {
    fn frame(self) -> Frame {
        let (kind, count) = match self {
            Ask::Tcp4(count) => (Kind::AskTcp4, count),
            Ask::Tcp6(count) => (Kind::AskTcp6, count),
            Ask::Channel => (Kind::AskChannel, 1),
        };
        Frame { count: count.min(SOCKETS_MAX), ..Frame::new(kind, 0) }
    }
}
