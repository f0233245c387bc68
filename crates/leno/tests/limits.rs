//! Caps on connections, what happens at the limit on descriptors, how connections spread over workers, and what three
//! thousand of them cost. Each test prints what it measured, and they run one after the other.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kit::mesh::{Process, wait_until};
use kit::{Leno, application, figures, free_address, leno};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SECOND: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: application\r\n\r\n";

/// What one test measures is not to be the load of the other.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    leno_net::limits::raise_descriptors().unwrap();
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A proxy in front of an application that answers at once.
struct Front {
    process: Process,
    inbound: SocketAddr,
    metrics: SocketAddr,
    _leno: Leno,
}

/// A connection that is kept.
struct Kept {
    stream: TcpStream,
}

// === caps ===

#[test]
fn a_connection_beyond_the_cap_is_closed_at_once_and_one_that_ends_makes_room() {
    let _alone = alone();
    let front = Front::start(&["--connections-max", "10"]);
    let mut first = Kept::to(front.inbound);
    first.ask().unwrap();
    // One of the ten is the connection to the application.
    let mut others: Vec<Kept> = (0..8).map(|_| Kept::to(front.inbound)).collect();
    assert!(wait_until(SECOND, || front.value("leno_connections_held") == 10.0).is_some());
    let refused = Kept::to(front.inbound).ended();
    assert_eq!(refused, Some(ErrorKind::ConnectionReset));
    first.ask().unwrap();
    others.pop();
    let took = wait_until(SECOND, || Kept::to(front.inbound).ask().is_ok());
    let struck = front.value("leno_connections_refused_total{cap=\"all\"}");
    figures(format_args!("cap: 10 of 10 places taken, {struck} refused, room again after {took:.0?}"));
    assert!(took.is_some() && struck >= 1.0);
    front.process.wait_for("connections refused: --connections-max");
}

#[test]
fn a_source_at_a_gateway_has_its_own_cap_and_loopback_has_none() {
    let _alone = alone();
    let Some(own) = own_address() else {
        return kit::skip(
            "a_source_at_a_gateway_has_its_own_cap_and_loopback_has_none",
            "this machine has no address but loopback",
        );
    };
    let (port, metrics) = (free_address().port(), free_address());
    let gateway = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge, namespace: shop}}\n\
         spec:\n  gatewayClassName: leno\n  listeners: [{{name: web, port: {port}, protocol: HTTP}}]\n"
    );
    let leno = leno().file("gateway.yaml", &gateway);
    let listen = metrics.to_string();
    let arguments = ["proxy", "--role", "gateway", "--gateway", "edge.shop", "--resources", "gateway.yaml"];
    let listens = ["--outbound-listen", "off", "--admin-listen", "off", "--metrics-listen", &listen];
    let cap = ["--connections-source-max", "3"];
    let process = Process::start(&leno, &[&arguments[..], &listens, &cap].concat());
    process.wait_for("ready");
    let strange = SocketAddr::new(own, port);
    let mut kept: Vec<Kept> = (0..3).map(|_| Kept::to(strange)).collect();
    // There is no route, which is an answer.
    assert!(kept.iter_mut().all(|kept| kept.ask() == Ok(404)));
    assert_eq!(Kept::to(strange).ended(), Some(ErrorKind::ConnectionReset));
    let near: Vec<Kept> = (0..5).map(|_| Kept::to(SocketAddr::from(([127, 0, 0, 1], port)))).collect();
    assert!(near.into_iter().all(|mut kept| kept.ask() == Ok(404)));
    kept.pop();
    let took = wait_until(SECOND, || Kept::to(strange).ask() == Ok(404));
    let struck = value_of(metrics, "leno_connections_refused_total{cap=\"source\"}");
    figures(format_args!("cap of a source: 3 of 3 taken from {own}, {struck} refused, room again after {took:.0?}"));
    assert!(took.is_some() && struck >= 1.0);
}

#[test]
fn a_tunnel_holds_two_places_and_gives_them_back() {
    let _alone = alone();
    let front =
        Front::before(&format!("8080=tcp@{}", echo()), &[], |leno, arguments| leno.command_under_load(arguments));
    let mut stream = TcpStream::connect(front.inbound).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let held = front.value("leno_connections_held");
    drop(stream);
    let given = wait_until(SECOND, || front.value("leno_connections_held") == 0.0);
    figures(format_args!("tunnel: {held} places, given back after {given:.0?}"));
    assert!(held == 2.0 && given.is_some());
}

