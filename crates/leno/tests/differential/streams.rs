//! Streams of requests: good and hostile ones, changed at the level of bytes, of fields and of requests by a seed.

/// xorshift, seeded.
pub(crate) struct Noise(u64);

/// Fields with which smugglers play.
const FIELDS: &[&str] = &[
    "Content-Length: 5",
    "Content-Length: 0",
    "Content-Length: 05",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length:5",
    "content-length: 33",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked ",
    "transfer-encoding: Chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer_Encoding: chunked",
    "Content_Length: 5",
    "Connection: close",
    "Connection: keep-alive, X-A",
    "Connection: Transfer-Encoding",
    "Connection: Content-Length",
    "Connection: upgrade",
    "Upgrade: h2c",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "TE: trailers",
    "Trailer: X-Sum",
    "Host: h",
    "Host: h, i",
    "Host: h:80",
    "X-A: 1",
    "X-A:",
    "X-A: a\tb \u{e9}",
    " folded: 1",
    "X-B: 1\r\n folded",
    "X-B: 1\nContent-Length: 3",
    "X-C: 1\rTransfer-Encoding: chunked",
    "X-D: \0",
    "Cookie: a=b; c=\"d\"",
    "Accept: */*;q=0.5, text/html",
    "X-Forwarded-For: 1.2.3.4",
    "X-HTTP-Method-Override: PUT",
    "Range: bytes=0-0,5-",
];
const TARGETS: &[&str] = &[
    "/",
    "/a",
    "/a?b=c",
    "/a/../b",
    "/a//b",
    "/%61",
    "/a%2fb",
    "/a;x=1/b",
    "/a%20b?x=%zz",
    "*",
    "http://h/a",
    "http://i",
    "http://h?x",
    "/a#b",
    "/\\a",
    "//h/a",
    "/?a?b=//../",
    "/~a/%7e",
    "/%00",
    "/:80",
    "/a=b&c|d",
];
const METHODS: &[&str] =
    &["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "get", "PROPFIND", "G!T", "TRACE"];
const VERSIONS: &[&str] = &[
    "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0",
    "http/1.1",
];
const BODIES: &[&str] = &[
    "",
    "hello",
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
    "0\r\n\r\n",
    "05\r\nhello\r\n00\r\n\r\n",
    "5\r\nhello0\r\n\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "GET /inner HTTP/1.1\r\nHost: h\r\n\r\n",
    "3\r\nGET\r\n2\r\n /\r\n0\r\n\r\n",
    "a\r\n0123456789\r\n0\r\nContent-Length: 5\r\n\r\n",
];
/// Bytes that mean something.
const TELLING: &[u8] = b"\r\n :;,059aFT-_\0\t\x0b\x0c\x7f\xff\"/%?#";

/// The stream of this number.
pub(crate) fn stream(seed: u64, number: u64) -> Vec<u8> {
    let noise = &mut Noise::new(seed, number);
    let mut requests: Vec<Vec<u8>> = (0..noise.below(3) + 1).map(|_| request(noise)).collect();
    for _ in 0..[0, 0, 0, 1, 2][noise.below(5)] {
        change_requests(&mut requests, noise);
    }
    let mut bytes = requests.concat();
    for _ in 0..[0, 0, 0, 0, 1, 2][noise.below(6)] {
        change_bytes(&mut bytes, noise);
    }
    bytes
}

/// A request that is mostly good: its framing fits its body more often than not. Characters stand for bytes.
fn request(noise: &mut Noise) -> Vec<u8> {
    let plain = noise.below(4) > 0;
    let (method, target) = (
        noise.one(if plain { &METHODS[..4] } else { METHODS }),
        noise.one(if plain { &TARGETS[..6] } else { TARGETS }),
    );
    let mut fields = vec![noise.one(&["Host: h", "Host: h", "Host: h", "host: h:80", "HOST:h"]).to_owned()];
    let mut body = noise.one(BODIES).to_owned();
    match noise.below(20) {
        0 => fields.push(noise.one(FIELDS).to_owned()),
        1 => fields.push(format!("Content-Length: {}", body.chars().count())),
        2 => fields.push("Transfer-Encoding: chunked".to_owned()),
        3..10 => {
            body = text(noise);
            fields.push(format!("Content-Length: {}", body.chars().count()));
        }
        10..18 => {
            body = chunked(noise);
            fields.push("Transfer-Encoding: chunked".to_owned());
        }
        _ => body.clear(),
    }
    for _ in 0..[0, 0, 0, 0, 1, 2][noise.below(6)] {
        change_fields(&mut fields, noise);
    }
    let version = noise.one(if plain { &VERSIONS[..1] } else { VERSIONS });
    let text = format!("{method} {target} {version}\r\n{}\r\n\r\n{body}", fields.join("\r\n"));
    // Latin-1, so that a byte above ASCII is one.
    text.chars().map(|c| c as u8).collect()
}

/// Some of what means something, and some that does not.
fn text(noise: &mut Noise) -> String {
    (0..noise.below(60))
        .map(|_| if noise.below(4) == 0 { noise.one(BODIES) } else { noise.one(&["x", "\u{e9}"]) })
        .collect()
}

/// A body in chunks, with extensions and trailers now and then.
fn chunked(noise: &mut Noise) -> String {
    let mut body = String::new();
    for _ in 0..noise.below(4) {
        let chunk: String = text(noise).chars().take(noise.below(40) + 1).collect();
        let (extension, length) = (noise.one(&["", "", "", ";a=b", ";a=\"b;c\"", " ;a"]), chunk.chars().count());
        match noise.below(3) {
            _ if length == 0 => {}
            0 => body += &format!("{length:X}{extension}\r\n{chunk}\r\n"),
            _ => body += &format!("{length:x}{extension}\r\n{chunk}\r\n"),
        }
    }
    body + noise.one(&[
        "0\r\n\r\n",
        "0\r\n\r\n",
        "000\r\n\r\n",
        "0\r\nX-Sum: 1\r\n\r\n",
        "0\r\nContent-Length: 1\r\n\r\n",
    ])
}

fn change_fields(fields: &mut Vec<String>, noise: &mut Noise) {
    let at = noise.below(fields.len());
    match noise.below(7) {
        0 => fields.push(fields[at].clone()),
        1 if fields.len() > 1 => drop(fields.remove(at)),
        2 => fields[at] = fields[at].to_uppercase(),
        3 => fields[at] = fields[at].replacen(": ", noise.one(&[":", " : ", ":\t", ":  ", ": ,"]), 1),
        4 => fields.swap(0, at),
        _ => fields.insert(at, noise.one(FIELDS).to_owned()),
    }
}

fn change_requests(requests: &mut Vec<Vec<u8>>, noise: &mut Noise) {
    let at = noise.below(requests.len());
    let length = requests[at].len();
    match noise.below(6) {
        0 => requests.push(requests[at].clone()),
        1 => requests[at].truncate(noise.below(length)),
        2 => {
            let other = request(noise);
            let place = noise.below(length);
            requests[at].splice(place..place, other);
        }
        3 => requests.insert(at, noise.one(BODIES).as_bytes().to_vec()),
        4 => requests[at].splice(0..0, *b"\r\n").for_each(drop),
        _ => {
            let mut other = request(noise);
            other.drain(..noise.below(other.len()));
            requests[at].truncate(noise.below(length));
            requests[at].extend(other);
        }
    }
}

fn change_bytes(bytes: &mut Vec<u8>, noise: &mut Noise) {
    let at = noise.below(bytes.len() + 1);
    let to = (at + noise.below(8)).min(bytes.len());
    match noise.below(6) {
        0 if at < bytes.len() => bytes[at] = noise.below(256) as u8,
        1 if at < bytes.len() => bytes[at] ^= 1 << noise.below(8),
        2 => bytes.insert(at, TELLING[noise.below(TELLING.len())]),
        3 if at < bytes.len() => bytes[at] = TELLING[noise.below(TELLING.len())],
        4 => drop(bytes.drain(at..to)),
        _ => {
            let copied = bytes[at..to].to_vec();
            bytes.splice(at..at, copied);
        }
    }
}

// === impl Noise ===

impl Noise {
    fn new(seed: u64, number: u64) -> Self {
        let mut noise = Self((seed << 40 ^ number).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first numbers of neighbours are alike.
        (0..8).for_each(|_| _ = noise.below(2));
        noise
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most.max(1)
    }

    fn one<'t>(&mut self, of: &[&'t str]) -> &'t str {
        of[self.below(of.len())]
    }
}
