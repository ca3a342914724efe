//! What many get of one model: `cargo bench -p hearth-engine --bench serving -- MODEL.gguf CASE [MS]`, where MS is the time a step
//! should take (200).
//!
//! `beside N`: a prompt of N tokens alone, then again with short requests that come while it is read: what they wait for
//! their first token, and what the long one loses. `streams N`: N answers written at once, tokens in a second, greedy and with
//! temperature 1. Tokens are random, so no prompt is found in a cache, and no answer repeats itself.

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hearth_engine::{Engine, EngineOptions, Job, JobEvent, Request, SamplingParams};
use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, Level};

const SHORT: usize = 32;

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let [path, case, n, target_ms @ ..] = arguments.as_slice() else {
        println!("usage: MODEL.gguf beside|streams N [MS]; nothing to measure");
        return;
    };
    let n: usize = n.parse().expect("a number");
    let n_threads = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let kernels = Kernels::new(Level::best(), n_threads).expect("kernels");
    println!("{path}, {n_threads} threads, {}", kernels.level());
    let gguf = Arc::new(Gguf::open(Path::new(path)).expect("a GGUF file"));
    let options = EngineOptions {
        n_ctx: Some(20_000),
        step_target: Duration::from_millis(
            target_ms
                .first()
                .map_or(200, |ms| ms.parse().expect("milliseconds")),
        ),
        ..EngineOptions::default()
    };
    let engine = Engine::start(gguf, Arc::new(Mutex::new(kernels)), options).expect("a model");
    match case.as_str() {
        "beside" => beside(&engine, n),
        "streams" => streams(&engine, n),
        _ => println!("no such case: {case}"),
    }
}

/// Tokens nobody has asked for yet.
fn tokens(engine: &Engine, n: usize, seed: u64) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let n_vocab = engine.model().n_vocab() as u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        ((state >> 33) % n_vocab) as u32
    };
    (0..n).map(next).collect()
}

fn job(engine: &Engine, n_prompt: usize, n_answer: usize, temperature: f32, seed: u64) -> Job {
    Job::new(Request {
        max_tokens: Some(n_answer),
        sampling: SamplingParams {
            temperature,
            ..SamplingParams::default()
        },
        ..Request::new(tokens(engine, n_prompt, seed))
    })
}

/// Seconds to the first token and to the end, and tokens written.
fn wait(engine: &Engine, job: Job) -> (f64, f64, usize) {
    let start = Instant::now();
    let mut events = engine.submit(job).expect("a place");
    let (mut first, mut n) = (0.0, 0);
    while let Some(event) = events.blocking_next() {
        match event {
            JobEvent::Token { .. } => {
                n += 1;
                if n == 1 {
                    first = start.elapsed().as_secs_f64();
                }
            }
            JobEvent::Failed(error) => panic!("{error}"),
            _ => {}
        }
    }
    (first, start.elapsed().as_secs_f64(), n)
}

fn beside(engine: &Engine, n: usize) {
    wait(engine, job(engine, 600, 4, 0.0, 1));
    let alone = wait(engine, job(engine, n, 1, 0.0, 2)).0;
    println!(
        "{n} tokens alone: {alone:.2} s, {:.0} tokens/s",
        n as f64 / alone
    );
    let (with, waits) = thread::scope(|scope| {
        let long = scope.spawn(|| wait(engine, job(engine, n, 1, 0.0, 3)).0);
        let mut waits = Vec::new();
        for seed in 10.. {
            thread::sleep(Duration::from_secs_f64(alone / 4.0));
            if long.is_finished() {
                break;
            }
            let (first, whole, _) = wait(engine, job(engine, SHORT, 16, 0.0, seed));
            waits.push((first, whole, engine.snapshot().last_step_ms));
        }
        (long.join().expect("the long one ends"), waits)
    });
    println!(
        "{n} tokens with {} short requests beside: {with:.2} s, {:.1} % more",
        waits.len(),
        (with / alone - 1.0) * 100.0
    );
    for (first, whole, step_ms) in waits {
        println!(
            "  first of 16 tokens after {first:.3} s, all after {whole:.3} s, last step {step_ms:.0} ms"
        );
    }
}

fn streams(engine: &Engine, n: usize) {
    for temperature in [0.0, 1.0] {
        let before = engine.snapshot();
        let start = Instant::now();
        let all: Vec<(f64, f64, usize)> = thread::scope(|scope| {
            let spawn = |seed| {
                let job = job(engine, SHORT, 64, temperature, 100 + seed as u64);
                scope.spawn(move || wait(engine, job))
            };
            let threads: Vec<_> = (0..n).map(spawn).collect();
            threads
                .into_iter()
                .map(|one| one.join().expect("it ends"))
                .collect()
        });
        let seconds = start.elapsed().as_secs_f64();
        let n_tokens: usize = all.iter().map(|one| one.2).sum();
        let n_steps = engine.snapshot().n_steps - before.n_steps;
        let last_first = all.iter().map(|one| one.0).fold(0.0, f64::max);
        println!(
            "{n} streams, temperature {temperature}: {:.1} tokens/s, {n_steps} steps of {:.1} ms, first tokens within {last_first:.2} s",
            n_tokens as f64 / seconds,
            seconds / n_steps as f64 * 1e3,
        );
    }
}
