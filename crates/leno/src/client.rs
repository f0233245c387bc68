//! The verbs' way to a server: one request, one answer, over leno's own HTTP client.
//!
//! Verbs are short and block, so each call runs on a runtime of its own thread and closes its connection. The token
//! comes from a file, never from a variable or the command line, where other users could read it. Every refusal becomes
//! a [`Failure`] with its exit status and fix.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::client::ClientOptions;
use leno_http::{Body, BodyLength, Connection, Frame, Method, RequestHead, Response};
use leno_model::fault::Fault;
use leno_net::dial::{Dial, HostDial};
use leno_net::{Address, Stream};
use leno_runtime::guard::ADMIN_TOKEN_FILE;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::Instant;

use crate::args::ClientArgs;
use crate::commands::{Exit, Failure};
use crate::{output, settings};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an answer may take to begin.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// The longest token file.
const TOKEN_BYTES_MAX: u64 = 4096;

/// A server, as verbs talk to it.
pub struct Client {
    base: Base,
    token: Token,
    runtime: LocalRuntime,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Base {
    authority: String,
    host: String,
    port: u16,
}

/// The credential, or why there is none. A server that cannot be reached is told of first.
enum Token {
    Read {
        text: String,
        file: PathBuf,
    },
    Missing {
        file: PathBuf,
        why: String,
    },
    /// A proxy's admin listener asks for none.
    None,
}

/// An error as every API of leno words it.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    message: String,
    #[serde(default)]
    fix: String,
    #[serde(default)]
    faults: Vec<Fault>,
}

// === impl Client ===

impl Client {
    /// A client for the server that the arguments name.
    pub fn new(args: &ClientArgs) -> Result<Self, Failure> {
        let base = Base::parse(&args.api).map_err(|what| {
            Failure::usage(format!("--api {:?}: {what}", args.api), "write http://HOST:PORT, as http://127.0.0.1:7070")
        })?;
        let file = match (&args.token_file, &args.data_dir) {
            (Some(file), _) => file.clone(),
            (None, Some(directory)) => directory.join(ADMIN_TOKEN_FILE),
            (None, None) => settings::default_data_dir().join(ADMIN_TOKEN_FILE),
        };
        Self::with(base, Token::read(file))
    }

    /// A client for the admin listener of a proxy.
    pub fn of_admin(address: SocketAddr) -> Result<Self, Failure> {
        let base = Base { authority: address.to_string(), host: address.ip().to_string(), port: address.port() };
        Self::with(base, Token::None)
    }

    fn with(base: Base, token: Token) -> Result<Self, Failure> {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime =
            runtime.map_err(|error| Failure::new(Exit::Unreachable, format!("no event loop: {error}"), ""))?;
        Ok(Self { base, token, runtime })
    }