#[test]
fn the_limit_on_descriptors_is_raised_and_all_but_the_reserve_are_places() {
    let _alone = alone();
    let front = Front::within("-S -n 300 && ulimit -H -n 2000", &[]);
    let (descriptors, places) = (front.value("process_max_fds"), front.value("leno_connections_max"));
    figures(format_args!("limit: soft 300 and hard 2000 give {descriptors} descriptors, {places} of them places"));
    assert_eq!((descriptors, places), (2000.0, 1488.0));
}

#[test]
fn a_server_obeys_the_same_cap() {
    let _alone = alone();
    let (leno, http) = (leno(), free_address());
    let listen = http.to_string();
    let arguments = ["server", "--data-dir", "state", "--grpc-listen", "off", "--connections-max", "5"];
    let server = Process::start(&leno, &[&arguments[..], &["--http-listen", &listen]].concat());
    server.wait_for("server ready");
    let mut kept: Vec<Kept> = (0..5).map(|_| Kept::to(http)).collect();
    // Nobody said who asks, which is an answer.
    assert!(kept.iter_mut().all(|kept| kept.ask().is_ok()));
    assert_eq!(Kept::to(http).ended(), Some(ErrorKind::ConnectionReset));
    kept.pop();
    assert!(wait_until(SECOND, || Kept::to(http).ask().is_ok()).is_some());
}

// === workers ===

/// So many that the kernel alone spreads two hundred connections unevenly.
const WORKERS: usize = 8;

#[test]
fn connections_spread_evenly_over_workers_and_are_answered_wherever_they_are() {
    let _alone = alone();
    let front = Front::start(&["--workers", &WORKERS.to_string()]);
    let mut kept = Vec::new();
    for _ in 0..200 {
        let mut one = Kept::to(front.inbound);
        assert_eq!(one.ask(), Ok(200));
        kept.push(one);
    }
    assert!(kept.iter_mut().all(|kept| kept.ask() == Ok(200)));
    let open: Vec<f64> =
        (0..WORKERS).map(|worker| front.value(&format!("leno_worker_connections{{worker=\"{worker}\"}}"))).collect();
    let passed: f64 =
        (0..4).map(|worker| front.value(&format!("leno_worker_connections_passed_total{{worker=\"{worker}\"}}"))).sum();
    let (most, least) = (open.iter().copied().fold(0.0, f64::max), open.iter().copied().fold(200.0, f64::min));
    figures(format_args!("spread: 200 connections over {WORKERS} workers {open:?}, {passed} passed on"));
    assert_eq!(open.iter().sum::<f64>(), 200.0);
    assert!(most <= 1.25 * least + 4.0 + 1.0, "{open:?}");
    assert!(passed > 0.0, "the kernel alone has spread them");
}

// === descriptors ===

/// Descriptors that the proxy has.
const DESCRIPTORS: usize = 200;
/// More than that.
const FLOOD: usize = 400;

#[test]
fn at_the_limit_on_descriptors_accepting_pauses_traffic_goes_on_and_accepting_resumes() {
    let _alone = alone();
    let front = Front::within(&format!("-n {DESCRIPTORS}"), &["--connections-max", "10000"]);
    let mut scrape = Kept::to(front.metrics);
    let running = Running::start(front.inbound, 2);
    running.go_on_for(50);
    let flood: Vec<Kept> = (0..FLOOD).map(|_| Kept::to(front.inbound)).collect();
    let paused = wait_until(5 * SECOND, || front.descriptors() >= DESCRIPTORS);
    assert!(paused.is_some(), "{} of {DESCRIPTORS} descriptors", front.descriptors());
    // Traffic runs as it did, and then stands still to see what waiting costs.
    running.go_on_for(500);
    running.pause();
    let before = front.processor();
    std::thread::sleep(2 * SECOND);
    let cost = (front.processor() - before).as_secs_f64() / 2.0;
    running.resume();
    running.go_on_for(50);
    let freed = Instant::now();
    drop(flood);
    let took = wait_until(5 * SECOND, || Kept::to(front.inbound).ask() == Ok(200)).map(|_| freed.elapsed());
    let (answered, failed) = running.end();
    let text = scrape.read("/metrics").unwrap();
    let pauses = value_in(&text, "leno_accept_pauses_total").unwrap();
    figures(format_args!(
        "descriptors: {DESCRIPTORS} of {DESCRIPTORS}, {pauses} pauses, {:.1} % of a core while paused, \
         {answered} requests meanwhile and {failed} failed, accepts again after {took:.0?}",
        100.0 * cost
    ));
    assert!(pauses >= 1.0 && failed == 0);
    assert!(cost < 0.05, "pausing costs {cost:.3} of a core");
    assert!(took.is_some_and(|took| took <= SECOND), "{took:?}");
}

// === many connections ===

