//! What both ends need of a stream, so that they run over sockets and over channels alike; and gRPC, which has it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use leno_http::client::ClientOptions;
use leno_http::grpc::{Client, Code, Sender, Status, Streaming};
use leno_http::{Connection, Limits, Spawn};
use leno_net::Address;
use leno_net::dial::Dial;
use prost::Message;

use crate::messages::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// The method for delta ADS.
pub const DELTA_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// The method for state-of-the-world ADS.
pub const SOTW_PATH: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// How long a stream may be silent: nothing changes in a quiet night.
const SILENCE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often a silent server is asked whether it is there: a stream says nothing for long and still has to notice.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// Why a stream ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No connection.
    #[error("connect to {0}")]
    Connect(String),
    /// The other end, or the connection, ended it.
    #[error(transparent)]
    Status(#[from] Status),
}

/// The client's end of a delta stream.
pub trait DeltaStream {
    /// Sends a request; waits while the server does not take it.
    fn send(&mut self, request: DeltaDiscoveryRequest) -> impl Future<Output = Result<(), StreamError>>;

    /// The next response; none when the server ended the stream. Dropping the future loses nothing.
    fn next(&mut self) -> impl Future<Output = Result<Option<DeltaDiscoveryResponse>, StreamError>>;
}

/// The servers that a client knows.
pub trait Connect {
    /// A stream to one of them.
    type Stream: DeltaStream;

    /// The name of the n-th try's server, for people.
    fn server(&self, attempt: usize) -> String;

    /// Opens a stream to the n-th try's server.
    fn open(&self, attempt: usize) -> impl Future<Output = Result<Self::Stream, StreamError>>;
}

/// Limits for connections that carry xDS streams, at either end: those of leno, with streams that may be silent. Who
/// uses them sets `keepalive` beside them, by which a peer that has gone is noticed.
pub fn limits() -> Limits {
    Limits { idle_timeout: SILENCE_MAX, stream_idle_timeout: SILENCE_MAX, ..Limits::default() }
}

/// Servers by address, spoken to by gRPC without TLS.
pub struct GrpcServers {
    servers: Vec<Address>,
    dial: Rc<dyn Dial>,
    spawn: Rc<dyn Spawn>,
    options: Rc<ClientOptions>,
    connect_timeout: Duration,
    fields: Vec<(String, Vec<u8>)>,
}

/// A delta stream over gRPC.
pub struct GrpcStream {
    requests: Sender<DeltaDiscoveryRequest>,
    responses: Reader<DeltaDiscoveryResponse>,
}

/// Messages of a stream, one by one. Waiting for one can be given up and taken up again without loss, which
/// [`Streaming`] does not promise: the wait itself is kept.
pub(crate) struct Reader<M> {
    state: State<M>,
}

enum State<M> {
    Idle(Streaming<M>),
    Waiting(Wait<M>),
    Ended,
}

type Wait<M> = Pin<Box<dyn Future<Output = (Streaming<M>, Result<Option<M>, Status>)>>>;

// === impl GrpcServers ===

impl GrpcServers {
    /// These servers, tried in turn; none at all is a client that never connects.
    pub fn new(servers: Vec<Address>, dial: Rc<dyn Dial>, spawn: Rc<dyn Spawn>) -> Self {
        let keepalive = Some(KEEPALIVE);
        let options = Rc::new(ClientOptions { limits: limits(), keepalive, ..ClientOptions::default() });
        Self { servers, dial, spawn, options, connect_timeout: Duration::from_secs(2), fields: Vec::new() }
    }

    /// Every stream is opened with this field, for servers that ask for a credential.
    #[must_use]
    pub fn with_field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    fn address(&self, attempt: usize) -> Option<&Address> {
        self.servers.get(attempt.checked_rem(self.servers.len())?)
    }
}

impl Connect for GrpcServers {
    type Stream = GrpcStream;

    fn server(&self, attempt: usize) -> String {
        self.address(attempt).map_or_else(|| "(no server)".to_owned(), ToString::to_string)
    }

    async fn open(&self, attempt: usize) -> Result<GrpcStream, StreamError> {
        let missing = || StreamError::Connect("a server: none is configured".to_owned());
        let address = self.address(attempt).ok_or_else(missing)?;
        let refused = |error| StreamError::Connect(format!("{address}: {error}"));
        let stream = self.dial.connect(address, self.connect_timeout).await.map_err(refused)?;
        let (connection, driver) = Connection::h2(stream, &self.options).await.map_err(Status::from)?;
        self.spawn.spawn("xds-connection", Box::pin(driver));
        let authority = match address {
            Address::Tcp(tcp) => tcp.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let mut client = Client::new(connection, authority);
        for (name, value) in &self.fields {
            client = client.with_field(name, value);
        }
        let (requests, responses) = client.open(DELTA_PATH).await?;
        Ok(GrpcStream { requests, responses: Reader::new(responses) })
    }
}

// === impl GrpcStream ===

impl DeltaStream for GrpcStream {
    async fn send(&mut self, request: DeltaDiscoveryRequest) -> Result<(), StreamError> {
        Ok(self.requests.send(&request).await?)
    }

    async fn next(&mut self) -> Result<Option<DeltaDiscoveryResponse>, StreamError> {
        Ok(self.responses.next().await?)
    }
}

// === impl Reader ===

impl<M: Message + Default + 'static> Reader<M> {
    pub(crate) fn new(streaming: Streaming<M>) -> Self {
        Self { state: State::Idle(streaming) }
    }

    /// The next message; none after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, Status> {
        self.state = match std::mem::replace(&mut self.state, State::Ended) {
            State::Idle(mut streaming) => State::Waiting(Box::pin(async move {
                let message = streaming.message().await;
                (streaming, message)
            })),
            other => other,
        };
        let State::Waiting(wait) = &mut self.state else {
            return Err(Status::new(Code::Cancelled, "the stream has ended"));
        };
        let (streaming, message) = poll_fn(|cx| wait.as_mut().poll(cx)).await;
        let goes_on = matches!(message, Ok(Some(_)));
        self.state = if goes_on { State::Idle(streaming) } else { State::Ended };
        message
    }
}
