//! Who asks: wrk and h2load on core 1, and a plain client of our own that holds idle connections.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::contestant::Place;
use crate::http::Client;
use crate::process::output;

/// Idle keep-alive connections held open for the idle case.
pub(crate) const IDLE_CONNECTIONS: usize = 4_000;
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
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
    wrk(port, seconds, 64, "x")
}

/// 8 keep-alive connections that each take one large body after the other.
pub(crate) fn large(port: u16, seconds: u64) -> Result<Answered> {
    wrk(port, seconds, 8, "large")
}

fn wrk(port: u16, seconds: u64, connections: usize, path: &str) -> Result<Answered> {
    let text = output(Command::new("taskset").args(["-c", "1", "wrk", "-t1", "--latency", "-H", "Host: up"]).args([
        format!("-c{connections}"),
        format!("-d{seconds}"),
        format!("http://127.0.0.1:{port}/{path}"),
    ]))?;
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
    h2load(port, seconds, &["-c8", "-m16"], place)
}

/// A steady rate over HTTP/1.1.
pub(crate) fn steady(port: u16, seconds: u64, place: &Place) -> Result<Answered> {
    let connections = format!("-c{STEADY_CONNECTIONS}");
    let rate = format!("--rps={}", STEADY_RPS as f64 / STEADY_CONNECTIONS as f64);
    h2load(port, seconds, &["--h1", "-m1", &connections, &rate], place)
}

fn h2load(port: u16, seconds: u64, arguments: &[&str], place: &Place) -> Result<Answered> {
    let log = place.folder().join("h2load.log");
    let _none_yet = fs::remove_file(&log);
    let mut command = Command::new("taskset");
    command.args(["-c", "1", "h2load", "-t1", "-D"]).arg(seconds.to_string()).args(arguments);
    command.args(["-H", ":authority: up", "--log-file"]).arg(&log).arg(format!("http://127.0.0.1:{port}/x"));
    output(&mut command)?;
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
    if times.is_empty() {
        bail!("h2load got no answer");
    }
    times.sort_unstable();
    let percentile = |share: usize| times[(times.len() - 1) * share / 100] as f64 / 1_000.0;
    let requests = times.len() as u64;
    Ok(Answered { requests, rps: requests as f64 / seconds as f64, p50_ms: percentile(50), p99_ms: percentile(99) })
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
pub(crate) fn hold(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for index in 0..count {
        let mut client = Client::connect(port, "up").with_context(|| format!("connection {index}"))?;
        ask(&mut client).with_context(|| format!("connection {index}"))?;
        held.push(client.into_stream());
    }
    Ok(held)
}

/// The same over HTTP/2.
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

/// As many descriptors as we may have; the proxies inherit the limit.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _then_the_soft_limit_stays =
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
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
