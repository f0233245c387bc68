//! One connected byte stream, TCP or Unix, whose every operation takes `&self`, so that the half that reads and the half
//! that writes can share it in an `Rc` without a lock.
//!
//! Reads and writes go through tokio's readiness, one waker for each direction. A read that returned less than was asked
//! for proves the socket empty, so readiness is cleared at once and the read that would only say "would block" is saved;
//! this is done inside the same `try_io` as the read, where tokio's tick makes it free of races.
//!
//! Hot path: no locks held, no allocations, no logs.

#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::address::Peer;
use crate::places::{Full, Place};
use crate::proxy_protocol::Ends;

/// A connected stream of bytes.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
    /// Given back once the socket is closed, which is why it stands after it.
    place: Option<Place>,
    /// The ends that a proxy in front has named. Boxed, because most have none.
    named: Option<Box<Ends>>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Layered(Box<dyn Layer>),
}

/// What may stand between a stream's user and its socket: TLS.
///
/// The rules are those of a socket. One more binds the user: bytes whose write said `WouldBlock` are the first bytes of the
/// next write, because the layer may have taken them in already.
pub trait Layer: std::fmt::Debug + Send {
    /// What it is, as logs say it: `TLSv1.3`.
    fn name(&self) -> &'static str;
    /// The stream below.
    fn below(&self) -> &Stream;
    /// As [`Stream::poll_read_ready`].
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// As [`Stream::try_read`].
    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize>;
    /// As [`Stream::try_write_vectored`].
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// As [`Stream::shutdown_write`].
    fn shutdown_write(&self) -> io::Result<()>;
    /// As [`Stream::is_stale`].
    fn is_stale(&self) -> bool;
}

/// A stream that belongs to no runtime, on its way to another thread or process.
#[derive(Debug)]
pub struct Detached {
    socket: DetachedSocket,
    place: Option<Place>,
    named: Option<Box<Ends>>,
}

#[derive(Debug)]
enum DetachedSocket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

// === impl Stream ===

impl Stream {
    /// A stream whose bytes pass through `layer`.
    pub fn layered(layer: Box<dyn Layer>) -> Self {
        Self { socket: Socket::Layered(layer), place: None, named: None }
    }

