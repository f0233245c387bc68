//! Compression of heads (RFC 7541): [`Decoder`] and [`Encoder`], and the tables that both share.
//!
//! Names and values are read straight to where a head wants them ([`Sink`]) and written straight into the frame; there is
//! no list of fields in between. Invariants: a table never holds more than its size says; whatever bytes come, the
//! decoder answers or refuses, and after a refusal the connection is over.

mod decode;
mod encode;
mod huffman;
mod table;

pub(super) use decode::{Decoder, Sink};
pub(super) use encode::Encoder;

#[cfg(test)]
mod tests;
