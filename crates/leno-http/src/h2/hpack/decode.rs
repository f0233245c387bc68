//! Reads the block of a head.

use super::huffman;
use super::table::{SIZE, STATIC, Table};
use crate::fields::{Known, is_token_byte, valid_value};

/// Takes the fields of a block one by one.
pub(crate) trait Sink {
    /// A field. `valid`: its name is a token in lower case, perhaps after a colon, and its value has no byte that no
    /// value may have.
    fn field(&mut self, name: &[u8], value: &[u8], known: Known, valid: bool);

    /// One that must never get into a table, wherever it is sent on.
    fn never_indexed(&mut self, name: &[u8], value: &[u8], known: Known, valid: bool) {
        self.field(name, value, known, valid);
    }

    /// Whether so much has come that the rest is not worth reading: a byte can stand for thousands.
    fn is_hopeless(&self) -> bool {
        false
    }
}

/// The bytes are no block of a head; the tables of both ends differ from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused;

/// The reading half of a connection's compression.
pub(crate) struct Decoder {
    table: Table,
    /// Strings out of the Huffman code; empty between blocks.
    scratch: Vec<u8>,
}

/// Kept of the scratch space between blocks.
const SCRATCH_KEPT: usize = 1024;

/// What becomes of a literal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Literal {
    /// It goes to the table.
    Added,
    Plain,
    /// It goes to no table anywhere.
    Never,
}

/// A string of a literal: in the block, or decoded to the scratch space.
#[derive(Clone, Copy)]
enum Text<'a> {
    Plain(&'a [u8]),
    Decoded(usize, usize),
}

// === impl Decoder ===

impl Decoder {
    pub(crate) fn new() -> Decoder {
        Decoder { table: Table::new(), scratch: Vec::new() }
    }

    /// Reads a whole block.
    pub(crate) fn decode(&mut self, mut block: &[u8], sink: &mut impl Sink) -> Result<(), Refused> {
        let mut begun = false;
        while let Some(first) = block.first().copied() {
            match first {
                0x80.. => {
                    begun = true;
                    self.indexed(integer(&mut block, 7)?, sink)?;
                }
                0x40.. => {
                    begun = true;
                    self.literal(&mut block, 6, Literal::Added, sink)?;
                }
                0x20.. => {
                    let size = integer(&mut block, 5)?;
                    if begun || size as usize > SIZE {
                        return Err(Refused);
                    }
                    self.table.resize(size as usize);
                }
                0x10.. => {
                    begun = true;
                    self.literal(&mut block, 4, Literal::Never, sink)?;
                }
                _ => {
                    begun = true;
                    self.literal(&mut block, 4, Literal::Plain, sink)?;
                }
            }
            if sink.is_hopeless() {
                return Err(Refused);
            }
        }
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    fn indexed(&self, index: u32, sink: &mut impl Sink) -> Result<(), Refused> {
        let index = (index as usize).checked_sub(1).ok_or(Refused)?;
        if let Some((name, value)) = STATIC.get(index) {
            sink.field(name.as_bytes(), value.as_bytes(), Known::of(name.as_bytes()), true);
            return Ok(());
        }
        let entry = self.table.get(index - STATIC.len()).ok_or(Refused)?;
        sink.field(entry.name(), entry.value(), entry.known, entry.mark != 0);
        Ok(())
    }

    fn literal(&mut self, block: &mut &[u8], prefix: u32, kind: Literal, sink: &mut impl Sink) -> Result<(), Refused> {
        self.scratch.clear();
        let index = integer(block, prefix)?;
        let literal_name = match index {
            0 => Some(self.string(block)?),
            _ => None,
        };
        let value = self.string(block)?;
        let value = text(&self.scratch, value);
        // The name of a dynamic entry is copied, because adding may drop that entry.
        let (mut copied, mut long) = ([0u8; 64], Vec::new());
        let (name, known, name_valid) = match literal_name {
            Some(name) => {
                let name = text(&self.scratch, name);
                (name, Known::of(name), valid_name(name))
            }
            None if index as usize <= STATIC.len() => {
                let name = STATIC[index as usize - 1].0.as_bytes();
                (name, Known::of(name), true)
            }
            None => {
                let entry = self.table.get(index as usize - 1 - STATIC.len()).ok_or(Refused)?;
                let name = entry.name();
                let name: &[u8] = match copied.get_mut(..name.len()) {
                    Some(space) => {
                        space.copy_from_slice(name);
                        space
                    }
                    None => {
                        long.extend_from_slice(name);
                        &long
                    }
                };
                (name, entry.known, valid_name(name))
            }
        };
        let valid = name_valid && valid_value(value);
        match kind {
            Literal::Never => sink.never_indexed(name, value, known, valid),
            Literal::Plain => sink.field(name, value, known, valid),
            Literal::Added => {
                sink.field(name, value, known, valid);
                self.table.add(name, value, known, u32::from(valid));
            }
        }
        Ok(())
    }

    fn string<'a>(&mut self, block: &mut &'a [u8]) -> Result<Text<'a>, Refused> {
        let coded = block.first().ok_or(Refused)? & 0x80 != 0;
        let length = integer(block, 7)? as usize;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Refused)?;
        *block = rest;
        if !coded {
            return Ok(Text::Plain(bytes));
        }
        let at = self.scratch.len();
        huffman::decode(bytes, &mut self.scratch).ok_or(Refused)?;
        Ok(Text::Decoded(at, self.scratch.len()))
    }
}

fn text<'a>(scratch: &'a [u8], text: Text<'a>) -> &'a [u8] {
    match text {
        Text::Plain(bytes) => bytes,
        Text::Decoded(from, to) => &scratch[from..to],
    }
}

fn valid_name(name: &[u8]) -> bool {
    let token = name.strip_prefix(b":").unwrap_or(name);
    !token.is_empty() && token.iter().all(|b| is_token_byte(*b) && !b.is_ascii_uppercase())
}

/// An integer whose first byte has so many bits for it (RFC 7541 section 5.1); none here exceeds 28 bits.
fn integer(block: &mut &[u8], prefix: u32) -> Result<u32, Refused> {
    let (first, mut rest) = block.split_first().ok_or(Refused)?;
    let most = (1u32 << prefix) - 1;
    let mut value = u32::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(Refused)?;
            rest = after;
            value += u32::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(Refused);
            }
        }
    }
    *block = rest;
    Ok(value)
}
