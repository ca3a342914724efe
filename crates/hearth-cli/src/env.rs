//! Every environment variable that hearth reads, in one place. Libraries below read none.
//!
//! | variable | meaning |
//! |---|---|
//! | `HEARTH_CPU` | the instruction set to compute with: `scalar`, `portable`, on x86-64 `avx2`, `avxvnni`, `avx512`, on 64-bit ARM `neon`, `neon-dotprod`, `neon-i8mm`; unset: the best this machine has. Any value gives the same results. |
//! | `NO_COLOR` | set to anything but the empty string: no colours. |
//! | `TERM` | `dumb`: no colours. |

use std::env;

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

/// Whether output may carry colours, as far as the environment has a say.
pub fn allows_colour() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && env::var_os("TERM").is_none_or(|term| term != "dumb")
}
