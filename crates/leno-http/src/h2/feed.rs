//! The bytes that a connection has read and not understood yet.

use bytes::{Buf, Bytes, BytesMut};

use crate::buffer;

/// Bytes that were read off the socket.
#[derive(Default)]
pub(super) struct Feed {
    pub(super) bytes: BytesMut,
    pub(super) at: usize,
    /// Size of the buffer that the bytes lie in: what a piece of them keeps.
    pub(super) size: usize,
}

// === impl Feed ===

impl Feed {
    pub(super) fn new(bytes: BytesMut) -> Feed {
        Feed { size: bytes.capacity(), bytes, at: 0 }
    }

    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.at += bytes;
        if self.at == self.bytes.len() {
            self.at = 0;
            self.bytes.clear();
        }
    }

    /// Lets go of what was consumed, so that more fits in its place.
    pub(super) fn forget_read(&mut self) {
        self.bytes.advance(std::mem::take(&mut self.at));
    }

    pub(super) fn share(&mut self, bytes: usize) -> Bytes {
        self.forget_read();
        self.bytes.split_to(bytes).freeze()
    }

    /// Makes room for the rest of a frame.
    pub(super) fn expect(&mut self, bytes: usize) {
        if self.bytes.capacity() - self.at < bytes {
            self.forget_read();
            self.make_room(bytes - self.bytes.len());
        }
    }

    /// Makes room for so many bytes more.
    pub(super) fn make_room(&mut self, bytes: usize) {
        let before = self.bytes.capacity();
        self.bytes.reserve(bytes);
        if self.bytes.capacity() > before {
            self.size = self.bytes.capacity();
        }
    }

    /// Takes a buffer, if there is none.
    pub(super) fn take_buffer(&mut self) {
        if self.bytes.capacity() == 0 {
            buffer::take_inbound(&mut self.bytes);
            self.size = self.bytes.capacity();
        }
    }
}
