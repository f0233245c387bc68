//! A gateway under slowhttptest: heads that never end, bodies that trickle, answers that nobody reads.
//!
//! Attackers come from several addresses and take nine tenths of what connections may hold. Everything runs in a network
//! namespace of its own, where there are as many addresses as are wanted. HTTP/2, which slowhttptest does not speak, has
//! readers of the test's own.

// Real processes are waited for in real time.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod kit;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::http2::{self, PING, RST_STREAM, WINDOW_UPDATE, frame};
use kit::mesh::Process;
use kit::{Leno, figures, free_address, leno};

const TEST: &str = "slow_clients_are_ended_in_time_and_the_others_are_served_throughout";
/// Says that the test is inside its namespace.
const INSIDE: &str = "LENO_TEST_INSIDE";
/// For so many seconds at least the attacks are run again and again, where it is set: ten minutes are recorded once.
const VARIABLE: &str = "LENO_TEST_ATTACK_SECONDS";
const ENTER: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
const SECOND: Duration = Duration::from_secs(1);
/// What connections may hold, and nine tenths of it.
const PLACES: usize = 2_000;
const TAKEN: usize = PLACES * 9 / 10;
/// Addresses that attackers come from; each stays below what one source may hold.
const SOURCES: usize = 4;
const GATEWAY: &str = "127.0.0.1:8080";
const METRICS: &str = "127.0.0.1:8081";
/// Places that are taken when no attacker is there, at most.
const OTHERS: usize = 20;
/// How long the attacks would last if they were not ended.
const ATTACK_SECONDS: u64 = 25;
/// From the first connection of an attack to its last.
const RAMP_SECONDS: u64 = 1;
/// A head has to be complete by then; of a body that trickles so much is waited for.
const HEAD_SECONDS: u64 = 10;
const BODY_GRACE_SECONDS: u64 = 5;
/// A reader takes a window of 1,152 bytes at once, so it falls below 240 bytes a second after 5 s; 10 s later it is gone.
const READER_SECONDS: u64 = 15;
/// Grace of readers of HTTP/2, a second for the window that is taken at once, two looks, and time for the machine.
const STREAM_SECONDS: std::ops::RangeInclusive<f64> = 8.0..=12.0;
const WINDOW: u32 = 256;
const LARGE: usize = 10_000_000;
const SEND_BUFFER: usize = 64 * 1024;

/// One kind of attack.
struct Attack {
    name: &'static str,
    arguments: &'static [&'static str],
    path: &'static str,
    /// Places that a connection takes: its own, and one upstream where its request goes on.
    places: usize,
    /// When its connections are gone from the gateway, in seconds.
    ended: std::ops::RangeInclusive<u64>,
}

/// What came of an attack.
struct Came {
    attack: &'static Attack,
    connections: usize,
    ended_after: Duration,
    asked: usize,
    failed: Vec<String>,
    slowest: Duration,
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "heads",
        arguments: &["-H", "-i", "3", "-x", "8"],
        path: "",
        places: 1,
        ended: HEAD_SECONDS - 1..=HEAD_SECONDS + 1,
    },
    Attack {
        name: "bodies",
        arguments: &["-B", "-i", "2", "-x", "8", "-s", "8192"],
        path: "",
        places: 2,
        ended: BODY_GRACE_SECONDS - 1..=BODY_GRACE_SECONDS + 1,
    },
    Attack {
        name: "readers",
        arguments: &["-X", "-n", "1", "-z", "16", "-w", "256", "-y", "512"],
        path: "large",
        places: 2,
        ended: BODY_GRACE_SECONDS..=READER_SECONDS,
    },
];

#[test]
fn slow_clients_are_ended_in_time_and_the_others_are_served_throughout() {
    if std::env::var_os(INSIDE).is_some() {
        return attack_all();
    }
    if let Some(program) = kit::missing(&["unshare", "ip", "slowhttptest"]) {
        return kit::skip(TEST, &format!("{program} is not installed"));
    }
    let probe = Command::new("unshare").args(ENTER).args(["ip", "link", "set", "lo", "up"]).output().unwrap();
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr).trim().to_owned();
        return kit::skip(TEST, &format!("no network namespace: {why}"));
    }
    let mut script = "ip link set lo up".to_owned();
    (1..=SOURCES).for_each(|source| write!(script, " && ip address add {}/32 dev lo", source_address(source)).unwrap());
    script.push_str(" && exec \"$@\"");
    let itself = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(ENTER).args(["sh", "-c", &script, "sh"]).arg(itself).args(["--exact", TEST, "--nocapture"]);
    let ran = command.env(INSIDE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{out}\n{err}");
    for line in out.lines().filter_map(|line| line.find("slow ").map(|at| &line[at..])) {
        figures(format_args!("{line}"));
    }
}

