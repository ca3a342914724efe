//! `hearth bench`: how fast a model reads and writes here, measured on the plan itself, without sampling or text.
//!
//! `room` refuses what does not fit, `schedule` says which rows each step has, `runner` runs them and takes times, `limits` says what would be possible,
//! `report` is what comes out, `compare` sets it against an earlier one, and `table` shows it to people.

mod compare;
mod limits;
mod report;
mod room;
mod runner;
mod schedule;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hearth_engine::{Generator, GeneratorOptions, Request};
use hearth_gguf::Gguf;
use hearth_kernels::{Kernels, KvType};
use hearth_model::Model;
use serde::Serialize;

use self::compare::{BatchWork, Comparison, Earlier, Work};
use self::limits::MachineLimits;
use self::report::{BatchSpeed, Report, Speed};
use self::runner::{Runner, Times};
use self::schedule::{Schedule, Scheduler, Tokens};
use crate::args::BenchArgs;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::load;
use crate::machine;
use crate::model_ref::ModelRef;
use crate::printer::Output;

/// Tokens of the prompt that the time to the first token is measured with: a short question.
const SHORT_PROMPT: usize = 16;

/// What `--json` prints.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<&'a Comparison>,
}

/// Measures and prints.
pub fn run(args: &BenchArgs, started: Instant) -> Result<(), Failure> {
    let earlier = args.compare.as_deref().map(Earlier::read).transpose()?;
    let report = measure(args, started, earlier.as_ref())?;
    let comparison = earlier.map(|earlier| earlier.compare(&report));
    let mut output = Output::new();
    if args.json {
        output.json(&Answer {
            report: &report,
            compare: comparison.as_ref(),
        })?;
    } else {
        output.bytes(table::people(&report, comparison.as_ref()).as_bytes())?;
    }
    output.flush()
}

/// From an opened file to its first token.
struct Start {
    model: Arc<Model>,
    kernels: Kernels,
    load_ms: f64,
    first_token_ms: f64,
    first_token_prompt: usize,
}

fn measure(
    args: &BenchArgs,
    started: Instant,
    earlier: Option<&Earlier>,
) -> Result<Report, Failure> {
    let interrupt = Interrupt::install()?;
    let reference = ModelRef::parse(&args.model)?;
    let opening = Instant::now();
    let gguf = reference.open()?;
    let name = model_name(&gguf);
    if let Some(earlier) = earlier {
        earlier.check(&work(args, &gguf, name.as_deref()))?;
    }
    let file_cached = gguf.resident_fraction();
    let start = start(args, &gguf, opening, started, &interrupt)?;
    let kv_type = load::kv_type(args.compute.kv);
    let tasks = tasks(args, &start.model);
    let times = run_tasks(args, &start, kv_type, &tasks, interrupt)?;
    // Asked before the limits are measured, which read weights that no step may have needed.
    let peak_rss_bytes = machine::peak_resident_bytes();
    let limits = MachineLimits::measure(&start.kernels, &start.model);
    let mut report = Report {
        model: reference.to_string(),
        name,
        file_bytes: gguf.file_bytes(),
        version: env!("CARGO_PKG_VERSION").into(),
        level: start.kernels.level().to_string(),
        threads: start.kernels.n_threads(),
        kv: kv_type.name().into(),
        chunk: chunk(args),
        reps: args.reps.get(),
        depth: args.depth,
        pp: None,
        tg: None,
        batch: args
            .batch
            .iter()
            .map(|n| batch_speed(args, n.get()))
            .collect(),
        limits: Some(limits),
        load_ms: start.load_ms,
        first_token_ms: start.first_token_ms,
        first_token_prompt: start.first_token_prompt,
        file_cached,
        peak_rss_bytes,
    };
    for (task, times) in tasks.iter().zip(&times) {
        let least = limits::least_seconds(&limits, &start.model, kv_type, &task.schedule.steps);
        let speed = Speed::with_limits(task.schedule.n_tokens, times, &least);
        let beside = task.n_beside(args).map(|n| Speed::new(n, &times.runs));
        report.put(task, speed, beside);
    }
    Ok(report)
}

/// Loads the model as `hearth run` does and lets it write one token after a short prompt.
fn start(
    args: &BenchArgs,
    gguf: &Arc<Gguf>,
    opening: Instant,
    started: Instant,
    interrupt: &Interrupt,
) -> Result<Start, Failure> {
    let options = GeneratorOptions {
        kv_type: load::kv_type(args.compute.kv),
        chunk: chunk(args),
        n_positions: Some(SHORT_PROMPT + 1),
        ..GeneratorOptions::default()
    };
    let mut generator =
        Generator::load(gguf.clone(), load::kernels(args.compute.threads)?, options)?;
    let load_ms = milliseconds(opening.elapsed());
    let model = generator.model().clone();
    room::check(args, &model)?;
    load::warm_up(gguf, interrupt)?;
    let first_token_prompt = SHORT_PROMPT.min(model.n_ctx() - 1);
    let mut tokens = Tokens::new(model.n_vocab());
    let request = Request {
        max_tokens: Some(1),
        ..Request::new((0..first_token_prompt).map(|_| tokens.draw()).collect())
    };
    generator.generate(&request, &mut |_| std::ops::ControlFlow::Continue(()))?;
    let first_token_ms = milliseconds(started.elapsed());
    // Its threads and pages must be gone before others are measured.
    drop(generator);
    Ok(Start {
        model,
        kernels: load::kernels(args.compute.threads)?,
        load_ms,
        first_token_ms,
        first_token_prompt,
    })
}

