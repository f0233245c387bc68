//! Sends an input and compares what comes of it.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::inputs::{End, Input, Step};
use crate::upstream::{Seen, Upstream, find, with_one_chunk};

/// How an input is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sending {
    Whole,
    /// What is sent first in two pieces, of which the first has so many bytes.
    Pieces(usize),
    Bytes,
}

/// How long an answer, or the end of a connection, may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer is waited for that may never answer.
const QUIET: Duration = Duration::from_secs(1);
/// Between two pieces, so that they mostly arrive as two. Whether they do decides nothing.
const PAUSE: Duration = Duration::from_micros(300);
/// What is smuggled behind an input that must be refused.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: t.test\r\n\r\n";
const PROBE: &[u8] = b"GET /probe HTTP/1.1\r\nHost: t.test\r\n\r\n";

struct Talk {
    stream: TcpStream,
    read: Vec<u8>,
}

/// Sends the input and says what went otherwise than it says.
pub(crate) fn run(port: SocketAddr, upstream: &Upstream, input: &Input, sending: Sending) -> Result<(), String> {
    upstream.script(&input.answers);
    let mut talk = Talk::open(port);
    let talked = talk.follow(input, sending).and_then(|()| talk.end(input));
    let probed = usize::from(input.end == End::Keep);
    if talked.is_ok() {
        upstream.wait_for_requests(input.seen.len() + probed);
    }
    if input.destroyed {
        upstream.wait_for_entries(input.seen.len().max(1) + probed);
    }
    drop(talk);
    let seen = upstream.take();
    let compared = talked.and_then(|()| compare(input, &seen, sending));
    if input.destroyed && compared.is_ok() {
        return check_destroyed(port, upstream, &seen, probed).map_err(|fault| format!("{fault}; it saw {seen:?}"));
    }
    compared.map_err(|fault| format!("{fault}\n  the upstream saw {seen:?}"))
}

/// Sends an input that leno refuses to whoever listens there, gives what came back until the connection was closed or
/// nothing more came, and asks for something else, so that the program behind has read what was sent on before.
pub(crate) fn ask_whoever(port: SocketAddr, input: &Input) -> Vec<u8> {
    let mut talk = Talk::open(port);
    talk.stream.set_read_timeout(Some(QUIET)).unwrap();
    for step in &input.steps {
        if let Step::Send(bytes) = step {
            talk.send(&[bytes, SMUGGLED].concat(), Sending::Whole);
        }
    }
    while let Ok(true) = talk.more() {}
    let answer = std::mem::take(&mut talk.read);
    drop(talk);
    let mut probe = Talk::open(port);
    probe.stream.set_read_timeout(Some(QUIET)).unwrap();
    probe.send(PROBE, Sending::Whole);
    let _ = probe.response(false);
    answer
}

