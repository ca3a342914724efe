//! The `hearth` command: arguments in, one command run, an exit code out.
//!
//! Data goes to standard output and nothing else does; notes, progress and errors go to standard error. Every mistake
//! ends in two lines, `error:` and `hint:`, and an exit code: 2 for bad input, 1 for a fault of ours, 130 after Ctrl-C,
//! 0 also when the reader of our output went away.

#![forbid(unsafe_code)]

mod args;
mod builtin;
mod commands;
mod conversation;
mod env;
mod failure;
mod hints;
mod interrupt;
mod load;
mod machine;
mod model_ref;
mod printer;
mod prompt;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let started = Instant::now();
    let words: Vec<OsString> = std::env::args_os().collect();
    // Read before parsing, so that a mistake in the other arguments can show its causes too.
    let is_verbose = words
        .iter()
        .skip(1)
        .take_while(|word| *word != "--")
        .any(|word| word == "--verbose");
    match Cli::try_parse_from(&words)
        .map_err(|error| Failure::usage(&error, &words))
        .and_then(|cli| run(cli, started))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.finish(is_verbose),
    }
}

fn run(cli: Cli, started: Instant) -> Result<(), Failure> {
    match cli.command {
        None => commands::run::welcome(cli.verbose),
        Some(Command::Run(args)) => commands::run::run(args, cli.verbose),
        Some(Command::Serve(args)) => commands::serve::run(&args),
        Some(Command::Keys(args)) => commands::keys::run(&args),
        Some(Command::Launch(args)) => commands::launch::run(&args),
        Some(Command::Show(args)) => commands::show::run(&args),
        Some(Command::Bench(args)) => commands::bench::run(&args, started),
        Some(Command::Logits(args)) => commands::logits::run(&args),
        Some(Command::Tokenize(args)) => commands::text::tokenize(&args),
        Some(Command::Detokenize(args)) => commands::text::detokenize(&args),
        Some(Command::Template(args)) => commands::text::template(&args),
        Some(Command::Completions(args)) => commands::pages::completions(&args),
        Some(Command::Man) => commands::pages::man(),
    }
}
