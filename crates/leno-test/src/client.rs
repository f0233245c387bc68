//! A client that asks through a proxy, or anything else that listens.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Connection, Method, RequestHead, ResponseHead, pump};
use leno_net::Stream;
use leno_runtime::task;
use tokio::net::TcpStream;

use crate::proxy::Proxy;

/// A client of one version of HTTP.
pub struct Client {
    to: SocketAddr,
    http2: bool,
}

/// A request that is being built.
pub struct Request<'c> {
    client: &'c Client,
    head: RequestHead,
    body: Bytes,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body.
    pub body: Bytes,
}

/// A client that speaks HTTP/1.1 to a proxy's outbound port.
pub fn h1(proxy: &Proxy) -> Client {
    Client { to: proxy.outbound, http2: false }
}

/// A client that speaks HTTP/2 to a proxy's outbound port.
pub fn h2(proxy: &Proxy) -> Client {
    Client { to: proxy.outbound, http2: true }
}

/// A client of an address.
pub fn to(address: SocketAddr, http2: bool) -> Client {
    Client { to: address, http2 }
}

// === impl Client ===

impl Client {
    /// Asks with GET.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.request(Method::Get, host, path).send().await
    }

    /// Sends a body.
    pub async fn post(&self, host: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        self.request(Method::Post, host, path).body(body).send().await
    }

    /// A request to be completed.
    pub fn request(&self, method: Method, host: &str, path: &str) -> Request<'_> {
        Request { client: self, head: RequestHead::new(method, host, path), body: Bytes::new() }
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.to).await.expect("the proxy listens");
        let options = Rc::default();
        if !self.http2 {
            return Connection::h1(Stream::from(stream), &options);
        }
        let (connection, driver) =
            Connection::h2(Stream::from(stream), &options).await.expect("the proxy speaks HTTP/2");
        task::spawn("test-client", driver);
        connection
    }
}

// === impl Request ===

impl Request<'_> {
    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.head.fields.append(name, value);
        self
    }

    /// Adds a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it on a connection of its own and reads the answer whole.
    pub async fn send(self) -> Answer {
        self.try_send().await.expect("an answer comes")
    }

    /// As `send`, with the error.
    pub async fn try_send(self) -> leno_http::Result<Answer> {
        let connection = self.client.connect().await;
        let length = if self.body.is_empty() { BodyLength::Empty } else { BodyLength::Known(self.body.len() as u64) };
        let (sink, answer) = connection.send(&self.head, length).await?;
        let mut body = Body::full(self.body);
        let read = async {
            let response = answer.response().await?;
            Ok(Answer { head: response.head, body: response.body.collect(256 * 1024 * 1024).await? })
        };
        let (_, answer) = tokio::join!(pump(&mut body, sink), read);
        answer
    }
}

// === impl Answer ===

impl Answer {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.get_str(name)
    }
}
