//! What a prefix costs after a restart: `cargo bench -p hearth-engine --bench prefix -- MODEL.gguf [TOKENS]`.
//!
//! An engine reads a prompt and shuts down; the next one, with the same folder, gets the same prompt. Printed is the time
//! from handing it in to the first token, cold and restored, the part of that in which pages came from files, and the ratio. The files are in the page cache of the system, as
//! they are after a restart of the program, not of the machine.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hearth_engine::{
    Engine, EngineOptions, Job, JobEvent, Request,
    prefix::{DiskOptions, PrefixOptions},
};
use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, Level};

const N_ROUNDS: usize = 3;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with("--"));
    let Some(path) = arguments.next() else {
        println!("no model given: nothing to measure");
        return;
    };
    let n_tokens = arguments
        .next()
        .map_or(4000, |n| n.parse().expect("a number of tokens"));
    let folder = std::env::temp_dir().join(format!("hearth-bench-{}", std::process::id()));
    println!("{path}, {n_tokens} tokens");
    for round in 0..N_ROUNDS as u32 {
        let cold = ask(&path, &folder, round, n_tokens);
        let warm = ask(&path, &folder, round, n_tokens);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "read {:.0} ms ({} cached), written within {:.0} ms of the end, restored {:.0} ms ({} cached), \
             of which files {:.0} ms: {:.2} %",
            ms(cold.first),
            cold.n_cached,
            ms(cold.end),
            ms(warm.first),
            warm.n_cached,
            ms(warm.found),
            100.0 * ms(warm.first) / ms(cold.first)
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder was made above");
}

/// What a new engine took.
struct Times {
    /// Until it knew what is cached.
    found: Duration,
    /// Until the first token.
    first: Duration,
    /// To end, after the answer.
    end: Duration,
    /// Tokens it did not read.
    n_cached: usize,
}

fn ask(path: &str, folder: &Path, seed: u32, n_tokens: u32) -> Times {
    let n_threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let kernels = Kernels::new(Level::best(), n_threads).expect("kernels");
    let gguf = Arc::new(Gguf::open(Path::new(path)).expect("a GGUF file"));
    let options = EngineOptions {
        prefix: PrefixOptions {
            disk: Some(DiskOptions::new(PathBuf::from(folder))),
            ..PrefixOptions::default()
        },
        ..EngineOptions::default()
    };
    let engine = Engine::start(gguf, Arc::new(Mutex::new(kernels)), options).expect("an engine");
    let n_vocab = engine.model().n_vocab() as u32;
    let prompt = (0..n_tokens).map(|i| (seed * 7919 + i * 31) % n_vocab.min(50_000));
    let request = Request {
        max_tokens: Some(1),
        ..Request::new(prompt.collect())
    };
    let start = Instant::now();
    let mut events = engine.submit(Job::new(request)).expect("a place");
    let (mut found, mut first) = (None, None);
    let n_cached = loop {
        match events.blocking_next().expect("an end") {
            JobEvent::Prompt { .. } => found = found.or(Some(start.elapsed())),
            JobEvent::Token { .. } => first = first.or(Some(start.elapsed())),
            JobEvent::Done { statistics, .. } => break statistics.n_reused,
            JobEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    };
    let end = Instant::now();
    engine.shut_down(Duration::from_secs(60));
    Times {
        found: found.expect("news of the prompt"),
        first: first.expect("a token"),
        end: end.elapsed(),
        n_cached,
    }
}
