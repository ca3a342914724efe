//! Output for people and for programs. Data goes to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde::Serialize;

use crate::env;
use crate::failure::Failure;

/// Standard output, buffered. Every write can fail, because the reader may be gone; `Failure` turns that into success.
pub struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Takes standard output for as long as the value lives.
    pub fn new() -> Output {
        Output(BufWriter::new(io::stdout().lock()))
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Writes one line.
    pub fn line(&mut self, line: impl std::fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.0, "{line}")?)
    }

    /// Writes one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value)?;
        // JSON leaves these as they are, and a terminal obeys some of them.
        if text.contains(is_c1) {
            let escape = |c: char| match is_c1(c) {
                true => format!("\\u{:04x}", u32::from(c)),
                false => c.to_string(),
            };
            let text: String = text.chars().map(escape).collect();
            return self.line(text);
        }
        self.line(text)
    }

    /// Hands everything written so far to the reader.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.0.flush()?)
    }
}

/// DEL and the second set of control characters; inside JSON they can only stand in strings.
fn is_c1(c: char) -> bool {
    matches!(c, '\u{7f}'..='\u{9f}')
}

/// What a model writes, as a terminal may see it. A model can be made to write control sequences that rename windows or
/// repaint the screen; a terminal gets text, line breaks and tabs only. Files and pipes get every byte.
pub struct Visible {
    is_terminal: bool,
}

impl Visible {
    /// For output that goes to a terminal, or not.
    pub fn new(is_terminal: bool) -> Visible {
        Visible { is_terminal }
    }

    /// The text without what a terminal would obey.
    pub fn filter<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let is_harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        if self.is_terminal && !text.chars().all(is_harmless) {
            return text.chars().filter(|&c| is_harmless(c)).collect();
        }
        text.into()
    }
}

/// A line for people on standard error. A reader who went away is not worth an error.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The text in bold, where standard output is a terminal that may have colours.
pub fn bold(text: &str) -> String {
    if io::stdout().is_terminal() && env::allows_colour() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.into()
    }
}

/// `12_345_678` as `11.8 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Rows under a header, columns as wide as their widest cell; columns of numbers are set right.
pub fn table(header: &[&str], right: &[bool], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells
            .zip(&widths)
            .zip(right)
            .map(|((cell, &width), &is_right)| {
                if is_right {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string() + "\n"
    };
    let mut text = line(&mut header.iter().copied());
    rows.iter()
        .for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (5_368_709_120, "5.0 GiB"),
        ];
        for (n, text) in cases {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn a_terminal_never_sees_control_sequences_and_a_pipe_sees_everything() {
        let text = "a\x1b[2Jb\u{9b}c\n\td\r";
        assert_eq!(Visible::new(true).filter(text), "a[2Jbc\n\td");
        assert_eq!(Visible::new(false).filter(text), text);
    }

    #[test]
    fn tables_line_up() {
        let rows = [
            vec!["a".to_string(), "1".to_string()],
            vec!["long".to_string(), "200".to_string()],
        ];
        assert_eq!(
            table(&["name", "n"], &[false, true], &rows),
            "name    n\na       1\nlong  200\n"
        );
    }
}
