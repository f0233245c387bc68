//! What is asked through a proxy, over each version of HTTP, as bytes or as a datagram, in clear or over TLS, and what came
//! back.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Connection, Frame, Method, RequestHead, pump};
use leno_net::Stream;
use leno_runtime::task;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::echo::{ACTS_FIELD, ID_FIELD, joined};
use crate::tls::{Asked, Tls};

const GRPC_SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// After so long a datagram that is not answered counts as lost, and another is sent.
const LOST: Duration = Duration::from_secs(1);

/// An answer, read whole.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Of a call.
    pub(crate) code: Option<u64>,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A client of one address that keeps its connection while it can.
pub(crate) struct Client<'a> {
    to: SocketAddr,
    http2: bool,
    over: Option<(&'a Tls, Asked<'a>)>,
    kept: Option<Connection>,
}

/// The request of a case, as it is sent.
pub(crate) fn head(asked: &Value, authority: &str, id: &str) -> RequestHead {
    let call = asked["grpc"].as_str().map(|call| format!("/{GRPC_SERVICE}/{call}"));
    let path = call.clone().unwrap_or_else(|| asked["path"].as_str().unwrap_or("/").to_owned());
    let method = asked["method"].as_str().unwrap_or(if call.is_some() { "POST" } else { "GET" });
    let mut head = RequestHead::new(Method::parse(method.as_bytes()).unwrap(), authority, path);
    for (name, value) in asked["headers"].as_object().into_iter().flatten() {
        head.fields.append(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    if call.is_some() {
        head.fields.append("content-type", "application/grpc");
        head.fields.append("te", "trailers");
    }
    head.fields.append(ID_FIELD, id);
    if asked["acts"].is_object() {
        head.fields.append(ACTS_FIELD, asked["acts"].to_string());
    }
    head
}

/// Sends bytes on a connection of its own, over TLS with a name if there is one, and gives the line that comes back; empty
/// when it is closed.
pub(crate) async fn bytes(to: SocketAddr, over: Option<(&Tls, Asked<'_>)>, bytes: &[u8]) -> String {
    let exchange = async {
        // A port at which nothing listens closes as well.
        let Ok(stream) = TcpStream::connect(to).await else { return String::new() };
        match over {
            None => say(stream, bytes).await,
            Some((tls, asked)) => match tls.connect(stream, &asked).await {
                Ok(clear) => say(clear, bytes).await,
                Err(_) => String::new(),
            },
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.expect("the connection is answered or closed")
}

async fn say(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let mut answer = String::new();
    if stream.write_all(bytes).await.is_ok() {
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}

/// Sends a datagram from a socket of its own and gives what comes back.
pub(crate) async fn datagram(to: SocketAddr, bytes: &[u8]) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(to).await.unwrap();
    let mut buffer = [0; 2048];
    let exchange = async {
        loop {
            // A port that is not open yet says so with the next call.
            let _ = socket.send(bytes).await;
            if let Ok(Ok(length)) = tokio::time::timeout(LOST, socket.recv(&mut buffer)).await {
                return length;
            }
        }
    };
    match tokio::time::timeout(TIMEOUT, exchange).await {
        Ok(length) => String::from_utf8_lossy(&buffer[..length]).into_owned(),
        Err(_) => String::new(),
    }
}

/// Asks where no TLS may come about; what is wrong with it.
pub(crate) async fn refused(to: SocketAddr, tls: &Tls, asked: &Asked<'_>) -> Option<String> {
    let exchange = async {
        let stream = match TcpStream::connect(to).await {
            Ok(stream) => stream,
            Err(error) => return Some(format!("connect to {to}: {error}")),
        };
        let clear = tls.connect(stream, asked).await.ok()?;
        // In TLS 1.3 a client is done before its certificate was looked at.
        let answer = say(clear, format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", asked.name).as_bytes()).await;
        (!answer.is_empty()).then(|| format!("it is answered: {answer}"))
    };
    let timed = tokio::time::timeout(TIMEOUT, exchange).await;
    timed.unwrap_or_else(|_| Some("it is neither answered nor closed".to_owned()))
}

/// Upgrades a connection and sends these messages; what went wrong.
pub(crate) async fn websocket(to: SocketAddr, head: &RequestHead, messages: &[Value]) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(to).await?;
        let id = head.fields.get_str(ID_FIELD).unwrap_or_default();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {to}\r\n{ID_FIELD}: {id}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            head.path.as_str()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        if !answer.starts_with(b"HTTP/1.1 101") {
            return Ok(Err(format!("the upgrade is answered {:?}", String::from_utf8_lossy(&answer))));
        }
        for message in messages {
            let frame = frame(message);
            stream.write_all(&frame).await?;
            let mut back = vec![0; frame.len()];
            stream.read_exact(&mut back).await?;
            if back != frame {
                return Ok(Err(format!("the message {message} comes back as {back:?}")));
            }
        }
        std::io::Result::Ok(Ok(()))
    };
    let timed =
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| "the messages do not come back".to_owned())?;
    timed.map_err(|error| error.to_string())?
}

/// A message of text or of bytes, masked with zeros.
fn frame(message: &Value) -> Vec<u8> {
    let (kind, payload) = match message.as_str() {
        Some(text) => (0x81, text.as_bytes().to_vec()),
        None => (0x82, message.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect()),
    };
    [&[kind, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], &payload].concat()
}

// === impl Client ===

impl<'a> Client<'a> {
    pub(crate) fn new(to: SocketAddr, http2: bool, over: Option<(&'a Tls, Asked<'a>)>) -> Self {
        Self { to, http2, over, kept: None }
    }

    /// Sends it and reads the answer whole.
    pub(crate) async fn ask(&mut self, head: &RequestHead) -> Result<Answer, String> {
        let asking = self.try_ask(head);
        let asked = tokio::time::timeout(TIMEOUT, asking).await;
        asked.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
    }

    async fn try_ask(&mut self, head: &RequestHead) -> Result<Answer, String> {
        let connection = match self.kept.take().filter(Connection::is_open) {
            Some(kept) => kept,
            None => self.connect().await?,
        };
        let is_call = head.fields.get_str("content-type") == Some("application/grpc");
        let message = Bytes::from_static(if is_call { &[0; 5] } else { &[] });
        let length = if is_call { BodyLength::Known(5) } else { BodyLength::Empty };
        let said = |error: leno_http::Error| error.to_string();
        let (sink, awaited) = connection.send(head, length).await.map_err(said)?;
        // An answer may come before all was sent; it is what counts.
        let _ = pump(&mut Body::full(message), sink).await;
        let mut response = awaited.response().await.map_err(said)?;
        let mut answer = Answer { status: response.head.status, ..Answer::default() };
        answer.fields = joined(&response.head.fields);
        let mut body = Vec::new();
        while let Some(frame) = response.body.frame().await {
            match frame.map_err(said)? {
                Frame::Data(data) => body.extend_from_slice(&data),
                Frame::Trailers(fields) => answer.code = fields.get_str("grpc-status").and_then(|c| c.parse().ok()),
            }
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        let in_head = answer.fields.get("grpc-status").and_then(|code| code.parse().ok());
        answer.code = answer.code.or(in_head);
        self.kept = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(self.to).await.map_err(|error| format!("connect to {}: {error}", self.to))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let stream = match &self.over {
            None => Stream::from(stream),
            Some((tls, asked)) => {
                let shaken = tls.connect(stream, asked).await;
                Stream::from(shaken.map_err(|error| format!("TLS with {}: {error}", self.to))?)
            }
        };
        let options = Rc::default();
        if !self.http2 {
            return Ok(Connection::h1(stream, &options));
        }
        let (connection, driver) = Connection::h2(stream, &options).await.map_err(|error| error.to_string())?;
        drop(task::spawn("client", driver));
        Ok(connection)
    }
}
