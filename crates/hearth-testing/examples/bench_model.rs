//! Writes a model of a published shape with random weights: `bench_model SHAPE MIX FILE`. See `bench/README.md`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use hearth_testing::bench_model::{find, write};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match &arguments[..] {
        [shape, mix, path] => make(shape, mix, path),
        _ => Err(io::Error::other("usage: bench_model SHAPE MIX FILE")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Under another name until it is whole: a half-written file would open, and measure something else.
fn make(shape: &str, mix: &str, path: &str) -> io::Result<()> {
    let (shape, mix) = find(shape, mix)?;
    let part = format!("{path}.part");
    let mut file =
        write(&shape, &mix, BufWriter::new(File::create(&part)?)).map_err(io::Error::other)?;
    file.flush()?;
    fs::rename(part, path)
}
