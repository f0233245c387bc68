//! `cargo xtask bench CASE`: leno beside HAProxy, nginx and Envoy, in one run.
//!
//! The proxy has core 0 to itself; upstream and load generator share core 1. Rounds are interleaved and their order rotates, so a machine that slows down slows
//! everyone; what is reported is the median with its range, and ratios are taken within a round before the median is. CPU is that of the proxy's processes by
//! `/proc/PID/stat`, divided by the requests answered. Everybody has one worker, no logs, and keeps upstream connections.
//!
//! In reading order: `measure` (what is done in a case), `contestant` (who runs and how), `load` (who asks), `report` (figures, `bench/RESULTS.md`, JSON), `goals` (what
//! they have to be).

mod contestant;
mod goals;
mod load;
mod measure;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::install;
use crate::process::{cargo, root, run as run_command, sweep};
use contestant::Place;
use measure::measure;
use report::Figures;

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
    /// Full handshakes of TLS 1.3, each on a new connection with one request.
    Tls,
    /// The same, each resumed from the one before.
    TlsResumed,
    /// HTTP/1.1 over TLS: bodies of 10 MB over 8 keep-alive connections.
    TlsLarge,
    /// Memory: after 1,000 requests, and of each idle keep-alive connection.
    Idle,
    /// Memory of each idle connection of HTTP/1.1 over TLS.
    IdleTls,
    /// Memory of each idle connection of HTTP/2 with prior knowledge.
    IdleHttp2,
    /// From the start of the process to its first answer.
    Start,
    /// Two proxies in a row at 1,000 requests a second over 16 connections.
    Mesh,
    /// HTTP/1.1: 3,000 keep-alive connections asked on in turn, beside 100.
    Connections,
    /// HTTP/2: a client that asks one thing at a time, beside one of 100 streams.
    Fair,
    /// Instructions of a request with a TrafficPolicy in force, beside none.
    Policy,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    case: Case,
    /// Interleaved rounds; below nine nothing is written to bench/RESULTS.md.
    #[arg(long, default_value_t = ROUNDS_TO_RECORD)]
    rounds: usize,
    /// Length of one measurement in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Only these contestants: leno, tcp-copy, gateway, plain, haproxy, nginx, envoy, direct.
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
    let binary = if ours { Some(binary(options)?) } else { None };
    load::leave_core_0();
    let place = Place::prepare(binary)?;
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

// === impl Case ===

impl Case {
    fn is_http2(self) -> bool {
        matches!(self, Case::Http2 | Case::IdleHttp2 | Case::Fair)
    }

    fn is_tls(self) -> bool {
        matches!(self, Case::Tls | Case::TlsResumed | Case::TlsLarge | Case::IdleTls)
    }
}

fn binary(options: &Options) -> Result<PathBuf> {
    if let Some(path) = &options.binary {
        return path.canonicalize().with_context(|| path.display().to_string());
    }
    run_command(&mut cargo(["build", "--profile", &options.profile, "-p", "leno"]), BUILD_DEADLINE)?;
    Ok(root().join("target").join(&options.profile).join("leno"))
}
