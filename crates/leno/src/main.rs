//! leno, a service mesh in one binary: reads the command line and hands over to a role or a verb.

// Nothing outside can reach into a binary; `pub` says here what a module offers to the others.
#![allow(unreachable_pub)]

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

mod args;
mod client;
mod commands;
mod line;
mod output;
#[cfg(test)]
mod reference;
mod roles;
mod settings;
mod shop;
mod supervised;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let (cli, settings) = match parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            output::say(format_args!("leno: {error:#}"));
            return ExitCode::from(2);
        }
    };
    commands::run(cli, settings)
}

/// The command line, over a settings file, over defaults.
fn parse() -> anyhow::Result<(args::Cli, Vec<settings::Setting>)> {
    // Read once without the file, only to learn which file is named.
    let named = args::Cli::command().ignore_errors(true).try_get_matches().ok();
    let named = named.and_then(|matches| matches.get_one::<std::path::PathBuf>("settings_file").cloned());
    let file = settings::SettingsFile::load(named.as_deref())?;
    let command = file.make_defaults(args::Cli::command())?;
    let matches = command.clone().get_matches();
    let in_force = settings::in_force(&command, &matches, &file);
    let cli = args::Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    Ok((cli, in_force))
}