/// The status of the first answer in some bytes.
pub(crate) fn status_of(answer: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(answer.split(|byte| *byte == b'\r').next()?).into_owned();
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// Whether a request is none of an input, but what is sent behind it or after it.
pub(crate) fn is_ours(request: &[u8]) -> bool {
    [&b"GET /smuggled "[..], b"GET /probe "].iter().any(|ours| request.starts_with(ours))
}

fn compare(input: &Input, seen: &[Seen], sending: Sending) -> Result<(), String> {
    let whole: Vec<Vec<u8>> = seen.iter().filter(|s| s.complete).map(|s| with_one_chunk(&s.bytes)).collect();
    let probe = input.end == End::Keep;
    let (whole, probes) = whole.split_at(whole.len().saturating_sub(usize::from(probe)));
    if probe && !probes.iter().any(|bytes| bytes.starts_with(b"GET /probe HTTP/1.1\r\n")) {
        return Err("the next request did not arrive as the last one".to_owned());
    }
    let wanted: Vec<Vec<u8>> = input.seen.iter().map(|bytes| with_one_chunk(bytes)).collect();
    if whole != wanted {
        let shown = |of: &[Vec<u8>]| of.iter().map(|b| b.escape_ascii().to_string()).collect::<Vec<_>>();
        return Err(format!("saw {:?}, wanted {:?}", shown(whole), shown(&wanted)));
    }
    // What was sent in pieces may have been begun; what was there at once may not.
    let broken = seen.iter().any(|s| !s.complete);
    if broken && sending == Sending::Whole && !input.destroyed {
        return Err("a part of it was forwarded".to_owned());
    }
    Ok(())
}

/// The connection that the input used first is closed, and the next request comes on another one.
fn check_destroyed(port: SocketAddr, upstream: &Upstream, seen: &[Seen], probed: usize) -> Result<(), String> {
    let used = seen.iter().map(|seen| seen.connection).min().ok_or("the upstream saw nothing of it")?;
    if !upstream.wait_for_close(used) {
        return Err(format!("connection {used} to the upstream stays open"));
    }
    let mut talk = Talk::open(port);
    talk.stream.write_all(PROBE).map_err(|error| error.to_string())?;
    talk.response(false)?;
    upstream.wait_for_requests(1);
    let after = upstream.take();
    let others = seen.iter().filter(|seen| seen.connection != used).count();
    if after.iter().any(|after| after.connection == used) || others < probed {
        return Err("the connection to the upstream was used again".to_owned());
    }
    Ok(())
}

// === impl Talk ===

impl Talk {
    fn open(port: SocketAddr) -> Self {
        let stream = TcpStream::connect(port).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// The steps of an input.
    fn follow(&mut self, input: &Input, sending: Sending) -> Result<(), String> {
        let refused = input.is_refused();
        let last_send = input.steps.iter().rposition(|step| matches!(step, Step::Send(_)));
        let mut first = true;
        for (number, step) in input.steps.iter().enumerate() {
            match step {
                Step::Send(bytes) => {
                    let mut bytes = bytes.clone();
                    if refused && Some(number) == last_send {
                        bytes.extend_from_slice(SMUGGLED);
                    }
                    self.send(&bytes, if first { sending } else { Sending::Whole });
                    first = false;
                }
                Step::Read(wanted, bodiless) => {
                    let status = self.response(*bodiless)?;
                    if status != *wanted {
                        return Err(format!("answered with {status} instead of {wanted}: {}", self.shown()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends; who is refused already may not be listened to any more.
    fn send(&mut self, bytes: &[u8], sending: Sending) {
        let pieces: Vec<&[u8]> = match sending {
            Sending::Whole => vec![bytes],
            Sending::Pieces(at) => vec![&bytes[..at], &bytes[at..]],
            Sending::Bytes => bytes.chunks(1).collect(),
        };
        for (number, piece) in pieces.into_iter().enumerate() {
            if number > 0 {
                std::thread::sleep(PAUSE);
            }
            if self.stream.write_all(piece).is_err() {
                return;
            }
        }
    }

    /// Reads one response and gives its status.
    fn response(&mut self, bodiless: bool) -> Result<u16, String> {
        let end = loop {
            if let Some(end) = find(&self.read, b"\r\n\r\n") {
                break end + 4;
            }
            if !self.more()? {
                return Err(format!("closed without an answer after {}", self.shown()));
            }
        };
        let head = String::from_utf8_lossy(&self.read[..end]).to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(self.shown())?;
        let field = |name: &str| {
            let at = head.find(&format!("\r\n{name}: "))? + name.len() + 4;
            head[at..].split("\r\n").next().map(str::to_owned)
        };
        let none = bodiless || (100..200).contains(&status) || matches!(status, 204 | 304);
        let length =
            match (field("content-length").and_then(|length| length.parse::<usize>().ok()), field("transfer-encoding"))
            {
                _ if none => end,
                (Some(length), _) => end + length,
                (None, Some(_)) => loop {
                    if let Some(last) = find(&self.read[end..], b"0\r\n\r\n") {
                        break end + last + 5;
                    }
                    if !self.more()? {
                        break self.read.len();
                    }
                },
                (None, None) => {
                    while self.more()? {}
                    self.read.len()
                }
            };
        while self.read.len() < length && self.more()? {}
        self.read.drain(..length.min(self.read.len()));
        Ok(status)
    }

    fn end(&mut self, input: &Input) -> Result<(), String> {
        match input.end {
            End::Close => {
                while self.more()? {}
                if self.read.is_empty() { Ok(()) } else { Err(format!("answered more than wanted: {}", self.shown())) }
            }
            End::Keep => {
                self.stream.write_all(PROBE).map_err(|error| format!("it is closed: {error}"))?;
                match self.response(false)? {
                    200 => Ok(()),
                    status => Err(format!("the next request was answered with {status}")),
                }
            }
            End::Tunnel => {
                self.stream.write_all(b"ping").map_err(|error| error.to_string())?;
                while self.read.len() < 4 && self.more()? {}
                if self.read == b"ping" { Ok(()) } else { Err(format!("no tunnel: {}", self.shown())) }
            }
        }
    }

    /// Reads some; false at the end.
    fn more(&mut self) -> Result<bool, String> {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.read.extend_from_slice(&piece[..read]);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(false),
            Err(error) => Err(format!("nothing came: {error}; so far {}", self.shown())),
        }
    }

    fn shown(&self) -> String {
        self.read[..self.read.len().min(300)].escape_ascii().to_string()
    }
}
