//! `hearth keys`: who may use the server.

use std::path::PathBuf;

use hearth_engine::Priority;
use hearth_server::keys::{KeyError, KeyFile, KeyInfo};
use serde_json::json;

use crate::args::{KeysAddArgs, KeysArgs, KeysCommand};
use crate::env;
use crate::failure::Failure;
use crate::machine;
use crate::printer::{self, Output};

/// Makes, lists or revokes keys.
pub fn run(args: &KeysArgs) -> Result<(), Failure> {
    match &args.command {
        KeysCommand::Add(args) => add(args),
        KeysCommand::List(args) => list(args.json),
        KeysCommand::Revoke(args) => revoke(&args.name),
    }
}

/// Where the keys are.
pub fn path() -> Result<PathBuf, Failure> {
    Ok(env::home()?.join("keys.sqlite"))
}

/// Opens the file of keys, and makes it where there is none.
pub fn open() -> Result<KeyFile, Failure> {
    let (home, path) = (env::home()?, path()?);
    machine::make_private_folder(&home).map_err(|error| {
        Failure::input(format!(
            "cannot make the folder '{}': {error}",
            home.display()
        ))
        .hint("set HEARTH_HOME to a folder you may write to")
    })?;
    KeyFile::open(&path).map_err(|error| failure(&error))
}

fn failure(error: &KeyError) -> Failure {
    let hint = match error {
        KeyError::Exists(name) => {
            format!("choose another name, or revoke it first: hearth keys revoke {name}")
        }
        KeyError::Unknown(_) => "'hearth keys list' shows the names".into(),
        KeyError::Name(_) => "a name such as anna, laptop-2 or ci.nightly".into(),
        KeyError::TooMany => "revoke keys that nobody uses".into(),
        KeyError::Key => "make one with 'hearth keys add NAME'".into(),
        KeyError::Database(_) => match path() {
            Ok(path) => format!(
                "may you write to '{}', and is it a file of hearth's?",
                path.display()
            ),
            Err(_) => "set HEARTH_HOME to a folder".into(),
        },
    };
    Failure::input(error).caused_by(error).hint(hint)
}

fn add(args: &KeysAddArgs) -> Result<(), Failure> {
    let priority = match args.background {
        true => Priority::Background,
        false => Priority::Interactive,
    };
    let key = open()?
        .add(&args.name, args.weight, priority)
        .map_err(|error| failure(&error))?;
    let mut output = Output::new();
    output.line(key)?;
    output.flush()?;
    printer::note(format!(
        "note: this is the key of {}; it is kept as a hash only and cannot be shown again",
        args.name
    ));
    Ok(())
}

fn list(as_json: bool) -> Result<(), Failure> {
    let keys = open()?.list().map_err(|error| failure(&error))?;
    let mut output = Output::new();
    if as_json {
        let entry = |key: &KeyInfo| json!({"name": key.name, "begins": key.shown, "weight": key.weight, "priority": priority(key), "created": key.created});
        output.json(&json!({"keys": keys.iter().map(entry).collect::<Vec<_>>()}))?;
        return output.flush();
    }
    if keys.is_empty() {
        printer::note("note: there are no keys; 'hearth keys add NAME' makes one");
        return Ok(());
    }
    let row = |key: &KeyInfo| {
        vec![
            key.name.clone(),
            format!("{}...", key.shown),
            key.weight.to_string(),
            priority(key).into(),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let header = ["name", "begins with", "weight", "priority"];
    output.bytes(printer::table(&header, &[false, false, true, false], &rows).as_bytes())?;
    output.flush()
}

fn priority(key: &KeyInfo) -> &'static str {
    match key.priority {
        Priority::Interactive => "interactive",
        Priority::Background => "background",
    }
}

fn revoke(name: &str) -> Result<(), Failure> {
    open()?.revoke(name).map_err(|error| failure(&error))?;
    printer::note(format!("note: the key of {name} is revoked"));
    Ok(())
}
