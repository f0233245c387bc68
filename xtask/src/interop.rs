//! `cargo xtask interop`: real programs that know nothing of leno, talking to each other.
//!
//! `programs` says what the programs are, `place` lays them out where an unprivileged user can run them, `room` is the way without leno: one namespace in which
//! every service's name means loopback. Each way starts the same command lines with the same environment; that is the point, and it is checked.

mod envoy;
mod place;
mod programs;
mod room;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::install;
use crate::test::Counts;
use place::Place;
pub(crate) use place::USER;
use programs::Expect;

/// The scenario in which Envoy is driven, beside the conversations.
const ENVOY: &str = "envoy";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without leno: the twin of every scenario, and the figures that leno's are compared with.
    #[arg(long, required = true)]
    direct: bool,
    /// Only these conversations, by name, with the servers that they need.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the programs are laid out, when we run inside the room already.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// Lays the programs out, enters the room and lets them talk.
pub(crate) fn run(options: &Options) -> Result<()> {
    match &options.inside {
        Some(folder) => converse(&Place::of(folder.clone()), &options.only)?.into_result(),
        None => twins(&options.only)?.into_result(),
    }
}

/// The conversations without leno, as the gate runs them.
pub(crate) fn direct(only: &[String]) -> Result<Counts> {
    let place = Place::lay_out()?;
    room::enter(&place, only)
}

/// Everything without leno.
fn twins(only: &[String]) -> Result<Counts> {
    install::run(&[install::Use::Interop], false)?;
    let (envoy, talks): (Vec<_>, Vec<_>) = only.iter().cloned().partition(|name| name == ENVOY);
    let mut counts = Counts::default();
    if only.is_empty() || !envoy.is_empty() {
        counts.add(envoy::twin()?);
    }
    if only.is_empty() || !talks.is_empty() {
        counts.add(direct(&talks)?);
    }
    Ok(counts)
}

/// Starts the servers and runs each conversation; inside the room.
fn converse(place: &Place, only: &[String]) -> Result<Counts> {
    let mut talks = programs::talks(place);
    talks.retain(|talk| only.is_empty() || only.iter().any(|name| *name == talk.name));
    let mut servers = programs::servers(place);
    servers.retain(|server| talks.iter().any(|talk| talk.needs.contains(&server.name)));
    let running = room::start(place, &servers)?;
    let mut counts = Counts::default();
    for talk in &talks {
        let started = Instant::now();
        let (text, ended_well) = room::run(place, talk)?;
        let good = talk.expect.count(&text);
        println!(
            "{:<12} {good} of {} good in {:.1} s",
            talk.name,
            talk.expect.wanted(),
            started.elapsed().as_secs_f32()
        );
        counts.passed += good;
        if !ended_well || good != talk.expect.wanted() {
            counts.fail(format!("{}: {}", talk.name, text.trim()));
        } else if let Expect::Verdicts(_) = talk.expect {
            println!("{}", text.trim());
        }
    }
    for changed in running.changed()? {
        counts.fail(changed);
    }
    println!("{}{counts}", room::SUMMARY);
    Ok(counts)
}
