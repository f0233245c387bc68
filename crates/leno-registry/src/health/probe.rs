//! One probe: connect, ask, judge. The reason of a failure is for the log.

use std::rc::Rc;
use std::time::Duration;

use leno_http::client::ClientOptions;
use leno_http::{BodyLength, Connection, Method, RequestHead, Text};
use leno_model::instance::Probe;
use leno_net::dial::Dial;
use leno_net::{Address, Stream};

use super::plan::Target;

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
        Probe::Http { path } => http(stream, target, path).await,
        // Not planned yet: see `plan::target`.
        Probe::Grpc { .. } => Ok(()),
    }
}

/// Healthy for 200 to 399. The body is not read: the connection ends here.
async fn http(stream: Stream, target: &Target, path: &str) -> Result<(), String> {
    let connection = Connection::h1(stream, &Rc::new(ClientOptions::default()));
    let text = |text: String| Text::from_utf8(text.into()).unwrap_or_default();
    let mut head = RequestHead::new(Method::Get, text(target.address.to_string()), text(path.to_owned()));
    head.fields.append("user-agent", "leno-health");
    head.fields.append("accept", "*/*");
    head.fields.append("connection", "close");
    let (body, answer) = connection.send(&head, BodyLength::Empty).await.map_err(|error| error.to_string())?;
    body.end().await.map_err(|error| error.to_string())?;
    let status = answer.response().await.map_err(|error| error.to_string())?.head.status;
    if (200..400).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
}
