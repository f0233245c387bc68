//! The gateway, and behind each of its ports a program that writes down what it gets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::kit::mesh::Process;
use crate::kit::{free_address, leno};
use crate::reading::{Read, Request, find, strictly};

const LANES: usize = 4;
/// How long an answer that must come may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// No body, whatever was asked.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// What the gateway sends back for `ANSWER`.
const SENT_ON: u16 = 204;

pub(crate) struct Front {
    lanes: Vec<Lane>,
    _gateway: Process,
}

/// A port of the gateway, and what arrives behind it.
pub(crate) struct Lane {
    port: SocketAddr,
    upstream: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    units: Vec<(Vec<u8>, Request)>,
    faults: Vec<String>,
}

// === impl Front ===

impl Front {
    pub(crate) fn start() -> Self {
        let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::start()).collect();
        let (mut listeners, mut rest) = (String::new(), String::new());
        for (number, lane) in lanes.iter().enumerate() {
            listeners += &format!("    - {{name: l{number}, port: {}, protocol: HTTP}}\n", lane.port.port());
            rest += &format!(
                "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}, namespace: shop}}\n\
                 spec:\n  parentRefs: [{{name: edge, sectionName: l{number}}}]\n  rules:\n    - backendRefs: [{{name: s{number}, port: 80}}]\n\
                 ---\napiVersion: leno.mesh/v1\nkind: Service\nmetadata: {{name: s{number}, namespace: shop}}\n\
                 spec:\n  ports: [{{port: 80, protocol: http}}]\n  endpoints: [{{address: 127.0.0.1, port: {}}}]\n",
                lane.upstream.port()
            );
        }
        let gateway = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\n\
             spec:\n  gatewayClassName: leno\n  listeners:\n{listeners}{rest}"
        );
        let leno = leno().file("gateway.yaml", &gateway);
        let arguments = ["proxy", "--role", "gateway", "--gateway", "edge.shop", "--resources", "gateway.yaml"];
        let listens = ["outbound", "inbound", "admin", "metrics"].map(|name| format!("--{name}-listen=off"));
        let listens: Vec<&str> = listens.iter().map(String::as_str).collect();
        let gateway = Process::start(&leno, &[&arguments[..], &listens].concat());
        gateway.wait_for("ready");
        Self { lanes, _gateway: gateway }
    }

    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter()
    }
}

// === impl Lane ===

impl Lane {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (upstream, seen) = (listener.local_addr().unwrap(), Arc::<Mutex<Seen>>::default());
        let state = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, seen) = (stream.unwrap(), state.clone());
                std::thread::spawn(move || write_down(stream, &seen));
            }
        });
        Self { port: free_address(), upstream, seen }
    }

    /// Sends the stream, and waits for as many answers as leno read requests in it. What arrived behind the gateway.
    pub(crate) fn send(&self, stream: &[u8], read: &Read) -> Result<Vec<(Vec<u8>, Request)>, String> {
        let answers = self.answers(stream, read)?;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        if let Some(fault) = seen.faults.first() {
            return Err(format!("what was sent on is no request: {fault}"));
        }
        let sent_on = answers.iter().filter(|status| **status == SENT_ON).count();
        if sent_on != seen.units.len() {
            return Err(format!("{sent_on} requests were answered as sent on, and {} arrived", seen.units.len()));
        }
        // The gateway may answer some itself; what it sends on is what leno read, in order.
        let mut left = read.requests.iter();
        for (_, unit) in &seen.units {
            if !left.any(|request| request == unit) {
                return Err(format!("{unit:?} arrived, and leno read {:?}", read.requests));
            }
        }
        Ok(seen.units)
    }

    /// The status of every answer to a request that leno read.
    fn answers(&self, stream: &[u8], read: &Read) -> Result<Vec<u16>, String> {
        let mut socket = TcpStream::connect(self.port).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        // The gateway may close before everything is sent.
        let _ = socket.write_all(stream);
        let (mut bytes, mut answers) = (Vec::new(), Vec::new());
        let mut wanted = read.requests.iter();
        let Some(mut request) = wanted.next() else { return Ok(answers) };
        loop {
            if let Some((status, length)) = answer(&bytes, request.method == "HEAD") {
                bytes.drain(..length);
                if status >= 200 {
                    answers.push(status);
                    let Some(next) = wanted.next() else { return Ok(answers) };
                    request = next;
                }
                continue;
            }
            let mut piece = [0; 4096];
            match socket.read(&mut piece) {
                Ok(0) => return Ok(answers),
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(answers),
                Err(error) => return Err(format!("no answer to {request:?}: {error}")),
            }
        }
    }
}

/// The status and the length of the answer at the beginning of these bytes, once it is there whole.
pub(crate) fn answer(bytes: &[u8], to_head: bool) -> Option<(u16, usize)> {
    let end = find(bytes, b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let bodiless = to_head || status < 200 || status == 204;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let length = end + if bodiless { 0 } else { length.unwrap_or(0) };
    (bytes.len() >= length).then_some((status, length))
}

/// Reads requests one after another and answers each; who sends something else, or two at once, is noted.
fn write_down(mut stream: TcpStream, seen: &Mutex<Seen>) {
    let mut bytes = Vec::new();
    let mut piece = [0; 16384];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..length]);
        let fault = match strictly(&bytes) {
            Ok(None) => continue,
            Ok(Some((request, length))) if length == bytes.len() => {
                seen.lock().unwrap().units.push((std::mem::take(&mut bytes), request));
                if stream.write_all(ANSWER).is_err() {
                    return;
                }
                continue;
            }
            Ok(Some((request, _))) => format!("more bytes than {request:?}"),
            Err(fault) => fault,
        };
        seen.lock().unwrap().faults.push(format!("{fault} in {}", bytes.escape_ascii()));
        return;
    }
}