fn attack_all() {
    leno_net::limits::raise_descriptors().unwrap();
    let (_gateway, _leno) = gateway(address(GATEWAY).port(), address(METRICS), upstream());
    let time = std::env::var(VARIABLE).map_or(0, |seconds| seconds.parse().unwrap());
    let (until, mut came) = (Instant::now() + Duration::from_secs(time), Vec::new());
    while came.is_empty() || Instant::now() < until {
        came.extend(ATTACKS.iter().map(attack));
    }
    for came in &came {
        figures(format_args!(
            "slow {}: {} connections of {SOURCES} sources, gone after {:.1} s; meanwhile {} requests of others, {} \
             failed, the slowest {} ms",
            came.attack.name,
            came.connections,
            came.ended_after.as_secs_f64(),
            came.asked,
            came.failed.len(),
            came.slowest.as_millis()
        ));
    }
    for came in &came {
        let name = came.attack.name;
        assert!(came.failed.is_empty(), "{name}: {:?}", came.failed);
        let in_time = *came.attack.ended.start()..=*came.attack.ended.end() + RAMP_SECONDS;
        assert!(in_time.contains(&came.ended_after.as_secs()), "{name}: {:?}, not {in_time:?}", came.ended_after);
    }
}

// === HTTP/2 ===

/// Streams of each connection whose client lets next to nothing come.
const STREAMS: u32 = 10;
/// Connections whose clients read nothing at all.
const UNREAD: usize = 5;

#[test]
fn readers_of_http2_are_sent_away_in_time_but_not_those_of_events() {
    let (to, metrics) = (free_address(), free_address());
    let (_gateway, _leno) = gateway(to.port(), metrics, upstream());
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let healthy = std::thread::spawn(move || ask_until(to, &stop));
    let mut events = http2::connect(to, &initial_window(WINDOW));
    events.write_all(&http2::get_path(1, "/events")).unwrap();
    // One lets nothing more come, the other ten bytes of each answer in a second.
    let shut = [false, true].map(|trickles| std::thread::spawn(move || resets(to, trickles)));
    let began = Instant::now();
    let unread: Vec<TcpStream> = (0..UNREAD).map(|_| ask_for_much(to, 0x7fff_0000)).collect();
    let resets: Vec<f64> = shut.into_iter().flat_map(|one| one.join().unwrap()).collect();
    let expected = resets.len() + UNREAD;
    let struck = || value_of(metrics, "leno_http_refused_total{reason=\"response-rate\"}");
    while struck() < expected && began.elapsed() < 2 * Duration::from_secs(READER_SECONDS) {
        std::thread::sleep(SECOND / 20);
    }
    let (ended_after, struck) = (began.elapsed().as_secs_f64(), struck());
    drop(unread);
    // Whoever waited for events gets the next ones.
    let came = more_of(&mut events, 1_000);
    over.store(true, Ordering::Relaxed);
    let (asked, failed, slowest) = healthy.join().unwrap();
    let (first, last) = resets.iter().fold((f64::MAX, 0.0f64), |(a, b), at| (a.min(*at), b.max(*at)));
    figures(format_args!(
        "slow HTTP/2: {} streams reset after {first:.1} to {last:.1} s, {UNREAD} connections that read nothing ended after \
         {ended_after:.1} s, {struck} counted; {came} bytes of events came afterwards; meanwhile {asked} requests of \
         others, {} failed, the slowest {} ms",
        resets.len(),
        failed.len(),
        slowest.as_millis()
    ));
    assert!(failed.is_empty(), "{failed:?}");
    assert!(STREAM_SECONDS.contains(&first) && STREAM_SECONDS.contains(&last));
    // The kernel of a client takes some of it in the first seconds.
    assert!((*STREAM_SECONDS.start()..=READER_SECONDS as f64).contains(&ended_after), "{ended_after}");
    assert_eq!(struck, expected);
}

