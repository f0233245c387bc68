//! The fields of a head or of trailers: ordered, spelt as sent, looked up without regard to case.
//!
//! A parsed head is one block of bytes and a list of positions in it: no allocation and no reference count per field.
//! What is added later goes to a second block that belongs to the `Fields`. Names that this crate itself acts upon
//! are recognised once, when the entry is made ([`Known`]), and compared as one byte from then on. A hash map was
//! rejected: heads have ten fields, and maps lose their order.
//!
//! Hot path: no locks held, allocations per request counted and capped, no info logs.

mod hop;

use std::fmt;

use bytes::Bytes;

use crate::buffer;

pub use hop::{ProtectedNominated, Upgrades, is_hop_by_hop, is_protected, is_usual_trailer};

/// Ordered fields with the spelling of their names kept.
#[derive(Clone, Default)]
pub struct Fields {
    /// The head as it was read; entries without `OWN` point into it.
    block: Bytes,
    /// What was added since.
    own: Vec<u8>,
    list: Vec<Entry>,
}

/// Set in `name_at` and `value_at` of entries that point into `own`.
const OWN: u32 = 1 << 31;

#[derive(Clone, Copy)]
pub(crate) struct Entry {
    name_at: u32,
    value_at: u32,
    value_len: u32,
    name_len: u16,
    pub(crate) known: Known,
    /// HTTP/2 said that no table may ever have it (RFC 7541 section 7.1.3).
    pub(crate) never_indexed: bool,
}

/// Names this crate acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Known {
    Other,
    Connection,
    ContentLength,
    Cookie,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyConnection,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
}

// === impl Fields ===

impl Fields {
    /// No fields.
    pub fn new() -> Fields {
        Fields::default()
    }

    /// Number of fields; a name sent twice counts twice.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes of all names and values, with the 32 a field that HTTP/2 counts.
    pub fn size(&self) -> usize {
        self.list.iter().map(|e| e.name_len as usize + e.value_len as usize + 32).sum()
    }

    /// The first value of the field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The first value as text; `None` also where it is not UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// Every value of the field of this name, in order.
    pub fn get_all<'a, 'n>(&'a self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.list.iter().filter(move |e| self.is_named(e, name)).map(|e| self.value(e))
    }

    /// Whether a field of this name is present.
    pub fn contains(&self, name: &str) -> bool {
        self.list.iter().any(|e| self.is_named(e, name))
    }

