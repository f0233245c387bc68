//! `cargo xtask bench CASE`: leno beside HAProxy, nginx and Envoy, in one run.
//!
//! The proxy has core 0 to itself; upstream and load generator share core 1. Rounds are interleaved and their order rotates, so a machine that slows down slows
//! everyone; what is reported is the median with its range, and ratios are taken within a round before the median is. CPU is that of the proxy's processes by
//! `/proc/PID/stat`, divided by the requests answered. Everybody has one worker, no logs, and keeps upstream connections.
//!
//! In reading order: `contestant` (who runs and how), `load` (who asks), `report` (figures, `bench/RESULTS.md`, JSON).

mod contestant;
mod load;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::install;
use crate::process::{cargo, root, run as run_command, sweep};
use contestant::{Contestant, Place};
use report::{Figures, Sample};

/// A release build from nothing.
const BUILD_DEADLINE: Duration = Duration::from_secs(30 * 60);
/// Fewer rounds are a trial: printed, never written down.
const ROUNDS_TO_RECORD: usize = 9;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// Opaque TCP: HTTP/1.1 over 64 connections that nobody parses.
    Tcp,
    /// HTTP/1.1: 64 keep-alive connections, small GET.
    Http1,
    /// HTTP/2 with prior knowledge: 8 connections of 16 streams.
    Http2,
    /// HTTP/1.1: bodies of 10 MB over 8 keep-alive connections.
    Large,
    /// Memory: after 1,000 requests, and of each idle keep-alive connection.
    Idle,
    /// Memory of each idle connection of HTTP/2 with prior knowledge.
    IdleHttp2,
    /// From the start of the process to its first answer.
    Start,
    /// Two proxies in a row at 1,000 requests a second over 16 connections.
    Mesh,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    case: Case,
    /// Interleaved rounds; below nine nothing is written to bench/RESULTS.md.
    #[arg(long, default_value_t = ROUNDS_TO_RECORD)]
    rounds: usize,
    /// Length of one measurement in seconds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Only these contestants: leno, tcp-copy, haproxy, nginx, envoy, direct.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A leno that is built already; without it, `--profile` is built first.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The profile to build leno with.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// Measures, prints, records.
pub(crate) fn run(options: &Options) -> Result<()> {
    install::run(&[install::Use::Bench], false)?;
    load::raise_descriptors();
    let mut contestants = contestant::of_case(options.case);
    contestants.retain(|one| options.only.is_empty() || options.only.iter().any(|name| *name == one.name));
    if contestants.is_empty() {
        bail!("nobody is left to measure");
    }
    let ours = contestants.iter().any(|one| one.is_ours());
    let place = Place::prepare(if ours { Some(binary(options)?) } else { None })?;
    let mut figures = Figures::new(options.case, contestants.iter().map(|one| one.name));
    for round in 0..options.rounds {
        for offset in 0..contestants.len() {
            let contestant = &contestants[(round + offset) % contestants.len()];
            let sample = measure(options, contestant, &place)
                .with_context(|| format!("{} in round {}", contestant.name, round + 1))?;
            println!("round {} of {}: {:<9} {}", round + 1, options.rounds, contestant.name, report::line(&sample));
            figures.add(contestant.name, sample);
        }
    }
    drop(place);
    sweep();
    println!("\n{}", figures.table());
    match options.rounds >= ROUNDS_TO_RECORD && ours && options.only.is_empty() {
        true => figures.record(&options.profile)?,
        false => println!(
            "a trial (fewer than {ROUNDS_TO_RECORD} rounds or not everyone): bench/RESULTS.md is left as it was"
        ),
    }
    if options.json {
        println!("{}", figures.json());
    }
    Ok(())
}

/// One contestant, started, warmed, measured and ended.
fn measure(options: &Options, contestant: &Contestant, place: &Place) -> Result<Sample> {
    let running = contestant.start(options.case, place)?;
    let start_ms = running.started_in.as_secs_f64() * 1_000.0;
    let port = running.port;
    let mut sample = Sample::new();
    match options.case {
        Case::Start => {
            sample.insert("start_ms", start_ms);
            sample.insert("rss_mb", running.rss_mb()?);
        }
        Case::Idle | Case::IdleHttp2 => {
            match options.case {
                Case::Idle => load::some_requests(port, 1_000)?,
                // Closed again: what the first connection takes is not the price of each.
                _ => drop(load::hold_http2(port, 10)?),
            }
            std::thread::sleep(Duration::from_secs(options.seconds));
            let before = running.rss_mb()?;
            let held = match options.case {
                Case::Idle => load::hold(port, load::IDLE_CONNECTIONS)?,
                _ => load::hold_http2(port, load::IDLE_CONNECTIONS)?,
            };
            std::thread::sleep(Duration::from_secs(1));
            let grown = (running.rss_mb()? - before).max(0.0) * 1024.0 * 1024.0;
            sample.insert("bytes_per_connection", grown / held.len() as f64);
            sample.insert("rss_mb", before);
        }
        Case::Tcp | Case::Http1 | Case::Http2 | Case::Large | Case::Mesh => {
            let load = |seconds| match options.case {
                Case::Http2 => load::http2(port, seconds, place),
                Case::Large => load::large(port, seconds),
                Case::Mesh => load::steady(port, seconds, place),
                _ => load::http1(port, seconds),
            };
            load(1)?;
            let before = running.cpu_seconds()?;
            let answered = load(options.seconds)?;
            let used = running.cpu_seconds()? - before;
            if options.case == Case::Large {
                let megabytes = answered.requests as f64 * contestant::LARGE_BYTES as f64 / 1e6;
                sample.insert("cpu_us_per_megabyte", used * 1e6 / megabytes);
                sample.insert("mb_per_second", megabytes / options.seconds as f64);
            } else {
                sample.insert("cpu_us_per_request", used * 1e6 / answered.requests as f64);
                sample.insert("rps", answered.rps);
            }
            sample.insert("p50_ms", answered.p50_ms);
            sample.insert("p99_ms", answered.p99_ms);
            sample.insert("rss_mb", running.rss_mb()?);
        }
    }
    Ok(sample)
}

fn binary(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.binary {
        return path.canonicalize().with_context(|| path.display().to_string());
    }
    run_command(&mut cargo(["build", "--profile", &options.profile, "-p", "leno"]), BUILD_DEADLINE)?;
    Ok(root().join("target").join(&options.profile).join("leno"))
}