/// Which figure of the report a schedule is for.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Read,
    Write,
    BatchRead(usize),
    BatchWrite(usize),
}

struct Task {
    place: Place,
    what: String,
    schedule: Schedule,
}

impl Task {
    /// Tokens of another prompt that were read beside.
    fn n_beside(&self, args: &BenchArgs) -> Option<usize> {
        let beside = args.beside?.get();
        matches!(self.place, Place::BatchWrite(_)).then_some(self.schedule.steps.len() * beside)
    }
}

/// What the flags ask for; nothing where no token is read or written.
fn tasks(args: &BenchArgs, model: &Model) -> Vec<Task> {
    let (p, n, depth) = (args.prompt_tokens, args.new_tokens, args.depth);
    let mut scheduler = Scheduler::new(model.n_vocab(), chunk(args));
    let mut tasks = Vec::new();
    let mut add = |place, what: &str, schedule| {
        tasks.push(Task {
            place,
            what: what.to_owned(),
            schedule,
        });
    };
    if args.batch.is_empty() {
        add(Place::Read, "reading", scheduler.read(p, depth));
        add(Place::Write, "writing", scheduler.write(n, depth));
    }
    for (index, n_seqs) in args.batch.iter().enumerate() {
        let lengths = schedule::prompt_lengths(n_seqs.get(), p, args.ragged);
        let starts: Vec<usize> = lengths.iter().map(|length| depth + length).collect();
        let beside = args.beside.map_or(0, |beside| beside.get());
        let write = scheduler.write_batch(n, &starts, beside, p);
        add(
            Place::BatchRead(index),
            &format!("{n_seqs} sequences reading"),
            scheduler.read_batch(&lengths, depth),
        );
        add(
            Place::BatchWrite(index),
            &format!("{n_seqs} sequences writing"),
            write,
        );
    }
    tasks.retain(|task| task.schedule.n_tokens > 0);
    tasks
}

fn run_tasks(
    args: &BenchArgs,
    start: &Start,
    kv_type: KvType,
    tasks: &[Task],
    interrupt: Interrupt,
) -> Result<Vec<Times>, Failure> {
    let schedules: Vec<&Schedule> = tasks.iter().map(|task| &task.schedule).collect();
    let mut runner = Runner::new(
        start.model.clone(),
        &start.kernels,
        kv_type,
        &schedules,
        interrupt,
    )?;
    let one = |task: &Task| runner.measure(&task.what, &task.schedule, args.reps.get(), args.ops);
    tasks.iter().map(one).collect()
}

impl Report {
    fn put(&mut self, task: &Task, speed: Speed, beside: Option<Speed>) {
        match task.place {
            Place::Read => self.pp = Some(speed),
            Place::Write => self.tg = Some(speed),
            Place::BatchRead(index) => self.batch[index].pp = Some(speed),
            Place::BatchWrite(index) => {
                self.batch[index].tg = Some(speed);
                self.batch[index].beside_pp = beside;
            }
        }
    }
}

fn batch_speed(args: &BenchArgs, sequences: usize) -> BatchSpeed {
    BatchSpeed {
        sequences,
        ragged: args.ragged,
        beside: args.beside.map_or(0, |beside| beside.get()),
        pp: None,
        tg: None,
        beside_pp: None,
    }
}

/// The work that the flags ask for, known before anything is measured.
fn work<'a>(args: &BenchArgs, gguf: &Gguf, name: Option<&'a str>) -> Work<'a> {
    let tokens = |n: usize| (n > 0).then_some(n);
    let batch = |n_seqs: usize| BatchWork {
        sequences: n_seqs,
        is_ragged: args.ragged,
        beside: args.beside.map_or(0, |beside| beside.get()),
        tokens: [
            tokens(
                schedule::prompt_lengths(n_seqs, args.prompt_tokens, args.ragged)
                    .iter()
                    .sum(),
            ),
            tokens(args.new_tokens * n_seqs),
        ],
    };
    let one = |n| tokens(n).filter(|_| args.batch.is_empty());
    Work {
        name,
        file_bytes: gguf.file_bytes(),
        depth: args.depth,
        tokens: [one(args.prompt_tokens), one(args.new_tokens)],
        batches: args.batch.iter().map(|n| batch(n.get())).collect(),
    }
}

fn chunk(args: &BenchArgs) -> usize {
    args.compute
        .chunk
        .map_or(load::DEFAULT_CHUNK, |chunk| chunk.get())
}

fn model_name(gguf: &Gguf) -> Option<String> {
    gguf.metadata()
        .get_str("general.name")
        .ok()
        .flatten()
        .map(String::from)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