const FEW: usize = 100;
const MANY: usize = 3_000;
/// Asks for another number than [`MANY`], over two minutes: 15,000 is recorded once.
const VARIABLE: &str = "LENO_TEST_CONNECTIONS";

#[test]
fn three_thousand_kept_connections_are_served_as_a_hundred_are() {
    let _alone = alone();
    let asked = std::env::var(VARIABLE).ok().map(|number| number.parse().unwrap());
    let (connections, time) = asked.map_or((MANY, 20 * SECOND), |connections| (connections, 120 * SECOND));
    // As many requests a second on few connections as on many: one each in ten seconds on many.
    let rate = connections / 10;
    // Two proxies at the same time, so that what else the machine does weighs on both.
    let (quiet, crowded) = (Front::start(&[]), Front::start(&[]));
    let few = std::thread::spawn(move || round(quiet.inbound, FEW, rate, time));
    let many = round(crowded.inbound, connections, rate, time);
    let few = few.join().unwrap();
    figures(format_args!(
        "connections: {FEW} p50 {:.2?} p99 {:.2?}; {connections} p50 {:.2?} p99 {:.2?}, {} requests in {time:.0?}, {} errors",
        few.at(0.5),
        few.at(0.99),
        many.at(0.5),
        many.at(0.99),
        many.took.len(),
        many.errors.len()
    ));
    assert!(few.errors.is_empty() && many.errors.is_empty(), "{:?}", many.errors.first().or(few.errors.first()));
    assert!(many.took.len() as f64 >= 0.95 * rate as f64 * time.as_secs_f64());
    assert!(many.at(0.99) <= 2 * few.at(0.99));
}

/// What came of a round of requests.
struct Round {
    /// Sorted.
    took: Vec<Duration>,
    errors: Vec<String>,
}

/// Opens so many connections and asks on each in turn, so many times a second in all, for this time.
fn round(to: SocketAddr, connections: usize, rate: usize, time: Duration) -> Round {
    let round = leno_runtime::threads::control(async move {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = tokio::net::TcpStream::connect(to).await.unwrap();
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let every = SECOND / rate as u32;
        let started = tokio::time::Instant::now() + every;
        let until = started + time;
        let asking = streams.into_iter().enumerate().map(|(index, mut stream)| {
            tokio::task::spawn_local(async move {
                let (mut took, mut error) = (Vec::new(), None);
                let mut next = started + every * index as u32;
                while next < until && error.is_none() {
                    tokio::time::sleep_until(next).await;
                    let asked = Instant::now();
                    match exchange(&mut stream).await {
                        Ok(()) => took.push(asked.elapsed()),
                        Err(why) => error = Some(why),
                    }
                    next += every * connections as u32;
                }
                (took, error)
            })
        });
        let (mut took, mut errors) = (Vec::new(), Vec::new());
        for asked in asking.collect::<Vec<_>>() {
            let (more, error) = asked.await.unwrap();
            took.extend(more);
            errors.extend(error);
        }
        took.sort_unstable();
        Round { took, errors }
    });
    round.unwrap()
}

async fn exchange(stream: &mut tokio::net::TcpStream) -> Result<(), String> {
    stream.write_all(REQUEST).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    loop {
        match stream.read_buf(&mut answer).await {
            Ok(0) => return Err("closed".to_owned()),
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
        match whole(&answer) {
            Some(200) => return Ok(()),
            Some(status) => return Err(format!("status {status}")),
            None => {}
        }
    }
}

impl Round {
    fn at(&self, part: f64) -> Duration {
        self.took[((self.took.len() - 1) as f64 * part) as usize]
    }
}

// === what is asked ===

// === impl Front ===

impl Front {
    fn start(arguments: &[&str]) -> Self {
        Self::of(arguments, |leno, arguments| leno.command_under_load(arguments))
    }

    /// With limits on descriptors, as `ulimit` takes them.
    fn within(limits: &str, arguments: &[&str]) -> Self {
        Self::of(arguments, |leno, arguments| {
            let proxy = leno.command_under_load(arguments);
            let mut command = Command::new("sh");
            command.args(["-c", &format!("ulimit {limits} && exec \"$@\""), "sh"]);
            command.arg(proxy.get_program()).args(proxy.get_args());
            command.current_dir(leno.path(".")).env_clear().stdin(std::process::Stdio::null());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
            command
        })
    }

    fn of(arguments: &[&str], command: impl FnOnce(&Leno, &[&str]) -> Command) -> Self {
        let port = format!("8080=http@{}", application::within("application", Duration::ZERO));
        Self::before(&port, arguments, command)
    }

    /// In front of this application.
    fn before(port: &str, arguments: &[&str], command: impl FnOnce(&Leno, &[&str]) -> Command) -> Self {
        let (leno, metrics, nobody) = (leno(), free_address(), free_address().to_string());
        let listen = metrics.to_string();
        let common = ["--log-format", "json", "proxy", "--server", &nobody, "--port", port];
        let listens = ["--inbound-listen", "127.0.0.1:0", "--outbound-listen", "off", "--admin-listen", "off"];
        let all = [&common[..], &listens, &["--metrics-listen", &listen], arguments].concat();
        let process = Process::of(command(&leno, &all));
        let inbound = process.wait_for("inbound")["address"].as_str().unwrap().parse().unwrap();
        assert!(wait_until(5 * SECOND, || TcpStream::connect(metrics).is_ok()).is_some());
        Self { process, inbound, metrics, _leno: leno }
    }

    /// What a metric says.
    fn value(&self, name: &str) -> f64 {
        value_of(self.metrics, name)
    }

    /// Descriptors that are open.
    fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.child.id())).unwrap().count()
    }

    /// Processor time so far.
    fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
        // A tick of /proc is 10 ms on Linux, whatever its timer runs at.
        Duration::from_millis(10 * ticks)
    }
}