    /// Whether one of the comma-separated elements of the field is this token, in any case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|value| elements(value).any(|e| e.eq_ignore_ascii_case(token.as_bytes())))
    }

    /// Name and value of every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|e| (self.name(e), self.value(e)))
    }

    /// Adds a field after the others.
    ///
    /// No value can end a line: a control byte in it becomes a space (RFC 9110 section 5.5), and space around it is
    /// dropped. A name that is not a token, or a length no head may have, adds nothing and answers false.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let Some(entry) = self.write(name.as_bytes(), value.as_ref()) else { return false };
        buffer::take_list(&mut self.list);
        self.list.push(entry);
        true
    }

    /// Gives the field this one value: in the place of the first of that name, or at the end. As [`Fields::append`]
    /// otherwise.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let Some(place) = self.list.iter().position(|e| self.is_named(e, name)) else {
            return self.append(name, value);
        };
        let Some(entry) = self.write(name.as_bytes(), value.as_ref()) else { return false };
        let kept = self.list[place];
        let Entry { name_at, name_len, never_indexed, .. } = kept;
        self.list[place] = Entry { name_at, name_len, never_indexed, ..entry };
        let mut index = 0;
        self.retain_entries(|fields, e| {
            index += 1;
            index <= place + 1 || !fields.is_named(e, name)
        });
        true
    }

    /// Removes every field of this name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.list.len();
        self.retain_entries(|fields, e| !fields.is_named(e, name));
        self.list.len() != before
    }

    /// Keeps the fields for which `keep(name, value)` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        self.retain_entries(|fields, e| keep(fields.name(e), fields.value(e)));
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Fields::default();
    }

    // --- for the codecs ---

    pub(crate) fn from_block(list: Vec<Entry>, block: Bytes) -> Fields {
        Fields { block, own: Vec::new(), list }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.list
    }

    pub(crate) fn name(&self, e: &Entry) -> &[u8] {
        self.bytes(e.name_at, e.name_len as usize)
    }

    pub(crate) fn value(&self, e: &Entry) -> &[u8] {
        self.bytes(e.value_at, e.value_len as usize)
    }

    /// The value as bytes that share the block where they can.
    pub(crate) fn value_shared(&self, e: &Entry) -> Bytes {
        if e.value_at & OWN != 0 {
            Bytes::copy_from_slice(self.value(e))
        } else {
            self.block.slice(e.value_at as usize..e.value_at as usize + e.value_len as usize)
        }
    }

    pub(crate) fn get_known(&self, known: Known) -> Option<&Entry> {
        self.list.iter().find(|e| e.known == known)
    }

    pub(crate) fn has_known(&self, known: Known) -> bool {
        self.list.iter().any(|e| e.known == known)
    }

    pub(crate) fn values_known(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.list.iter().filter(move |e| e.known == known).map(|e| self.value(e))
    }

    pub(crate) fn remove_known(&mut self, known: Known) {
        self.list.retain(|e| e.known != known);
    }

    pub(crate) fn retain_entries(&mut self, mut keep: impl FnMut(&Fields, &Entry) -> bool) {
        let mut list = std::mem::take(&mut self.list);
        list.retain(|e| keep(self, e));
        self.list = list;
    }

    /// Appends what is known to be a valid name and value.
    pub(crate) fn append_valid(&mut self, name: &[u8], value: &[u8]) {
        debug_assert!(valid_name(name) && valid_value(value));
        let known = Known::of(name);
        buffer::take_list(&mut self.list);
        buffer::take_text(&mut self.own);
        let name_at = self.own.len() as u32 | OWN;
        self.own.extend_from_slice(name);
        let value_at = self.own.len() as u32 | OWN;
        self.own.extend_from_slice(value);
        let (value_len, name_len) = (value.len() as u32, name.len() as u16);
        self.list.push(Entry { name_at, value_at, value_len, name_len, known, never_indexed: false });
    }

    pub(crate) fn reserve(&mut self, fields: usize, bytes: usize) {
        self.list.reserve(fields);
        self.own.reserve(bytes);
    }

    fn bytes(&self, at: u32, len: usize) -> &[u8] {
        if at & OWN != 0 {
            let at = (at & !OWN) as usize;
            &self.own[at..at + len]
        } else {
            &self.block[at as usize..at as usize + len]
        }
    }

    fn is_named(&self, e: &Entry, name: &str) -> bool {
        e.name_len as usize == name.len() && self.name(e).eq_ignore_ascii_case(name.as_bytes())
    }

    /// Writes name and value to `own`.
    fn write(&mut self, name: &[u8], value: &[u8]) -> Option<Entry> {
        let is_text = |b: &u8| *b > b' ' && *b != 0x7f;
        let start = value.iter().position(is_text).unwrap_or(value.len());
        let end = value.iter().rposition(is_text).map_or(start, |last| last + 1);
        let value = &value[start..end];
        let total = self.own.len() + name.len() + value.len();
        if !valid_name(name) || name.len() > u16::MAX as usize || total >= OWN as usize {
            return None;
        }
        buffer::take_text(&mut self.own);
        self.own.reserve(name.len() + value.len());
        let name_at = self.own.len();
        self.own.extend_from_slice(name);
        let value_at = self.own.len();
        self.own.extend_from_slice(value);
        if !valid_value(value) {
            self.own[value_at..].iter_mut().filter(|b| !is_value_byte(**b)).for_each(|b| *b = b' ');
        }
        Some(Entry {
            name_at: name_at as u32 | OWN,
            value_at: value_at as u32 | OWN,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known: Known::of(name),
            never_indexed: false,
        })
    }
}

