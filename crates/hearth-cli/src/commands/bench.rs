//! `hearth bench`: how fast a model reads and writes here, measured on the plan itself, without sampling or text.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_engine::{Generator, GeneratorOptions, Request};
use hearth_kernels::Kernels;
use hearth_model::{Batch, Executor, ExecutorLimits, Model, PagePool, Row, Sequence};
use serde::Serialize;

use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::load;
use crate::machine;
use crate::model_ref::ModelRef;
use crate::printer::{self, Output};

/// Tokens of the prompt that the time to the first token is measured with: a short question.
const SHORT_PROMPT: usize = 16;

/// Speed of one kind of work over the repetitions.
#[derive(Serialize)]
struct Speed {
    tokens: usize,
    /// Median.
    tok_s: f64,
    tok_s_min: f64,
    tok_s_max: f64,
}

#[derive(Serialize)]
struct Report {
    model: String,
    name: Option<String>,
    file_bytes: u64,
    version: &'static str,
    level: String,
    threads: usize,
    kv: String,
    chunk: usize,
    reps: usize,
    pp: Option<Speed>,
    tg: Option<Speed>,
    /// From opening the file to being ready for a prompt.
    load_ms: f64,
    /// From the start of the process to the first token after a short prompt, reading a cold file included.
    first_token_ms: f64,
    first_token_prompt: usize,
    /// Share of the file that was in memory before.
    file_cached: Option<f32>,
    peak_rss_bytes: Option<u64>,
}

/// Measures and prints.
pub fn run(args: &BenchArgs, started: Instant) -> Result<(), Failure> {
    let report = measure(args, started)?;
    let mut output = Output::new();
    if args.json {
        output.json(&report)?;
    } else {
        output.bytes(people(&report).as_bytes())?;
    }
    output.flush()
}

