//! A stream that TLS carries.
//!
//! What rustls has encrypted is not said to be written before the socket has all of it, so that nobody has to flush: a write
//! whose records did not fit says `WouldBlock` and owes its caller their number, and the next write, which begins with the
//! same bytes ([`leno_net::stream::Layer`]), pays it.

use std::cell::RefCell;
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::mem;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use leno_net::Stream;
use leno_net::stream::Layer;
use rustls::Connection;

/// A stream over `below`, whose handshake is done.
pub(crate) fn stream(below: Stream, connection: Connection) -> Stream {
    let state = State { connection, owed: 0, closing: false };
    Stream::layered(Box::new(Tls { below, state: RefCell::new(state) }))
}

#[derive(Debug)]
struct Tls {
    below: Stream,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// Bytes of the caller that are encrypted and not yet all in the socket.
    owed: usize,
    /// Nothing more is written, but the socket has not all of it yet.
    closing: bool,
}

/// The socket as rustls reads and writes it.
pub(crate) struct Socket<'s>(pub(crate) &'s Stream);

impl Layer for Tls {
    fn name(&self) -> &'static str {
        crate::version_name(self.state.borrow().connection.protocol_version())
    }

    fn below(&self) -> &Stream {
        &self.below
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.state.borrow_mut();
        if state.closing {
            self.poll_close(state, cx);
        }
        match state.connection.reader().fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.below.poll_read_ready(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn try_read(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        loop {
            let mut reader = state.connection.reader();
            match reader.fill_buf() {
                Ok(plain) => {
                    let taken = plain.len().min(buffer.capacity() - buffer.len());
                    buffer.extend_from_slice(&plain[..taken]);
                    reader.consume(taken);
                    return Ok(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => state.receive(&self.below)?,
                Err(error) => return Err(error),
            }
        }
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let state = &mut *self.state.borrow_mut();
        if state.owed == 0 {
            // What TLS itself has to say goes first.
            state.flush(&self.below)?;
            state.owed = state.connection.writer().write_vectored(slices)?;
        }
        state.flush(&self.below)?;
        Ok(mem::take(&mut state.owed))
    }

    fn shutdown_write(&self) -> io::Result<()> {
        let state = &mut *self.state.borrow_mut();
        state.connection.send_close_notify();
        match state.flush(&self.below) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                state.closing = true;
                Ok(())
            }
            Err(error) => Err(error),
            Ok(()) => self.below.shutdown_write(),
        }
    }

    fn is_stale(&self) -> bool {
        let state = &mut *self.state.borrow_mut();
        // Tickets come whenever the server likes, and are no reason to give a connection up.
        loop {
            match state.connection.reader().fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return true,
            }
            match state.receive(&self.below) {
                Ok(()) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
    }
}

impl Tls {
    fn poll_close(&self, state: &mut State, cx: &mut Context<'_>) {
        while self.below.poll_write_ready(cx).is_ready() {
            match state.flush(&self.below) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Whoever reads learns what became of the connection.
                _ => {
                    state.closing = false;
                    let _ = self.below.shutdown_write();
                    return;
                }
            }
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.owed == 0 && !state.closing {
            state.connection.send_close_notify();
        }
        // A peer that takes nothing now learns of the end by the socket's.
        let _ = state.flush(&self.below);
    }
}

impl State {
    fn receive(&mut self, below: &Stream) -> io::Result<()> {
        self.connection.read_tls(&mut Socket(below))?;
        if let Err(error) = self.connection.process_new_packets() {
            // The alert is a courtesy.
            let _ = self.flush(below);
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok(())
    }

    fn flush(&mut self, below: &Stream) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut Socket(below))?;
        }
        Ok(())
    }
}

impl Read for Socket<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.try_read_slice(bytes)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does the rest of a handshake, and writes all that it says.
pub(crate) async fn complete(below: &Stream, connection: &mut Connection) -> Result<(), HandshakeError> {
    std::future::poll_fn(|cx| {
        loop {
            while connection.wants_write() {
                ready!(below.poll_write_ready(cx))?;
                match connection.write_tls(&mut Socket(below)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    written => drop(written?),
                }
            }
            if !connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(below.poll_read_ready(cx))?;
            match connection.read_tls(&mut Socket(below)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Poll::Ready(Err(error.into())),
                Ok(0) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())),
                Ok(_) => {}
            }
            if let Err(error) = connection.process_new_packets() {
                // The alert is a courtesy.
                let _ = connection.write_tls(&mut Socket(below));
                return Poll::Ready(Err(error.into()));
            }
        }
    })
    .await
}

/// Why a handshake broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}
