//! Who asks: wrk and h2load, and a plain client of our own that holds connections and asks on them in turn; all on core 1.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::contestant::{Ended, Place, pinned};
use crate::http::Client;
use crate::process::{output, which};

/// Idle connections held open for the idle cases.
pub(crate) const IDLE_CONNECTIONS: usize = 4_000;
pub(crate) const IDLE_TLS_CONNECTIONS: usize = 2_000;
/// Connections that are asked on in turn.
pub(crate) const MANY_CONNECTIONS: usize = 3_000;
pub(crate) const FEW_CONNECTIONS: usize = 100;
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait until all idle TLS connections are there.
const HELD_DEADLINE: Duration = Duration::from_secs(30);
/// Handshakes that one h2load makes at once.
const HANDSHAKES: usize = 100;
/// The quiet client of the fair case, in requests a second.
const QUIET_RPS: usize = 500;
/// Requests a second and connections of the mesh case.
const STEADY_RPS: usize = 1_000;
const STEADY_CONNECTIONS: usize = 16;

/// What a load generator saw.
pub(crate) struct Answered {
    pub(crate) requests: u64,
    pub(crate) rps: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// 64 keep-alive connections, as fast as they go.
pub(crate) fn http1(port: u16, seconds: u64) -> Result<Answered> {
    wrk(&format!("http://127.0.0.1:{port}/x"), seconds, &["-c64"])
}

/// 8 keep-alive connections that each take one large body after the other.
pub(crate) fn large(port: u16, seconds: u64) -> Result<Answered> {
    wrk(&format!("http://127.0.0.1:{port}/large"), seconds, &["-c8"])
}

/// The same over TLS; the name is one that a client may send.
pub(crate) fn large_tls(port: u16, seconds: u64) -> Result<Answered> {
    wrk(&format!("https://localhost:{port}/large"), seconds, &["-c8"])
}

/// 8 connections at a time, each resumed from the one before it and closed after one request: wrk keeps the session of a connection that it makes anew.
pub(crate) fn resumptions(port: u16, seconds: u64) -> Result<Answered> {
    wrk(&format!("https://localhost:{port}/x"), seconds, &["-c8", "-H", "Connection: close"])
}

fn wrk(url: &str, seconds: u64, arguments: &[&str]) -> Result<Answered> {
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "wrk", "-t1", "--latency", "-H", "Host: up", &format!("-d{seconds}")]);
    let text = output(command.args(arguments).arg(url))?;
    if let Some(line) = text.lines().find(|line| line.contains("Non-2xx") || line.contains("Socket errors")) {
        bail!("wrk: {}", line.trim());
    }
    let requests: u64 =
        word_before(&text, "requests in").and_then(|word| word.parse().ok()).context("wrk said nothing")?;
    let percentile = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).context("wrk printed no latencies")?;
        milliseconds(line.trim()).with_context(|| format!("wrk printed {line} as a latency"))
    };
    Ok(Answered {
        requests,
        rps: requests as f64 / seconds as f64,
        p50_ms: percentile("50%")?,
        p99_ms: percentile("99%")?,
    })
}

/// 8 connections of 16 streams, as fast as they go.
pub(crate) fn http2(port: u16, seconds: u64, place: &Place) -> Result<Answered> {
    let arguments = ["-c8", "-m16", &format!("-D{seconds}"), &format!("http://127.0.0.1:{port}/x")];
    Answered::of(h2load(&arguments, place)?.times, Duration::from_secs(seconds))
}

/// A steady rate over HTTP/1.1.
pub(crate) fn steady(port: u16, seconds: u64, place: &Place) -> Result<Answered> {
    let connections = format!("-c{STEADY_CONNECTIONS}");
    let rate = format!("--rps={}", STEADY_RPS as f64 / STEADY_CONNECTIONS as f64);
    let arguments =
        ["--h1", "-m1", &connections, &rate, &format!("-D{seconds}"), &format!("http://127.0.0.1:{port}/x")];
    Answered::of(h2load(&arguments, place)?.times, Duration::from_secs(seconds))
}

