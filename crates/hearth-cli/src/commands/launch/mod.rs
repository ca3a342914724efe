//! `hearth launch`: starts a client program against a running server.
//!
//! A recipe is variables, arguments and files of our own under HEARTH_HOME; no file of the user's is read, written or changed.
//! `--print` shows the recipe instead.

mod ask;
mod recipe;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::args::LaunchArgs;
use crate::env;
use crate::failure::{Failure, one_line};
use crate::interrupt::Interrupt;
use crate::machine;
use crate::printer::Output;
use ask::ServedModel;
use recipe::{Recipe, Server};

/// Starts the client, or prints how to.
pub fn run(args: &LaunchArgs) -> Result<(), Failure> {
    let key = args.key.clone().or_else(env::key);
    let url = ask::base_url(&args.url)?;
    let model = choose(args, ask::models(&url, key.as_deref())?)?;
    let server = Server {
        url,
        model: model.name,
        n_ctx: model.n_ctx,
        key,
        folder: env::home()?.join("launch"),
    };
    let recipe = Recipe::new(args.client, &server);
    if args.print {
        return print(&recipe, &args.arguments);
    }
    start(&recipe, &args.arguments)
}

/// The model that was asked for, or the only one.
fn choose(args: &LaunchArgs, models: Vec<ServedModel>) -> Result<ServedModel, Failure> {
    let names = models
        .iter()
        .map(|model| one_line(&model.name))
        .collect::<Vec<_>>()
        .join(", ");
    let n_models = models.len();
    let mut found = models
        .into_iter()
        .filter(|model| args.model.as_ref().is_none_or(|name| *name == model.name));
    match (&args.model, found.next()) {
        (None, Some(_)) if n_models > 1 => {
            Err(Failure::input(format!("the server has {n_models} models")).hint(format!("choose one with --model: {names}")))
        }
        (_, Some(model)) => Ok(model),
        (Some(name), None) => {
            Err(Failure::input(format!("the server has no model '{name}'")).hint(format!("it has: {names}")))
        }
        (None, None) => Err(Failure::input("the server has no model")
            .hint("put GGUF files into the folder 'models' under HEARTH_HOME, or name some: hearth serve MODEL")),
    }
}

/// Shell words that do the same by hand.
fn print(recipe: &Recipe, more: &[OsString]) -> Result<(), Failure> {
    let mut output = Output::new();
    for (path, text) in &recipe.files {
        output.line(format!("# {}", path.display()))?;
        output.line(text.trim_end())?;
        output.line("")?;
    }
    for name in recipe.removed {
        output.line(format!("unset {name}"))?;
    }
    for (name, value) in &recipe.variables {
        // A key stays out of terminals and logs.
        let value = match recipe.key_variable == Some(*name) && recipe.has_key {
            true => "\"$HEARTH_KEY\"".into(),
            false => quoted(value),
        };
        output.line(format!("export {name}={value}"))?;
    }
    let words = recipe.arguments.iter().map(|word| quoted(word));
    let more = more.iter().map(|word| quoted(&word.to_string_lossy()));
    let words = std::iter::once(recipe.program.to_owned())
        .chain(words)
        .chain(more);
    output.line(words.collect::<Vec<_>>().join(" "))?;
    output.flush()
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@,".contains(&byte);
    match !word.is_empty() && word.bytes().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn start(recipe: &Recipe, more: &[OsString]) -> Result<(), Failure> {
    for (path, text) in &recipe.files {
        write(path, text)?;
    }
    // Ctrl-C belongs to the client, which gets it too.
    let _interrupt = Interrupt::install()?;
    let mut command = Command::new(program(recipe.program));
    for name in recipe.removed {
        command.env_remove(name);
    }
    let status = command
        .args(&recipe.arguments)
        .args(more)
        .envs(recipe.variables.iter().map(|(name, value)| (name, value)))
        .status()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Failure::input(format!(
                "'{}' is not installed, or not in PATH",
                recipe.program
            ))
            .hint(format!("install it: {}", recipe.install)),
            _ => Failure::input(format!("cannot start '{}': {error}", recipe.program))
                .caused_by(&error),
        })?;
    match status.success() {
        true => Ok(()),
        false => Err(
            Failure::input(format!("{} ended with {status}", recipe.program)).hint(
                "its own messages are above; 'hearth launch ... --print' shows how it was started",
            ),
        ),
    }
}

/// npm's programs are scripts on Windows, and only their full name starts them there.
fn program(name: &str) -> PathBuf {
    let script = format!("{name}.cmd");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let scripts = std::env::split_paths(&path).map(|folder| folder.join(&script));
    match std::env::consts::OS {
        "windows" => scripts
            .into_iter()
            .find(|path| path.is_file())
            .unwrap_or_else(|| name.into()),
        _ => name.into(),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new("."));
    machine::make_private_folder(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| {
            Failure::input(format!("cannot write '{}': {error}", path.display()))
                .caused_by(&error)
                .hint("set HEARTH_HOME to a folder you may write to")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(
            quoted("http://127.0.0.1:4327/v1"),
            "http://127.0.0.1:4327/v1"
        );
        assert_eq!(quoted("it's {a=1}"), r"'it'\''s {a=1}'");
        assert_eq!(quoted(""), "''");
    }
}
