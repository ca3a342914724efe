//! How a command ends when it does not end well: one `error:` line, one `hint:` line, an exit code.
//!
//! A broken pipe is no failure: `hearth show model.gguf | head -3` got what it wanted. So it travels as an error, to
//! unwind, and is reported as success without a word.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::Cli;
use crate::env;

/// Why a command stopped early.
#[derive(Debug)]
pub enum Failure {
    /// The reader of our output went away: silent success.
    Closed,
    /// The user pressed Ctrl-C; what there was has been printed.
    Interrupted,
    /// Help or version was asked for: text for standard output, success.
    Shown(String),
    /// A mistake, reported in two lines. Boxed, because it is rare and much larger than an answer.
    Reported(Box<Report>),
}

/// A mistake and what to do about it.
#[derive(Debug)]
pub struct Report {
    exit_code: u8,
    message: String,
    causes: Vec<String>,
    hint: String,
}

const BAD_INPUT: u8 = 2;
const OUR_FAULT: u8 = 1;
const INTERRUPTED: u8 = 130;

impl Failure {
    /// The caller gave something that cannot be used: exit code 2.
    pub fn input(message: impl Display) -> Failure {
        Failure::report(
            BAD_INPUT,
            &message,
            "'hearth --help' lists the commands and flags",
        )
    }

    /// hearth itself went wrong: exit code 1.
    pub fn ours(message: impl Display) -> Failure {
        Failure::report(
            OUR_FAULT,
            &message,
            "this is a fault of hearth, not yours; please report it with the command that led here",
        )
    }

    fn report(exit_code: u8, message: &dyn Display, hint: &str) -> Failure {
        let message = one_line(&message.to_string());
        Failure::Reported(Box::new(Report {
            exit_code,
            message,
            causes: Vec::new(),
            hint: hint.into(),
        }))
    }

    /// Replaces the hint.
    pub fn hint(mut self, hint: impl Display) -> Failure {
        if let Failure::Reported(report) = &mut self {
            report.hint = one_line(&hint.to_string());
        }
        self
    }

    /// Adds an error and everything behind it as causes, shown with `--verbose`.
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Failure {
        if let Failure::Reported(report) = &mut self {
            let chain = std::iter::successors(Some(error), |&error| error.source());
            report
                .causes
                .extend(chain.map(|error| one_line(&error.to_string())));
        }
        self
    }

    /// Writes the two lines of a report to standard error and goes on: for a chat, which outlives a mistake.
    pub fn print(self) {
        if let Failure::Reported(report) = self {
            let _ = io::stderr().write_all(report.text(false).as_bytes());
        }
    }

    /// Writes the report to standard error and gives the exit code.
    pub fn finish(self, is_verbose: bool) -> ExitCode {
        match self {
            Failure::Closed => ExitCode::SUCCESS,
            Failure::Interrupted => ExitCode::from(INTERRUPTED),
            Failure::Shown(text) => {
                let mut stdout = io::stdout();
                let written = stdout.write_all(text.as_bytes());
                match written.and_then(|()| stdout.flush()) {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => Failure::from(error).finish(is_verbose),
                }
            }
            Failure::Reported(report) => {
                let _ = io::stderr().write_all(report.text(is_verbose).as_bytes());
                ExitCode::from(report.exit_code)
            }
        }
    }
}

impl Report {
    fn text(&self, is_verbose: bool) -> String {
        let colour = io::stderr().is_terminal() && env::allows_colour();
        let label = |name: &str, code: &str| {
            if colour {
                format!("\x1b[{code}m{name}\x1b[0m")
            } else {
                name.to_string()
            }
        };
        let mut text = format!("{} {}\n", label("error:", "1;31"), self.message);
        if is_verbose {
            self.causes
                .iter()
                .for_each(|cause| text.push_str(&format!("  cause: {cause}\n")));
        }
        text.push_str(&format!("{} {}\n", label("hint:", "1;36"), self.hint));
        text
    }
}

/// Messages may quote file names and metadata of strangers: control characters must not reach a terminal, and an error
/// is one line.
pub fn one_line(text: &str) -> String {
    text.trim()
        .chars()
        .map(|c| if is_misleading(c) { ' ' } else { c })
        .collect()
}

/// Control characters, line separators, and what turns the direction of writing round.
fn is_misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::Closed;
        }
        Failure::ours(format!("cannot write the output: {error}"))
            .hint("is the disk full, or the terminal gone?")
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Failure {
        match error.io_error_kind() {
            Some(kind) => io::Error::from(kind).into(),
            None => Failure::ours(format!("cannot write JSON: {error}")),
        }
    }
}