/// One request at a time on one connection of HTTP/2, at a rate that asks little.
pub(crate) fn quiet(port: u16, seconds: u64, place: &Place) -> Result<Answered> {
    let rate = format!("--rps={QUIET_RPS}");
    let arguments = ["-c1", "-m1", &rate, &format!("-D{seconds}"), &format!("http://127.0.0.1:{port}/x")];
    Answered::of(h2load(&arguments, place)?.times, Duration::from_secs(seconds))
}

/// A hundred requests at a time on one connection of HTTP/2, until it is dropped.
pub(crate) fn greedy(port: u16) -> Result<Ended> {
    let url = format!("http://127.0.0.1:{port}/x");
    let arguments = ["-t1", "-c1", "-m100", "-D600", "-H", ":authority: up", &url].map(str::to_owned);
    let greedy = pinned("1", &which("h2load").context("h2load is not installed")?, arguments.into_iter())?;
    // Until its streams are under way.
    std::thread::sleep(Duration::from_millis(300));
    Ok(greedy)
}

/// Full handshakes of TLS 1.3, each on a connection of its own with one request: h2load resumes nothing.
pub(crate) fn handshakes(port: u16, seconds: u64, place: &Place) -> Result<Answered> {
    let (requests, clients) = (format!("-n{HANDSHAKES}"), format!("-c{HANDSHAKES}"));
    let [to, url] = over_tls(port);
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < Duration::from_secs(seconds) {
        let loaded = h2load(&["--h1", &requests, &clients, &to, &url], place)?;
        if loaded.times.len() != HANDSHAKES || !loaded.text.contains("TLS Protocol: TLSv1.3") {
            bail!("{} of {HANDSHAKES} connections were answered: {}", loaded.times.len(), loaded.text);
        }
        times.extend(loaded.times);
    }
    Answered::of(times, started.elapsed())
}

