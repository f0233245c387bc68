//! A steady load: so many requests a second, whether the earlier ones are answered or not, and what came of each.
//!
//! A load that waits for answers would ask less while something is broken, and miss what it is there to see.

// Real processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use leno_http::client::ClientOptions;
use leno_http::pool::{Pool, PoolOptions};
use leno_http::{BodyLength, Connection, Method, RequestHead};
use leno_net::Address;
use leno_net::dial::{Dial, HostDial};
use leno_runtime::task;

use super::application::ID_FIELD;

/// A request without an answer after this time has failed.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Requests open at a time; more mean that nothing is answered any more.
const OPEN_MAX: usize = 4000;
const BODY: &[u8] = &[b'x'; 700];
/// Connections over which requests of HTTP/2 are spread, so that all workers of a proxy have some.
const H2_CONNECTIONS: u64 = 4;
/// The field by which a route says which change it came with.
pub const CHANGE_FIELD: &str = "x-change";

/// What is asked: a method over a version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    GetHttp1,
    PostHttp1,
    GetHttp2,
    PostHttp2,
}

/// A request and what came of it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub id: u64,
    pub kind: Kind,
    pub sent: Instant,
    pub ended: Instant,
    /// The change that its route came with.
    pub change: u64,
    /// Who answered, or what went wrong.
    pub came: Result<String, String>,
}

/// A load that runs.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Vec<Asked>>,
}

/// What came of a load.
pub struct Tally {
    pub asked: Vec<Asked>,
}

struct Asking {
    to: SocketAddr,
    host: String,
    pool: Pool<(bool, u64)>,
    options: Rc<ClientOptions>,
    asked: RefCell<Vec<Asked>>,
    open: Cell<usize>,
    answered: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

// === impl Kind ===

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::GetHttp1, Kind::PostHttp1, Kind::GetHttp2, Kind::PostHttp2];

    pub fn name(self) -> &'static str {
        match self {
            Self::GetHttp1 => "GET over HTTP/1",
            Self::PostHttp1 => "POST over HTTP/1",
            Self::GetHttp2 => "GET over HTTP/2",
            Self::PostHttp2 => "POST over HTTP/2",
        }
    }

    fn is_http2(self) -> bool {
        matches!(self, Self::GetHttp2 | Self::PostHttp2)
    }

    pub fn is_post(self) -> bool {
        matches!(self, Self::PostHttp1 | Self::PostHttp2)
    }
}

// === impl Load ===

impl Load {
    /// Asks `host` through the outbound port of a proxy, `rate` times a second, the kinds in turn.
    pub fn start(to: SocketAddr, host: &str, kinds: &[Kind], rate: u32) -> Self {
        let (stop, answered, failed) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (host, kinds) = (host.to_owned(), kinds.to_vec());
        let (stopped, answers, failures) = (stop.clone(), answered.clone(), failed.clone());
        let thread = std::thread::spawn(move || {
            let asking = Asking {
                to,
                host,
                pool: Pool::new(PoolOptions { idle_kept: 64, ..PoolOptions::default() }),
                options: Rc::default(),
                asked: RefCell::default(),
                open: Cell::new(0),
                answered: answers,
                failed: failures,
            };
            leno_runtime::threads::control(generate(Rc::new(asking), &kinds, rate, &stopped)).unwrap()
        });
        Self { stop, answered, failed, thread }
    }

