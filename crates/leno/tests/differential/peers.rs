//! The programs that read what leno sent on. Each is a server that says in a field of its answer what it read; nginx and
//! HAProxy have Go's behind them, which says what they made of it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::front::answer;
use crate::kit::{self, free_address};
use crate::reading::{Request, find};

/// How long a peer may take to start, and to answer.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Reasons for refusals that the figures name.
const REASONS_SHOWN: usize = 3;

/// A running peer. Dropped, it is killed.
pub(crate) struct Peer {
    name: &'static str,
    address: SocketAddr,
    child: Child,
    _folder: Option<tempfile::TempDir>,
}

/// What came of comparing.
pub(crate) struct Compared {
    name: &'static str,
    same: usize,
    /// By what was answered and the method.
    refused: BTreeMap<String, usize>,
    pub(crate) faults: Vec<String>,
}

/// What a peer answered.
enum Answered {
    Read(Request),
    Refused(String),
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn program(name: &str) -> PathBuf {
    root().join("interop/programs/differential").join(name)
}

fn go() -> PathBuf {
    root().join(".cache/bin/differential")
}

fn python() -> PathBuf {
    root().join(".cache/venv/differential/bin/python")
}

/// Methods that Node has heard of, among those of the streams.
const KNOWN_TO_NODE: &[&str] =
    &["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "TRACE", "COPY", "LOCK", "MOVE"];

/// What is sent on of a request of HTTP/1.0 without a host (RFC 9112 section 3.2).
const NO_HOST: &[u8] = b"\r\nHost: \r\n";

/// A handshake of WebSocket, of which HAProxy reads the fields.
fn is_websocket(bytes: &[u8]) -> bool {
    find(&bytes.to_ascii_lowercase(), b"\r\nupgrade: websocket\r\n").is_some()
}

/// Whether a peer may refuse a request that leno sends on: some do not serve every method, nginx asks for a host, HAProxy
/// for the key of WebSocket. Any other refusal would mean that leno sends on what others hold to be malformed.
fn may_refuse(peer: &str, bytes: &[u8], request: &Request) -> bool {
    match peer {
        "Node" => !KNOWN_TO_NODE.contains(&&*request.method),
        "nginx" => {
            let plain = request.method.bytes().all(|b| b.is_ascii_uppercase() || b == b'_' || b == b'-');
            !plain || request.method == "TRACE" || request.target == "*" || find(bytes, NO_HOST).is_some()
        }
        "HAProxy" => is_websocket(bytes),
        _ => false,
    }
}

/// What is not installed here.
pub(crate) fn missing() -> Option<String> {
    let built = [go(), python()].into_iter().find(|path| !path.exists()).map(|path| path.display().to_string());
    let what = built.or_else(|| kit::missing(&["nginx", "haproxy", "node"]).map(str::to_owned))?;
    Some(format!("{what} is not there: `cargo xtask install --for interop`"))
}

/// Starts all of them.
pub(crate) fn start() -> Vec<Peer> {
    let saying = |name, command: &mut Command| {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{name} said {line:?} in place of its port"));
        Peer { name, address: ([127, 0, 0, 1], port).into(), child, _folder: None }
    };
    let go = saying("Go net/http", &mut Command::new(go()));
    let nginx = configured("nginx", "nginx.conf", &go, |folder, command| {
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
    });
    let haproxy = configured("HAProxy", "haproxy.cfg", &go, |folder, command| {
        command.args(["-db", "-f"]).arg(folder.join("haproxy.cfg"));
    });
    let h11 = saying("h11", Command::new(python()).arg(program("server.py")));
    let node = saying("Node", Command::new("node").arg(program("server.mjs")));
    vec![h11, node, nginx, haproxy, go]
}

/// A proxy before `behind`, with its configuration in a folder of its own.
fn configured(name: &'static str, file: &str, behind: &Peer, arguments: impl Fn(&Path, &mut Command)) -> Peer {
    let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
    let text = std::fs::read_to_string(program(file)).unwrap();
    let text = text.replace("LISTEN", &address.to_string()).replace("BEHIND", &behind.address.to_string());
    std::fs::write(folder.path().join(file), text).unwrap();
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let mut command = Command::new(name.to_ascii_lowercase());
    command.env("PATH", &path).stdin(Stdio::null()).stdout(Stdio::null());
    arguments(folder.path(), &mut command);
    let child = command.spawn().unwrap();
    let until = Instant::now() + START_TIMEOUT;
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < until, "{name} does not listen");
        std::thread::yield_now();
    }
    Peer { name, address, child, _folder: Some(folder) }
}

// === impl Peer ===