/// Connections of HTTP/1.1 over TLS that have each been answered once and stay open until this is dropped.
pub(crate) fn hold_tls(port: u16, count: usize, place: &Place) -> Result<Ended> {
    let log = place.folder().join("held.log");
    let _none_yet = fs::remove_file(&log);
    let [to, url] = over_tls(port);
    // Two requests a connection, of which the second would be asked for in a quarter of an hour; ten connections more each hundredth of a second.
    let (requests, clients) = (format!("-n{}", 2 * count), format!("-c{count}"));
    let file = format!("--log-file={}", log.display());
    let arguments = ["-t1", "--h1", &requests, &clients, "-r10", "--rate-period=10ms", "--rps=0.001"];
    let arguments = arguments.into_iter().chain(["-H", ":authority: up", &file, &to, &url]).map(str::to_owned);
    let held = pinned("1", &which("h2load").context("h2load is not installed")?, arguments)?;
    let until = Instant::now() + HELD_DEADLINE;
    loop {
        let answered = fs::read_to_string(&log).unwrap_or_default().lines().count();
        if answered >= count {
            return Ok(held);
        }
        if Instant::now() > until {
            bail!("{answered} of {count} connections were answered in {} s", HELD_DEADLINE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where h2load connects to, and a URL with the name of the certificate.
fn over_tls(port: u16) -> [String; 2] {
    [format!("--connect-to=127.0.0.1:{port}"), format!("https://up:{port}/x")]
}

/// What h2load printed, and how long each answer took in µs.
struct Loaded {
    text: String,
    times: Vec<i64>,
}

fn h2load(arguments: &[&str], place: &Place) -> Result<Loaded> {
    let log = place.folder().join("h2load.log");
    let _none_yet = fs::remove_file(&log);
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t1", "-H", ":authority: up", "--log-file"]).arg(&log).args(arguments);
    let text = output(&mut command)?;
    let mut times = Vec::new();
    for line in fs::read_to_string(&log)?.lines() {
        // Start in µs, status, µs until the end of the answer.
        let fields: Vec<i64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let [_, status, time, ..] = fields[..] else { bail!("h2load wrote `{line}`") };
        if !(200..300).contains(&status) {
            bail!("h2load was answered {status} after {} good answers", times.len());
        }
        times.push(time);
    }
    Ok(Loaded { text, times })
}

/// Requests on one connection, one after the other.
pub(crate) fn some_requests(port: u16, count: usize) -> Result<()> {
    let mut client = Client::connect(port, "up")?;
    for _ in 0..count {
        ask(&mut client)?;
    }
    Ok(())
}

/// One request on a connection of its own.
pub(crate) fn one_request(port: u16) -> Result<()> {
    ask(&mut Client::connect(port, "up")?)
}

/// Connections that have each been answered once and are kept open.
pub(crate) fn clients(port: u16, count: usize) -> Result<Vec<Client>> {
    let one = || {
        let mut client = Client::connect(port, "up")?;
        ask(&mut client).map(|()| client)
    };
    (0..count).map(|index| one().with_context(|| format!("connection {index}"))).collect()
}

/// One request at a time, each on the next connection.
pub(crate) fn in_turn(clients: &mut [Client], time: Duration) -> Result<Answered> {
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        for client in clients.iter_mut() {
            let asked = Instant::now();
            ask(client)?;
            times.push(i64::try_from(asked.elapsed().as_micros()).unwrap_or(i64::MAX));
        }
    }
    Answered::of(times, started.elapsed())
}

/// The same as [`clients`] over HTTP/2.
pub(crate) fn hold_http2(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let one = |index| answered_http2(port).with_context(|| format!("connection {index}"));
    (0..count).map(one).collect()
}

/// A connection with prior knowledge on which one GET was answered.
fn answered_http2(port: u16) -> Result<TcpStream> {
    const SETTINGS: u8 = 4;
    const END_STREAM: u8 = 1;
    const ACK: &[u8] = &[0, 0, 0, SETTINGS, 1, 0, 0, 0, 0];
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
    // Preface, empty SETTINGS, then HEADERS of stream 1 with END_STREAM and END_HEADERS: GET, http, `/x`, authority `up`.
    let mut asked = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let head = b"\x82\x86\x04\x02/x\x41\x02up";
    asked.extend_from_slice(&[0, 0, head.len() as u8, 1, 5, 0, 0, 0, 1]);
    asked.extend_from_slice(head);
    stream.write_all(&asked)?;
    loop {
        let mut frame = [0; 9];
        stream.read_exact(&mut frame)?;
        let [a, b, c, kind, flags, .., id] = frame;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & 1 == 0 => stream.write_all(ACK)?,
            // DATA or HEADERS.
            0 | 1 if id == 1 && flags & END_STREAM != 0 => return Ok(stream),
            3 | 7 => bail!("the answer was frame {kind}: {payload:?}"),
            _ => {}
        }
    }
}

/// This process's own client stays off the proxy's core, as the generators do.
pub(crate) fn leave_core_0() {
    let mut cores = CpuSet::new();
    cores.set(1);
    let _then_it_runs_anywhere = sched_setaffinity(None, &cores);
}

/// As many descriptors as we may have; the proxies inherit the limit.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _then_the_soft_limit_stays =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

// === impl Answered ===

impl Answered {
    /// Of the µs that each answer took.
    fn of(mut times: Vec<i64>, time: Duration) -> Result<Self> {
        if times.is_empty() {
            bail!("there was no answer");
        }
        times.sort_unstable();
        let percentile = |share: usize| times[(times.len() - 1) * share / 100] as f64 / 1_000.0;
        let rps = times.len() as f64 / time.as_secs_f64();
        Ok(Answered { requests: times.len() as u64, rps, p50_ms: percentile(50), p99_ms: percentile(99) })
    }
}

fn ask(client: &mut Client) -> Result<()> {
    match client.get("/x")?.status {
        200 => Ok(()),
        status => bail!("the answer was {status}"),
    }
}

fn word_before<'a>(text: &'a str, marker: &str) -> Option<&'a str> {
    text.split_once(marker)?.0.split_whitespace().next_back()
}

/// wrk's `980.00us`, `1.23ms`, `1.01s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = [("us", 0.001), ("ms", 1.0), ("s", 1_000.0)]
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_read_in_every_unit() {
        assert_eq!(milliseconds("980.00us"), Some(0.98));
        assert_eq!(milliseconds("1.25ms"), Some(1.25));
        assert_eq!(milliseconds("1.50s"), Some(1500.0));
        assert_eq!(milliseconds("soon"), None);
    }
}
