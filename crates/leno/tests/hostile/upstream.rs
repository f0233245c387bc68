//! A program that writes down every byte it gets, and answers as told.
//!
//! It reads requests by the letter of RFC 9112 and no more: whatever else reaches it is written down as broken.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::inputs::Answer;

/// A running program.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

/// What it saw.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) connection: usize,
    pub(crate) bytes: Vec<u8>,
    /// Whether it is a whole request.
    pub(crate) complete: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connections: usize,
    seen: Vec<Seen>,
    answers: VecDeque<Answer>,
    closed: HashSet<usize>,
    /// Connections on which a request has begun.
    begun: HashMap<usize, TcpStream>,
}

/// How far the request at the beginning of some bytes is there.
enum Progress {
    Nothing,
    /// Its head.
    Head,
    /// All of it, so many bytes.
    Whole(usize),
    Malformed,
}

/// How long something that must come may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long one that has begun a request may take to finish it once its client is gone.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// === impl Upstream ===

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let state = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), state.clone());
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Takes note of what is to be answered next.
    pub(crate) fn script(&self, answers: &[Answer]) {
        self.shared.state.lock().unwrap().answers = answers.iter().cloned().collect();
    }

    /// What it saw since the last time.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.shared.state.lock().unwrap().seen)
    }

    /// Waits until it has seen so many whole requests.
    pub(crate) fn wait_for_requests(&self, count: usize) {
        self.wait(|state| state.seen.iter().filter(|seen| seen.complete).count() >= count);
    }

    /// Waits until it has written down so much, whole or broken.
    pub(crate) fn wait_for_entries(&self, count: usize) {
        self.wait(|state| state.seen.len() >= count);
    }

    /// Waits until a connection is closed; whether it is.
    pub(crate) fn wait_for_close(&self, connection: usize) -> bool {
        self.wait(|state| state.closed.contains(&connection))
    }

    /// Waits until no request is begun and not whole, and closes what has such a one after a second all the same, so
    /// that it is written down as broken.
    pub(crate) fn settle(&self) {
        if !self.wait_for(SETTLE_TIMEOUT, |state| state.begun.is_empty()) {
            let state = self.shared.state.lock().unwrap();
            state.begun.values().for_each(|stream| drop(stream.shutdown(std::net::Shutdown::Both)));
            drop(state);
            self.wait(|state| state.begun.is_empty());
        }
    }

    fn wait(&self, is_so: impl Fn(&State) -> bool) -> bool {
        self.wait_for(TIMEOUT, is_so)
    }

    fn wait_for(&self, timeout: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let state = self.shared.state.lock().unwrap();
        let (state, _) = self.shared.changed.wait_timeout_while(state, timeout, |state| !is_so(state)).unwrap();
        is_so(&state)
    }
}

// === impl Shared ===

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let connection = self.with(|state| {
            state.connections += 1;
            state.connections
        });
        let (mut bytes, mut early) = (Vec::new(), false);
        let mut piece = [0; 64 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            bytes.extend_from_slice(&piece[..read]);
            loop {
                let progress = progress(&bytes);
                if matches!(progress, Progress::Head | Progress::Whole(_)) && !early && self.is_early() {
                    early = true;
                    self.answer(&mut stream);
                }
                let Progress::Whole(length) = progress else { break };
                let whole: Vec<u8> = bytes.drain(..length).collect();
                self.see(Seen { connection, bytes: whole, complete: true });
                if !std::mem::take(&mut early) && self.answer(&mut stream) {
                    // It is a tunnel now.
                    let _ = stream.write_all(&std::mem::take(&mut bytes));
                    while let Ok(read @ 1..) = stream.read(&mut piece) {
                        let _ = stream.write_all(&piece[..read]);
                    }
                }
            }
            if matches!(progress(&bytes), Progress::Malformed) {
                self.see(Seen { connection, bytes: std::mem::take(&mut bytes), complete: false });
            }
            self.with(|state| match bytes.is_empty() {
                true => state.begun.remove(&connection),
                false => state.begun.insert(connection, stream.try_clone().unwrap()),
            });
        }
        if !bytes.is_empty() {
            self.see(Seen { connection, bytes, complete: false });
        }
        self.with(|state| {
            state.begun.remove(&connection);
            state.closed.insert(connection);
        });
    }

    fn is_early(&self) -> bool {
        self.state.lock().unwrap().answers.front().is_some_and(|answer| answer.early)
    }

    /// Answers; whether with 101.
    fn answer(&self, stream: &mut TcpStream) -> bool {
        let answer = self.with(|state| state.answers.pop_front());
        let bytes = answer.as_ref().map_or(OK, |answer| &answer.bytes);
        let _ = stream.write_all(bytes);
        if bytes.is_empty() || bytes.windows(19).any(|w| w == b"\r\nX-Then: hang up\r\n") {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        bytes.starts_with(b"HTTP/1.1 101")
    }

    fn see(&self, seen: Seen) {
        self.with(|state| state.seen.push(seen));
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
        changed
    }
}