    /// Where the server is: `http://127.0.0.1:7070`.
    pub fn url(&self) -> String {
        format!("http://{}", self.base.authority)
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::Get, path, None, ANSWER_TIMEOUT)
    }

    /// Reads something whose answer may take `longer` than usual.
    pub fn get_slow(&self, path: &str, longer: Duration) -> Result<Value, Failure> {
        self.call(Method::Get, path, None, ANSWER_TIMEOUT + longer)
    }

    /// Does something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::Post, path, Some(body), ANSWER_TIMEOUT)
    }

    /// Sets something.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::Put, path, Some(body), ANSWER_TIMEOUT)
    }

    /// Changes a part of something.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.call(Method::Patch, path, Some(body), ANSWER_TIMEOUT)
    }

    /// Deletes something.
    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.call(Method::Delete, path, None, ANSWER_TIMEOUT)
    }

    /// Reads a text.
    pub fn get_text(&self, path: &str) -> Result<String, Failure> {
        self.call_text(Method::Get, path, None)
    }

    /// Sets something to a text.
    pub fn put_text(&self, path: &str, text: &str) -> Result<String, Failure> {
        self.call_text(Method::Put, path, Some(("text/plain", Bytes::copy_from_slice(text.as_bytes()))))
    }

    /// Writes the body of an answer to `to` as it comes; answers its length.
    pub fn download(&self, path: &str, to: &mut impl Write) -> Result<u64, Failure> {
        self.runtime.block_on(async {
            let mut response = self.exchange(Method::Get, path, None, ANSWER_TIMEOUT).await?;
            if response.head.status != 200 {
                return Err(self.refused(response.head.status, &self.collect(response.body).await?));
            }
            let mut length = 0;
            while let Some(frame) = response.body.frame().await {
                let Frame::Data(data) = frame.map_err(|error| self.broken(&error))? else { break };
                to.write_all(&data).map_err(|error| Failure::usage(error.to_string(), "check the disk"))?;
                length += data.len() as u64;
            }
            Ok(length)
        })
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>, timeout: Duration) -> Result<Value, Failure> {
        let body = body.map(|value| ("application/json", Bytes::from(value.to_string())));
        self.runtime.block_on(async {
            let response = self.exchange(method, path, body, timeout).await?;
            let status = response.head.status;
            let bytes = self.collect(response.body).await?;
            match status {
                200..300 if bytes.is_empty() => Ok(Value::Null),
                200..300 => serde_json::from_slice(&bytes).map_err(|_| self.foreign(status)),
                _ => Err(self.refused(status, &bytes)),
            }
        })
    }

    fn call_text(&self, method: Method, path: &str, body: Option<(&str, Bytes)>) -> Result<String, Failure> {
        self.runtime.block_on(async {
            let response = self.exchange(method, path, body, ANSWER_TIMEOUT).await?;
            let status = response.head.status;
            let bytes = self.collect(response.body).await?;
            let text = String::from_utf8_lossy(&bytes);
            match status {
                200..300 => Ok(text.into_owned()),
                400 if !text.starts_with('{') => Err(Failure::usage(text.trim(), "")),
                _ => Err(self.refused(status, &bytes)),
            }
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Bytes)>,
        timeout: Duration,
    ) -> Result<Response, Failure> {
        let connection = Connection::h1(self.connect().await?, &Rc::new(ClientOptions::default()));
        let mut head = RequestHead::new(method, self.base.authority.as_str(), path);
        head.fields.append("user-agent", concat!("leno/", env!("CARGO_PKG_VERSION")));
        head.fields.append("connection", "close");
        if let Token::Read { text, .. } = &self.token {
            head.fields.append("authorization", format!("Bearer {text}"));
        }
        if let Some((kind, _)) = &body {
            head.fields.append("content-type", kind);
        }
        let length = body.as_ref().map_or(BodyLength::Empty, |(_, bytes)| BodyLength::Known(bytes.len() as u64));
        let (mut request, mut answer) = connection.send(&head, length).await.map_err(|error| self.broken(&error))?;
        answer.set_deadline(Instant::now() + timeout);
        // A server that refuses by the head alone closes before it has read the body: its answer says why.
        let sent = async {
            if let Some((_, bytes)) = body.filter(|(_, bytes)| !bytes.is_empty()) {
                request.data(bytes).await?;
            }
            request.end().await
        };
        let sent = sent.await;
        match (answer.response().await, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(self.broken(&error)),
        }
    }

    async fn connect(&self) -> Result<Stream, Failure> {
        let Base { host, port, .. } = &self.base;
        let addresses = (host.as_str(), *port).to_socket_addrs().map_err(|error| {
            let fix = "name a server that exists with --api or LENO_API";
            Failure::new(Exit::Unreachable, format!("{}: {host} has no address: {error}", self.url()), fix)
        })?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match HostDial.connect(&Address::Tcp(address), CONNECT_TIMEOUT).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(self.unreachable(&last))
    }

    async fn collect(&self, body: Body) -> Result<Bytes, Failure> {
        body.collect(ANSWER_BYTES_MAX).await.map_err(|error| self.broken(&error))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let (url, is_admin) = (self.url(), matches!(self.token, Token::None));
        let (message, fix) = match (error.kind(), is_admin) {
            (io::ErrorKind::ConnectionRefused, true) => {
                (format!("nothing listens at {url}"), "name the admin address of a running proxy (its --admin-listen)")
            }
            (io::ErrorKind::ConnectionRefused, false) => {
                (format!("no server at {url}"), "start one with `leno server`, or name another with --api")
            }
            _ => (format!("{url}: {error}"), "check the address and what lies between"),
        };
        Failure::new(Exit::Unreachable, message, fix)
    }

    fn broken(&self, error: &leno_http::Error) -> Failure {
        let fix = "see the server's log; if that is no leno, name the server with --api";
        Failure::new(Exit::Unreachable, format!("{}: {error}", self.url()), fix)
    }

    fn foreign(&self, status: u16) -> Failure {
        let message = format!("{} answered {status}, and not as this leno's server does", self.url());
        let fix = "name the HTTP address of a leno server of this version with --api";
        Failure::new(Exit::Unreachable, message, fix)
    }

    /// What an answer that is no success means.
    fn refused(&self, status: u16, body: &[u8]) -> Failure {
        let Ok(Refusal { error }) = serde_json::from_slice(body) else { return self.foreign(status) };
        let (message, fix) = (output::clean(&error.message).into_owned(), output::clean(&error.fix).into_owned());
        let exit = match status {
            401 => return self.unauthenticated(&message),
            404 => Exit::No,
            409 => Exit::Conflict,
            429 | 500.. => Exit::Unreachable,
            _ => Exit::Usage,
        };
        if !error.faults.is_empty() {
            return Failure::faults(message, error.faults);
        }
        Failure::new(exit, message, fix)
    }

    fn unauthenticated(&self, message: &str) -> Failure {
        let url = self.url();
        let (message, fix) = match &self.token {
            Token::Read { file, .. } => (
                format!("{url} refused the token in {}: {message}", file.display()),
                format!(
                    "name the token file of that server with --token-file; its own is {ADMIN_TOKEN_FILE} in its data directory"
                ),
            ),
            Token::Missing { file, why } => (
                format!("{url} asks for a token, and {} cannot be read: {why}", file.display()),
                format!(
                    "run this as the user of the server, or name its data directory with --data-dir, or a token file with --token-file (the server's own is {ADMIN_TOKEN_FILE} in its data directory)"
                ),
            ),
            Token::None => {
                (format!("{url} asks for a token, which a proxy's admin listener does not"), "check --admin".to_owned())
            }
        };
        Failure::usage(message, fix)
    }
}

