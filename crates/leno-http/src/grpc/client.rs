//! Calls over one HTTP/2 connection.

use std::time::Duration;

use prost::Message;
use tokio::time::Instant;

use super::message::{MESSAGE_MAX, Sender, Streaming, encode};
use super::status::{Code, Status};
use super::timeout::format_timeout;
use crate::body::BodyLength;
use crate::client::Connection;
use crate::fields::Fields;
use crate::message::{Method, RequestHead, Text};

/// Makes calls. A clone uses the same connection.
#[derive(Clone)]
pub struct Client {
    connection: Connection,
    authority: Text,
    fields: Fields,
    timeout: Option<Duration>,
    cap: usize,
}

// === impl Client ===

impl Client {
    /// Calls over this connection; `authority` names the server.
    pub fn new(connection: Connection, authority: impl Into<Text>) -> Client {
        Client { connection, authority: authority.into(), fields: Fields::new(), timeout: None, cap: MESSAGE_MAX }
    }

    /// Every call carries this field.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Client {
        self.fields.append(name, value);
        self
    }

    /// Unary calls end after so long, here and (by `grpc-timeout`) there.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Client {
        self.timeout = Some(timeout);
        self
    }

    /// Answers are at most this long.
    #[must_use]
    pub fn with_message_max(mut self, bytes: usize) -> Client {
        self.cap = bytes;
        self
    }

    /// Whether the connection takes calls.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// One message there, one message back. `path` is `/package.Service/Method`.
    pub async fn unary<Q: Message, R: Message + Default>(&self, path: &str, request: &Q) -> Result<R, Status> {
        let frame = encode(request)?;
        let mut head = self.head(path);
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        if let Some(timeout) = self.timeout {
            head.fields.append("grpc-timeout", format_timeout(timeout));
        }
        let (mut body, mut response) = self.connection.send(&head, BodyLength::Unknown).await?;
        if let Some(deadline) = deadline {
            response.set_deadline(deadline);
        }
        let call = async {
            body.data(frame).await?;
            body.end().await?;
            let mut answers = Streaming::awaited(response, self.cap);
            let missing = || Status::new(Code::Internal, "call was answered without a message");
            let answer = answers.message().await?.ok_or_else(missing)?;
            match answers.message().await? {
                None => Ok(answer),
                Some(_) => Err(Status::new(Code::Internal, "call was answered with more than one message")),
            }
        };
        match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, call)
                .await
                .unwrap_or_else(|_| Err(Status::new(Code::DeadlineExceeded, "no answer within the deadline"))),
            None => call.await,
        }
    }

    /// Messages both ways, at their own pace. Neither half waits for the other; the head of the answer is awaited with
    /// its first message.
    pub async fn open<Q: Message, R: Message + Default>(
        &self,
        path: &str,
    ) -> Result<(Sender<Q>, Streaming<R>), Status> {
        let (body, mut response) = self.connection.send(&self.head(path), BodyLength::Unknown).await?;
        // A stream may be silent for long; that its server lives is the connection's business.
        response.set_deadline(Instant::now() + SILENCE_MAX);
        Ok((Sender::request(body), Streaming::awaited(response, self.cap)))
    }

    fn head(&self, path: &str) -> RequestHead {
        let mut head = RequestHead::new(Method::Post, self.authority.clone(), path);
        head.fields = self.fields.clone();
        head.fields.append("content-type", "application/grpc");
        head.fields.append("te", "trailers");
        head.fields.append("user-agent", concat!("leno/", env!("CARGO_PKG_VERSION")));
        head
    }
}

/// How long the head of a stream's answer may take.
const SILENCE_MAX: Duration = Duration::from_secs(24 * 3600);
