//! A client that asks through a proxy, or anything else that listens.

use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Connection, Fields, Frame, Method, RequestHead, ResponseHead, pump};
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
    trailers: Fields,
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and fields.
    pub head: ResponseHead,
    /// The body.
    pub body: Bytes,
    /// What came after it.
    pub trailers: Fields,
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
        Request {
            client: self,
            head: RequestHead::new(method, host, path),
            body: Bytes::new(),
            trailers: Fields::new(),
        }
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

    /// Adds a field after the body.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.append(name, value);
        self
    }

    /// Sends it on a connection of its own and reads the answer whole.
    pub async fn send(self) -> Answer {
        self.try_send().await.expect("an answer comes")
    }

    /// As `send`, with the error.
    pub async fn try_send(self) -> leno_http::Result<Answer> {
        let connection = self.client.connect().await;
        let length = match self.body.len() as u64 {
            _ if !self.trailers.is_empty() => BodyLength::Unknown,
            0 => BodyLength::Empty,
            length => BodyLength::Known(length),
        };
        let (mut sink, answer) = connection.send(&self.head, length).await?;
        let upload = async {
            if self.trailers.is_empty() {
                return pump(&mut Body::full(self.body), sink).await.map(drop);
            }
            sink.data(self.body).await?;
            sink.trailers(self.trailers).await
        };
        let read = async {
            let mut response = answer.response().await?;
            let (mut body, mut trailers) = (Vec::new(), Fields::new());
            while let Some(frame) = response.body.frame().await {
                match frame? {
                    Frame::Data(data) => body.extend_from_slice(&data),
                    Frame::Trailers(fields) => trailers = fields,
                }
            }
            Ok(Answer { head: response.head, body: body.into(), trailers })
        };
        // An answer may come before all was sent; it is what counts.
        let (_, answer) = tokio::join!(upload, read);
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