/// A text as it may stand in a path or query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A path with the parameters that have a value.
pub fn with_query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let pairs = parameters.iter().filter_map(|(name, value)| Some(format!("{name}={}", encode(value.as_deref()?))));
    match pairs.collect::<Vec<_>>().join("&") {
        none if none.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

// === impl Base ===

impl Base {
    /// Reads `http://HOST:PORT`, `HOST:PORT`, or a port of 127.0.0.1.
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.starts_with("https://") {
            return Err("TLS is not served yet");
        }
        let authority = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        if authority.contains(['/', '?', '#', '@', ' ']) {
            return Err("this is no address");
        }
        if let Ok(port) = authority.parse::<u16>() {
            return Ok(Self { authority: format!("127.0.0.1:{port}"), host: "127.0.0.1".to_owned(), port });
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| "the port is none")?),
            _ => (authority, 80),
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (inner.is_none() && host.contains(':')) {
            return Err("the host is none");
        }
        Ok(Self { authority: authority.to_owned(), host: inner.unwrap_or(host).to_owned(), port })
    }
}

// === impl Token ===

impl Token {
    fn read(file: PathBuf) -> Self {
        match read_line(&file) {
            Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Self::Read { text, file }
            }
            Ok(_) => Self::Missing { file, why: "it holds no token".to_owned() },
            Err(error) => Self::Missing { file, why: error.to_string() },
        }
    }
}

fn read_line(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(authority: &str, host: &str, port: u16) -> Result<Base, &'static str> {
        Ok(Base { authority: authority.to_owned(), host: host.to_owned(), port })
    }

    #[test]
    fn a_server_is_named_by_url_address_or_port() {
        assert_eq!(Base::parse("http://127.0.0.1:7070/"), base("127.0.0.1:7070", "127.0.0.1", 7070));
        assert_eq!(Base::parse("mesh.internal:80"), base("mesh.internal:80", "mesh.internal", 80));
        assert_eq!(Base::parse("http://[::1]:7070"), base("[::1]:7070", "::1", 7070));
        assert_eq!(Base::parse("http://[::1]"), base("[::1]", "::1", 80));
        assert_eq!(Base::parse("7071"), base("127.0.0.1:7071", "127.0.0.1", 7071));
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for wrong in ["", "https://a:1", "http://a:x", "http://:1", "http://a/b", "::1", "user@host:1", "http://"] {
            assert!(Base::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_is_encoded_and_leaves_out_what_is_not_given() {
        let parameters = [("summary", Some("50 % & more".to_owned())), ("set", None)];
        assert_eq!(with_query("/x", &parameters), "/x?summary=50%20%25%20%26%20more");
        assert_eq!(with_query("/x", &[("set", None)]), "/x");
    }
}
