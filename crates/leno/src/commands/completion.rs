//! `leno completion`: a script that completes verbs, flags and their values in a shell.

use clap::{Command, CommandFactory};

use super::failure::{Exit, Outcome};
use crate::args::{Cli, Shell};
use crate::output::put;

/// Prints the script.
pub fn run(shell: Shell) -> Outcome {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(Cli::command()), "leno", &mut script);
    put(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}

/// The command without the verbs that only leno itself calls.
fn visible(command: Command) -> Command {
    let shown: Vec<Command> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
    let flags: Vec<clap::Arg> = command.get_arguments().cloned().collect();
    Command::new("leno").version(env!("CARGO_PKG_VERSION")).args(flags).subcommands(shown)
}
