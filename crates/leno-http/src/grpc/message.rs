//! Messages and their frames: a flag, four bytes of length, the message.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

use super::status::{Code, Status};
use crate::body::{Body, Frame};
use crate::client::{RequestBody, ResponseFuture};
use crate::error::{Error, Result};
use crate::fields::Fields;
use crate::server::ReplyBody;

/// Messages are at most this long unless it is said otherwise.
pub const MESSAGE_MAX: usize = 4 * 1024 * 1024;

/// Messages on their way in.
pub struct Streaming<M> {
    source: Source,
    buffer: BytesMut,
    cap: usize,
    /// The fields of the answer's head, once it came.
    head: Fields,
    message: PhantomData<fn() -> M>,
}

enum Source {
    /// Of a client: the head has not come yet.
    Awaited(Box<ResponseFuture>),
    Client(Body),
    Server(Body),
    Ended,
}

/// Messages on their way out.
pub struct Sender<M> {
    sink: Sink,
    message: PhantomData<fn(M)>,
}

enum Sink {
    Request(RequestBody),
    Reply(ReplyBody),
}

// === impl Streaming ===

impl<M: Message + Default> Streaming<M> {
    pub(super) fn awaited(response: ResponseFuture, cap: usize) -> Streaming<M> {
        Streaming::of(Source::Awaited(Box::new(response)), cap)
    }

    pub(super) fn server(body: Body, cap: usize) -> Streaming<M> {
        Streaming::of(Source::Server(body), cap)
    }

    fn of(source: Source, cap: usize) -> Streaming<M> {
        Streaming { source, buffer: BytesMut::new(), cap, head: Fields::new(), message: PhantomData }
    }

    /// The next message; `None` after the last one, when the call succeeded.
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        let result = self.next().await;
        if !matches!(result, Ok(Some(_))) {
            self.source = Source::Ended;
        }
        result
    }

    /// The fields of the head of the answer, once the first message came.
    pub fn head(&self) -> &Fields {
        &self.head
    }

    async fn next(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let frame = match &mut self.source {
                Source::Awaited(_) => {
                    self.head_came().await?;
                    continue;
                }
                Source::Client(body) | Source::Server(body) => body.frame().await.transpose()?,
                Source::Ended => return Ok(None),
            };
            match frame {
                Some(Frame::Data(data)) if self.buffer.is_empty() => self.buffer = data.into(),
                Some(Frame::Data(data)) => self.buffer.extend_from_slice(&data),
                _ if matches!(self.source, Source::Server(_)) => return self.ended(Some(Status::ok())),
                Some(Frame::Trailers(trailers)) => return self.ended(Status::from_fields(&trailers)),
                None => return self.ended(None),
            }
        }
    }

    /// The first message of the buffer, if all of it is there.
    fn take(&mut self) -> Result<Option<M>, Status> {
        let Some(&[flag, a, b, c, d]) = self.buffer.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag != 0 {
            return Err(Status::new(Code::Unimplemented, "message is compressed, and no compression is spoken here"));
        }
        if length > self.cap {
            let message = format!("message of {length} bytes is longer than {} bytes", self.cap);
            return Err(Status::new(Code::ResourceExhausted, message));
        }
        if self.buffer.len() < 5 + length {
            // Room as it arrives, not as it was announced.
            return Ok(None);
        }
        self.buffer.advance(5);
        let bytes = self.buffer.split_to(length).freeze();
        M::decode(bytes).map(Some).map_err(|e| Status::new(Code::Internal, format!("message is not well-formed: {e}")))
    }

    async fn head_came(&mut self) -> Result<(), Status> {
        let Source::Awaited(response) = std::mem::replace(&mut self.source, Source::Ended) else { return Ok(()) };
        let response = response.response().await?;
        // Without messages, the status stands in the head.
        if let Some(status) = Status::from_fields(&response.head.fields) {
            return if status.code == Code::Ok { Ok(()) } else { Err(status) };
        }
        if response.head.status != 200 || !super::is_grpc(&response.head.fields) {
            return Err(Status::from_http(response.head.status));
        }
        self.head = response.head.fields;
        self.source = Source::Client(response.body);
        Ok(())
    }

    fn ended(&self, status: Option<Status>) -> Result<Option<M>, Status> {
        match status {
            Some(status) if status.code != Code::Ok => Err(status),
            Some(_) if !self.buffer.is_empty() => Err(Status::new(Code::Internal, "last message is cut off")),
            Some(_) => Ok(None),
            None => Err(Status::new(Code::Internal, "answer ended without a status")),
        }
    }
}

// === impl Sender ===

impl<M: Message> Sender<M> {
    pub(super) fn request(body: RequestBody) -> Sender<M> {
        Sender { sink: Sink::Request(body), message: PhantomData }
    }

    pub(super) fn reply(body: ReplyBody) -> Sender<M> {
        Sender { sink: Sink::Reply(body), message: PhantomData }
    }

    /// Writes a message at once; waits while the peer does not take it.
    pub async fn send(&mut self, message: &M) -> Result<(), Status> {
        self.write(encode(message)?).await?;
        Ok(())
    }

    /// Writes a message that was encoded before, and is perhaps sent to others too.
    pub async fn send_encoded(&mut self, message: &[u8]) -> Result<(), Status> {
        let mut frame = BytesMut::with_capacity(message.len() + 5);
        frame_header(&mut frame, message.len())?;
        frame.extend_from_slice(message);
        self.write(frame.freeze()).await?;
        Ok(())
    }

    /// Ends the messages of a client; the answers go on.
    pub async fn finish(self) -> Result<(), Status> {
        match self.sink {
            Sink::Request(body) => body.end().await?,
            Sink::Reply(body) => body.trailers(Status::ok().trailers()).await?,
        }
        Ok(())
    }

    pub(super) async fn end(self, status: &Status) -> Result<()> {
        match self.sink {
            Sink::Request(body) => body.end().await,
            Sink::Reply(body) => body.trailers(status.trailers()).await,
        }
    }

    pub(super) async fn write(&mut self, frame: Bytes) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Request(body) => {
                body.data(frame).await?;
                body.flush().await
            }
            Sink::Reply(body) => {
                body.data(frame).await?;
                body.flush().await
            }
        }
    }
}

/// The messages of a body that comes in pieces of so many bytes, and why no further one is read.
#[cfg(feature = "fuzzing")]
pub(super) fn split(bytes: &[u8], piece: usize, cap: usize) -> (Vec<Vec<u8>>, Option<Code>) {
    let mut streaming = Streaming::<Vec<u8>>::of(Source::Ended, cap);
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece) {
        streaming.buffer.extend_from_slice(piece);
        loop {
            match streaming.take() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(status) => return (messages, Some(status.code)),
            }
        }
    }
    (messages, None)
}

/// A message in its frame.
pub(super) fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame_header(&mut frame, length)?;
    message.encode(&mut frame).map_err(|e| Status::new(Code::Internal, format!("message cannot be encoded: {e}")))?;
    Ok(frame.freeze())
}

fn frame_header(frame: &mut BytesMut, length: usize) -> Result<(), Status> {
    let length = u32::try_from(length)
        .map_err(|_| Status::new(Code::ResourceExhausted, format!("message of {length} bytes does not fit a frame")))?;
    frame.put_u8(0);
    frame.put_u32(length);
    Ok(())
}