// === impl Seen ===

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.complete { "" } else { "broken " };
        write!(f, "{kind}{:?}", self.bytes.escape_ascii().to_string())
    }
}

// === requests, by the letter ===

fn progress(bytes: &[u8]) -> Progress {
    let Some(end) = find(bytes, b"\r\n\r\n") else {
        return if bytes.is_empty() || !bytes.contains(&0) { Progress::Nothing } else { Progress::Malformed };
    };
    let head = &bytes[..end + 2];
    let body = &bytes[end + 4..];
    match (field(head, "content-length"), field(head, "transfer-encoding")) {
        (None, None) => Progress::Whole(end + 4),
        (Some(length), None) => match length.parse::<usize>() {
            Ok(length) if body.len() >= length => Progress::Whole(end + 4 + length),
            Ok(_) => Progress::Head,
            Err(_) => Progress::Malformed,
        },
        (None, Some(encoding)) if encoding == "chunked" => match chunks(body) {
            Some((_, _, length)) => Progress::Whole(end + 4 + length),
            None => Progress::Head,
        },
        _ => Progress::Malformed,
    }
}

/// Whether it is no request, however much of it there is.
pub(crate) fn is_malformed(bytes: &[u8]) -> bool {
    matches!(progress(bytes), Progress::Malformed)
}

/// A message with its chunks made one, since their borders are whoever's.
pub(crate) fn with_one_chunk(message: &[u8]) -> Vec<u8> {
    let Some(end) = find(message, b"\r\n\r\n") else { return message.to_vec() };
    let (head, body) = message.split_at(end + 4);
    if field(&head[..end + 2], "transfer-encoding").as_deref() != Some("chunked") {
        return message.to_vec();
    }
    let Some((data, trailers, length)) = chunks(body) else { return message.to_vec() };
    let size = format!("{:x}\r\n", data.len()).into_bytes();
    let data = if data.is_empty() { Vec::new() } else { [&size, &data[..], b"\r\n"].concat() };
    [head, &data, b"0\r\n", &trailers, b"\r\n", &body[length..]].concat()
}

/// Data and trailers of a chunked body, and its length, if it is whole.
fn chunks(body: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let end = find(&body[at..], b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&body[at..at + end]).ok()?, 16).ok()?;
        at += end + 2;
        if size == 0 {
            let trailers = at;
            while !body[at..].starts_with(b"\r\n") {
                at += find(&body[at..], b"\r\n")? + 2;
            }
            return Some((data, body[trailers..at].to_vec(), at + 2));
        }
        let chunk = body.get(at..at + size + 2)?;
        data.extend_from_slice(chunk.strip_suffix(b"\r\n")?);
        at += size + 2;
    }
}

fn field(head: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let lines = text.split("\r\n").skip(1);
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.to_owned())
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
