//! A proxy that has more to do than it can: as soon as its worker is later than it may be, what matters least is refused at
//! once, what matters most is served, and when fewer ask all is as before.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kit::application::{self, ANY_PORT};
use kit::mesh::{Process, exchange_whole, get_path, wait_until};
use kit::scripted::{Ask, Got};
use kit::steered::Call;
use kit::{Leno, figures, free_address, leno};
use leno_http::grpc::{self, Code, Status};
use leno_http::{Body, Handler, Reply, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
/// How late it may be, and how many ask at once so that it is later.
const LATE: &str = "10ms";
const ASKERS: usize = 400;
/// Requests that each sends in one piece, so that to ask is less work than to answer. With many more, refusing them would be
/// too much as well.
const AT_ONCE: usize = 4;

/// A proxy with one worker, in front of an application that answers at once.
struct Front {
    _process: Process,
    inbound: SocketAddr,
    admin: SocketAddr,
    _leno: Leno,
}

impl Front {
    fn start(arguments: &[&str]) -> Self {
        let port = format!("8080=detect@{}", application::start(ANY_PORT, Answering));
        let (leno, admin, nobody) = (leno(), free_address(), free_address().to_string());
        let listen = admin.to_string();
        let common = ["proxy", "--server", &nobody, "--port", &port, "--workers", "1", "--metrics-listen", "off"];
        let listens = ["--inbound-listen", "127.0.0.1:0", "--outbound-listen", "off", "--admin-listen", &listen];
        let process = Process::start(&leno, &[&common[..], &listens, arguments].concat());
        let inbound = process.wait_for("inbound")["address"].as_str().unwrap().parse().unwrap();
        let front = Self { _process: process, inbound, admin, _leno: leno };
        assert!(wait_until(5 * SECOND, || !front.busy().is_null()).is_some());
        front
    }

    /// What the admin listener says of how busy it is.
    fn busy(&self) -> serde_json::Value {
        let told = get_path(self.admin, "localhost", "/pressure");
        told.map_or(serde_json::Value::Null, |(_, body)| {
            serde_json::from_str::<serde_json::Value>(&body).unwrap()["busy"].clone()
        })
    }

    fn percent(&self, priority: &str) -> f64 {
        self.busy()["leftOut"][priority]["percent"].as_f64().unwrap()
    }
}

struct Answering;

impl Handler for Answering {
    async fn handle(&self, head: RequestHead, _: Body, reply: Reply) {
        let is_grpc = grpc::is_grpc(&head.fields);
        let answer = if is_grpc { Status::new(Code::Ok, "").response() } else { ResponseHead::new(200) };
        // Nobody may be there any more to hear it.
        let _ = reply.respond(answer, Bytes::new()).await;
    }
}

/// Many who ask, each again as soon as it was answered, or after a while if it was refused.
struct Crowd {
    running: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Crowd {
    fn gather(to: SocketAddr, priority: &'static str) -> Self {
        let (running, served, refused) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default(), Arc::default());
        let (runs, serves, refuses) = (running.clone(), served.clone(), Arc::<AtomicU64>::clone(&refused));
        let thread = std::thread::spawn(move || {
            let asking = async {
                let ask = |_| tokio::task::spawn_local(ask_on(to, priority, serves.clone(), refuses.clone()));
                let askers: Vec<_> = (0..ASKERS).map(ask).collect();
                while runs.load(SeqCst) {
                    tokio::time::sleep(SECOND / 50).await;
                }
                askers.iter().for_each(tokio::task::JoinHandle::abort);
            };
            leno_runtime::threads::control(asking).unwrap();
        });
        Self { running, served, refused, thread }
    }

    fn scatter(self) -> (u64, u64) {
        self.running.store(false, SeqCst);
        self.thread.join().unwrap();
        (self.served.load(SeqCst), self.refused.load(SeqCst))
    }
}

async fn ask_on(to: SocketAddr, priority: &str, served: Arc<AtomicU64>, refused: Arc<AtomicU64>) {
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nx-request-priority: {priority}\r\n\r\n").repeat(AT_ONCE);
    loop {
        let asking = async {
            let mut stream = tokio::net::TcpStream::connect(to).await?;
            let mut answers = Vec::new();
            loop {
                stream.write_all(request.as_bytes()).await?;
                answers.clear();
                let count =
                    |answers: &[u8], of: &str| answers.windows(of.len()).filter(|at| *at == of.as_bytes()).count();
                while count(&answers, "HTTP/1.1 ") < AT_ONCE || !answers.ends_with(b"\n") {
                    if stream.read_buf(&mut answers).await? == 0 {
                        break;
                    }
                }
                let (good, all) = (count(&answers, "HTTP/1.1 200"), count(&answers, "HTTP/1.1 "));
                served.fetch_add(good as u64, SeqCst);
                refused.fetch_add((all - good) as u64, SeqCst);
                if all < AT_ONCE {
                    return std::io::Result::Ok(());
                }
                if good < all {
                    tokio::time::sleep(SECOND).await;
                }
            }
        };
        let _ = asking.await;
        tokio::time::sleep(SECOND / 10).await;
    }
}

fn is_refused(got: &Got, call: Call) -> bool {
    let expected = if call == Call::Grpc { (200, Some(8)) } else { (503, None) };
    (got.status, got.grpc_status) == expected && got.reason == "overloaded"
}

#[test]
fn when_its_worker_is_late_a_proxy_leaves_out_what_matters_least_and_recovers() {
    let front = Front::start(&["--late-max", LATE]);
    assert_eq!(front.percent("sheddable"), 0.0);
    let crowd = Crowd::gather(front.inbound, "sheddable");
    let leaves_out = wait_until(30 * SECOND, || crowd.refused.load(SeqCst) > 0);
    assert!(leaves_out.is_some(), "{}", front.busy());
    for call in [Call::Http1, Call::Http2, Call::Grpc] {
        let highest = Ask::get(call, "/").with("x-request-priority", "critical-plus").many(front.inbound, 20);
        assert!(highest.iter().all(Got::is_good), "{call:?}: {highest:?}");
        let refused = || {
            let lowest = Ask::get(call, "/").with("x-request-priority", "sheddable").many(front.inbound, 20);
            lowest.iter().any(|got| is_refused(got, call))
        };
        assert!(wait_until(30 * SECOND, refused).is_some(), "{call:?}: {}", front.busy());
    }
    let told = front.busy();
    let request = "GET / HTTP/1.1\r\nHost: a\r\nx-request-priority: sheddable\r\nConnection: close\r\n\r\n";
    let says_when = || {
        exchange_whole(front.inbound, request)
            .is_some_and(|(status, _, head)| status == 503 && head.contains("retry-after: 1"))
    };
    assert!(wait_until(30 * SECOND, says_when).is_some());
    let (served, refused) = crowd.scatter();
    let began = Instant::now();
    let recovered = wait_until(40 * SECOND, || front.percent("sheddable") == 0.0);
    figures(format_args!(
        "busy: {ASKERS} ask at once: {served} served, {refused} refused of the lowest; late no more after {:.1?}; {told}",
        began.elapsed()
    ));
    assert!(recovered.is_some(), "{}", front.busy());
    assert!(refused > 0);
}

#[test]
fn where_nothing_bounds_it_a_proxy_leaves_nothing_out() {
    let front = Front::start(&[]);
    let crowd = Crowd::gather(front.inbound, "sheddable");
    assert!(wait_until(10 * SECOND, || crowd.served.load(SeqCst) > 2_000).is_some());
    assert_eq!((front.percent("sheddable"), crowd.scatter().1), (0.0, 0));
}
