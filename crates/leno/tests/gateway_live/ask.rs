//! What is asked through a proxy, over each version of HTTP or as bytes, and what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Connection, Frame, Method, RequestHead, pump};
use leno_net::Stream;
use leno_runtime::task;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::echo::{ACTS_FIELD, ID_FIELD, joined};

const GRPC_SERVICE: &str = "gateway_api_conformance.echo_basic.grpcecho.GrpcEcho";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

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
pub(crate) struct Client {
    to: SocketAddr,
    http2: bool,
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

/// Sends bytes on a connection of its own, and gives the line that comes back; empty when it is closed.
pub(crate) async fn bytes(to: SocketAddr, bytes: &[u8]) -> String {
    let mut answer = String::new();
    let exchange = async {
        // A port at which nothing listens closes as well.
        let Ok(mut stream) = TcpStream::connect(to).await else { return };
        if stream.write_all(bytes).await.is_ok() {
            let _ = stream.read_to_string(&mut answer).await;
        }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.expect("the connection is answered or closed");
    answer
}

/// A ClientHello that names `host`.
pub(crate) fn hello(host: &str) -> Vec<u8> {
    let vector16 = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let name = [&[0][..], &vector16(host.as_bytes())].concat();
    let extension = [&[0, 0][..], &vector16(&vector16(&name))].concat();
    let body = [&[3, 3][..], &[7; 32], &[0], &vector16(&[0x13, 1]), &[1, 0], &vector16(&extension)].concat();
    let body = [&(body.len() as u32).to_be_bytes()[1..], &body].concat();
    let handshake = [&[1][..], &body].concat();
    [&[0x16, 3, 1][..], &vector16(&handshake)].concat()
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

impl Client {
    pub(crate) fn new(to: SocketAddr, http2: bool) -> Self {
        Self { to, http2, kept: None }
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
        let options = Rc::default();
        if !self.http2 {
            return Ok(Connection::h1(Stream::from(stream), &options));
        }
        let (connection, driver) =
            Connection::h2(Stream::from(stream), &options).await.map_err(|error| error.to_string())?;
        drop(task::spawn("client", driver));
        Ok(connection)
    }
}