fn initial_window(bytes: u32) -> Vec<u8> {
    [&[0, 4][..], &bytes.to_be_bytes()].concat()
}

/// A connection that has asked for much on every stream, with such windows.
fn ask_for_much(to: SocketAddr, window: u32) -> TcpStream {
    let mut stream = http2::connect(to, &initial_window(window));
    let asked: Vec<u8> = (0..STREAMS).flat_map(|n| http2::get_path(2 * n + 1, "/large")).collect();
    stream.write_all(&asked).unwrap();
    stream
}

/// After how many seconds each stream of a connection is reset whose windows stay shut or nearly; it stays.
fn resets(to: SocketAddr, trickles: bool) -> Vec<f64> {
    let mut stream = ask_for_much(to, WINDOW);
    let began = Instant::now();
    let mut writer = stream.try_clone().unwrap();
    let over = Arc::new(AtomicBool::new(!trickles));
    let stop = over.clone();
    let trickling = std::thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(SECOND);
            let updates = (0..STREAMS).flat_map(|n| frame(WINDOW_UPDATE, 0, 2 * n + 1, &10u32.to_be_bytes()));
            writer.write_all(&updates.collect::<Vec<u8>>()).unwrap();
        }
    });
    stream.set_read_timeout(Some(2 * Duration::from_secs(READER_SECONDS))).unwrap();
    let mut after = Vec::new();
    while after.len() < STREAMS as usize {
        let frame = http2::read(&mut stream).unwrap();
        assert_ne!(frame.kind, http2::GOAWAY);
        if frame.kind == RST_STREAM {
            after.push(began.elapsed().as_secs_f64());
        }
    }
    over.store(true, Ordering::Relaxed);
    trickling.join().unwrap();
    stream.write_all(&frame(PING, 0, 0, &[7; 8])).unwrap();
    while http2::read(&mut stream).unwrap().payload != [7; 8] {}
    after
}

/// Lets so many bytes more of stream 1 come, and reads until they came; how many came in all.
fn more_of(stream: &mut TcpStream, bytes: u32) -> usize {
    stream.write_all(&frame(WINDOW_UPDATE, 0, 1, &bytes.to_be_bytes())).unwrap();
    let mut came = 0;
    while came < (WINDOW + bytes) as usize {
        let frame = http2::read(stream).unwrap();
        assert_ne!(frame.kind, RST_STREAM, "events are reset");
        came += if frame.kind == http2::DATA { frame.payload.len() } else { 0 };
    }
    came
}

// === slowhttptest ===

