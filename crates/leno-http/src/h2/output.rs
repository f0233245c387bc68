//! What waits to be written: frames in one buffer, and large payloads of DATA beside it, so that they are not copied.
//!
//! Whatever streams write between two turns of the connection's task goes out in one system call. The buffer is taken
//! from the thread's when there is something to write, and given back when all is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use leno_net::Stream;

use super::frame;
use crate::buffer;

/// Bytes to be written.
#[derive(Default)]
pub(super) struct Output {
    buffer: Vec<u8>,
    /// So much of the buffer is written.
    written: usize,
    /// Payloads, each with the place in the buffer before which it goes.
    pieces: VecDeque<(usize, Bytes)>,
    /// Bytes of the pieces.
    beside: usize,
}

/// Smaller payloads are copied into the buffer.
const COPIED: usize = 2048;
/// Slices of one write.
const SLICES: usize = 32;

impl Output {
    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.written + self.beside
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.len() == self.written && self.pieces.is_empty()
    }

    /// Where frames are written to.
    pub(super) fn frames(&mut self) -> &mut Vec<u8> {
        buffer::take_outbound(&mut self.buffer);
        &mut self.buffer
    }

    /// Writes a frame of DATA.
    pub(super) fn data(&mut self, stream: u32, payload: Bytes, end: bool) {
        let flags = if end { frame::END_STREAM } else { 0 };
        let frames = self.frames();
        frame::header(frames, payload.len(), frame::DATA, flags, stream);
        if payload.len() < COPIED {
            frames.extend_from_slice(&payload);
        } else {
            self.beside += payload.len();
            self.pieces.push_back((self.buffer.len(), payload));
        }
    }

    /// Forgets what is not written.
    pub(super) fn clear(&mut self) {
        *self = Output::default();
    }

    /// Writes some of it, and says how many bytes.
    pub(super) fn poll_write(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let written = if self.pieces.is_empty() {
            ready!(stream.poll_write(cx, &self.buffer[self.written..]))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self.slices(&mut slices);
            ready!(stream.poll_write_vectored(cx, &slices[..count]))?
        };
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    /// Writes some of it nowhere.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = self.slices(&mut slices);
        let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).collect();
        self.advance(bytes.len());
        bytes
    }

    fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
        let (mut at, mut count) = (self.written, 0);
        for (place, piece) in &self.pieces {
            if count + 2 > SLICES {
                return count;
            }
            if *place > at {
                slices[count] = IoSlice::new(&self.buffer[at..*place]);
                count += 1;
                at = *place;
            }
            slices[count] = IoSlice::new(piece);
            count += 1;
        }
        if count < SLICES && at < self.buffer.len() {
            slices[count] = IoSlice::new(&self.buffer[at..]);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut by: usize) {
        while by > 0 {
            let before = self.pieces.front().map_or(self.buffer.len(), |(place, _)| *place);
            let plain = by.min(before - self.written);
            self.written += plain;
            by -= plain;
            let Some((_, piece)) = self.pieces.front_mut().filter(|_| self.written == before) else { break };
            let beside = by.min(piece.len());
            piece.advance(beside);
            self.beside -= beside;
            by -= beside;
            if piece.is_empty() {
                self.pieces.pop_front();
            } else {
                break;
            }
        }
        if self.is_empty() {
            self.written = 0;
            buffer::give_outbound(&mut self.buffer);
        } else if self.written >= buffer::SIZE {
            // Also while pieces wait: whoever reads slower than is written would have all that was ever written kept.
            self.buffer.drain(..self.written);
            self.pieces.iter_mut().for_each(|(place, _)| *place -= self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = output.slices(&mut slices);
        slices[..count].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn what_is_written_is_forgotten_although_something_always_waits() {
        let mut output = Output::default();
        for _ in 0..1000 {
            output.data(1, Bytes::from(vec![1; 3000]), false);
            output.data(1, Bytes::from(vec![2; 1000]), false);
            output.advance(output.len() - 3500);
            assert!(!output.pieces.is_empty());
        }
        assert!(output.buffer.len() < 2 * buffer::SIZE, "{} bytes are kept", output.buffer.len());
    }

    #[test]
    fn bytes_leave_in_order_however_they_are_cut() {
        for cut in [97, 1000, 4096, 100_000] {
            let mut output = Output::default();
            let mut expected = Vec::new();
            for n in 0..5u32 {
                for (size, end) in [(10, false), (5000, false), (3000, true), (0, true)] {
                    output.data(n, Bytes::from(vec![n as u8; size]), end);
                    frame::header(&mut expected, size, frame::DATA, u8::from(end), n);
                    expected.extend(vec![n as u8; size]);
                }
            }
            assert_eq!(output.len(), expected.len());
            let mut seen = Vec::new();
            while !output.is_empty() {
                let next = all(&output);
                let taken = next.len().min(cut);
                seen.extend_from_slice(&next[..taken]);
                output.advance(taken);
                assert_eq!(output.len(), expected.len() - seen.len());
            }
            assert_eq!(seen, expected, "cut every {cut} bytes");
        }
    }
}