fn measure(args: &BenchArgs, started: Instant) -> Result<Report, Failure> {
    let interrupt = Interrupt::install()?;
    let reference = ModelRef::parse(&args.model)?;
    let opening = Instant::now();
    let gguf = reference.open()?;
    let file_cached = gguf.resident_fraction();
    let chunk = args
        .compute
        .chunk
        .map_or(load::DEFAULT_CHUNK, |chunk| chunk.get());
    let options = GeneratorOptions {
        kv_type: load::kv_type(args.compute.kv),
        chunk,
        n_positions: Some(SHORT_PROMPT + 1),
        ..GeneratorOptions::default()
    };
    let mut generator = Generator::load(gguf.clone(), load::kernels(&args.compute)?, options)?;
    let load_ms = milliseconds(opening.elapsed());
    load::warm_up(&gguf, &interrupt)?;

    let model = generator.model().clone();
    check_room(args, &model)?;
    let first_token_prompt = SHORT_PROMPT.min(model.n_ctx() - 1);
    let request = Request {
        max_tokens: Some(1),
        ..Request::new(random_tokens(first_token_prompt, model.n_vocab()))
    };
    generator.generate(&request, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let first_token_ms = milliseconds(started.elapsed());
    // Its threads and pages must be gone before others are measured.
    drop(generator);

    let mut runner = Runner::new(args, model.clone(), chunk, interrupt)?;
    let reps = args.reps.get();
    let pp = runner.repeat(args.prompt_tokens, chunk, reps)?;
    let tg = runner.repeat(args.new_tokens, 1, reps)?;
    Ok(Report {
        model: reference.to_string(),
        name: gguf
            .metadata()
            .get_str("general.name")
            .ok()
            .flatten()
            .map(String::from),
        file_bytes: gguf.file_bytes(),
        version: env!("CARGO_PKG_VERSION"),
        level: runner.kernels.level().to_string(),
        threads: runner.kernels.n_threads(),
        kv: format!("{:?}", args.compute.kv).to_lowercase(),
        chunk,
        reps,
        pp,
        tg,
        load_ms,
        first_token_ms,
        first_token_prompt,
        file_cached,
        peak_rss_bytes: machine::peak_resident_bytes(),
    })
}

fn check_room(args: &BenchArgs, model: &Model) -> Result<(), Failure> {
    let longest = args.prompt_tokens.max(args.new_tokens);
    if longest > model.n_ctx() {
        return Err(Failure::input(format!(
            "{longest} tokens do not fit the model's context of {}",
            model.n_ctx()
        ))
        .hint("give smaller -p and -n"));
    }
    Ok(())
}

/// Runs steps of one model over random tokens.
struct Runner {
    model: Arc<Model>,
    kernels: Kernels,
    executor: Executor,
    pool: PagePool,
    interrupt: Interrupt,
}

impl Runner {
    fn new(
        args: &BenchArgs,
        model: Arc<Model>,
        chunk: usize,
        interrupt: Interrupt,
    ) -> Result<Runner, Failure> {
        let longest = args.prompt_tokens.max(args.new_tokens).max(1);
        let limits = ExecutorLimits {
            max_tokens: chunk.min(longest),
            max_logits: 1,
            n_positions: longest,
        };
        let kernels = load::kernels(&args.compute)?;
        Ok(Runner {
            executor: Executor::new(&model, &kernels, limits)?,
            kernels,
            pool: PagePool::new(&model, load::kv_type(args.compute.kv), longest)?,
            model,
            interrupt,
        })
    }

    /// A warm-up and the repetitions; nothing when there are no tokens.
    fn repeat(
        &mut self,
        n_tokens: usize,
        per_step: usize,
        reps: usize,
    ) -> Result<Option<Speed>, Failure> {
        if n_tokens == 0 {
            return Ok(None);
        }
        let tokens = random_tokens(n_tokens, self.model.n_vocab());
        self.feed(&tokens, per_step)?;
        let times: Result<Vec<Duration>, Failure> =
            (0..reps).map(|_| self.feed(&tokens, per_step)).collect();
        Ok(Some(Speed::new(n_tokens, &times?)))
    }

    /// Feeds the tokens to an empty sequence; the last row of every step computes logits, as it would in use.
    fn feed(&mut self, tokens: &[u32], per_step: usize) -> Result<Duration, Failure> {
        let mut sequence = Sequence::new();
        sequence.grow_to(tokens.len(), &mut self.pool)?;
        let mut rows: Vec<Row> = Vec::with_capacity(per_step.min(tokens.len()));
        let start = Instant::now();
        let mut pos = 0;
        for step in tokens.chunks(per_step) {
            self.interrupt.check()?;
            let is_last_of_all = pos as usize + step.len() == tokens.len();
            rows.clear();
            for (offset, &token) in step.iter().enumerate() {
                let wants_logits = offset + 1 == step.len() && (per_step == 1 || is_last_of_all);
                rows.push(Row {
                    seq: 0,
                    pos,
                    token,
                    wants_logits,
                });
                pos += 1;
            }
            let batch = Batch {
                rows: &rows,
                tables: &[sequence.table()],
            };
            self.executor
                .step(&self.model, &self.kernels, &mut self.pool, &batch)?;
        }
        let elapsed = start.elapsed();
        sequence.clear(&mut self.pool);
        Ok(elapsed)
    }
}

impl Speed {
    fn new(tokens: usize, times: &[Duration]) -> Speed {
        let mut speeds: Vec<f64> = times
            .iter()
            .map(|time| tokens as f64 / time.as_secs_f64().max(1e-9))
            .collect();
        speeds.sort_by(f64::total_cmp);
        let middle = speeds.len() / 2;
        let median = if speeds.len() % 2 == 1 {
            speeds[middle]
        } else {
            (speeds[middle - 1] + speeds[middle]) / 2.0
        };
        Speed {
            tokens,
            tok_s: median,
            tok_s_min: speeds[0],
            tok_s_max: speeds[speeds.len() - 1],
        }
    }
}

/// Token ids without a pattern, the same on every machine: a linear congruential generator's upper bits.
fn random_tokens(n: usize, n_vocab: usize) -> Vec<u32> {
    let mut state = 0x6865_6172_7468_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    (0..n).map(|_| (next() % n_vocab) as u32).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn people(report: &Report) -> String {
    let rows: Vec<Vec<String>> = [("read", &report.pp), ("write", &report.tg)]
        .into_iter()
        .filter_map(|(what, speed)| {
            let speed = speed.as_ref()?;
            let spread = format!("{:.1} to {:.1}", speed.tok_s_min, speed.tok_s_max);
            Some(vec![
                what.into(),
                speed.tokens.to_string(),
                format!("{:.1}", speed.tok_s),
                spread,
            ])
        })
        .collect();
    let mut text = format!(
        "{} ({}), {} threads, level {}, kv {}, median of {}\n\n",
        report
            .name
            .as_deref()
            .map_or(report.model.clone(), crate::failure::one_line),
        printer::bytes(report.file_bytes),
        report.threads,
        report.level,
        report.kv,
        report.reps
    );
    text += &printer::table(
        &["", "tokens", "tokens/s", "spread"],
        &[false, true, true, true],
        &rows,
    );
    text += &format!(
        "\nready after {:.0} ms, first token after {:.0} ms",
        report.load_ms, report.first_token_ms
    );
    if let Some(peak) = report.peak_rss_bytes {
        text += &format!(", at most {} of memory", printer::bytes(peak));
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_spread() {
        let times = [4, 1, 2].map(Duration::from_secs);
        let speed = Speed::new(8, &times);
        assert_eq!(
            (speed.tok_s, speed.tok_s_min, speed.tok_s_max),
            (4.0, 2.0, 8.0)
        );
        assert_eq!(Speed::new(8, &times[..2]).tok_s, 5.0);
    }

    #[test]
    fn random_tokens_stay_in_the_vocabulary_and_repeat_on_every_machine() {
        let tokens = random_tokens(1000, 50);
        assert!(tokens.iter().all(|&token| token < 50));
        assert_eq!(tokens, random_tokens(1000, 50));
        assert!((0..50).all(|token| tokens.contains(&token)));
    }
}
