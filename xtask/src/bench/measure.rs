//! One measurement: a contestant started, warmed, put under its case's load, and what that cost it.

use std::time::Duration;

use anyhow::Result;

use super::contestant::{Contestant, LARGE_BYTES, Place, Running};
use super::load::{self, Answered};
use super::report::Sample;
use super::{Case, Options};

/// How long memory is let settle before and after connections come.
const SETTLE: Duration = Duration::from_secs(1);
/// Requests whose instructions are counted.
const COUNTED_REQUESTS: usize = 4_000;

/// Starts it, measures it, ends it.
pub(crate) fn measure(options: &Options, contestant: &Contestant, place: &Place) -> Result<Sample> {
    let running = contestant.start(options.case, place)?;
    match options.case {
        Case::Start => started(&running),
        Case::Idle | Case::IdleTls | Case::IdleHttp2 => idle(options, &running, place),
        Case::Tcp | Case::Http1 | Case::Http2 | Case::Large | Case::Mesh => busy(options, &running, place),
        Case::Tls | Case::TlsResumed | Case::TlsLarge => busy(options, &running, place),
        Case::Connections => connections(options, &running),
        Case::Fair => fair(options, &running, place),
        Case::Policy => instructions(&running, place),
    }
}

fn started(running: &Running) -> Result<Sample> {
    let start_ms = running.started_in.as_secs_f64() * 1_000.0;
    Ok(Sample::from([("start_ms", start_ms), ("rss_mb", running.rss_mb()?)]))
}

/// Memory at rest, and what each connection adds to it.
fn idle(options: &Options, running: &Running, place: &Place) -> Result<Sample> {
    let port = running.port;
    match options.case {
        Case::Idle => load::some_requests(port, 1_000)?,
        // Closed again: what the first connections take is not the price of each.
        Case::IdleTls => drop(load::hold_tls(port, 100, place)?),
        _ => drop(load::hold_http2(port, 10)?),
    }
    std::thread::sleep(if options.case == Case::Idle { Duration::from_secs(options.seconds) } else { SETTLE });
    let before = running.rss_mb()?;
    let count = if options.case == Case::IdleTls { load::IDLE_TLS_CONNECTIONS } else { load::IDLE_CONNECTIONS };
    let grown = || {
        std::thread::sleep(SETTLE);
        Ok::<f64, anyhow::Error>((running.rss_mb()? - before).max(0.0) * 1024.0 * 1024.0)
    };
    let grown = match options.case {
        Case::Idle => load::clients(port, count).and_then(|_held| grown())?,
        Case::IdleTls => load::hold_tls(port, count, place).and_then(|_held| grown())?,
        _ => load::hold_http2(port, count).and_then(|_held| grown())?,
    };
    Ok(Sample::from([("bytes_per_connection", grown / count as f64), ("rss_mb", before)]))
}

/// CPU for what was asked as fast as it goes, or at a steady rate.
fn busy(options: &Options, running: &Running, place: &Place) -> Result<Sample> {
    let port = running.port;
    let load = |seconds| match options.case {
        Case::Http2 => load::http2(port, seconds, place),
        Case::Large => load::large(port, seconds),
        Case::Mesh => load::steady(port, seconds, place),
        Case::Tls => load::handshakes(port, seconds, place),
        Case::TlsResumed => load::resumptions(port, seconds),
        Case::TlsLarge => load::large_tls(port, seconds),
        _ => load::http1(port, seconds),
    };
    load(1)?;
    let (answered, used) = costing(running, || load(options.seconds))?;
    let each = used * 1e6 / answered.requests as f64;
    let mut sample = match options.case {
        Case::Large | Case::TlsLarge => {
            let (megabytes, seconds) = (LARGE_BYTES as f64 / 1e6, options.seconds as f64);
            Sample::from([
                ("cpu_us_per_megabyte", each / megabytes),
                ("mb_per_second", answered.requests as f64 * megabytes / seconds),
            ])
        }
        Case::Tls | Case::TlsResumed => {
            Sample::from([("cpu_us_per_handshake", each), ("handshakes_per_cpu_second", 1e6 / each)])
        }
        _ => Sample::from([("cpu_us_per_request", each), ("rps", answered.rps)]),
    };
    // A generator's latencies begin after the handshake.
    if !matches!(options.case, Case::Tls | Case::TlsResumed) {
        sample.extend([("p50_ms", answered.p50_ms), ("p99_ms", answered.p99_ms)]);
    }
    sample.insert("rss_mb", running.rss_mb()?);
    Ok(sample)
}

/// A request here, a request there on many connections, beside the same on few.
fn connections(options: &Options, running: &Running) -> Result<Sample> {
    let seconds = Duration::from_secs(options.seconds) / 2;
    let asked = |count| {
        let mut clients = load::clients(running.port, count)?;
        let (answered, used) = costing(running, || load::in_turn(&mut clients, seconds))?;
        Ok::<_, anyhow::Error>((used * 1e6 / answered.requests as f64, answered))
    };
    let (each_of_few, few) = asked(load::FEW_CONNECTIONS)?;
    let (each, many) = asked(load::MANY_CONNECTIONS)?;
    Ok(Sample::from([
        ("cpu_us_per_request", each),
        ("cpu_growth", each / each_of_few),
        ("p50_ms", many.p50_ms),
        ("p99_ms", many.p99_ms),
        ("p99_growth", many.p99_ms / few.p99_ms),
        ("rss_mb", running.rss_mb()?),
    ]))
}

/// A client that asks one thing at a time, alone and then beside one that asks a hundred.
fn fair(options: &Options, running: &Running, place: &Place) -> Result<Sample> {
    let seconds = options.seconds.div_ceil(2);
    let alone = load::quiet(running.port, seconds, place)?;
    let _greedy = load::greedy(running.port)?;
    let beside = load::quiet(running.port, seconds, place)?;
    Ok(Sample::from([
        ("p50_ms", beside.p50_ms),
        ("p99_ms", beside.p99_ms),
        ("p99_growth", beside.p99_ms / alone.p99_ms),
        ("rss_mb", running.rss_mb()?),
    ]))
}

/// What a request takes of the processor's instructions, on one connection; the same whatever else the machine does.
fn instructions(running: &Running, place: &Place) -> Result<Sample> {
    load::some_requests(running.port, COUNTED_REQUESTS / 4)?;
    running.count_instructions()?;
    load::some_requests(running.port, COUNTED_REQUESTS)?;
    let each = running.instructions(place)? / COUNTED_REQUESTS as f64;
    Ok(Sample::from([("instructions_per_request", each)]))
}

/// What a load was answered, and the proxy's CPU time for it in seconds.
fn costing(running: &Running, load: impl FnOnce() -> Result<Answered>) -> Result<(Answered, f64)> {
    let before = running.cpu_seconds()?;
    let answered = load()?;
    Ok((answered, running.cpu_seconds()? - before))
}
