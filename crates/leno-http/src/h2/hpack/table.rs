//! The static table, and the dynamic one of a direction.

use std::collections::VecDeque;

use crate::fields::Known;

/// The size that holds until somebody says otherwise, and the largest that is kept here.
pub(super) const SIZE: usize = 4096;
/// What an entry counts beside its bytes.
const OVERHEAD: usize = 32;

/// RFC 7541, Appendix A; the first has index 1.
pub(super) static STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Index in the static table of the name of a field, pseudo-fields excepted; 0 where it has none.
pub(super) fn static_name(name: &[u8]) -> u32 {
    match name {
        b"accept-charset" => 15,
        b"accept-encoding" => 16,
        b"accept-language" => 17,
        b"accept-ranges" => 18,
        b"accept" => 19,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"authorization" => 23,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"cookie" => 32,
        b"date" => 33,
        b"etag" => 34,
        b"expect" => 35,
        b"expires" => 36,
        b"from" => 37,
        b"host" => 38,
        b"if-match" => 39,
        b"if-modified-since" => 40,
        b"if-none-match" => 41,
        b"if-range" => 42,
        b"if-unmodified-since" => 43,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"max-forwards" => 47,
        b"proxy-authenticate" => 48,
        b"proxy-authorization" => 49,
        b"range" => 50,
        b"referer" => 51,
        b"refresh" => 52,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"transfer-encoding" => 57,
        b"user-agent" => 58,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        _ => 0,
    }
}

/// The dynamic table: what was sent before, the newest first.
#[derive(Default)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    size_max: usize,
    /// Entries that ever were added; the newest has this number less one.
    added: u32,
}

/// A field of the dynamic table.
pub(super) struct Entry {
    bytes: Box<[u8]>,
    name_len: u32,
    pub(super) known: Known,
    /// What the owner of the table notes: the hash of the field, or whether it is valid.
    pub(super) mark: u32,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { size_max: SIZE, ..Table::default() }
    }

    /// The entry of this index, 0 for the newest.
    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    /// Index of the entry that was the `number`th to be added, unless it is gone.
    pub(super) fn index_of(&self, number: u32) -> Option<usize> {
        let age = self.added.wrapping_sub(number).wrapping_sub(1) as usize;
        (age < self.entries.len()).then_some(age)
    }

    /// How many entries were added.
    pub(super) fn added(&self) -> u32 {
        self.added
    }

    /// Changes the size, which drops the oldest.
    pub(super) fn resize(&mut self, size_max: usize) {
        self.size_max = size_max;
        self.evict(size_max);
    }

    pub(super) fn size_max(&self) -> usize {
        self.size_max
    }

    /// Adds an entry; one that is larger than the table empties it.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8], known: Known, mark: u32) {
        let size = name.len() + value.len() + OVERHEAD;
        if size > self.size_max {
            return self.evict(0);
        }
        self.evict(self.size_max - size);
        let mut bytes = Vec::with_capacity(name.len() + value.len());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
        self.size += size;
        self.added = self.added.wrapping_add(1);
        self.entries.push_front(Entry { bytes: bytes.into(), name_len: name.len() as u32, known, mark });
    }

    fn evict(&mut self, size: usize) {
        while self.size > size {
            let Some(entry) = self.entries.pop_back() else { return self.size = 0 };
            self.size -= entry.bytes.len() + OVERHEAD;
        }
    }
}

impl Entry {
    pub(super) fn name(&self) -> &[u8] {
        &self.bytes[..self.name_len as usize]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.bytes[self.name_len as usize..]
    }
}
