//! What leno reads in a stream of requests, in process; and the strict reading of what it sent on.

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bytes::Bytes;
use leno_http::{Body, Handler, Limits, Reply, RequestHead, ResponseHead, Served, ServerOptions, serve_connection};
use leno_model::path::{EscapedSlashes, canonical};

/// A request as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

/// What was read in a stream.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) requests: Vec<Request>,
    /// The connection ended with a refusal.
    pub(crate) refused: bool,
}

/// leno's server on a thread of its own.
pub(crate) struct Reader {
    streams: SyncSender<Vec<u8>>,
    reads: Receiver<Read>,
}

const BODY_MAX: usize = 1 << 20;

// === impl Reader ===

impl Reader {
    pub(crate) fn start() -> Self {
        let (streams, waiting) = sync_channel::<Vec<u8>>(1);
        let (done, reads) = sync_channel(1);
        std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build_local(Default::default()).unwrap();
            for stream in waiting {
                if done.send(runtime.block_on(read(&stream))).is_err() {
                    return;
                }
            }
        });
        Self { streams, reads }
    }

    pub(crate) fn read(&self, stream: &[u8]) -> Read {
        self.streams.send(stream.to_vec()).unwrap();
        self.reads.recv().unwrap()
    }
}

async fn read(stream: &[u8]) -> Read {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(stream).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let theirs = tokio::net::UnixStream::from_std(theirs).unwrap();
    let handler = Rc::new(Note::default());
    // The answers are for nobody, and nobody is to be waited for.
    let limits = Limits { linger_timeout: std::time::Duration::ZERO, ..Limits::default() };
    let options = ServerOptions { http2: false, limits, ..ServerOptions::default() };
    let served =
        serve_connection(theirs.into(), Bytes::new(), &Rc::new(options), handler.clone(), std::future::pending()).await;
    let mut answers = Vec::new();
    let _ = ours.read_to_end(&mut answers);
    Read { requests: handler.0.take(), refused: matches!(served, Served::Refused(_)) }
}

/// Notes the requests that came whole.
#[derive(Default)]
struct Note(RefCell<Vec<Request>>);

impl Handler for Note {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let Ok(body) = body.collect(BODY_MAX).await else { return };
        let path = head.path.as_str();
        let target = match canonical(path.as_bytes(), EscapedSlashes::Refuse) {
            Ok(Some(spelt)) => spelt,
            Ok(None) | Err(_) => path.to_owned(),
        };
        self.0.borrow_mut().push(Request { method: head.method.as_str().to_owned(), target, body: body.to_vec() });
        let _ = reply.respond(ResponseHead::new(204), Bytes::new()).await;
    }
}

/// The request that these bytes begin with, by the letter of RFC 9112 and no more, and its length. `None` while it is not
/// there whole.
pub(crate) fn strictly(bytes: &[u8]) -> Result<Option<(Request, usize)>, String> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&bytes[..end])
        .map_or_else(|_| bytes[..end].iter().map(|b| *b as char).collect(), str::to_owned);
    let mut lines = head.split("\r\n");
    let start: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = start[..] else { return Err(format!("start line {start:?}")) };
    let (mut length, mut chunked) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(": ").or_else(|| line.split_once(':')).ok_or(format!("field {line:?}"))?;
        if !leno_http::fields::valid_name(name.as_bytes()) || line.contains(['\r', '\n', '\0']) {
            return Err(format!("field {line:?}"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let number = value.parse().map_err(|_| format!("field {line:?}"))?;
            if length.replace(number).is_some() {
                return Err("two lengths".to_owned());
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding")
            && (value != "chunked" || std::mem::replace(&mut chunked, true))
        {
            return Err(format!("field {line:?}"));
        }
    }
    let rest = &bytes[end + 4..];
    let body = match (length, chunked) {
        (Some(_), true) => return Err("length and encoding".to_owned()),
        (None, false) => Some((Vec::new(), 0)),
        (Some(length), false) => rest.get(..length).map(|body| (body.to_vec(), length)),
        (None, true) => unchunk(rest)?,
    };
    let Some((body, length)) = body else { return Ok(None) };
    Ok(Some((Request { method: method.to_owned(), target: target.to_owned(), body }, end + 4 + length)))
}

fn unchunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&bytes[at..at + end]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| format!("size of a chunk {}", bytes[at..at + end].escape_ascii()))?;
        at += end + 2;
        if size == 0 {
            // Trailers are lines, the last of them empty.
            loop {
                let Some(end) = find(&bytes[at..], b"\r\n") else { return Ok(None) };
                at += end + 2;
                if end == 0 {
                    return Ok(Some((body, at)));
                }
            }
        }
        let Some(chunk) = bytes.get(at..at + size + 2) else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("end of a chunk".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
