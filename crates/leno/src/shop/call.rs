//! How a service of the shop calls another: by name, through the outbound port of its proxy.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::client::ClientOptions;
use leno_http::grpc::{Client, Status};
use leno_http::pool::{Pool, PoolOptions};
use leno_http::{BodyLength, Connection, Method, RequestHead};
use leno_net::Address;
use leno_net::dial::{Dial, HostDial};
use tokio::time::{Instant, timeout};

use super::drive;

/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The ways to others, kept open between calls.
pub struct Ways {
    /// Where the proxy takes requests; told after the start.
    pub outbound: Option<SocketAddr>,
    /// Where the proxy takes connections for `stock`.
    pub stock: Option<SocketAddr>,
    pool: Pool<bool>,
    options: Rc<ClientOptions>,
}

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("nobody has said yet where the proxy is")]
    NoWay,
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] leno_http::Error),
    #[error("{0}")]
    Grpc(#[from] Status),
    #[error("it answered {0}: {1}")]
    Status(u16, String),
    #[error("its answer makes no sense")]
    Answer,
}

/// What one call needs of the ways; a copy, so that nothing stays borrowed while it waits.
#[derive(Clone)]
pub struct Way {
    outbound: SocketAddr,
    pool: Pool<bool>,
    options: Rc<ClientOptions>,
}

// === impl Ways ===

impl Default for Ways {
    fn default() -> Self {
        Self { outbound: None, stock: None, pool: Pool::new(PoolOptions::default()), options: Rc::default() }
    }
}

impl Ways {
    /// With an outbound port that is known from the start.
    pub fn by(outbound: SocketAddr) -> Self {
        Self { outbound: Some(outbound), ..Self::default() }
    }

    /// The way through the outbound port.
    pub fn out(&self) -> Result<Way, CallError> {
        let outbound = self.outbound.ok_or(CallError::NoWay)?;
        Ok(Way { outbound, pool: self.pool.clone(), options: self.options.clone() })
    }
}

// === impl Way ===

impl Way {
    /// Gets something from a service; anything but 200 is an error.
    pub async fn get(&self, host: &str, path: &str, http2: bool) -> Result<Bytes, CallError> {
        let call = async {
            let connection = self.connection(http2).await?;
            let mut head = RequestHead::new(Method::Get, host, path);
            head.fields.append("user-agent", "leno-shop");
            let (request, mut answer) = connection.send(&head, BodyLength::Empty).await?;
            answer.set_deadline(Instant::now() + CALL_TIMEOUT);
            request.end().await?;
            let response = answer.response().await?;
            let body = response.body.collect(ANSWER_BYTES_MAX).await?;
            match response.head.status {
                200 => Ok(body),
                status => Err(CallError::Status(status, String::from_utf8_lossy(&body).trim().to_owned())),
            }
        };
        timeout(CALL_TIMEOUT, call).await.unwrap_or(Err(CallError::Timeout))
    }

    /// Calls a gRPC method that takes a text and answers one.
    pub async fn grpc(&self, host: &str, path: &str, request: &str) -> Result<String, CallError> {
        let connection = self.connection(true).await?;
        let client = Client::new(connection, host).with_timeout(CALL_TIMEOUT);
        Ok(client.unary(path, &request.to_owned()).await?)
    }

    async fn connection(&self, http2: bool) -> Result<Connection, CallError> {
        let dial = async || {
            let stream = HostDial.connect(&Address::Tcp(self.outbound), CALL_TIMEOUT).await?;
            if !http2 {
                return Ok(Connection::h1(stream, &self.options));
            }
            let (connection, driver) = Connection::h2(stream, &self.options).await?;
            drive(driver);
            Ok::<_, CallError>(connection)
        };
        self.pool.get_or_dial(&http2, http2, dial).await
    }
}
