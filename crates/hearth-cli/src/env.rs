//! Every environment variable that hearth reads, in one place. Libraries below read none.
//!
//! | variable | meaning |
//! |---|---|
//! | `HEARTH_CPU` | the instruction set to compute with: `scalar`, `portable`, on x86-64 `avx2`, `avxvnni`, `avx512`, on 64-bit ARM `neon`, `neon-dotprod`, `neon-i8mm`; unset: the best this machine has. Any value gives the same results. |
//! | `HEARTH_HOME` | the folder for models, keys and caches; unset: the platform's folder for a program's data. |
//! | `HEARTH_KEY` | the key that `hearth launch` gives to a client. |
//! | `HEARTH_LOG` | what the server logs, in the form of the tracing library: `warn`, `info`, `hearth_server=debug`. |
//! | `HOME`, `XDG_DATA_HOME`, `LOCALAPPDATA` | where the platform's folder is, when `HEARTH_HOME` is unset. |
//! | `NO_COLOR` | set to anything but the empty string: no colours. |
//! | `TERM` | `dumb`: no colours. |

use std::env;
use std::path::PathBuf;

use hearth_kernels::Level;

use crate::failure::Failure;

const CPU: &str = "HEARTH_CPU";

/// The level that `HEARTH_CPU` asks for, else the best one of this machine.
pub fn cpu_level() -> Result<Level, Failure> {
    match env::var_os(CPU).filter(|value| !value.is_empty()) {
        None => Ok(Level::best()),
        Some(value) => parse_level(&value.to_string_lossy()),
    }
}

fn parse_level(value: &str) -> Result<Level, Failure> {
    let known = || {
        format!(
            "unset {CPU}, or set it to one of: {}",
            names(Level::ALL.iter().copied())
        )
    };
    let level: Level = value.parse().map_err(|_| {
        Failure::input(format!("{CPU} has the unknown value '{value}'")).hint(known())
    })?;
    if level.is_available() {
        return Ok(level);
    }
    let available = names(
        Level::ALL
            .iter()
            .copied()
            .filter(|level| level.is_available()),
    );
    Err(Failure::input(format!(
        "{CPU} asks for {level}, but this machine lacks {}",
        level.missing_features().join(", ")
    ))
    .hint(format!("unset {CPU}, or set it to one of: {available}")))
}

fn names(levels: impl Iterator<Item = Level>) -> String {
    levels
        .map(|level| level.to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// The folder for models, keys and caches. It need not exist.
pub fn home() -> Result<PathBuf, Failure> {
    let folder = |name: &str| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let platform = || match env::consts::OS {
        "windows" => Some(folder("LOCALAPPDATA")?.join("hearth")),
        "macos" | "ios" => Some(folder("HOME")?.join("Library/Application Support/hearth")),
        _ => match folder("XDG_DATA_HOME").filter(|data| data.is_absolute()) {
            Some(data) => Some(data.join("hearth")),
            None => Some(folder("HOME")?.join(".local/share/hearth")),
        },
    };
    folder("HEARTH_HOME").or_else(platform).ok_or_else(|| {
        Failure::input("no folder for models, keys and caches is known")
            .hint("set HEARTH_HOME to a folder")
    })
}

/// The key for a server, if the environment has one.
pub fn key() -> Option<String> {
    env::var("HEARTH_KEY").ok().filter(|key| !key.is_empty())
}

/// What the server is to log, if the environment has a say.
pub fn log_filter() -> Option<String> {
    env::var("HEARTH_LOG")
        .ok()
        .filter(|filter| !filter.is_empty())
}

/// Whether output may carry colours, as far as the environment has a say.
pub fn allows_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