impl Failure {
    /// What clap says about these arguments, in our form.
    pub fn usage(error: &clap::Error, arguments: &[OsString]) -> Failure {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                let has_colour = io::stdout().is_terminal() && env::allows_colour();
                let text = error.render();
                Failure::Shown(if has_colour {
                    text.ansi().to_string()
                } else {
                    text.to_string()
                })
            }
            _ => Failure::input(usage_message(error)).hint(usage_hint(error, arguments)),
        }
    }
}

/// clap's report spans several lines; its first paragraph carries the mistake.
fn usage_message(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let paragraph = rendered.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    let message = words.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    // The list of possible values goes to the hint, where it can be acted upon.
    message
        .split(" [possible values:")
        .next()
        .unwrap_or(message)
        .to_string()
}

fn usage_hint(error: &clap::Error, arguments: &[OsString]) -> String {
    let strings = |kind| match error.get(kind) {
        Some(ContextValue::Strings(values)) => values.clone(),
        Some(ContextValue::String(value)) => vec![value.clone()],
        _ => Vec::new(),
    };
    let suggestions = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    if let Some(similar) = suggestions.into_iter().flat_map(strings).next() {
        return format!(
            "did you mean '{similar}'? otherwise see {}",
            help_command(arguments)
        );
    }
    if error.kind() == ErrorKind::InvalidSubcommand {
        return "a model runs with 'hearth run MODEL'; 'hearth --help' lists the commands".into();
    }
    if error.kind() == ErrorKind::UnknownArgument {
        return format!(
            "see {}; a prompt that begins with a dash comes after --",
            help_command(arguments)
        );
    }
    match strings(ContextKind::ValidValue) {
        values if !values.is_empty() => format!("possible values: {}", values.join(", ")),
        _ => format!("see {}", help_command(arguments)),
    }
}

/// `hearth run --help` for a mistake after `run`.
fn help_command(arguments: &[OsString]) -> String {
    let cli = Cli::command();
    let command = arguments
        .iter()
        .skip(1)
        .find_map(|word| cli.find_subcommand(word));
    match command {
        Some(command) => format!("'hearth {} --help'", command.get_name()),
        None => "'hearth --help'".into(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn report(arguments: &[&str]) -> Report {
        let words = std::iter::once("hearth").chain(arguments.iter().copied());
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let error = Cli::try_parse_from(&words).expect_err("the arguments are wrong");
        match Failure::usage(&error, &words) {
            Failure::Reported(report) => *report,
            other => panic!("not a report: {other:?}"),
        }
    }

    #[test]
    fn usage_errors_take_two_lines_and_point_somewhere() {
        let cases: [(&[&str], &str, &str); 6] = [
            (
                &["run", "a.gguf", "--temprature", "1"],
                "unexpected argument '--temprature' found",
                "--temperature",
            ),
            (
                &["run", "a.gguf", "-t", "zero"],
                "invalid value 'zero' for '--threads <N>': not a whole number of at least 1",
                "'hearth run --help'",
            ),
            (
                &["logits", "a.gguf", "--tokens", "1", "--kv", "q4"],
                "invalid value 'q4' for '--kv <TYPE>'",
                "f16, f32, q8_0",
            ),
            (
                &["run"],
                "the following required arguments were not provided: <MODEL>",
                "'hearth run --help'",
            ),
            (&["rum", "a.gguf"], "unrecognized subcommand 'rum'", "run"),
            (
                &["run", "a.gguf", "--raw", "--system", "x"],
                "the argument '--raw' cannot be used with '--system <TEXT>'",
                "'hearth run --help'",
            ),
        ];
        for (arguments, message, hint) in cases {
            let report = report(arguments);
            assert_eq!(report.message, message, "{arguments:?}");
            assert!(report.hint.contains(hint), "{arguments:?}: {}", report.hint);
            assert_eq!(report.exit_code, BAD_INPUT);
            assert_eq!(report.text(false).lines().count(), 2, "{arguments:?}");
        }
    }

    #[test]
    fn causes_show_with_verbose_only() {
        let inner = io::Error::other("inner reason");
        let Failure::Reported(report) = Failure::input("outer").caused_by(&inner) else {
            panic!("a report")
        };
        assert!(!report.text(false).contains("inner reason"));
        assert!(report.text(true).contains("  cause: inner reason\n"));
    }

    #[test]
    fn control_characters_of_strangers_do_not_reach_the_terminal() {
        let Failure::Reported(report) = Failure::input("bad \x1b[2Jname\nsecond") else {
            panic!("a report")
        };
        assert_eq!(report.message, "bad  [2Jname second");
    }

    #[test]
    fn a_broken_pipe_is_success() {
        assert!(matches!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Failure::Closed
        ));
    }
}
