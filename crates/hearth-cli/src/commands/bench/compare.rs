//! `--compare`: ratios to the figures of an earlier run of the same work.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Serialize;

use super::report::{BatchSpeed, Report, Speed};
use crate::failure::Failure;

/// An earlier report, and where it came from.
pub struct Earlier {
    path: String,
    report: Report,
}

/// What decides whether two runs did the same work.
#[derive(Debug, PartialEq)]
pub struct Work<'a> {
    pub name: Option<&'a str>,
    pub file_bytes: u64,
    pub depth: usize,
    /// Tokens read and written by one sequence, where that was measured.
    pub tokens: [Option<usize>; 2],
    pub batches: Vec<BatchWork>,
}

/// The work of one batch: sequences, whether ragged, tokens beside; tokens read and written.
#[derive(Debug, PartialEq)]
pub struct BatchWork {
    pub sequences: usize,
    pub is_ragged: bool,
    pub beside: usize,
    pub tokens: [Option<usize>; 2],
}

/// Speeds of this run divided by the earlier ones.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub file: String,
    pub pp: Option<f64>,
    pub tg: Option<f64>,
    pub batch: Vec<BatchRatio>,
    /// What was different about the earlier run.
    pub notes: Vec<String>,
}

/// Ratios of one batch.
#[derive(Debug, Serialize)]
pub struct BatchRatio {
    pub sequences: usize,
    pub pp: Option<f64>,
    pub tg: Option<f64>,
    pub beside_pp: Option<f64>,
}

impl Report {
    /// The work that these figures are of.
    pub fn work(&self) -> Work<'_> {
        let tokens = |speed: &Option<Speed>| speed.as_ref().map(|speed| speed.tokens);
        let batch = |batch: &BatchSpeed| BatchWork {
            sequences: batch.sequences,
            is_ragged: batch.ragged,
            beside: batch.beside,
            tokens: [tokens(&batch.pp), tokens(&batch.tg)],
        };
        Work {
            name: self.name.as_deref(),
            file_bytes: self.file_bytes,
            depth: self.depth,
            tokens: [tokens(&self.pp), tokens(&self.tg)],
            batches: self.batch.iter().map(batch).collect(),
        }
    }
}

impl Earlier {
    /// Reads a file that `--json` wrote.
    pub fn read(path: &Path) -> Result<Earlier, Failure> {
        let shown = path.display().to_string();
        let hint = "--compare takes a file written by 'hearth bench MODEL --json > FILE'";
        let text = read_bounded(path).map_err(|error| {
            Failure::input(format!("cannot read the figures in '{shown}': {error}"))
                .caused_by(&error)
                .hint(hint)
        })?;
        let report = serde_json::from_slice(&text).map_err(|error| {
            Failure::input(format!(
                "'{shown}' holds no figures of 'hearth bench': {error}"
            ))
            .hint(hint)
        })?;
        Ok(Earlier {
            path: shown,
            report,
        })
    }

    /// Refuses figures of another model or of other work: their ratio would say nothing.
    pub fn check(&self, now: &Work<'_>) -> Result<(), Failure> {
        let path = &self.path;
        let then = self.report.work();
        if (then.name, then.file_bytes) != (now.name, now.file_bytes) {
            let model = |work: &Work<'_>| {
                format!(
                    "'{}' of {} bytes",
                    work.name.unwrap_or("unnamed"),
                    work.file_bytes
                )
            };
            return Err(Failure::input(format!(
                "'{path}' was measured with {}, which is not {}",
                model(&then),
                model(now)
            ))
            .hint("measure the same file both times"));
        }
        if then != *now {
            return Err(Failure::input(format!(
                "'{path}' was measured with {}, this is {}",
                described(&then),
                described(now)
            ))
            .hint("give the same -p, -n, -d, --batch, --ragged and --beside both times"));
        }
        Ok(())
    }

    /// Ratios of a report that passed [`Earlier::check`].
    pub fn compare(&self, now: &Report) -> Comparison {
        let then = &self.report;
        let batch = |(now, then): (&BatchSpeed, &BatchSpeed)| BatchRatio {
            sequences: now.sequences,
            pp: ratio(&now.pp, &then.pp),
            tg: ratio(&now.tg, &then.tg),
            beside_pp: ratio(&now.beside_pp, &then.beside_pp),
        };
        Comparison {
            file: self.path.clone(),
            pp: ratio(&now.pp, &then.pp),
            tg: ratio(&now.tg, &then.tg),
            batch: now.batch.iter().zip(&then.batch).map(batch).collect(),
            notes: differences(then, now),
        }
    }
}

/// Reports are some kilobytes; the bound is for a wrong file.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    const MAX_BYTES: u64 = 1 << 20;
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "more than {MAX_BYTES} bytes"
        )));
    }
    Ok(bytes)
}

fn ratio(now: &Option<Speed>, then: &Option<Speed>) -> Option<f64> {
    let (now, then) = (now.as_ref()?, then.as_ref()?);
    (then.tok_s > 0.0).then(|| now.tok_s / then.tok_s)
}

fn described(work: &Work<'_>) -> String {
    let mut parts = Vec::new();
    let mut tokens = |[read, written]: [Option<usize>; 2], who: &str| {
        parts.push(format!(
            "{} read and {} written{who}",
            read.unwrap_or(0),
            written.unwrap_or(0)
        ));
    };
    if work.batches.is_empty() {
        tokens(work.tokens, "");
    }
    for batch in &work.batches {
        let is_ragged = if batch.is_ragged {
            " of different lengths"
        } else {
            ""
        };
        tokens(
            batch.tokens,
            &format!(
                " by {} sequences{is_ragged} beside {}",
                batch.sequences, batch.beside
            ),
        );
    }
    format!("{} at depth {}", parts.join(", "), work.depth)
}

/// Settings that change speed but not the work: often the very thing that is compared.
fn differences(then: &Report, now: &Report) -> Vec<String> {
    let settings = |report: &Report| {
        [
            ("version", report.version.clone()),
            ("level", report.level.clone()),
            ("threads", report.threads.to_string()),
            ("kv", report.kv.clone()),
            ("chunk", report.chunk.to_string()),
        ]
    };
    let pairs = settings(then).into_iter().zip(settings(now));
    pairs
        .filter(|(then, now)| then != now)
        .map(|((what, then), (_, now))| format!("{what} was {then}, is {now}"))
        .collect()
}