/// Runs one attack from every source at once, and asks all the while.
fn attack(attack: &'static Attack) -> Came {
    let each = TAKEN / attack.places / SOURCES;
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let healthy = std::thread::spawn(move || ask_until(address(GATEWAY), &stop));
    let running: Vec<_> = (1..=SOURCES)
        .map(|source| {
            let url = format!("http://{}:8080/{}", source_address(source), attack.path);
            Command::new("slowhttptest")
                .args(attack.arguments)
                .args(["-c", &each.to_string(), "-r", &each.to_string(), "-l", &ATTACK_SECONDS.to_string()])
                .args(["-p", "3", "-u", &url])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let ended_after = gone_after(each * SOURCES * attack.places);
    let said: Vec<String> = running.into_iter().map(|one| plain(&one.wait_with_output().unwrap().stdout)).collect();
    over.store(true, Ordering::Relaxed);
    let (asked, failed, slowest) = healthy.join().unwrap();
    // The attacker's own probe reads as slowly as its attack does, and is ended like it.
    for said in said.iter().filter(|_| attack.path.is_empty()) {
        let seen: Vec<&str> = said.lines().filter(|line| line.contains("service available")).collect();
        assert!(!seen.is_empty() && seen.iter().all(|line| line.contains("YES")), "{}: {said}", attack.name);
    }
    Came { attack, connections: each * SOURCES, ended_after, asked, failed, slowest }
}

/// Waits until so many places, or nearly, are taken and then are free again; since the first was taken.
fn gone_after(places: usize) -> Duration {
    let until = Instant::now() + 2 * Duration::from_secs(ATTACK_SECONDS);
    let (mut most, mut began) = (0, None);
    loop {
        let held = held();
        most = most.max(held);
        if held > OTHERS {
            began.get_or_insert_with(Instant::now);
        } else if most >= places * 19 / 20 {
            return began.unwrap().elapsed();
        }
        assert!(Instant::now() < until, "{held} places are taken; {most} of {places} were");
        std::thread::sleep(SECOND / 20);
    }
}

/// Places that connections hold at the gateway.
fn held() -> usize {
    value_of(address(METRICS), "leno_connections_held")
}

/// What a metric says.
fn value_of(metrics: SocketAddr, name: &str) -> usize {
    let (_, text) = kit::mesh::get_path(metrics, &metrics.to_string(), "/metrics").unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Asks over a new connection each time, as somebody who is no attacker.
fn ask_until(gateway: SocketAddr, over: &AtomicBool) -> (usize, Vec<String>, Duration) {
    let (mut asked, mut failed, mut slowest) = (0, Vec::new(), Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        match ask(gateway) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {}
            Ok(answer) => failed.push(answer),
            Err(error) => failed.push(error.to_string()),
        }
        asked += 1;
        slowest = slowest.max(started.elapsed());
        std::thread::sleep(SECOND / 20);
    }
    (asked, failed, slowest)
}

fn ask(gateway: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(gateway)?;
    stream.set_read_timeout(Some(3 * SECOND))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A gateway before one service.
fn gateway(port: u16, metrics: SocketAddr, upstream: SocketAddr) -> (Process, Leno) {
    let resources = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: \
         leno\n  listeners: [{{name: http, port: {port}, protocol: HTTP}}]\n---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: all}}\nspec:\n  parentRefs: [{{name: \
         edge}}]\n  rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]\n---\napiVersion: leno.mesh/v1\nkind: \
         Service\nmetadata: {{name: shop}}\nspec:\n  ports: [{{port: 80, targetPort: {}, protocol: http}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n",
        upstream.port()
    );
    let leno = leno().file("resources.yaml", &resources);
    let (places, metrics) = (PLACES.to_string(), metrics.to_string());
    let arguments = ["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "resources.yaml"];
    let off = ["--connections-max", &places, "--admin-listen", "off", "--metrics-listen", &metrics];
    let process = Process::start(&leno, &[&arguments[..], &off[..]].concat());
    process.wait_for("ready");
    (process, leno)
}

/// An application that answers a GET, with much where much is asked for, and waits for bodies as long as they take.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // It is the gateway that is looked at: on its own account an application would have megabytes in the kernel
            // for each of these clients, and the machine's memory for TCP would be used up by it.
            rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER).unwrap();
            // Hundreds of threads that wait need little of their stacks.
            let small = std::thread::Builder::new().stack_size(64 * 1024);
            small.spawn(move || answer(&stream)).unwrap();
        }
    });
    address
}

fn answer(stream: &TcpStream) -> Option<()> {
    let (mut reader, mut writer) = (BufReader::with_capacity(4096, stream), stream);
    loop {
        let mut start = String::new();
        reader.read_line(&mut start).ok().filter(|read| *read > 0)?;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        }
        if start.starts_with("POST") {
            return std::io::copy(&mut reader, &mut std::io::sink()).ok().map(|_| ());
        }
        if start.contains("/events") {
            write!(writer, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n").ok()?;
            return std::io::copy(&mut std::io::repeat(b'\n').take(LARGE as u64), &mut writer).ok().map(|_| ());
        }
        let length = if start.contains("/large") { LARGE } else { 2 };
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").ok()?;
        std::io::copy(&mut std::io::repeat(b'x').take(length as u64), &mut writer).ok()?;
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Whoever connects to an address of the same machine comes from that address.
fn source_address(source: usize) -> String {
    format!("10.73.0.{source}")
}

/// What it printed, without colours.
fn plain(printed: &[u8]) -> String {
    let text = String::from_utf8_lossy(printed).into_owned();
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' => drop(letters.find(char::is_ascii_alphabetic)),
            '\r' => {}
            _ => plain.push(letter),
        }
    }
    plain
}
