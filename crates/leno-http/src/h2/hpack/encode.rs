//! Writes the block of a head.
//!
//! A field goes to the table when it is seen for the second time: what never repeats (ids, lengths, dates) would only push
//! out what does, and no list of names has to say which is which. Lookups are by a hash of name and value in a small
//! array whose entries overwrite each other; a lost one costs bytes, nothing else.

use super::table::{SIZE, Table, static_name};
use crate::fields::Known;

/// The writing half of a connection's compression.
pub(crate) struct Encoder {
    table: Table,
    seen: Option<Box<Seen>>,
    /// The smallest and the last size that the peer has said since the last block.
    resize: Option<(usize, usize)>,
}

/// By hash: the number of the entry in the table, and hashes of what was not in it.
struct Seen {
    entries: [u32; ENTRIES],
    missed: [u32; MISSED],
}

const ENTRIES: usize = 128;
const MISSED: usize = 64;
/// Longer fields are not kept in the table.
const LONGEST: usize = 512;
/// Shorter values could be guessed by whoever can add fields of their own (RFC 7541 section 7.1.3).
const GUESSABLE: usize = 20;

/// Begins a literal that no table may have.
const NEVER: u8 = 0x10;

// === impl Encoder ===

impl Encoder {
    pub(crate) fn new() -> Encoder {
        Encoder { table: Table::new(), seen: None, resize: None }
    }

    /// The peer allows a table of this size.
    pub(crate) fn set_size_max(&mut self, size: u32) {
        let size = (size as usize).min(SIZE);
        let smallest = self.resize.map_or(size, |(smallest, _)| smallest.min(size));
        self.resize = Some((smallest, size));
    }

    /// Begins a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((smallest, last)) = self.resize.take() else { return };
        if smallest < last.min(self.table.size_max()) {
            self.table.resize(smallest);
            integer(out, 0x20, 5, smallest as u32);
        }
        if last != self.table.size_max() {
            self.table.resize(last);
            integer(out, 0x20, 5, last as u32);
        }
    }

    /// A field that stands in the static table with its value.
    pub(crate) fn indexed(&self, out: &mut Vec<u8>, index: u8) {
        out.push(0x80 | index);
    }

    /// A field that goes to no table, under a name of the static one.
    pub(crate) fn literal(&self, out: &mut Vec<u8>, name: u8, value: &[u8]) {
        integer(out, 0x00, 4, u32::from(name));
        string(out, value);
    }

    /// A field. The name is in lower case.
    pub(crate) fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], known: Known) {
        self.any(out, name, value, known, || static_name(name));
    }

    /// A field that must never get into a table. The name is in lower case.
    pub(crate) fn never_indexed(&self, out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
        write(out, NEVER, 4, static_name(name), name, value);
    }

    /// A pseudo-field whose name has this index in the static table.
    pub(crate) fn pseudo(&mut self, out: &mut Vec<u8>, index: u32, name: &str, value: &[u8]) {
        self.any(out, name.as_bytes(), value, Known::Other, || index);
    }

    fn any(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], known: Known, index: impl Fn() -> u32) {
        if is_secret(name, value) {
            return write(out, NEVER, 4, index(), name, value);
        }
        if name.len() + value.len() > LONGEST {
            return write(out, 0x00, 4, index(), name, value);
        }
        let hash = hash(name, value);
        let seen =
            self.seen.get_or_insert_with(|| Box::new(Seen { entries: [u32::MAX; ENTRIES], missed: [0; MISSED] }));
        let place = &mut seen.entries[hash as usize % ENTRIES];
        if let Some(index) = self.table.index_of(*place)
            && let Some(entry) = self.table.get(index)
            && entry.mark == hash
            && entry.name() == name
            && entry.value() == value
        {
            return integer(out, 0x80, 7, index as u32 + 62);
        }
        let missed = &mut seen.missed[(hash >> 8) as usize % MISSED];
        if *missed != hash {
            *missed = hash;
            return write(out, 0x00, 4, index(), name, value);
        }
        // The index is of the table as it is before the entry is added; only static ones are used.
        write(out, 0x40, 6, index(), name, value);
        *place = self.table.added();
        self.table.add(name, value, known, hash);
    }
}

/// Whether the value must not be compressed with what others send.
fn is_secret(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"authorization" | b"proxy-authorization" => true,
        b"cookie" | b"set-cookie" => value.len() < GUESSABLE,
        _ => false,
    }
}

fn write(out: &mut Vec<u8>, kind: u8, prefix: u32, index: u32, name: &[u8], value: &[u8]) {
    integer(out, kind, prefix, index);
    if index == 0 {
        string(out, name);
    }
    string(out, value);
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    integer(out, 0, 7, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn integer(out: &mut Vec<u8>, kind: u8, prefix: u32, value: u32) {
    let most = (1u32 << prefix) - 1;
    if value < most {
        return out.push(kind | value as u8);
    }
    out.push(kind | most as u8);
    let mut value = value - most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Never 0, which stands for nothing.
fn hash(name: &[u8], value: &[u8]) -> u32 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = (name.len() as u64) << 32 | value.len() as u64;
    for part in [name, value] {
        let mut pieces = part.chunks_exact(8);
        for piece in &mut pieces {
            let piece = u64::from_le_bytes(piece.try_into().unwrap_or_default());
            state = (state ^ piece).wrapping_mul(FACTOR).rotate_left(29);
        }
        let last = pieces.remainder().iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
        state = (state ^ last).wrapping_mul(FACTOR).rotate_left(29);
    }
    (state.wrapping_mul(FACTOR) >> 32) as u32 | 1 << 31
}
