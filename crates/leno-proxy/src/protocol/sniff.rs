//! What a connection speaks, judged by its first bytes.
//!
//! Strict on purpose: a false "HTTP" breaks a byte protocol, a false "other" only costs per-request balancing. HTTP/1
//! is recognised by a whole request line that ends in ` HTTP/1.x`, because `EHLO host` and Redis' inline `GET key`
//! begin like requests. Hardened against downstream: looks at no more than [`SNIFF_MAX`] bytes.

/// The first line of a request has to end within this many bytes; longer ones are no HTTP.
pub const SNIFF_MAX: usize = 8192;

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const METHOD_MAX: usize = 24;

/// What the first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS handshake record.
    Tls,
    /// Something else.
    Other,
    /// Too few bytes to tell.
    NeedMore,
}

/// Judges `bytes`, the first of a connection.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let Some(first) = bytes.first() else { return Sniffed::NeedMore };
    if *first == 0x16 {
        return sniff_tls(bytes);
    }
    if bytes.starts_with(H2_PREFACE) {
        return Sniffed::Http2;
    }
    if H2_PREFACE.starts_with(bytes) {
        return Sniffed::NeedMore;
    }
    sniff_http1(bytes)
}

/// A record of type handshake, version 3.0 to 3.4, whose message is a ClientHello.
fn sniff_tls(bytes: &[u8]) -> Sniffed {
    let fits = |at: usize, ok: fn(u8) -> bool| bytes.get(at).is_none_or(|b| ok(*b));
    if !fits(1, |b| b == 3) || !fits(2, |b| b <= 4) || !fits(5, |b| b == 1) {
        return Sniffed::Other;
    }
    if bytes.len() > 5 { Sniffed::Tls } else { Sniffed::NeedMore }
}

fn sniff_http1(bytes: &[u8]) -> Sniffed {
    let method = bytes.iter().take_while(|b| b.is_ascii_alphabetic() || **b == b'-' || **b == b'_').count();
    if method == 0 || method > METHOD_MAX {
        return Sniffed::Other;
    }
    match bytes.get(method) {
        None => return Sniffed::NeedMore,
        Some(b' ') => {}
        Some(_) => return Sniffed::Other,
    }
    let window = &bytes[..bytes.len().min(SNIFF_MAX)];
    match window.iter().position(|b| *b == b'\n') {
        Some(end) => {
            let line = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
            let version = line.len().checked_sub(9).map(|at| &line[at..]);
            if version.is_some_and(|v| v.starts_with(b" HTTP/1.")) { Sniffed::Http1 } else { Sniffed::Other }
        }
        None if bytes.len() >= SNIFF_MAX => Sniffed::Other,
        None => Sniffed::NeedMore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        let cases: &[(&[u8], Sniffed)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n", Sniffed::Http1),
            (b"PATCH /x HTTP/1.0\r\n", Sniffed::Http1),
            (b"GET / HTTP/1.1\n", Sniffed::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Sniffed::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Sniffed::Http2),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Sniffed::Tls),
            (b"*1\r\n$4\r\nPING\r\n", Sniffed::Other),
            (b"PING\r\n", Sniffed::Other),
            (b"GET key\r\n", Sniffed::Other),
            (b"EHLO client.example\r\n", Sniffed::Other),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Sniffed::Other),
            (b"\x16\x05\x00\x00", Sniffed::Other),
            (b"", Sniffed::NeedMore),
            (b"G", Sniffed::NeedMore),
            (b"GET /long", Sniffed::NeedMore),
            (b"PRI * HT", Sniffed::NeedMore),
            (b"\x16\x03", Sniffed::NeedMore),
        ];
        for (bytes, expected) in cases {
            assert_eq!(sniff(bytes), *expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_request_line_without_end_is_given_up_at_the_limit() {
        let mut bytes = b"GET /".to_vec();
        bytes.resize(SNIFF_MAX, b'a');
        assert_eq!(sniff(&bytes), Sniffed::Other);
    }
}