    /// What carries its bytes besides a socket, if anything: `TLSv1.3`.
    pub fn layer(&self) -> Option<&'static str> {
        match &self.socket {
            Socket::Layered(layer) => Some(layer.name()),
            Socket::Tcp(_) | Socket::Unix(_) => None,
        }
    }

    /// Reads into the spare capacity of `buffer`, which must have some. `Ready(Ok(0))` is the end of the stream.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(cx))?;
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Reads what is there into the spare capacity of `buffer`, which must have some; `WouldBlock` when nothing is.
    pub fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        if let Socket::Layered(layer) = &self.socket {
            return layer.try_read(buffer);
        }
        let read = self.try_read_uninit(buffer.spare_capacity_mut())?;
        // SAFETY: the kernel wrote `read` bytes to the start of the spare capacity.
        unsafe { buffer.advance_mut(read) };
        Ok(read)
    }

    /// Reads what is there into `bytes`, which must not be empty; `WouldBlock` when nothing is. Not for layered streams.
    pub fn try_read_slice(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = bytes.len();
        self.partial_io(Interest::READABLE, length, |socket| {
            Ok(rustix::net::recv(socket, &mut *bytes, RecvFlags::empty())?.1)
        })
    }

    /// Copies what is there into `bytes` and leaves it to be read; `WouldBlock` when nothing is. Not for layered streams.
    pub fn try_peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // However few there are, they stay: there is something to read.
        let peek = || loop {
            match rustix::net::recv(self, &mut *bytes, RecvFlags::PEEK) {
                Err(rustix::io::Errno::INTR) => {}
                peeked => return Ok(peeked?.1),
            }
        };
        match &self.socket {
            Socket::Tcp(socket) => socket.try_io(Interest::READABLE, peek),
            Socket::Unix(socket) => socket.try_io(Interest::READABLE, peek),
            Socket::Layered(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Waits until [`Stream::try_read`] may find something: bytes, the end of the stream or an error.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(socket) => socket.poll_read_ready(cx),
            Socket::Unix(socket) => socket.poll_read_ready(cx),
            Socket::Layered(layer) => layer.poll_read_ready(cx),
        }
    }

    /// Waits until [`Stream::try_write`] may take something.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.socket {
            Socket::Tcp(socket) => socket.poll_write_ready(cx),
            Socket::Unix(socket) => socket.poll_write_ready(cx),
            Socket::Layered(layer) => layer.below().poll_write_ready(cx),
        }
    }

    /// Writes some of `bytes` and says how many.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            // Tried first: a socket is hardly ever full, and known to be when it is.
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_write_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes some of the slices, in order, and says how many bytes. At most 1,024 slices are looked at.
    pub fn poll_write_vectored(&self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            // Tried first: a socket is hardly ever full, and known to be when it is.
            match self.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.poll_write_ready(cx))?,
                result => return Poll::Ready(result),
            }
        }
    }

    /// Writes what fits of `bytes` now; `WouldBlock` when nothing does.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Socket::Layered(layer) = &self.socket {
            return layer.try_write_vectored(&[IoSlice::new(bytes)]);
        }
        self.partial_io(Interest::WRITABLE, bytes.len(), |socket| {
            Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
        })
    }

    /// Writes what fits of the slices now; `WouldBlock` when nothing does.
    pub fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Socket::Layered(layer) = &self.socket {
            return layer.try_write_vectored(slices);
        }
        let slices = &slices[..slices.len().min(SLICES_MAX)];
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.partial_io(Interest::WRITABLE, length, |socket| {
            let mut no_control = rustix::net::SendAncillaryBuffer::default();
            Ok(rustix::net::sendmsg(socket, slices, &mut no_control, SendFlags::NOSIGNAL)?)
        })
    }

    /// Says the peer that nothing more will be written (FIN); reading goes on.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if let Socket::Layered(layer) = &self.socket {
            return layer.shutdown_write();
        }
        match rustix::net::shutdown(self, Shutdown::Write) {
            // The peer has reset the connection or closed it: there is nobody left to tell.
            Err(rustix::io::Errno::NOTCONN) => Ok(()),
            result => Ok(result?),
        }
    }

    /// When dropped, the connection is reset (RST) instead of closed (FIN), and what was not sent yet is dropped.
    /// Nothing for Unix sockets, which know no reset.
    pub fn reset_on_close(&self) {
        match &self.socket {
            // An error means that the connection is gone, which is what was wanted.
            Socket::Tcp(socket) => drop(socket.set_zero_linger()),
            Socket::Unix(_) => {}
            Socket::Layered(layer) => layer.below().reset_on_close(),
        }
    }

    /// The other end, or who is behind it where a proxy has [named](Stream::with_ends) it.
    pub fn peer_addr(&self) -> Peer {
        if let Some(ends) = &self.named {
            return Peer::Tcp(ends.client);
        }
        match &self.socket {
            Socket::Tcp(socket) => socket.peer_addr().map_or(Peer::Gone, Peer::Tcp),
            Socket::Unix(_) => Peer::Unix,
            Socket::Layered(layer) => layer.below().peer_addr(),
        }
    }

    /// This end, or that of the connection which a proxy in front has [named](Stream::with_ends).
    pub fn local_addr(&self) -> Peer {
        if let Some(ends) = &self.named {
            return Peer::Tcp(ends.server);
        }
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().map_or(Peer::Gone, Peer::Tcp),
            Socket::Unix(_) => Peer::Unix,
            Socket::Layered(layer) => layer.below().local_addr(),
        }
    }

    /// Where the connection was going before it was redirected here; `None` when it was not.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        match &self.socket {
            // It was made to its destination, wherever the proxy in front was reached.
            _ if self.named.is_some() => None,
            Socket::Tcp(socket) => crate::origdst::original_destination(socket),
            Socket::Unix(_) => None,
            Socket::Layered(layer) => layer.below().original_destination(),
        }
    }

    /// Whether an idle connection is of no more use: the peer closed or reset it, or sent bytes that nobody asked for.
    /// One system call, no byte is taken.
    pub fn is_stale(&self) -> bool {
        if let Socket::Layered(layer) = &self.socket {
            return layer.is_stale();
        }
        let mut byte = [0u8; 1];
        !matches!(
            rustix::net::recv(self, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT),
            Err(rustix::io::Errno::AGAIN)
        )
    }

    /// Has the stream hold a place for as long as its descriptor is open.
    #[must_use]
    pub fn with_place(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Counts the stream for `source`, behind the proxy that has opened it; an error when that has as many as it may have.
    pub fn count_for(&mut self, source: IpAddr) -> Result<(), Full> {
        self.place.as_mut().map_or(Ok(()), |place| place.count_for(source))
    }

    /// Has the stream give these as its ends: those of the connection that a proxy in front carries on.
    #[must_use]
    pub fn with_ends(mut self, ends: Ends) -> Self {
        self.named = Some(Box::new(ends));
        self
    }

    /// Takes the stream off this thread's runtime, so that another thread can [`Detached::attach`] it to its own.
    pub fn detach(self) -> io::Result<Detached> {
        let socket = match self.socket {
            Socket::Tcp(socket) => DetachedSocket::Tcp(socket.into_std()?),
            Socket::Unix(socket) => DetachedSocket::Unix(socket.into_std()?),
            Socket::Layered(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Detached { socket, place: self.place, named: self.named })
    }

    fn try_read_uninit(&self, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let length = buffer.len();
        if length == 0 {
            // A read of nothing would look like the end of the stream.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "read into a buffer without spare capacity"));
        }
        self.partial_io(Interest::READABLE, length, |socket| {
            Ok(rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?.1)
        })
    }

    /// Runs one transfer of at most `length` bytes. When it moved less, the socket is known to be empty (or full), and
    /// readiness is cleared within the same guard, before another event can be missed.
    fn partial_io(
        &self,
        interest: Interest,
        length: usize,
        mut transfer: impl FnMut(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut partial = None;
        let attempt = || {
            let moved = loop {
                match transfer(self.as_fd()) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    result => break result?,
                }
            };
            if moved > 0 && moved < length {
                partial = Some(moved);
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(moved)
        };
        let result = match &self.socket {
            Socket::Tcp(socket) => socket.try_io(interest, attempt),
            Socket::Unix(socket) => socket.try_io(interest, attempt),
            // What a layer carries it reads and writes itself.
            Socket::Layered(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        partial.map_or(result, Ok)
    }
}

/// More slices than this are left for the next call: the kernel's own limit (UIO_MAXIOV).
const SLICES_MAX: usize = 1024;
/// What a reader that brings no buffer of its own gets at once from a layered stream.
const LAYERED_READ_MAX: usize = 16 * 1024;

impl From<TcpStream> for Stream {
    /// Delays no small write (TCP_NODELAY).
    fn from(socket: TcpStream) -> Self {
        // Fails only on a socket that is already gone, which the first read will tell.
        let _ = socket.set_nodelay(true);
        Stream { socket: Socket::Tcp(socket), place: None, named: None }
    }
}

impl From<UnixStream> for Stream {
    fn from(socket: UnixStream) -> Self {
        Stream { socket: Socket::Unix(socket), place: None, named: None }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
            Socket::Layered(layer) => layer.below().as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.poll_read_ready(cx))?;
            if let Socket::Layered(layer) = &self.socket {
                let mut read = BytesMut::with_capacity(buffer.remaining().min(LAYERED_READ_MAX));
                match layer.try_read(&mut read) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                    result => result?,
                };
                buffer.put_slice(&read);
                return Poll::Ready(Ok(()));
            }
            // SAFETY: only the kernel writes to the slice, and nothing de-initialises what was written before.
            let read = match self.try_read_uninit(unsafe { buffer.unfilled_mut() }) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            };
            // SAFETY: the kernel wrote `read` bytes to the start of the unfilled part.
            unsafe { buffer.assume_init(read) };
            buffer.advance(read);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Stream::poll_write(&self, cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Stream::poll_write_vectored(&self, cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown_write())
    }
}

// === impl Detached ===

impl Detached {
    /// Makes it a stream of the runtime of the calling thread.
    pub fn attach(self) -> io::Result<Stream> {
        let socket = match self.socket {
            DetachedSocket::Tcp(socket) => Socket::Tcp(TcpStream::from_std(socket)?),
            DetachedSocket::Unix(socket) => Socket::Unix(UnixStream::from_std(socket)?),
        };
        Ok(Stream { socket, place: self.place, named: self.named })
    }
}

#[cfg(test)]
#[path = "stream/tests.rs"]
mod tests;
