//! Applications that know nothing of leno: they say who they are, and which requests they have open.

// Real processes are waited for in real time.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leno_http::{Body, Handler, Reply, RequestHead, ResponseHead};
use leno_runtime::Drain;
use leno_runtime::serve::Serve;
use tokio::net::TcpListener;

/// Names the application that a process of the test program is to be: `NAME MILLISECONDS`.
const VARIABLE: &str = "LENO_TEST_APPLICATION";
/// The field by which a request is known.
pub const ID_FIELD: &str = "x-request";
/// A free port of loopback.
pub const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
const BODY_MAX: usize = 1024 * 1024;
const LISTENING: &str = "listening ";

/// An application in a process of its own, which can be killed.
pub struct Application {
    pub address: SocketAddr,
    child: Child,
    log: Arc<Mutex<Log>>,
    reading: Option<std::thread::JoinHandle<()>>,
}

/// The requests that came and were answered.
#[derive(Debug, Default, Clone)]
pub struct Log {
    pub came: BTreeSet<u64>,
    pub answered: BTreeSet<u64>,
}

/// Answers every request with name, request and length of its body.
struct Answering {
    name: String,
    hold: Duration,
    /// Whether it tells which requests come and go.
    tells: bool,
}

/// An application in this process; it ends with it.
pub fn within(name: &str, hold: Duration) -> SocketAddr {
    within_at(ANY_PORT, name, hold)
}

/// An application in this process that listens at this address.
pub fn within_at(listen: SocketAddr, name: &str, hold: Duration) -> SocketAddr {
    start(listen, Answering { name: name.to_owned(), hold, tells: false })
}

/// Has a handler answer in a thread of its own, as long as this process lives; where it listens.
pub fn start(listen: SocketAddr, handler: impl Handler + Send + 'static) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || serve(listen, handler, move |address| tell.send(address).unwrap()));
    told.recv().unwrap()
}

/// Becomes an application, if this process was started as one; does not return then.
pub fn become_one() {
    let Ok(told) = std::env::var(VARIABLE) else { return };
    let (name, hold) = told.split_once(' ').unwrap();
    let hold = Duration::from_millis(hold.parse().unwrap());
    // Nobody is left to answer when the test is gone.
    std::thread::spawn(|| {
        let _ = std::io::stdin().lines().count();
        std::process::exit(0);
    });
    let answering = Answering { name: name.to_owned(), hold, tells: true };
    serve(ANY_PORT, answering, |address| tell(format_args!("{LISTENING}{address}")));
    std::process::exit(1);
}

fn serve(listen: SocketAddr, handler: impl Handler + 'static, listening: impl FnOnce(SocketAddr)) {
    let serving = async {
        let listener = TcpListener::bind(listen).await.unwrap();
        listening(listener.local_addr().unwrap());
        let (handler, drain) = (Rc::new(handler), Drain::new());
        Serve::named("application").run(listener, drain.watch(), |_| handler.clone()).await;
    };
    leno_runtime::threads::control(serving).unwrap();
}

/// Past what collects the output of tests; nobody to tell means that the test is gone.
fn tell(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

// === impl Answering ===

impl Handler for Answering {
    async fn handle(&self, head: RequestHead, body: Body, reply: Reply) {
        let id = head.fields.get_str(ID_FIELD).unwrap_or("0").to_owned();
        if self.tells {
            tell(format_args!("+{id}"));
        }
        // A body that breaks off is a client that is gone.
        let Ok(body) = body.collect(BODY_MAX).await else { return };
        if !self.hold.is_zero() {
            tokio::time::sleep(self.hold).await;
        }
        let answer = format!("{} {id} {}", self.name, body.len());
        let _ = reply.respond(ResponseHead::new(200), Bytes::from(answer)).await;
        if self.tells {
            tell(format_args!("-{id}"));
        }
    }
}

// === impl Application ===

impl Application {
    /// Starts this test program again as an application; `entry` is the name of the test that calls [`become_one`].
    pub fn start(entry: &str, name: &str, hold: Duration) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", entry, "--nocapture"])
            .env(VARIABLE, format!("{name} {}", hold.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // What the test program says of itself may stand in the same line.
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once(LISTENING)?;
            Some(address.parse().unwrap())
        });
        let log = Arc::new(Mutex::new(Log::default()));
        let noted = log.clone();
        let reading = std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| note(&noted, &line)));
        Self { address: address.expect("it listens"), child, log, reading: Some(reading) }
    }

    /// `kill -9`; the requests that were open in it.
    pub fn kill(&mut self) -> BTreeSet<u64> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        // What it said before is still in the pipe.
        self.reading.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap();
        log.came.difference(&log.answered).copied().collect()
    }

    /// What came and was answered so far.
    pub fn log(&self) -> Log {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn note(log: &Mutex<Log>, line: &str) {
    let mut log = log.lock().unwrap();
    if let Some(id) = line.strip_prefix('+').and_then(|id| id.parse().ok()) {
        log.came.insert(id);
    } else if let Some(id) = line.strip_prefix('-').and_then(|id| id.parse().ok()) {
        log.answered.insert(id);
    }
}
