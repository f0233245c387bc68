//! Bodies of HTTP/1 off the wire: where data begins and ends in the bytes read so far (RFC 9112 sections 6 and 7).
//!
//! In: the unread bytes. Out: how many of them are framing to skip, and what follows. No IO and no copies; the same
//! machine runs over bytes without taking them, to find a fault before anybody has seen the body ([`Decoder::check`]).

use bytes::BytesMut;

use super::head::{Expected, Framing, HeadParser};
use crate::body::Frame;
use crate::fields::Fields;
use crate::limits::{Limits, Malformed};

/// Finds the end of one body.
pub(crate) struct Decoder {
    state: State,
    /// Bytes of extensions of this message.
    extensions: usize,
    /// Bytes of framing and of data of a chunked message.
    overhead: u64,
    data: u64,
}

enum State {
    Done,
    Length(u64),
    Close,
    /// The size of a chunk, of which so many digits were read.
    Size {
        size: u64,
        digits: u8,
    },
    /// An extension, of which so many bytes were read.
    Extension {
        size: u64,
        length: usize,
    },
    /// The LF after the size.
    SizeLf {
        size: u64,
    },
    Data(u64),
    DataCr,
    DataLf,
    Trailers(Box<HeadParser>),
}

/// What the bytes hold after so many bytes of framing.
#[derive(Debug)]
enum Event {
    /// Nothing more yet.
    More,
    /// So many bytes of data.
    Data(usize),
    /// The trailers, so many bytes, and the end.
    Trailers(usize),
    /// The end.
    End,
}

/// What was taken off the buffer.
pub(crate) enum Decoded {
    More,
    Frame(Frame),
    End,
}

/// A chunk's size is at most this: half of what fits, so that sums cannot overflow.
const CHUNK_MAX: u64 = u64::MAX >> 1;

// === impl Decoder ===

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { size: 0, digits: 0 },
            Framing::Close => State::Close,
        };
        Decoder { state, extensions: 0, overhead: 0, data: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the end of the connection is the end of the body.
    pub(crate) fn ends_with_connection(&self) -> bool {
        matches!(self.state, State::Close)
    }

    /// Bytes of data still to come, where that is known.
    pub(crate) fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Done => Some(0),
            State::Length(length) => Some(length),
            _ => None,
        }
    }

    /// Takes the next frame off the buffer.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut, limits: &Limits) -> Result<Decoded, Malformed> {
        let (framing, event) = self.step(buffer, limits)?;
        if framing > 0 {
            bytes::Buf::advance(buffer, framing);
        }
        match event {
            Event::More => Ok(Decoded::More),
            Event::End => Ok(Decoded::End),
            Event::Data(length) => Ok(Decoded::Frame(Frame::Data(buffer.split_to(length).freeze()))),
            Event::Trailers(length) => {
                let block = buffer.split_to(length).freeze();
                let State::Trailers(parser) = std::mem::replace(&mut self.state, State::Done) else {
                    return Err(Malformed::Trailers);
                };
                let trailers: Fields = parser.into_trailers(block);
                Ok(if trailers.is_empty() { Decoded::End } else { Decoded::Frame(Frame::Trailers(trailers)) })
            }
        }
    }

    /// Looks for a fault in the part of a body that is in `bytes`, from its beginning, and takes nothing.
    pub(crate) fn check(framing: Framing, mut bytes: &[u8], limits: &Limits) -> Result<(), Malformed> {
        if framing != Framing::Chunked {
            return Ok(());
        }
        let mut decoder = Decoder::new(framing);
        loop {
            let (skip, event) = decoder.step(bytes, limits)?;
            match event {
                Event::Data(length) => bytes = &bytes[skip + length..],
                Event::More | Event::End | Event::Trailers(_) => return Ok(()),
            }
        }
    }

    /// The next event, and the bytes of framing before it.
    fn step(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, Event), Malformed> {
        match &mut self.state {
            State::Done => Ok((0, Event::End)),
            State::Length(left) => {
                let take = (bytes.len() as u64).min(*left);
                *left -= take;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok((0, if take == 0 { Event::More } else { Event::Data(take as usize) }))
            }
            State::Close if bytes.is_empty() => Ok((0, Event::More)),
            State::Close => Ok((0, Event::Data(bytes.len()))),
            _ => self.step_chunked(bytes, limits),
        }
    }

    fn step_chunked(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, Event), Malformed> {
        let mut at = 0;
        loop {
            if let State::Data(left) = &mut self.state {
                let take = ((bytes.len() - at) as u64).min(*left);
                *left -= take;
                if *left == 0 {
                    self.state = State::DataCr;
                }
                self.data += take;
                self.overhead += at as u64;
                return Ok((at, if take == 0 { Event::More } else { Event::Data(take as usize) }));
            }
            if let State::Trailers(parser) = &mut self.state {
                return match parser.advance(&bytes[at..], Expected::Trailers, limits) {
                    Ok(Some(length)) => Ok((at, Event::Trailers(length))),
                    Ok(None) => Ok((at, Event::More)),
                    Err(_) => Err(Malformed::Trailers),
                };
            }
            let Some(&byte) = bytes.get(at) else {
                self.overhead += at as u64;
                return Ok((at, Event::More));
            };
            at += 1;
            self.framing_byte(byte, limits)?;
        }
    }

    /// One byte between two pieces of data.
    fn framing_byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Malformed> {
        self.state = match self.state {
            State::Size { size, digits } => match (char::from(byte).to_digit(16), byte) {
                (Some(digit), _) if digits < 16 && size <= CHUNK_MAX >> 4 => {
                    State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
                }
                (None, b'\r') if digits > 0 => State::SizeLf { size },
                (None, b';') if digits > 0 => State::Extension { size, length: 0 },
                _ => return Err(Malformed::ChunkSize),
            },
            State::Extension { size, length } => match byte {
                b'\r' if length > 0 => State::SizeLf { size },
                b if !crate::fields::is_value_byte(b) => return Err(Malformed::ChunkExtension),
                _ => {
                    self.extensions += 1;
                    if length >= limits.chunk_extension_bytes || self.extensions > limits.chunk_extensions_bytes {
                        return Err(Malformed::ChunkExtension);
                    }
                    State::Extension { size, length: length + 1 }
                }
            },
            State::SizeLf { size } => {
                if byte != b'\n' {
                    return Err(Malformed::ChunkSize);
                }
                if self.overhead > OVERHEAD_FREE && self.overhead > OVERHEAD_RATIO * self.data {
                    return Err(Malformed::ChunkExtension);
                }
                if size == 0 { State::Trailers(Box::default()) } else { State::Data(size) }
            }
            State::DataCr if byte == b'\r' => State::DataLf,
            State::DataLf if byte == b'\n' => State::Size { size: 0, digits: 0 },
            _ => return Err(Malformed::ChunkEnd),
        };
        Ok(())
    }
}

/// A message may have so many bytes of framing …
const OVERHEAD_FREE: u64 = 64 * 1024;
/// … and beyond that so many times its data.
const OVERHEAD_RATIO: u64 = 16;

#[cfg(test)]
mod tests;
