//! `portico completions`: what makes a shell complete the program's commands, made from the commands themselves.

use std::io::{self, Write};

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;

use super::Exit;

/// Print a script that makes a shell complete the commands of this program
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Known,
}

/// Shells for which there is such a script.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for these commands.
pub fn run(args: &CompletionsArgs, command: Command) -> Exit {
    let script = script(args.shell, command);
    match io::stdout().lock().write_all(&script) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            eprintln!("portico: cannot print the script: {error}");
            Exit::Refused
        }
    }
}

fn script(shell: Known, mut command: Command) -> Vec<u8> {
    let shell = match shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}
