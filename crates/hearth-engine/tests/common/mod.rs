//! What the tests of the engine share: tiny models, jobs run alone and jobs run together.
#![allow(dead_code)]

use std::{
    num::NonZeroUsize,
    ops::ControlFlow,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hearth_engine::{
    Engine, EngineOptions, EngineSnapshot, Event, FinishReason, Generator, GeneratorOptions, Job,
    JobError, JobEvent, JobEvents, Request, SamplingParams, Statistics, TokenLogprob,
};
use hearth_gguf::{Gguf, TensorType};
use hearth_kernels::{Kernels, Level};
use hearth_testing::{TinyModel, tiny_model::N_VOCAB};

pub fn kernels() -> Kernels {
    Kernels::new(Level::best(), NonZeroUsize::new(2).unwrap()).unwrap()
}

pub fn gguf(model: &TinyModel) -> Arc<Gguf> {
    Arc::new(Gguf::from_vec(model.build()).unwrap())
}

pub fn llama() -> TinyModel {
    TinyModel::new("llama", TensorType::Q4_0)
}

pub fn engine_of(model: &TinyModel, options: EngineOptions) -> Engine {
    Engine::start(gguf(model), Arc::new(Mutex::new(kernels())), options).unwrap()
}

pub fn engine(options: EngineOptions) -> Engine {
    engine_of(&llama(), options)
}

/// Bytes of so many pages of a model's keys and values, two layers of f16.
pub fn pages(model: &TinyModel, n: u64) -> u64 {
    n * 64 * 2 * 2 * 2 * u64::from(model.n_head_kv * model.head_dim)
}

pub fn prompt(n: u32, seed: u32) -> Vec<u32> {
    (0..n)
        .map(|i| 3 + (i * 37 + seed * (i % 7 + 11)) % (N_VOCAB - 3))
        .collect()
}

pub fn sampled(prompt: &[u32], n: usize, seed: u64) -> Request {
    Request {
        max_tokens: Some(n),
        sampling: SamplingParams {
            temperature: 1.0,
            top_k: 40,
            seed: Some(seed),
            ..SamplingParams::default()
        },
        ..Request::new(prompt.to_vec())
    }
}

/// An answer, as far as it must not depend on how it was made. Logarithms as bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Every token drawn, the one that ended the text included.
    pub tokens: Vec<u32>,
    pub text: String,
    pub finish: FinishReason,
    pub logprobs: Vec<Bits>,
    pub prompt_logprobs: Vec<Option<Bits>>,
}

/// A token's log-probability, and those of the best.
pub type Bits = (u32, u32, Vec<(u32, u32)>);

fn bits(known: &TokenLogprob) -> Bits {
    let top = known
        .top
        .iter()
        .map(|(token, value)| (*token, value.to_bits()));
    (known.token, known.logprob.to_bits(), top.collect())
}

/// What a client sees of one job.
#[derive(Debug)]
pub struct Seen {
    pub outcome: Result<Outcome, JobError>,
    pub statistics: Statistics,
    /// Tokens read or found, as they were told.
    pub progress: Vec<(usize, usize, usize)>,
}

pub fn see(mut events: JobEvents) -> Seen {
    let (mut tokens, mut text, mut logprobs) = (Vec::new(), String::new(), Vec::new());
    let (mut progress, mut prompt_logprobs) = (Vec::new(), Vec::new());
    loop {
        match events
            .blocking_next()
            .expect("an end before the last event")
        {
            JobEvent::Prompt {
                n_done,
                n_total,
                n_cached,
            } => {
                assert!(tokens.is_empty(), "progress of the prompt comes first");
                progress.push((n_done, n_total, n_cached));
            }
            JobEvent::PromptLogprobs(known) => {
                assert!(tokens.is_empty() && prompt_logprobs.is_empty());
                prompt_logprobs = known.iter().map(|one| one.as_ref().map(bits)).collect();
            }
            JobEvent::Token {
                token,
                text: piece,
                logprob,
            } => {
                tokens.push(token);
                text.push_str(&piece);
                logprobs.extend(logprob.as_ref().map(bits));
            }
            JobEvent::Done {
                text: rest,
                finish,
                statistics,
            } => {
                text.push_str(&rest);
                assert!(
                    events.blocking_next().is_none(),
                    "the end is the last event"
                );
                return Seen {
                    outcome: Ok(Outcome {
                        tokens,
                        text,
                        finish,
                        logprobs,
                        prompt_logprobs,
                    }),
                    statistics,
                    progress,
                };
            }
            JobEvent::Failed(error) => {
                return Seen {
                    outcome: Err(error),
                    statistics: Statistics::default(),
                    progress,
                };
            }
        }
    }
}

/// Waits until no job is left; what there is then.
pub fn at_rest(engine: &Engine) -> EngineSnapshot {
    let start = Instant::now();
    loop {
        let snapshot = engine.snapshot();
        if snapshot.n_running + snapshot.n_waiting == 0 {
            return snapshot;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{snapshot:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn run(engine: &Engine, job: Job) -> Seen {
    see(engine.submit(job).unwrap())
}

/// The log-probability of a token, written down once more: exponentials added in the order of the ids.
fn logprob(logits: &[f32], token: u32, n_top: usize) -> Bits {
    let highest = f64::from(logits.iter().copied().fold(f32::MIN, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| libm::exp(f64::from(*logit) - highest))
        .fold(0.0, |a, b| a + b);
    let of = |token: u32| {
        let logit = f64::from(logits[token as usize]);
        ((logit - (highest + libm::log(sum))) as f32)
            .min(0.0)
            .to_bits()
    };
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    order.truncate(n_top);
    (
        token,
        of(token),
        order.into_iter().map(|t| (t, of(t))).collect(),
    )
}

/// Runs jobs one at a time through a [`Generator`], without anything of the engine.
pub struct Alone(Generator);

impl Alone {
    pub fn new(model: &TinyModel, n_ctx: Option<usize>) -> Self {
        let options = GeneratorOptions {
            n_ctx,
            max_logits: 512,
            ..GeneratorOptions::default()
        };
        Alone(Generator::load(gguf(model), kernels(), options).unwrap())
    }

    pub fn run(&mut self, job: &Job) -> Outcome {
        let prompt = &job.request.prompt;
        let mut prompt_logprobs = Vec::new();
        if let Some(n_top) = job.n_prompt_logprobs {
            prompt_logprobs.push(None);
            let mut show = |pos: usize, logits: &[f32]| {
                if let Some(&token) = prompt.get(pos + 1) {
                    prompt_logprobs.push(Some(logprob(logits, token, n_top)));
                }
                ControlFlow::Continue(())
            };
            self.0.logits(prompt, true, &mut show).unwrap();
        }
        self.0.reset();
        let (mut tokens, mut logprobs) = (Vec::new(), Vec::new());
        let answer = self.0.generate(&job.request, &mut |event| {
            if let Event::Token { token, logits } = event {
                tokens.push(token);
                logprobs.extend(job.n_logprobs.map(|n_top| logprob(logits, token, n_top)));
            }
            ControlFlow::Continue(())
        });
        let answer = answer.unwrap();
        Outcome {
            tokens,
            text: answer.text,
            finish: answer.finish,
            logprobs,
            prompt_logprobs,
        }
    }
}
