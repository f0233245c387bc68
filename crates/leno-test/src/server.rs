//! A server that answers as told and remembers what it was asked.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Body, BodyLength, Frame, Handler, Reply, RequestHead, ResponseHead, ServerOptions, serve_connection};
use leno_net::listen;
use leno_runtime::task;
use tokio::net::{TcpListener, TcpStream};

/// A server that is being told what to answer.
#[derive(Default)]
pub struct Builder {
    answers: HashMap<String, VecDeque<Answer>>,
    echo: bool,
}

#[derive(Clone)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method, target, fields.
    pub head: RequestHead,
    /// The body.
    pub body: Bytes,
}

/// A running server.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Rc<RefCell<Vec<Seen>>>,
    accepting: task::AbortOnDrop<()>,
}

struct Answers {
    answers: RefCell<HashMap<String, VecDeque<Answer>>>,
    echo: bool,
    seen: Rc<RefCell<Vec<Seen>>>,
}

/// A server that speaks HTTP/1 and HTTP/2 and answers 200 to what it was not told about.
pub fn http() -> Builder {
    Builder::default()
}

/// A server of bytes: each connection is given to `serve`.
pub async fn raw<F: Future<Output = ()> + 'static>(serve: impl Fn(TcpStream) -> F + 'static) -> Server {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    let accepting = task::spawn("test-server", async move {
        while let Ok((stream, _)) = listener.accept().await {
            task::spawn("test-connection", serve(stream));
        }
    });
    Server { address, seen: Rc::default(), accepting: accepting.abort_on_drop() }
}

/// A server that answers every request with its own body.
pub fn echo() -> Builder {
    Builder { echo: true, ..Builder::default() }
}

// === impl Builder ===

impl Builder {
    /// The answer to a path; the last one given stays.
    #[must_use]
    pub fn respond(self, path: &str, status: u16) -> Self {
        self.answer(path, Answer { status, fields: Vec::new(), body: Bytes::new(), delay: Duration::ZERO })
    }

    /// The answer to the next request for a path.
    #[must_use]
    pub fn then(self, path: &str, status: u16) -> Self {
        self.respond(path, status)
    }

    /// A field on the answer that was told last for a path.
    #[must_use]
    pub fn with(mut self, path: &str, name: &str, value: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(path).and_then(VecDeque::back_mut) {
            answer.fields.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// A body on the answer that was told last for a path.
    #[must_use]
    pub fn body(mut self, path: &str, body: impl Into<Bytes>) -> Self {
        if let Some(answer) = self.answers.get_mut(path).and_then(VecDeque::back_mut) {
            answer.body = body.into();
        }
        self
    }

    /// A wait before the answer that was told last for a path.
    #[must_use]
    pub fn after(mut self, path: &str, delay: Duration) -> Self {
        if let Some(answer) = self.answers.get_mut(path).and_then(VecDeque::back_mut) {
            answer.delay = delay;
        }
        self
    }

    fn answer(mut self, path: &str, answer: Answer) -> Self {
        self.answers.entry(path.to_owned()).or_default().push_back(answer);
        self
    }

    /// Starts it on a free port of loopback.
    pub async fn start(self) -> Server {
        let listener = listen::bind_one(SocketAddr::from(([127, 0, 0, 1], 0))).expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound socket has an address");
        let listener = listen::attach(listener).expect("within a runtime");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let answers = RefCell::new(self.answers);
        let handler = Rc::new(Answers { answers, echo: self.echo, seen: seen.clone() });
        let options = Rc::new(ServerOptions::default());
        let accepting = task::spawn("test-server", async move {
            loop {
                let accepted = listen::accept(&listener).await;
                let (options, handler) = (options.clone(), handler.clone());
                task::spawn("test-connection", async move {
                    serve_connection(accepted.stream, Bytes::new(), &options, handler, std::future::pending()).await;
                });
            }
        });
        Server { address, seen, accepting: accepting.abort_on_drop() }
    }
}

// === impl Server ===

impl Server {
    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.seen.borrow().len()
    }

    /// Accepts no more; returns the address that refuses from now on.
    pub fn stop(self) -> SocketAddr {
        drop(self.accepting);
        self.address
    }
}

impl Handler for Answers {
    async fn handle(&self, head: RequestHead, mut body: Body, reply: Reply) {
        let answer = self.next_answer(head.path_only());
        if self.echo {
            return self.echo(head, body, reply).await;
        }
        let mut received = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Frame::Data(data) = frame {
                received.extend_from_slice(&data);
            }
        }
        self.seen.borrow_mut().push(Seen { head, body: received.into() });
        if !answer.delay.is_zero() {
            tokio::time::sleep(answer.delay).await;
        }
        let mut response = ResponseHead::new(answer.status);
        for (name, value) in &answer.fields {
            response.fields.append(name, value);
        }
        // A client that has gone is what some tests are about.
        let _ = reply.respond(response, answer.body).await;
    }
}

// === impl Answers ===

impl Answers {
    fn next_answer(&self, path: &str) -> Answer {
        let mut answers = self.answers.borrow_mut();
        let default = Answer { status: 200, fields: Vec::new(), body: Bytes::new(), delay: Duration::ZERO };
        let Some(queue) = answers.get_mut(path) else { return default };
        if queue.len() > 1 { queue.pop_front().unwrap_or(default) } else { queue.front().cloned().unwrap_or(default) }
    }

    async fn echo(&self, head: RequestHead, mut body: Body, reply: Reply) {
        let length = body.length();
        self.seen.borrow_mut().push(Seen { head, body: Bytes::new() });
        let length = if length == BodyLength::Empty { BodyLength::Empty } else { BodyLength::Unknown };
        let Ok(sink) = reply.send(ResponseHead::new(200), length).await else { return };
        let _ = leno_http::pump(&mut body, sink).await;
    }
}
