//! `cargo xtask interop`: real programs that know nothing of leno, talking to each other.
//!
//! `programs` says what the programs are, `place` lays them out where an unprivileged user can run them, `converse` starts them and judges what they say. There
//! are two ways to join them: `room` without leno, one namespace in which every service's name means loopback, and `mesh`, with `leno run --` in front of each.
//! Both start the same command lines with the same variables; that is the point, and it is checked. `envoy` is for the one program that is not run under leno.

mod converse;
mod envoy;
mod h2spec;
mod mesh;
mod place;
mod programs;
mod room;

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::install;
use crate::test::{Counts, quick_release};
use converse::{Outcome, converse};
use mesh::Mesh;
use place::Place;
pub(crate) use place::USER;
use room::Room;

/// The scenario in which Envoy is driven, beside the conversations.
const ENVOY: &str = "envoy";
/// The one in which a client breaks HTTP/2 in every way that it knows. It has no twin: what it judges is leno.
const H2SPEC: &str = "h2spec";
/// The conversation whose time is compared between the ways, and how much longer its median may take through leno.
const CONNECTS: &str = "connects";
const CONNECT_MS_MORE: f64 = 5.0;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Without leno: the twin of every scenario.
    #[arg(long)]
    direct: bool,
    /// Only these conversations, by name, with the servers that they need.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How often h2spec runs in each way.
    #[arg(long, default_value_t = h2spec::RUNS, conflicts_with = "direct")]
    runs: usize,
    /// A leno that is built already; without it, the profile `quick-release` is built first.
    #[arg(long, value_name = "PATH", conflicts_with = "direct")]
    binary: Option<PathBuf>,
    /// Where the programs are laid out, when we run inside the room already.
    #[arg(long, hide = true)]
    inside: Option<PathBuf>,
}

/// The conversations in one way or the other.
pub(crate) fn run(options: &Options) -> Result<()> {
    if let Some(folder) = &options.inside {
        return converse(&Place::of(folder.clone()), &Room, &options.only)?.counts.into_result();
    }
    install::run(&[install::Use::Interop], false)?;
    match options.direct {
        true => twins(&options.only)?.into_result(),
        false => through(&options.only, options.binary.clone(), options.runs)?.into_result(),
    }
}

/// The conversations through leno, compared with those without where a figure asks for it.
pub(crate) fn through_leno(only: &[String], binary: Option<PathBuf>) -> Result<Counts> {
    through(only, binary, h2spec::RUNS)
}

fn through(only: &[String], binary: Option<PathBuf>, runs: usize) -> Result<Counts> {
    let binary = match binary {
        Some(binary) => binary,
        None => quick_release()?,
    };
    let asked_for = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let mut outcome = Outcome::default();
    if asked_for(H2SPEC) {
        outcome.counts.add(h2spec::against(&binary, runs)?);
    }
    if only == [H2SPEC] {
        return Ok(outcome.counts);
    }
    let place = Place::lay_out()?;
    let compare = asked_for(CONNECTS);
    let direct = match compare {
        true => Some(room::enter(&place, &[CONNECTS.to_owned()])?),
        false => None,
    };
    let mesh = Mesh::start(&place, &binary)?;
    let talks: Vec<String> = only.iter().filter(|name| ![ENVOY, H2SPEC].contains(&name.as_str())).cloned().collect();
    if only.is_empty() || !talks.is_empty() {
        let conversations = converse(&place, &mesh, &talks)?;
        outcome.counts.add(conversations.counts);
        outcome.verdicts = conversations.verdicts;
    }
    if asked_for(ENVOY) {
        outcome.counts.add(envoy::through_leno(&mesh)?);
    }
    if let Some(direct) = direct {
        match (median(&direct.verdicts), median(&outcome.verdicts)) {
            (Ok(without), Ok(with)) if with - without < CONNECT_MS_MORE => {
                println!("a connect to MariaDB takes {with:.2} ms through leno and {without:.2} ms without");
                outcome.counts.passed += 1;
            }
            (without, with) => {
                outcome.counts.fail(format!("connects to MariaDB: {with:?} ms through leno, {without:?} without"))
            }
        }
    }
    Ok(outcome.counts)
}

/// Everything without leno.
fn twins(only: &[String]) -> Result<Counts> {
    let (envoy, talks): (Vec<_>, Vec<_>) = only.iter().cloned().partition(|name| name == ENVOY);
    let mut counts = Counts::default();
    if only.is_empty() || !envoy.is_empty() {
        counts.add(envoy::twin()?);
    }
    if only.is_empty() || !talks.is_empty() {
        counts.add(room::enter(&Place::lay_out()?, &talks)?.counts);
    }
    Ok(counts)
}

/// The median that the connecting client printed.
fn median(verdicts: &[String]) -> Result<f64> {
    let verdicts = verdicts.iter().filter_map(|verdict| serde_json::from_str::<serde_json::Value>(verdict).ok());
    verdicts.filter_map(|verdict| verdict["median_ms"].as_f64()).next().context("no connects were timed")
}