impl Drop for Fields {
    /// The next message of this thread finds the room.
    fn drop(&mut self) {
        buffer::give_fields(&mut self.list, &mut self.own);
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))))
            .finish()
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in pairs {
            fields.append(name.as_ref(), value);
        }
        fields
    }
}

// === impl Entry ===

impl Entry {
    /// An entry of a block: `name` and `value` are positions in it.
    pub(crate) fn in_block(name: std::ops::Range<usize>, value: std::ops::Range<usize>, known: Known) -> Entry {
        Entry {
            name_at: name.start as u32,
            value_at: value.start as u32,
            value_len: value.len() as u32,
            name_len: name.len() as u16,
            known,
            never_indexed: false,
        }
    }

    /// Where the value is, of an entry that was made by `in_block`.
    pub(crate) fn value_range(&self) -> std::ops::Range<usize> {
        self.value_at as usize..self.value_at as usize + self.value_len as usize
    }
}

// === impl Known ===

impl Known {
    pub(crate) fn of(name: &[u8]) -> Known {
        let Some(first) = name.first() else { return Known::Other };
        // Length and first letter leave one, and mostly none: the usual name costs no comparison.
        let known = match (name.len(), first | 0x20) {
            (2, b't') => (Known::Te, "te"),
            (4, b'h') => (Known::Host, "host"),
            (6, b'e') => (Known::Expect, "expect"),
            (6, b'c') => (Known::Cookie, "cookie"),
            (7, b'u') => (Known::Upgrade, "upgrade"),
            (7, b't') => (Known::Trailer, "trailer"),
            (10, b'c') => (Known::Connection, "connection"),
            (10, b'k') => (Known::KeepAlive, "keep-alive"),
            (14, b'c') => (Known::ContentLength, "content-length"),
            (14, b'h') => (Known::Http2Settings, "http2-settings"),
            (16, b'p') => (Known::ProxyConnection, "proxy-connection"),
            (17, b't') => (Known::TransferEncoding, "transfer-encoding"),
            _ => return Known::Other,
        };
        // Of what a name may hold, only upper case becomes a letter of these by this bit.
        let differs = name.iter().zip(known.1.as_bytes()).fold(0, |differs, (a, b)| differs | ((a | 0x20) ^ b));
        if differs == 0 { known.0 } else { Known::Other }
    }
}

/// The elements of a comma-separated list, without the space around them; empty ones are left out.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|e| !e.is_empty())
}

/// Whether it is a token (RFC 9110 section 5.6.2), as names of fields and methods must be.
pub fn valid_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_token_byte(*b))
}

/// Whether every byte may stand in the value of a field.
pub fn valid_value(value: &[u8]) -> bool {
    // Eight bytes at a time, as most values are too short for vector instructions; the last eight may overlap the others.
    let Some(last) = value.last_chunk::<8>() else { return value.iter().all(|b| is_value_byte(*b)) };
    let (words, _) = value.as_chunks::<8>();
    // A tab is rare enough to be found the slow way.
    words.iter().chain([last]).all(is_plain_word) || value.iter().all(|b| is_value_byte(*b))
}

/// Whether none of the bytes is below space or DEL.
#[inline]
fn is_plain_word(word: &[u8; 8]) -> bool {
    const ONES: u64 = u64::MAX / 255;
    const HIGHS: u64 = ONES << 7;
    let word = u64::from_le_bytes(*word);
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let not_del = word ^ (ONES * 0x7f);
    let del = not_del.wrapping_sub(ONES) & !not_del;
    (below_space | del) & HIGHS == 0
}

#[inline]
pub(crate) fn is_value_byte(b: u8) -> bool {
    (b >= 0x20 && b != 0x7f) || b == b'\t'
}

#[inline]
pub(crate) fn is_token_byte(b: u8) -> bool {
    TOKEN[b as usize]
}

static TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        let c = b as u8;
        table[b] = c.is_ascii_alphanumeric()
            || matches!(
                c,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            );
        b += 1;
    }
    table
};

#[cfg(test)]
mod tests;
