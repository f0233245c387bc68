//! One probe: connect, ask, judge. The reason of a failure is for the log.

use std::rc::Rc;
use std::time::Duration;

use leno_http::client::ClientOptions;
use leno_http::{BodyLength, Connection, Method, RequestHead, Text, grpc};
use leno_model::instance::{Probe, Protocol};
use leno_net::dial::Dial;
use leno_net::{Address, Stream};

use super::plan::Target;

/// Where a server says how it is.
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// An answer that is longer says more than how the server is.
const ANSWER_MAX: usize = 1024;

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct HealthRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(super) struct HealthResponse {
    /// 1 is SERVING.
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Asks an instance once. An error says why it is not healthy.
pub(super) async fn probe(dial: &dyn Dial, target: &Target) -> Result<(), String> {
    let timeout = target.check.timeout;
    match tokio::time::timeout(timeout, ask(dial, target, timeout)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer from {} after {timeout:?}", target.address)),
    }
}

async fn ask(dial: &dyn Dial, target: &Target, timeout: Duration) -> Result<(), String> {
    let stream = dial.connect(&Address::Tcp(target.address), timeout).await.map_err(|error| error.to_string())?;
    match &target.check.probe {
        Probe::Tcp => Ok(()),
        Probe::Http { path } if matches!(target.protocol, Protocol::Http2 | Protocol::Grpc) => {
            over_h2(stream, async |connection| http(connection, target, path).await).await
        }
        Probe::Http { path } => http(Connection::h1(stream, &Rc::new(ClientOptions::default())), target, path).await,
        Probe::Grpc { service } => over_h2(stream, async |connection| grpc(connection, target, service).await).await,
    }
}

/// Healthy for 200 to 399. The body is not read: the connection ends here.
async fn http(connection: Connection, target: &Target, path: &str) -> Result<(), String> {
    let mut head = RequestHead::new(Method::Get, authority(target), text(path.to_owned()));
    head.fields.append("user-agent", "leno-health");
    head.fields.append("accept", "*/*");
    let (body, answer) = connection.send(&head, BodyLength::Empty).await.map_err(|error| error.to_string())?;
    body.end().await.map_err(|error| error.to_string())?;
    let status = answer.response().await.map_err(|error| error.to_string())?.head.status;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
}

/// Healthy for SERVING.
async fn grpc(connection: Connection, target: &Target, service: &str) -> Result<(), String> {
    let calls = grpc::Client::new(connection, authority(target)).with_message_max(ANSWER_MAX);
    let request = HealthRequest { service: service.to_owned() };
    match calls.unary(CHECK, &request).await {
        Ok(HealthResponse { status: 1 }) => Ok(()),
        Ok(HealthResponse { status }) => Err(format!("health status {status}")),
        Err(status) => Err(status.to_string()),
    }
}

/// Asks over a new HTTP/2 connection, which lives for as long.
async fn over_h2(stream: Stream, ask: impl AsyncFnOnce(Connection) -> Result<(), String>) -> Result<(), String> {
    let options = Rc::new(ClientOptions::default());
    let (connection, driver) = Connection::h2(stream, &options).await.map_err(|error| error.to_string())?;
    let mut driver = std::pin::pin!(driver);
    let mut asking = std::pin::pin!(ask(connection));
    tokio::select! {
        answer = &mut asking => answer,
        // The connection is over: what has come of the answer counts.
        () = &mut driver => asking.await,
    }
}

fn authority(target: &Target) -> Text {
    text(target.address.to_string())
}

fn text(text: String) -> Text {
    Text::from_utf8(text.into()).unwrap_or_default()
}
