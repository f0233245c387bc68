//! A gateway under slowhttptest: heads that never end and bodies that trickle.
//!
//! Attackers come from several addresses and take nine tenths of what connections may hold. Everything runs in a network
//! namespace of its own, where there are as many addresses as are wanted.

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

use kit::mesh::Process;
use kit::{Leno, figures, leno};

const TEST: &str = "slow_clients_are_ended_in_time_and_the_others_are_served_throughout";
/// Says that the test is inside its namespace.
const INSIDE: &str = "LENO_TEST_INSIDE";
const ENTER: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
const SECOND: Duration = Duration::from_secs(1);
/// What connections may hold, and nine tenths of it.
const PLACES: usize = 2_000;
const TAKEN: usize = PLACES * 9 / 10;
/// Addresses that attackers come from; each stays below what one source may hold.
const SOURCES: usize = 4;
const GATEWAY: &str = "127.0.0.1:8080";
/// How long the attacks would last if they were not ended.
const ATTACK_SECONDS: u64 = 40;
/// From the first connection of an attack to its last.
const RAMP_SECONDS: u64 = 1;
/// A head has to be complete by then; of a body that trickles so much is waited for.
const HEAD_SECONDS: u64 = 10;
const BODY_GRACE_SECONDS: u64 = 5;

/// One kind of attack.
struct Attack {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Places that a connection takes: its own, and one upstream where its request goes on.
    places: usize,
    /// When its connections are ended, in seconds after the last was made.
    ended: std::ops::RangeInclusive<u64>,
}

/// What came of an attack.
struct Came {
    attack: &'static Attack,
    connections: usize,
    ended_after: Vec<u64>,
    asked: usize,
    failed: Vec<String>,
    slowest: Duration,
}

const ATTACKS: &[Attack] = &[
    Attack {
        name: "heads",
        arguments: &["-H", "-i", "3", "-x", "8"],
        places: 1,
        ended: HEAD_SECONDS - 1..=HEAD_SECONDS + 1,
    },
    Attack {
        name: "bodies",
        arguments: &["-B", "-i", "2", "-x", "8", "-s", "8192"],
        places: 2,
        ended: BODY_GRACE_SECONDS - 1..=BODY_GRACE_SECONDS + 1,
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
    (1..=SOURCES).for_each(|source| write!(script, " && ip address add {} dev lo", address(source)).unwrap());
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
    let (_gateway, _leno) = gateway(upstream());
    let came: Vec<Came> = ATTACKS.iter().map(attack).collect();
    for came in &came {
        let ends = (came.ended_after.iter().min().unwrap(), came.ended_after.iter().max().unwrap());
        figures(format_args!(
            "slow {}: {} connections of {SOURCES} sources, ended after {} to {} s; meanwhile {} requests of others, {} \
             failed, the slowest {} ms",
            came.attack.name,
            came.connections,
            ends.0,
            ends.1,
            came.asked,
            came.failed.len(),
            came.slowest.as_millis()
        ));
    }
    for came in &came {
        let name = came.attack.name;
        assert!(came.failed.is_empty(), "{name}: {:?}", came.failed);
        let in_time = |after: &u64| came.attack.ended.contains(after);
        assert!(came.ended_after.iter().all(in_time), "{name}: {:?}, not {:?}", came.ended_after, came.attack.ended);
    }
}

/// Runs one attack from every source at once, and asks all the while.
fn attack(attack: &'static Attack) -> Came {
    let each = TAKEN / attack.places / SOURCES;
    let over = Arc::new(AtomicBool::new(false));
    let stop = over.clone();
    let healthy = std::thread::spawn(move || ask_until(&stop));
    let running: Vec<_> = (1..=SOURCES)
        .map(|source| {
            let url = format!("http://{}:8080/", source_address(source));
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
    let said: Vec<String> = running.into_iter().map(|one| plain(&one.wait_with_output().unwrap().stdout)).collect();
    over.store(true, Ordering::Relaxed);
    let (asked, failed, slowest) = healthy.join().unwrap();
    let mut connections = 0;
    let mut ended_after = Vec::new();
    for said in &said {
        assert!(said.contains("No open connections left"), "{}: {said}", attack.name);
        let seen: Vec<&str> = said.lines().filter(|line| line.contains("service available")).collect();
        assert!(!seen.is_empty() && seen.iter().all(|line| line.contains("YES")), "{}: {said}", attack.name);
        let second = said.lines().find_map(|line| line.split_once("ended on ")?.1.split_once("th second")).unwrap().0;
        ended_after.push(second.parse::<u64>().unwrap().saturating_sub(RAMP_SECONDS));
        connections += each;
    }
    Came { attack, connections, ended_after, asked, failed, slowest }
}

/// Asks over a new connection each time, as somebody who is no attacker.
fn ask_until(over: &AtomicBool) -> (usize, Vec<String>, Duration) {
    let (mut asked, mut failed, mut slowest) = (0, Vec::new(), Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        match ask() {
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

fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(GATEWAY)?;
    stream.set_read_timeout(Some(3 * SECOND))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A gateway before one service.
fn gateway(upstream: SocketAddr) -> (Process, Leno) {
    let resources = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec:\n  gatewayClassName: \
         leno\n  listeners: [{{name: http, port: 8080, protocol: HTTP}}]\n---\napiVersion: \
         gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: all}}\nspec:\n  parentRefs: [{{name: \
         edge}}]\n  rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]\n---\napiVersion: leno.mesh/v1\nkind: \
         Service\nmetadata: {{name: shop}}\nspec:\n  ports: [{{port: 80, targetPort: {}, protocol: http}}]\n  \
         endpoints: [{{address: 127.0.0.1}}]\n",
        upstream.port()
    );
    let leno = leno().file("resources.yaml", &resources);
    let places = PLACES.to_string();
    let arguments = ["proxy", "--role", "gateway", "--gateway", "edge", "--resources", "resources.yaml"];
    let off = ["--connections-max", &places, "--admin-listen", "off", "--metrics-listen", "off"];
    let process = Process::start(&leno, &[&arguments[..], &off[..]].concat());
    process.wait_for("ready");
    (process, leno)
}

/// An application that answers a GET, and waits for bodies as long as they take.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
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
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").ok()?;
    }
}

fn address(source: usize) -> String {
    format!("{}/32", source_address(source))
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