impl Peer {
    /// Sends it every request on one connection for as long as it keeps it, and compares what it read.
    pub(crate) fn compare(&self, units: &[(Vec<u8>, Request)]) -> Compared {
        let mut compared = Compared { name: self.name, same: 0, refused: BTreeMap::new(), faults: Vec::new() };
        let end = Request { method: "GET".to_owned(), target: "/end".to_owned(), body: Vec::new() };
        // What would be left over of the last one shows in the answer to this.
        let last = (b"GET /end HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(), end);
        let mut connection = None;
        for (bytes, request) in units.iter().chain([&last]) {
            let socket = connection.take().unwrap_or_else(|| self.connect());
            match self.ask(socket, bytes, request) {
                Ok((Answered::Read(read), socket)) if read == *request => {
                    compared.same += 1;
                    connection = socket;
                }
                Ok((Answered::Read(read), _)) => {
                    compared.fault(format!("read {read:?} in place of {request:?}"), bytes);
                }
                Ok((Answered::Refused(why), _)) if !may_refuse(self.name, bytes, request) => {
                    compared.fault(format!("refused it: {why}"), bytes);
                }
                Ok((Answered::Refused(why), _)) => *compared.refused.entry(why).or_default() += 1,
                Err(why) => compared.fault(why, bytes),
            }
        }
        compared
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// What it makes of one request, and the connection, if it keeps that.
    fn ask(
        &self,
        mut socket: TcpStream,
        bytes: &[u8],
        request: &Request,
    ) -> Result<(Answered, Option<TcpStream>), String> {
        socket.write_all(bytes).map_err(|error| format!("closed without a word: {error}"))?;
        let (mut got, mut piece) = (Vec::new(), [0; 16384]);
        loop {
            match answer(&got, request.method == "HEAD") {
                Some((..200, length)) => drop(got.drain(..length)),
                Some((status, length)) if length == got.len() || status != 200 => break,
                Some(_) => return Err(format!("answered more than once: {}", got.escape_ascii())),
                None => match socket.read(&mut piece) {
                    Ok(0) if find(&got, b"\r\n\r\n").is_some() => break,
                    Ok(0) => return Err(format!("closed without an answer: {}", got.escape_ascii())),
                    Ok(length) => got.extend_from_slice(&piece[..length]),
                    Err(error) => return Err(format!("no answer: {error}")),
                },
            }
        }
        let head: String = got.iter().map(|b| *b as char).collect();
        let field = |name: &str| {
            let lines = head.lines().take_while(|line| !line.is_empty());
            lines
                .filter_map(|line| line.split_once(": "))
                .find(|(n, _)| n.eq_ignore_ascii_case(name))
                .map(|(_, v)| v.to_owned())
        };
        let Some(read) = field("x-read") else {
            let why = field("x-refused").unwrap_or_default();
            return Ok((
                Answered::Refused(format!("{} {} {why}", &head[9..12], kind_of(bytes, request)).trim().to_owned()),
                None,
            ));
        };
        let mut parts = read.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (method, target, body) = (part(), part(), part());
        let body = body.strip_prefix('=').unwrap_or_default();
        let body = (0..body.len() / 2).map(|at| u8::from_str_radix(&body[2 * at..2 * at + 2], 16).unwrap()).collect();
        let keeps = field("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
        Ok((Answered::Read(Request { method, target, body }), keeps.then_some(socket)))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Their own children go when they are asked to end.
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let until = Instant::now() + START_TIMEOUT;
        while Instant::now() < until {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::yield_now();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What about a request peers refuse: its target, its host, or its method.
fn kind_of(bytes: &[u8], request: &Request) -> String {
    match &*request.target {
        "*" => format!("{} *", request.method),
        _ if is_websocket(bytes) => "websocket without a key".to_owned(),
        _ if find(bytes, NO_HOST).is_some() => "without a host".to_owned(),
        _ => request.method.clone(),
    }
}

// === impl Compared ===

impl Compared {
    fn fault(&mut self, what: String, bytes: &[u8]) {
        self.faults.push(format!("{}: {what}\n  {}", self.name, bytes.escape_ascii()));
    }
}

impl fmt::Display for Compared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refused: usize = self.refused.values().sum();
        write!(f, "{} read {} the same and refused {refused}", self.name, self.same)?;
        let mut reasons: Vec<_> = self.refused.iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown: Vec<String> =
            reasons.iter().take(REASONS_SHOWN).map(|(why, count)| format!("{why} {count}")).collect();
        if shown.is_empty() { Ok(()) } else { write!(f, " ({})", shown.join(", ")) }
    }
}