    /// Waits until so many more requests were answered well.
    pub fn go_on_for(&self, requests: u64) {
        let until = self.answered.load(Ordering::Relaxed) + requests;
        while self.answered.load(Ordering::Relaxed) < until {
            assert!(!self.thread.is_finished(), "the load has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How many have failed until now.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Stops asking, waits for the last answers.
    pub fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        Tally { asked: self.thread.join().unwrap() }
    }
}

async fn generate(asking: Rc<Asking>, kinds: &[Kind], rate: u32, stop: &AtomicBool) -> Vec<Asked> {
    let (started, every) = (tokio::time::Instant::now(), Duration::from_secs(1) / rate);
    for number in 0_u32.. {
        tokio::time::sleep_until(started + every * number).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        assert!(asking.open.get() < OPEN_MAX, "nothing is answered any more");
        let (asking, kind) = (asking.clone(), kinds[number as usize % kinds.len()]);
        drop(task::spawn("load", async move { asking.ask(u64::from(number) + 1, kind).await }));
    }
    while asking.open.get() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asking.asked.take()
}

// === impl Asking ===

impl Asking {
    async fn ask(&self, id: u64, kind: Kind) {
        self.open.set(self.open.get() + 1);
        let sent = Instant::now();
        let came = tokio::time::timeout(TIMEOUT, self.exchange(id, kind)).await;
        let (came, change) = match came {
            Ok(Ok((who, change))) => (Ok(who), change),
            Ok(Err(why)) => (Err(why), 0),
            Err(_) => (Err(format!("no answer within {TIMEOUT:?}")), 0),
        };
        let counter = if came.is_ok() { &self.answered } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        self.asked.borrow_mut().push(Asked { id, kind, sent, ended: Instant::now(), change, came });
        self.open.set(self.open.get() - 1);
    }

    /// Who answered, and the change that the route came with.
    async fn exchange(&self, id: u64, kind: Kind) -> Result<(String, u64), String> {
        let connection = self.connection(id, kind).await.map_err(|error| format!("to the proxy: {error}"))?;
        let method = if kind.is_post() { Method::Post } else { Method::Get };
        let mut head = RequestHead::new(method, self.host.as_str(), "/");
        head.fields.append(ID_FIELD, id.to_string());
        let length = if kind.is_post() { BodyLength::Known(BODY.len() as u64) } else { BodyLength::Empty };
        let answer = async {
            let (mut request, answer) = connection.send(&head, length).await?;
            if kind.is_post() {
                request.data(Bytes::from_static(BODY)).await?;
            }
            request.end().await?;
            let response = answer.response().await?;
            let body = response.body.collect(64 * 1024).await?;
            Ok::<_, leno_http::Error>((response.head, body))
        };
        let (head, body) = answer.await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body);
        let reason = head.fields.get_str("x-leno-reason").unwrap_or("").to_owned();
        let expected = if kind.is_post() { format!(" {id} {}", BODY.len()) } else { format!(" {id} 0") };
        let change = head.fields.get_str(CHANGE_FIELD).and_then(|change| change.parse().ok()).unwrap_or(0);
        match text.strip_suffix(&expected) {
            Some(who) if head.status == 200 => Ok((who.to_owned(), change)),
            _ => Err(format!("{} {reason} {}", head.status, text.trim())),
        }
    }

    async fn connection(&self, id: u64, kind: Kind) -> Result<Connection, String> {
        let http2 = kind.is_http2();
        let dial = async || {
            let stream = HostDial.connect(&Address::Tcp(self.to), TIMEOUT).await.map_err(|error| error.to_string())?;
            if !http2 {
                return Ok(Connection::h1(stream, &self.options));
            }
            let opened = Connection::h2(stream, &self.options).await;
            let (connection, driver) = opened.map_err(|error| error.to_string())?;
            drop(task::spawn("load-connection", driver));
            Ok(connection)
        };
        let key = (http2, if http2 { id / 4 % H2_CONNECTIONS } else { 0 });
        self.pool.get_or_dial(&key, http2, dial).await
    }
}

// === impl Tally ===

impl Tally {
    /// The requests that failed.
    pub fn failed(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| asked.came.is_err())
    }

    /// The longest wait for an answer, and the 99th percentile, in milliseconds.
    pub fn latency_ms(&self) -> (u128, u128) {
        let mut took: Vec<u128> = self.asked.iter().map(|asked| (asked.ended - asked.sent).as_millis()).collect();
        took.sort_unstable();
        let at = |percent: usize| took.get(took.len() * percent / 100).or(took.last()).copied().unwrap_or(0);
        (at(100), at(99))
    }

    /// The first failures, each with when it was sent, for a message.
    pub fn failures(&self, since: Instant) -> String {
        let line = |asked: &Asked| {
            let at = asked.sent.saturating_duration_since(since).as_secs_f32();
            format!("\n  {at:.3} s: {}, {}: {}", asked.id, asked.kind.name(), asked.came.as_ref().unwrap_err())
        };
        self.failed().take(20).map(line).collect()
    }
}