/// Gives back what comes, to anybody.
fn echo() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut answer = stream.try_clone().unwrap();
            std::thread::spawn(move || std::io::copy(&mut stream, &mut answer));
        }
    });
    address
}

fn value_of(metrics: SocketAddr, name: &str) -> f64 {
    let text = Kept::to(metrics).read("/metrics").unwrap();
    value_in(&text, name).unwrap_or_else(|| panic!("{name} is not among\n{text}"))
}

fn value_in(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

/// An address of this machine that is not loopback.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent; the kernel only says from where it would be.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

// === impl Kept ===

impl Kept {
    fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(10 * SECOND)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// The status of the answer.
    fn ask(&mut self) -> Result<u16, ErrorKind> {
        self.stream.write_all(REQUEST).map_err(|error| error.kind())?;
        self.answer().map(|answer| whole(&answer).unwrap())
    }

    /// The whole answer.
    fn read(&mut self, path: &str) -> Result<String, ErrorKind> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.write_all(request.as_bytes()).map_err(|error| error.kind())?;
        Ok(String::from_utf8(self.answer()?).unwrap())
    }

    fn answer(&mut self) -> Result<Vec<u8>, ErrorKind> {
        let (mut answer, mut buffer) = (Vec::new(), [0; 64 * 1024]);
        while whole(&answer).is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof),
                Ok(read) => answer.extend_from_slice(&buffer[..read]),
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(answer)
    }

    /// How the other end ended it, without having been asked for anything.
    fn ended(mut self) -> Option<ErrorKind> {
        match self.stream.read_exact(&mut [0]) {
            Ok(()) => None,
            Err(error) => Some(error.kind()),
        }
    }
}

/// The status of an answer, once it is whole.
fn whole(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let field = |line: &str| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok();
    let length = head.lines().find_map(field)?;
    (body.len() >= length).then(|| head.split(' ').nth(1)?.parse().ok()).flatten()
}

/// Connections on which one request follows the other.
struct Running {
    told: Arc<Told>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Told {
    stop: AtomicBool,
    pause: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
}

// === impl Running ===

impl Running {
    fn start(to: SocketAddr, connections: usize) -> Self {
        let told = Arc::<Told>::default();
        let ask = |_| {
            let (told, mut kept) = (told.clone(), Kept::to(to));
            std::thread::spawn(move || {
                while !told.stop.load(Ordering::Relaxed) {
                    if told.pause.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    match kept.ask() {
                        Ok(200) => told.answered.fetch_add(1, Ordering::Relaxed),
                        _ => told.failed.fetch_add(1, Ordering::Relaxed),
                    };
                }
            })
        };
        let threads = (0..connections).map(ask).collect();
        Self { told, threads }
    }

    /// Waits until so many more requests were answered.
    fn go_on_for(&self, requests: u64) {
        let until = self.told.answered.load(Ordering::Relaxed) + requests;
        let answered = wait_until(10 * SECOND, || self.told.answered.load(Ordering::Relaxed) >= until);
        assert!(answered.is_some(), "{} failed", self.told.failed.load(Ordering::Relaxed));
    }

    fn pause(&self) {
        self.told.pause.store(true, Ordering::Relaxed);
    }

    fn resume(&self) {
        self.told.pause.store(false, Ordering::Relaxed);
    }

    /// How many were answered and how many failed.
    fn end(self) -> (u64, u64) {
        self.told.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.told.answered.load(Ordering::Relaxed), self.told.failed.load(Ordering::Relaxed))
    }
}
