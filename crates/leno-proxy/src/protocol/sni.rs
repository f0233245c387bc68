//! The server name of a TLS ClientHello (RFC 8446, section 4.1.2; RFC 6066, section 3), read without terminating TLS.
//!
//! Bytes in → name, none, or "need more". A ClientHello may span records; everything is bounded by [`HELLO_MAX`].
//! Hardened against downstream: every length is checked, and nothing is allocated but the joined handshake bytes.

/// More than any sane ClientHello, key shares of post-quantum groups included.
pub const HELLO_MAX: usize = 32 * 1024;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerName {
    /// The host name, lower case.
    Name(String),
    /// A ClientHello without one.
    Absent,
    /// The hello has not arrived whole.
    NeedMore,
    /// Not a ClientHello.
    Malformed,
}

/// Reads the server name from the first `bytes` of a connection.
pub fn server_name(bytes: &[u8]) -> ServerName {
    let (hello, complete) = match handshake(bytes) {
        Some(found) => found,
        None => return ServerName::Malformed,
    };
    let body = match hello.get(..4) {
        Some([1, a, b, c]) => {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            if length > HELLO_MAX {
                return ServerName::Malformed;
            }
            match hello.get(4..4 + length) {
                Some(body) => body,
                None if complete => return ServerName::Malformed,
                None => return ServerName::NeedMore,
            }
        }
        Some(_) => return ServerName::Malformed,
        None if complete => return ServerName::Malformed,
        None => return ServerName::NeedMore,
    };
    match parse_hello(body) {
        Some(Some(name)) => ServerName::Name(name),
        Some(None) => ServerName::Absent,
        None => ServerName::Malformed,
    }
}

/// The handshake bytes of the records at the start of `bytes`, and whether no more may follow within the limit.
fn handshake(bytes: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut joined = Vec::new();
    let mut rest = bytes;
    loop {
        let Some((header, after)) = rest.split_at_checked(5) else { return Some((joined, bytes.len() >= HELLO_MAX)) };
        let length = usize::from(header[3]) << 8 | usize::from(header[4]);
        // What comes behind a whole hello changes nothing about it.
        if header[0] != 0x16 || header[1] != 3 || length == 0 || length > 16_384 + 256 {
            return if joined.is_empty() { None } else { Some((joined, true)) };
        }
        let take = length.min(after.len());
        joined.extend_from_slice(&after[..take]);
        if take < length || joined.len() > HELLO_MAX {
            return Some((joined, bytes.len() >= HELLO_MAX));
        }
        rest = &after[length..];
    }
}

/// `Some(None)` is a well-formed hello without a name, `None` a malformed one.
fn parse_hello(body: &[u8]) -> Option<Option<String>> {
    let mut at = Cursor(body);
    at.take(2 + 32)?; // legacy_version, random
    at.vector8()?; // legacy_session_id
    at.vector16()?; // cipher_suites
    at.vector8()?; // legacy_compression_methods
    if at.0.is_empty() {
        return Some(None);
    }
    let mut extensions = Cursor(at.vector16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        if kind == 0 {
            return parse_server_names(content).map(Some);
        }
    }
    Some(None)
}

fn parse_server_names(content: &[u8]) -> Option<String> {
    let mut list = Cursor(Cursor(content).vector16()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector16()?;
        if kind == 0 {
            let printable = !name.is_empty() && name.len() <= 255 && name.iter().all(u8::is_ascii_graphic);
            return printable.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
    None
}

/// A reader of TLS' length-prefixed vectors.
struct Cursor<'a>(&'a [u8]);

// === impl Cursor ===

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|b| u16::from(b[0]) << 8 | u16::from(b[1]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?[0];
        self.take(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector16(content: &[u8]) -> Vec<u8> {
        [&(content.len() as u16).to_be_bytes()[..], content].concat()
    }

    fn hello(name: Option<&str>) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.push(0);
        body.extend(vector16(&[0x13, 0x01]));
        body.extend([1, 0]);
        let mut extensions = [&[0, 43][..], &vector16(&[2, 3, 4])].concat();
        if let Some(name) = name {
            let entry = [&[0][..], &vector16(name.as_bytes())].concat();
            extensions.extend([&[0, 0][..], &vector16(&vector16(&entry))].concat());
        }
        body.extend(vector16(&extensions));
        [&[1, 0, (body.len() >> 8) as u8, body.len() as u8][..], &body].concat()
    }

    fn record(content: &[u8]) -> Vec<u8> {
        [&[0x16, 3, 1][..], &vector16(content)].concat()
    }

    #[test]
    fn the_name_is_read_in_lower_case() {
        assert_eq!(server_name(&record(&hello(Some("DB.shop.mesh")))), ServerName::Name("db.shop.mesh".into()));
        assert_eq!(server_name(&record(&hello(None))), ServerName::Absent);
    }

    #[test]
    fn a_hello_split_over_records_is_joined() {
        let hello = hello(Some("db.shop.mesh"));
        let split: Vec<u8> = hello.chunks(7).flat_map(record).collect();
        assert_eq!(server_name(&split), ServerName::Name("db.shop.mesh".into()));
    }

    #[test]
    fn what_follows_a_whole_hello_changes_nothing() {
        let whole = record(&hello(Some("db.shop.mesh")));
        for behind in [&[0x16, 3, 3, 0xff, 0xff, 1][..], &[0x16, 3, 3, 0, 0], &[0x17, 3, 3, 0, 1, 7], &[0x16]] {
            let read = server_name(&[&whole[..], behind].concat());
            assert_eq!(read, ServerName::Name("db.shop.mesh".into()), "{behind:?}");
        }
        let cut = [&whole[..whole.len() - 3], &[0x16, 3, 3, 0, 0]].concat();
        assert_ne!(server_name(&cut), ServerName::Name("db.shop.mesh".into()));
    }

    #[test]
    fn every_prefix_asks_for_more_and_none_panics() {
        let whole = record(&hello(Some("db.shop.mesh")));
        for end in 0..whole.len() {
            assert_eq!(server_name(&whole[..end]), ServerName::NeedMore, "{end}");
        }
    }

    #[test]
    fn no_changed_byte_panics() {
        let whole = record(&hello(Some("db.shop.mesh")));
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                let _ = server_name(&changed);
            }
        }
    }
}
