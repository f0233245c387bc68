//! Applications that answer each request as a script says, and remember what they were asked; and requests of any kind.

// Real processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use leno_http::grpc::{self, Code, Status};
use leno_http::{Body, BodyLength, Handler, Method, Reply, RequestHead, ResponseHead};
use leno_runtime::task;

use super::application::{self, ANY_PORT};
use super::mesh::wait_until;
use super::steered::{Call, Front, connect};

const BODY_MAX: usize = 64 * 1024;
/// A request without an answer after this time has failed.
const TIMEOUT: Duration = Duration::from_secs(20);
/// An empty message of gRPC.
const MESSAGE: &[u8] = &[0; 5];

/// An application in this process.
pub struct Scripted {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    /// How many of the same path came before.
    pub before: usize,
    pub path: String,
    pub fields: Vec<(String, String)>,
    pub at: Instant,
    /// Its client went before it was answered.
    pub was_left: bool,
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Told {
    pub status: u16,
    /// To a call of gRPC, which is told nothing else: in the head where there is no `message`, else in trailers.
    pub code: Option<Code>,
    pub message: bool,
    pub fields: Vec<(&'static str, String)>,
    /// Of an answer that is none of gRPC.
    pub body: Vec<u8>,
    /// Of a call of gRPC with a `message`.
    pub trailers: Vec<(&'static str, String)>,
    /// After so long.
    pub hold: Duration,
    /// Once this is so.
    pub gate: Option<Arc<AtomicBool>>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Ask {
    pub call: Call,
    pub method: Method,
    pub path: String,
    pub fields: Vec<(&'static str, String)>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// 0 when no answer came.
    pub status: u16,
    pub grpc_status: Option<u8>,
    /// `x-leno-reason`.
    pub reason: String,
    /// Of the head, names in lower case.
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub took: Duration,
}

type Script = Box<dyn Fn(&Asked) -> Told + Send>;

struct Answering {
    script: Script,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// Notes whose client went.
struct Leaving {
    asked: Arc<Mutex<Vec<Asked>>>,
    index: usize,
    is_answered: bool,
}

// === impl Scripted ===

impl Scripted {
    pub fn start(script: impl Fn(&Asked) -> Told + Send + 'static) -> Self {
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let answering = Answering { script: Box::new(script), asked: asked.clone() };
        Self { address: application::start(ANY_PORT, answering), asked }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// What was asked of this path.
    pub fn asked_for(&self, path: &str) -> Vec<Asked> {
        let mut asked = self.asked();
        asked.retain(|asked| asked.path == path);
        asked
    }

    /// How often this path was asked for.
    pub fn count(&self, path: &str) -> usize {
        self.asked_for(path).len()
    }
}

/// A caller's proxy before these applications under a policy, once it uses each.
pub fn front(carts: &[Scripted], policy: &str) -> Front {
    let front = Front::at(carts.iter().map(|cart| cart.address), policy);
    let all_are_used = || {
        Ask::get(Call::Http1, "/").many(front.outbound(), carts.len());
        carts.iter().all(|cart| cart.count("/") > 0)
    };
    assert!(wait_until(Duration::from_secs(10), all_are_used).is_some(), "{}", front.shown());
    front
}

impl Handler for Answering {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let path = head.path.as_str().to_owned();
        let fields = head.fields.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), text(value))).collect();
        let (index, asked) = {
            let mut all = self.asked.lock().unwrap();
            let before = all.iter().filter(|asked| asked.path == path).count();
            let asked = Asked { before, path, fields, at: Instant::now(), was_left: false };
            all.push(asked.clone());
            (all.len() - 1, asked)
        };
        let mut leaving = Leaving { asked: self.asked.clone(), index, is_answered: false };
        // A body that breaks off is a client that is gone.
        if body.collect(BODY_MAX).await.is_err() {
            return;
        }
        let told = (self.script)(&asked);
        if !told.hold.is_zero() {
            tokio::time::sleep(told.hold).await;
        }
        while told.gate.as_ref().is_some_and(|gate| !gate.load(SeqCst)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        leaving.is_answered = true;
        // Nobody may be there any more to hear it.
        let _ = told.answer(reply, grpc::is_grpc(&head.fields)).await;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if !self.is_answered {
            self.asked.lock().unwrap()[self.index].was_left = true;
        }
    }
}

// === impl Asked ===

impl Asked {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

// === impl Told ===

impl Told {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn ok() -> Self {
        Self { message: true, ..Self::status(200) }
    }

    /// 503, and UNAVAILABLE without a message.
    pub fn unavailable() -> Self {
        Self { status: 503, ..Self::grpc(Code::Unavailable) }
    }

    /// A call of gRPC ends so, without a message.
    pub fn grpc(code: Code) -> Self {
        Self { code: Some(code), ..Self::status(200) }
    }

    pub fn after(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    pub fn behind(self, gate: &Arc<AtomicBool>) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    pub fn saying(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub fn with_trailer(mut self, name: &'static str, value: &str) -> Self {
        self.trailers.push((name, value.to_owned()));
        self
    }

    async fn answer(self, reply: Reply, is_grpc: bool) -> leno_http::Result<()> {
        let status = Status::new(self.code.unwrap_or(Code::Ok), "");
        let mut head = match (is_grpc, self.message) {
            (false, _) => ResponseHead::new(self.status),
            (true, true) => ResponseHead::new(200).with("content-type", "application/grpc"),
            (true, false) => status.response(),
        };
        self.fields.iter().for_each(|(name, value)| {
            head.fields.append(name, value);
        });
        if !is_grpc || !self.message {
            return reply.respond(head, self.body.into()).await;
        }
        let mut answer = reply.send(head, BodyLength::Unknown).await?;
        answer.data(Bytes::from_static(MESSAGE)).await?;
        let mut trailers = status.trailers();
        self.trailers.iter().for_each(|(name, value)| {
            trailers.append(name, value);
        });
        answer.trailers(trailers).await
    }
}

// === impl Ask ===

impl Ask {
    /// A GET, or a call of gRPC.
    pub fn get(call: Call, path: &str) -> Self {
        let method = if call == Call::Grpc { Method::Post } else { Method::Get };
        Self { call, method, path: path.to_owned(), fields: Vec::new() }
    }

    /// A POST with a body, or a call of gRPC.
    pub fn post(call: Call, path: &str) -> Self {
        Self { method: Method::Post, ..Self::get(call, path) }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    /// Asks `cart` through the outbound port of a proxy.
    pub fn one(&self, to: SocketAddr) -> Got {
        self.many(to, 1).remove(0)
    }

    /// Asks so many times at once.
    pub fn many(&self, to: SocketAddr, count: usize) -> Vec<Got> {
        self.paced(to, count, Duration::ZERO)
    }

    /// Asks so many times, each so long after the one before, whatever comes of that.
    pub fn paced(&self, to: SocketAddr, count: usize, pace: Duration) -> Vec<Got> {
        let ask = self.clone();
        let asking = async move {
            let shared = if ask.call == Call::Http1 { None } else { connect(to, true).await };
            let mut running = Vec::new();
            // As often as is said, whatever comes between: who is late catches up.
            let mut beat = (!pace.is_zero()).then(|| tokio::time::interval(pace));
            for _ in 0..count {
                if let Some(beat) = &mut beat {
                    beat.tick().await;
                }
                let (ask, shared) = (ask.clone(), shared.clone());
                running.push(task::spawn("ask", async move {
                    let began = Instant::now();
                    let connection = match shared {
                        Some(connection) => Some(connection),
                        None => connect(to, ask.call != Call::Http1).await,
                    };
                    let Some(connection) = connection else { return Got::nothing("no connection", began) };
                    match tokio::time::timeout(TIMEOUT, ask.send(&connection, began)).await {
                        Ok(Ok(got)) => got,
                        Ok(Err(error)) => Got::nothing(&error.to_string(), began),
                        Err(_) => Got::nothing("no answer", began),
                    }
                }));
            }
            let mut got = Vec::new();
            for asked in running {
                got.push(asked.await.unwrap());
            }
            got
        };
        leno_runtime::threads::control(asking).unwrap()
    }

    async fn send(&self, connection: &leno_http::Connection, began: Instant) -> leno_http::Result<Got> {
        let mut head = RequestHead::new(self.method.clone(), "cart", self.path.as_str());
        if self.call == Call::Grpc {
            head.fields.append("content-type", "application/grpc");
            head.fields.append("te", "trailers");
        }
        self.fields.iter().for_each(|(name, value)| {
            head.fields.append(name, value);
        });
        let has_body = self.method == Method::Post;
        let length = if has_body { BodyLength::Known(MESSAGE.len() as u64) } else { BodyLength::Empty };
        let (mut request, answer) = connection.send(&head, length).await?;
        if has_body {
            request.data(Bytes::from_static(MESSAGE)).await?;
        }
        request.end().await?;
        let mut response = answer.response().await?;
        let mut status = response.head.fields.get("grpc-status").map(Code::parse);
        let mut body = Vec::new();
        while let Some(frame) = response.body.frame().await {
            match frame? {
                leno_http::Frame::Data(data) => body.extend_from_slice(&data),
                leno_http::Frame::Trailers(trailers) => status = trailers.get("grpc-status").map(Code::parse),
            }
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = response.head.fields.iter();
        Ok(Got {
            fields: fields.map(|(name, value)| (text(name).to_ascii_lowercase(), text(value))).collect(),
            body,
            status: response.head.status,
            grpc_status: status.map(|code| code as u8),
            reason: response.head.fields.get_str("x-leno-reason").unwrap_or_default().to_owned(),
            took: began.elapsed(),
        })
    }
}

// === impl Got ===

impl Got {
    fn nothing(why: &str, began: Instant) -> Self {
        let (fields, body) = Default::default();
        Self { status: 0, grpc_status: None, reason: why.to_owned(), fields, body, took: began.elapsed() }
    }

    /// Whether the application answered well.
    pub fn is_good(&self) -> bool {
        self.status == 200 && matches!(self.grpc_status, None | Some(0))
    }

    /// The value of a field of its head.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Whether leno answered 504, and DEADLINE_EXCEEDED to a call of gRPC, for this reason.
    pub fn is_late(&self, call: Call, reason: &str) -> bool {
        let expected = if call == Call::Grpc { (200, Some(Code::DeadlineExceeded as u8)) } else { (504, None) };
        (self.status, self.grpc_status) == expected && self.reason == reason
    }
}
